"""Single-line infilling: ask for a line in each of several ways, and measure what comes and what was expected.

All methods get the same items and the same limit of tokens. What each sees, and what counts as its end, is said in
`asking`; where lines come from in `lines`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from codecria.common.errors import CodecriaError
from codecria.common.random import permutation
from codecria.common.recipe import Recipe
from codecria.evaluation.asking import METHODS, Method
from codecria.evaluation.samples import Sample
from codecria.evaluation.scoring import Continuation, score
from codecria.evaluation.subject import Group, Subject, in_groups, prompt_hash
from codecria.evaluation.tasks.lines import Line, corpus_lines, human_eval_lines
from codecria.evaluation.tasks.problems import load_problems
from codecria.evaluation.text_measures import edit_similarity, exact_match
from codecria.evaluation.writing import Written, write_lines
from codecria.sandbox.verdict import Program, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from codecria.corpus.document import Document
    from codecria.evaluation.judge import Judge

    Bits = NDArray[np.float64]

Source = Literal["human_eval", "corpus"]
_OF_TEXT = ("exact_match", "exact_match_first_line", "edit_similarity", "ended")
LINE_MEASURES = (*_OF_TEXT, "bits_per_character", "bits_per_character_with_end")
"""Measures that need no sandbox."""
_SHOWN_LINES = 8


class SingleLineRecipe(Recipe):
    """How lines are asked for.

    Attributes:
        methods: ways of asking; those the model was not taught give rows with the reason.
        items: lines, drawn by key; None takes all 1,033 of HumanEval, and 500 of a corpus.
        max_tokens: most tokens of a generated middle, the same for all methods.
        lines_per_file: most lines of one held-out file.
        prefix_characters, suffix_characters: how much is shown around a line of a held-out file.
        group_items: lines of a group, the unit of resuming.
    """

    methods: tuple[Method, ...] = METHODS
    items: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=2)] = 64
    lines_per_file: Annotated[int, Field(ge=1)] = 4
    prefix_characters: Annotated[int, Field(ge=0)] = 3000
    suffix_characters: Annotated[int, Field(ge=0)] = 1000
    group_items: Annotated[int, Field(ge=1)] = 32


def human_eval_line_groups(recipe: SingleLineRecipe, seed: int) -> list[Group]:
    """Groups of HumanEval's lines. Without the package `human-eval` one row a method says so."""
    try:
        lines = human_eval_lines(load_problems())
    except CodecriaError as error:
        return _none("human_eval", recipe, str(error))
    if recipe.items is not None:
        chosen = sorted(permutation(len(lines), "single-line HumanEval", seed)[: recipe.items])
        lines = [lines[place] for place in chosen]
    return _groups("human_eval", lines, recipe)


def corpus_line_groups(recipe: SingleLineRecipe, documents: Iterable[Document], seed: int) -> list[Group]:
    """Groups of lines of held-out code; one row a method says so where there is none."""
    lines = corpus_lines(
        documents, seed, recipe.items or 500, recipe.lines_per_file, recipe.prefix_characters, recipe.suffix_characters
    )
    return _groups("corpus", lines, recipe) if lines else _none("corpus", recipe, "the corpus holds out no code")


def _none(source: Source, recipe: SingleLineRecipe, reason: str) -> list[Group]:
    rows = [_not_run(source, Line("all", "", "", ""), method, reason) for method in recipe.methods]
    return [Group(f"single_line-{source}-none", len(rows), lambda _subject, _judge: rows)]


def _groups(source: Source, lines: list[Line], recipe: SingleLineRecipe) -> list[Group]:
    parts = list(enumerate(in_groups(lines, recipe.group_items)))
    return [
        Group(
            f"single_line-{source}-{method}-{number:05d}",
            len(lines[part]),
            partial(run_lines, source=source, method=method, lines=lines[part], recipe=recipe),
        )
        for method in recipe.methods
        for number, part in parts
    ]


