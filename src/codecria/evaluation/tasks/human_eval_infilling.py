"""HumanEval's infilling benchmarks as published (Bavarian et al. 2022): a span left out, filled, and the tests run.

Single lines and spans of lines; random spans of characters, where SPM without token healing is known to fail (Code
Llama, Table 14: 39.0 against 59.7 in PSM). The prompts are the files' to the byte; prefix and suffix become ids through
the one road of `infill/`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from codecria.common.random import permutation
from codecria.evaluation.data import Data, DataFile, MissingDataError, complete_rows
from codecria.evaluation.programs import Item, SampledRecipe, program_groups
from codecria.evaluation.protocol import Protocol
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task, not_run
from codecria.evaluation.text_measures import edit_similarity, exact_match
from codecria.infill.layout import Order  # noqa: TC001 pydantic reads the types at run time
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from codecria.generation.middle import InfillOptions

Benchmark = Literal["single_line", "multi_line", "random_span", "random_span_light"]
_FIELDS = ("task_id", "entry_point", "prompt", "suffix", "canonical_solution", "test")
_SHOWN_CHARACTERS = 400


def _file(name: str, *sha256: str) -> DataFile:
    return DataFile(f"infilling/HumanEval-{name}Infilling.jsonl.gz", f"HumanEval infilling, {name}", "MIT", sha256)


FILES: dict[Benchmark, DataFile] = {
    "single_line": _file("SingleLine", "1277073e7ddce163ef68598c2bca777f688a53df99422f097e37362090f88e1f"),
    "multi_line": _file("MultiLine", "2f341612eee1d35da1357a4f365e0c0b3ba6e2b62eb491e88aaefa4855af0349"),
    "random_span": _file("RandomSpan"),
    "random_span_light": DataFile(
        "infilling/HumanEval-RandomSpanInfillingLight.jsonl.gz",
        "HumanEval infilling, RandomSpanLight",
        "MIT",
        ("1432250ecac0cb56e6f97f8faf0970419ef892a98fda7e1f5aa4c4b87209b760",),
    ),
}
PAPER = Protocol(
    "paper",
    "Code Llama, Table 14; Bavarian et al. 2022",
    "the file's prompt and suffix in the family's PSM or SPM order",
    "the end marker, which the model writes itself",
    "the output as it is, an end that repeats the suffix included",
    "prompt, output and suffix pass check(entry_point); pass@k without bias",
    "greedy, 256 tokens",
    {"trim": False, "heal": False},
)
SERVED = Protocol(
    "served",
    "what an editor is given here",
    "the line end behind whole lines begins the suffix, as at a cursor; in SPM the prefix's last token may grow",
    PAPER.stop,
    "an end of the output that repeats how the suffix begins is cut",
    PAPER.scoring,
    PAPER.sampling,
    {"trim": True, "heal": True, "line_end": "suffix"},
)


class InfillingRecipe(SampledRecipe):
    """How spans are filled.

    Attributes:
        benchmarks: which of the files; one that is missing has a row that says so.
        orders: of the prompt; those that the model was not taught give rows with the reason.
        trim: whether an end that repeats the suffix is cut.
        line_end: whose the line end is that a span of whole lines ends with.
        max_tokens: most tokens of a middle.
        items: of each benchmark, drawn by key; None takes all: 1,033, 5,815, 1,640 and 164.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER, SERVED)

    benchmarks: tuple[Benchmark, ...] = ("single_line", "multi_line", "random_span_light")
    orders: tuple[Order, ...] = ("psm", "spm")
    trim: bool = False
    line_end: Literal["middle", "suffix"] = "middle"
    max_tokens: int = 256


@dataclass(frozen=True)
class Span:
    """A program with a part left out."""

    id: str
    entry_point: str
    prefix: str
    suffix: str
    truth: str
    test: str


def load_spans(data: Data, benchmark: Benchmark) -> list[Span]:
    """A benchmark's spans in the file's order.

    Raises:
        MissingDataError: the file is not here.
        CodecriaError: a row is none.
    """
    path = data.find(FILES[benchmark]).path
    return [Span(*(row[field] for field in _FIELDS)) for _, row in complete_rows(path, _FIELDS, "span")]


def with_line_end_behind(span: Span) -> Span:
    """The same program, the line end that the middle ends with in the suffix: where an editor's cursor has it."""
    whole = span.truth.removesuffix("\n")
    return span if whole == span.truth else replace(span, truth=whole, suffix=f"\n{span.suffix}")


def span_item(span: Span, order: Order, trim: bool) -> Item:
    """A span as a program to be written."""

    def program(text: str) -> Program:
        return Program(span.prefix + text + span.suffix, span.test, span.entry_point)

    def more(text: str) -> dict[str, float]:
        exact = float(exact_match(text, span.truth))
        return {"exact_match": exact, "edit_similarity": edit_similarity(text, span.truth)}

    options: InfillOptions = {"order": order, "trim": trim}
    shown = {"prompt": span.prefix[-_SHOWN_CHARACTERS:], "suffix": span.suffix[:_SHOWN_CHARACTERS], "truth": span.truth}
    return Item(span.id, Asked(pair=(span.prefix, span.suffix), options=options), program, context=shown, more=more)


def _groups(recipe: InfillingRecipe, given: Given) -> list[Group]:
    groups: list[Group] = []
    for benchmark in recipe.benchmarks:
        try:
            spans = load_spans(given.data, benchmark)
        except MissingDataError as error:
            groups.append(not_run(TASK, f"{TASK.name}/{benchmark}", str(error)))
            continue
        if recipe.items is not None:
            drawn = permutation(len(spans), "infilling", benchmark, given.seed)[: recipe.items]
            spans = [spans[place] for place in sorted(drawn)]
        if recipe.line_end == "suffix":
            spans = [with_line_end_behind(span) for span in spans]
        for order in recipe.orders:
            items = [span_item(span, order, recipe.trim) for span in spans]
            groups += program_groups(f"{TASK.name}/{benchmark}", items, recipe, given.seed, order)
    return groups


TASK = Task(
    name="human_eval_infilling",
    recipe=InfillingRecipe,
    groups=_groups,
    about="HumanEval's solutions with lines or random spans left out, filled and run",
    titles={
        "human_eval_infilling/single_line": "HumanEval infilling, single lines",
        "human_eval_infilling/multi_line": "HumanEval infilling, several lines",
        "human_eval_infilling/random_span": "HumanEval infilling, random spans",
        "human_eval_infilling/random_span_light": "HumanEval infilling, random spans (light)",
    },
    headline="pass@1",
    data=tuple(FILES.values()),
)
