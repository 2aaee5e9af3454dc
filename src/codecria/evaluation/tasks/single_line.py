"""Single-line infilling: ask for a line in each of several ways, and measure what comes and what was expected.

All methods get the same items and the same limit of tokens. What each sees, and what counts as its end, is said in
`asking`; where lines come from in `lines`.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from codecria.evaluation.asking import METHODS, Method
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.samples import Sample
from codecria.evaluation.scoring import Continuation, score
from codecria.evaluation.subject import Asked, LocalSubject, Subject
from codecria.evaluation.task import Group, in_groups
from codecria.evaluation.text_measures import edit_similarity, exact_match
from codecria.sandbox.verdict import Program, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from codecria.evaluation.judge import Judge
    from codecria.evaluation.task import Rows
    from codecria.evaluation.tasks.lines import Line
    from codecria.generation.sequence import Completion

    Bits = NDArray[np.float64]

_OF_TEXT = ("exact_match", "exact_match_first_line", "edit_similarity", "ended")
_OF_TRUTH = ("bits_per_character", "bits_per_character_with_end")
LINE_MEASURES = (*_OF_TEXT, *_OF_TRUTH)
"""Measures that need no sandbox."""
PAPER = Protocol(
    "paper",
    "Bavarian et al. 2022, and Code Llama, Table 14",
    "prefix and suffix in the family's PSM or SPM order; left to right: the prefix alone",
    "the end marker, which the model writes itself; left to right: the line's end",
    "outputs as they are, an end that repeats the suffix included; a line that does not fit the context is not run",
    "exact match of the whole output; of its first line beside it, as multi-language harnesses score; tests passed",
    "greedy, 64 tokens",
)
_SHOWN_LINES = 8


class SingleLineRecipe(TaskRecipe):
    """How lines are asked for.

    Attributes:
        methods: ways of asking; those the model was not taught give rows with the reason.
        items: lines, drawn by key; None takes all 1,033 of HumanEval, and 500 of a corpus.
        max_tokens: most tokens of a generated middle, the same for all methods.
        group_items: lines of a group, the unit of resuming.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER,)

    methods: tuple[Method, ...] = METHODS
    items: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=2)] = 64
    group_items: Annotated[int, Field(ge=1)] = 32


def line_groups(task: str, lines: list[Line], recipe: SingleLineRecipe) -> list[Group]:
    """The same lines for every method."""
    groups: list[Group] = []
    for method in recipe.methods:
        run = partial(run_lines, task=task, method=method, recipe=recipe)
        groups += in_groups(f"{task}-{method}", lines, recipe.group_items, run)
    return groups


def run_lines(
    subject: Subject, judge: Judge, task: str, method: Method, items: Sequence[Line], recipe: SingleLineRecipe
) -> Rows:
    """Generate, score and judge some lines: one sample each, in order."""
    asked = [ask_line(line, method, recipe.max_tokens) for line in items]
    reasons = [subject.reason_against(each) for each in asked]
    truths: dict[int, Continuation] = {}
    for place, line in enumerate(items):
        if isinstance(subject, LocalSubject) and not reasons[place]:
            truths[place] = subject.asking.truth(line, method)
            tokens = max((subject.prompt_tokens(asked[place]) or 0) + recipe.max_tokens, len(truths[place].read))
            if tokens > subject.max_positions:
                reasons[place] = f"{tokens} tokens, the model has {subject.max_positions} positions"
    fitting = [place for place, reason in enumerate(reasons) if not reason]
    futures: dict[int, Future[Verdict] | str] = {}

    def run(at: int, _number: int, completion: Completion) -> None:
        future = _submit(judge, items[fitting[at]], completion.text)
        if future is not None:
            futures[fitting[at]] = future

    written = subject.write([asked[place] for place in fitting], run)
    middles = dict(zip(fitting, (middle for (middle,) in written), strict=True))
    scores: dict[int, Bits] = {}
    if isinstance(subject, LocalSubject):
        scores = dict(zip(fitting, score(subject.model, [truths[place] for place in fitting]), strict=True))

    def rows() -> list[Sample]:
        found: list[Sample] = []
        for place, line in enumerate(items):
            if place in middles:
                waiting = futures.get(place)
                verdict = waiting.result() if isinstance(waiting, Future) else waiting
                row = _measured(line, middles[place], scores.get(place), verdict)
                sha256 = subject.prompt_sha256(asked[place])
                found.append(replace(row, task=task, method=method, prompt_sha256=sha256))
            else:
                names = [*LINE_MEASURES, *(["passed"] if line.problem else [])]
                found.append(Sample(task, method, line.id, not_run=dict.fromkeys(names, reasons[place])))
        return found

    return rows


def ask_line(line: Line, method: Method, max_tokens: int) -> Asked:
    """A greedy middle of at most `max_tokens` tokens; left to right it ends at the line's end."""
    if method == "left_to_right":
        return Asked(prompt=line.prefix, options={"stop": "\n", "max_tokens": max_tokens})
    return Asked(pair=(line.prefix, line.suffix), options={"order": method, "trim": False, "max_tokens": max_tokens})


def _submit(judge: Judge, line: Line, middle: str) -> Future[Verdict] | str | None:
    """The verdict to come, or why there will be none; None where the line's file has no tests."""
    if line.problem is None:
        return None
    code = line.prefix + middle + line.suffix
    return judge.submit(Program(code, line.problem.test, line.problem.entry_point)) or judge.reason


def _measured(line: Line, middle: Completion, bits: Bits | None, verdict: Verdict | str | None) -> Sample:
    characters = len(line.middle)
    measures = {
        "exact_match": float(exact_match(middle.text, line.middle)),
        "exact_match_first_line": float(exact_match(middle.text.partition("\n")[0], line.middle)),
        "edit_similarity": edit_similarity(middle.text, line.middle),
        "ended": float(middle.finish_reason != "length"),
    }
    not_run: dict[str, str] = {}
    if bits is None:
        not_run |= dict.fromkeys(_OF_TRUTH, "an endpoint scores no given text")
    else:
        measures["bits_per_character"] = -float(bits[:-1].sum()) / characters
        measures["bits_per_character_with_end"] = -float(bits.sum()) / characters
    if isinstance(verdict, Verdict):
        measures["passed"] = float(verdict.passed)
    elif verdict is not None:
        not_run["passed"] = verdict
    return Sample(
        "",
        "",
        line.id,
        outputs=[middle.text],
        near_ties=[len(middle.near_ties)],
        verdicts=[{"status": verdict.status, "detail": verdict.detail}] if isinstance(verdict, Verdict) else [],
        measures=measures,
        weights={} if bits is None else dict.fromkeys(_OF_TRUTH, float(characters)),
        not_run=not_run,
        context=_shown(line),
    )


def _shown(line: Line) -> dict[str, str]:
    """What stands next to the line, for a person to look at."""
    return {
        "prefix": "".join(line.prefix.splitlines(keepends=True)[-_SHOWN_LINES:]),
        "truth": line.middle,
        "suffix": "".join(line.suffix.splitlines(keepends=True)[: _SHOWN_LINES + 1]),
    }