def run_lines(
    subject: Subject, judge: Judge, source: Source, method: Method, lines: Sequence[Line], recipe: SingleLineRecipe
) -> list[Sample]:
    """Generate, score and judge some lines: one sample each, in order."""
    asking = subject.asking
    if reason := asking.reason_against(method):
        return [_not_run(source, line, method, reason) for line in lines]
    rows: dict[str, Sample] = {}
    fitting: list[Line] = []
    truths: list[Continuation] = []
    for line in lines:
        truth = asking.truth(line, method)
        tokens = max(len(asking.prompt(line, method)) + recipe.max_tokens, len(truth.read))
        if tokens > subject.max_positions:
            reason = f"{tokens} tokens, the model has {subject.max_positions} positions"
            rows[line.id] = _not_run(source, line, method, reason)
        else:
            fitting.append(line)
            truths.append(truth)
    written = write_lines(subject, method, fitting, recipe.max_tokens)
    scores = score(subject.model, truths)
    outcomes = _judge(judge, fitting, [each.text for each in written])
    for line, middle, bits, outcome in zip(fitting, written, scores, outcomes, strict=True):
        rows[line.id] = _measured(source, method, asking.prompt(line, method), line, middle, bits, outcome)
    return [rows[line.id] for line in lines]


class _Outcome(NamedTuple):
    """A line's tests: the verdict, or the reason why there is none; neither where the line has no tests."""

    verdict: Verdict | None = None
    reason: str = ""


def _judge(judge: Judge, lines: Sequence[Line], middles: Sequence[str]) -> list[_Outcome]:
    programs = [
        Program(line.prefix + middle + line.suffix, line.problem.test, line.problem.entry_point)
        for line, middle in zip(lines, middles, strict=True)
        if line.problem is not None
    ]
    found = judge.run(programs) if programs else []
    if found is None:
        return [_Outcome() if line.problem is None else _Outcome(reason=judge.reason) for line in lines]
    verdicts = iter(found)
    return [_Outcome() if line.problem is None else _Outcome(next(verdicts)) for line in lines]


def _measured(
    source: Source, method: Method, prompt: list[int], line: Line, middle: Written, bits: Bits, outcome: _Outcome
) -> Sample:
    characters, verdict = len(line.middle), outcome.verdict
    measures = {
        "exact_match": float(exact_match(middle.text, line.middle)),
        "exact_match_first_line": float(exact_match(middle.text.partition("\n")[0], line.middle)),
        "edit_similarity": edit_similarity(middle.text, line.middle),
        "ended": float(middle.ended),
        "bits_per_character": -float(bits[:-1].sum()) / characters,
        "bits_per_character_with_end": -float(bits.sum()) / characters,
    }
    if verdict is not None:
        measures["passed"] = float(verdict.passed)
    return Sample(
        f"single_line/{source}",
        method,
        line.id,
        prompt_hash(prompt),
        [middle.text],
        [middle.near_ties],
        [] if verdict is None else [{"status": verdict.status, "detail": verdict.detail}],
        measures,
        {"bits_per_character": characters, "bits_per_character_with_end": characters},
        {"passed": outcome.reason} if outcome.reason else {},
        _shown(line),
    )


def _not_run(source: Source, line: Line, method: Method, reason: str) -> Sample:
    names = [*LINE_MEASURES, *(["passed"] if source == "human_eval" else [])]
    return Sample(f"single_line/{source}", method, line.id, not_run=dict.fromkeys(names, reason))


def _shown(line: Line) -> dict[str, str]:
    """What stands next to the line, for a person to look at."""
    return {
        "prefix": "".join(line.prefix.splitlines(keepends=True)[-_SHOWN_LINES:]),
        "truth": line.middle,
        "suffix": "".join(line.suffix.splitlines(keepends=True)[: _SHOWN_LINES + 1]),
    }
