"""Has a model write: middles of lines and completions, through the functions that serve people, healing included.

An infill prompt in PSM needs no healing: in training its middle was encoded on its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.evaluation.asking import Method
    from codecria.evaluation.subject import Subject
    from codecria.evaluation.tasks.lines import Line
    from codecria.generation.code_model import CodeModel
    from codecria.generation.preparing import Prepared
    from codecria.generation.sequence import Completion


class Written(NamedTuple):
    """A middle as the model wrote it; `ended` by itself, not by the limit of tokens; `near_ties` as in a completion."""

    text: str
    ended: bool
    near_ties: int


def write_lines(subject: Subject, method: Method, lines: Sequence[Line], max_tokens: int) -> list[Written]:
    """Greedy middles of at most `max_tokens` tokens, in order; left to right they are cut at the line's end."""
    model = subject.fresh()
    prepared = [_ask(model, line, method, max_tokens) for line in lines]
    return [
        Written(completion.text, completion.finish_reason != "length", len(completion.near_ties))
        for (completion,) in generate(model, prepared)
    ]


def _ask(model: CodeModel, line: Line, method: Method, max_tokens: int) -> Prepared:
    if method != "left_to_right":
        return model.prepare_infill(line.prefix, line.suffix, order=method, trim=False, max_tokens=max_tokens)
    return model.prepare_completion(line.prefix, stop="\n", max_tokens=max_tokens)


def generate(model: CodeModel, prepared: Sequence[Prepared]) -> list[list[Completion]]:
    """The samples of each prompt, all of equal options. Without BOS an empty text is read after a document's end."""
    if not prepared:
        return []
    begun = [each if each.ids else replace(each, ids=list(model.tokenizer.eos_ids[:1])) for each in prepared]
    texts = [each.text for each in begun]
    return model.engine.generate([each.ids for each in begun], begun[0].options, texts)
