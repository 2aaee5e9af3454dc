"""Has a model write: middles of lines and completions, through the same functions that serve people.

The last token of a prompt that ends with text is healed: it is taken back, and the first token written must begin
with its text. Without that a prompt ending in a line end asks for something that never stood in training, where many
tokenizers join a line end and the next line's indentation. Llama's keeps the line end apart: there healing one
changes nothing. A prefix-first infill prompt needs none: in training its middle was encoded on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from codecria.common.random import draw_bits, draw_uniform
from codecria.evaluation.scoring import next_logits
from codecria.generation.sampling import sample as sample_next
from codecria.generation.stopping import TextPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.evaluation.asking import Method
    from codecria.evaluation.subject import Subject
    from codecria.evaluation.tasks.lines import Line
    from codecria.generation.code_model import CodeModel, Prepared
    from codecria.generation.sequence import Completion
    from codecria.generation.stopping import TokenDecoder
    from codecria.tokenizer.tokenizer import Tokenizer


class Written(NamedTuple):
    """A middle as the model wrote it; `ended` by itself, not by the limit of tokens; `near_ties` as in a completion."""

    text: str
    ended: bool
    near_ties: int


@dataclass(frozen=True)
class Request:
    """What the engine is given; `healed` is the text that the first token written must begin with."""

    prepared: Prepared
    healed: str = ""


def write_lines(subject: Subject, method: Method, lines: Sequence[Line], max_tokens: int) -> list[Written]:
    """Greedy middles of at most `max_tokens` tokens, in order; left to right they are cut at the line's end."""
    model = subject.fresh()
    requests = [_ask(model, line, method, max_tokens) for line in lines]
    return [
        Written(completion.text, completion.finish_reason != "length", len(completion.near_ties))
        for (completion,) in generate(subject, model, requests)
    ]


def _ask(model: CodeModel, line: Line, method: Method, max_tokens: int) -> Request:
    if method == "psm":
        return Request(model.prepare_infill(line.prefix, line.suffix, order="psm", trim=False, max_tokens=max_tokens))
    if method == "spm":
        prepared = model.prepare_infill(line.prefix, line.suffix, order="spm", trim=False, max_tokens=max_tokens)
    else:
        prepared = model.prepare_completion(line.prefix, stop="\n", max_tokens=max_tokens)
    return heal(prepared, model.tokenizer) if line.prefix else _with_start(Request(prepared), model.tokenizer)


def heal(prepared: Prepared, tokenizer: Tokenizer) -> Request:
    """The same request with the prompt's last token taken back, unless that is part of a character only.

    The prompt must end with text. What is generated comes without the text that was taken back.
    """
    try:
        healed = tokenizer.token_bytes(prepared.ids[-1]).decode()
    except UnicodeDecodeError:
        return Request(prepared)
    text = TextPlan(lambda: _Healed(prepared.text.new_decoder(), healed), prepared.text.rules)
    return _with_start(Request(replace(prepared, ids=prepared.ids[:-1], text=text), healed), tokenizer)


def _with_start(request: Request, tokenizer: Tokenizer) -> Request:
    """Without BOS a prompt may be empty: such a text is read after a document's end."""
    if request.prepared.ids:
        return request
    return replace(request, prepared=replace(request.prepared, ids=list(tokenizer.eos_ids[:1])))


def generate(subject: Subject, model: CodeModel, requests: Sequence[Request]) -> list[list[Completion]]:
    """The samples of each request, all of equal options; the first token of a healed one is drawn among those allowed.

    Most often a free choice is an allowed one, and then it is what a choice among the allowed gives. Samples that
    began otherwise are written anew behind a first token drawn among the allowed.
    """
    if not requests:
        return []
    completions = _run(model, [request.prepared for request in requests])
    for sample in range(requests[0].prepared.options.n):
        astray = [
            place
            for place, request in enumerate(requests)
            if not _keeps(subject.tokenizer, request, completions[place][sample])
        ]
        again = _behind_firsts(subject, [requests[place] for place in astray], sample)
        for place, (completion,) in zip(astray, _run(model, again), strict=True):
            completions[place][sample] = completion
    return completions


def _run(model: CodeModel, prepared: Sequence[Prepared]) -> list[list[Completion]]:
    if not prepared:
        return []
    texts = [each.text for each in prepared]
    return model.engine.generate([each.ids for each in prepared], prepared[0].options, texts)


def _keeps(tokenizer: Tokenizer, request: Request, completion: Completion) -> bool:
    """Whether what was written begins with the healed text in one token."""
    if not request.healed:
        return True
    return bool(completion.ids) and tokenizer.token_bytes(completion.ids[0]).startswith(request.healed.encode())


def _behind_firsts(subject: Subject, requests: Sequence[Request], number: int) -> list[Prepared]:
    """The requests with an allowed token already written, and one sample of each left to write."""
    if not requests:
        return []
    options = requests[0].prepared.options
    seed = draw_bits("healed", options.seed or 0, number) >> 1
    logits_NV = next_logits(subject.model, [request.prepared.ids for request in requests])
    allowed_NV = torch.full_like(logits_NV, -torch.inf)
    for row, request in enumerate(requests):
        among = subject.asking.starting_with(request.healed.encode())
        allowed_NV[row, among] = logits_NV[row, among]
    firsts = sample_next(allowed_NV, options, [draw_uniform("healed", seed)] * len(requests)).tolist()
    rest = replace(options, n=1, seed=seed, max_tokens=options.max_tokens - 1)
    return [
        replace(
            request.prepared,
            ids=[*request.prepared.ids, first],
            options=rest,
            text=TextPlan(partial(_Begun, request.prepared.text, first), request.prepared.text.rules),
        )
        for request, first in zip(requests, firsts, strict=True)
    ]


class _Healed:
    """A decoder that leaves out the text the prompt already had."""

    def __init__(self, decoder: TokenDecoder, healed: str) -> None:
        self._decoder = decoder
        self._healed = healed

    def push(self, id: int, /) -> str:
        text, healed = self._decoder.push(id), self._healed
        self._healed = ""
        return text.removeprefix(healed)

    def finish(self) -> str:
        return self._decoder.finish()


class _Begun:
    """A decoder of a text whose first id is given."""

    def __init__(self, text: TextPlan, first: int) -> None:
        self._decoder = text.new_decoder()
        self._text = self._decoder.push(first)

    def push(self, id: int, /) -> str:
        text, self._text = self._text, ""
        return text + self._decoder.push(id)

    def finish(self) -> str:
        text, self._text = self._text, ""
        return text + self._decoder.finish()
