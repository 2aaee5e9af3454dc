"""Texts that are programs: written, run while the next are written, and counted as pass@k."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Self, cast

from pydantic import Field, model_validator

from codecria.common.random import draw_bits
from codecria.evaluation.pass_at_k import pass_at_k
from codecria.evaluation.protocol import TaskRecipe
from codecria.evaluation.samples import Sample
from codecria.evaluation.task import Group, in_groups
from codecria.sandbox.languages import Source
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from codecria.evaluation.judge import Judge
    from codecria.evaluation.subject import Asked, Subject
    from codecria.evaluation.task import Rows
    from codecria.generation.middle import InfillOptions
    from codecria.generation.sequence import Completion
    from codecria.sandbox.limits import Limits
    from codecria.sandbox.verdict import Verdict


class SampledRecipe(TaskRecipe):
    """How programs are drawn and counted.

    Attributes:
        samples: programs of each item. The paper: 200 for pass@10 and pass@100.
        k: which pass@k are reported; none may be above `samples`.
        temperature: one, or several for a sweep: each is a method of its own. The paper: 0 for pass@1, 0.8 beyond.
        top_p: with a temperature above 0. The paper: 0.95.
        max_tokens: most tokens of a program.
        heal: whether the prompt's last token may become a longer one (not behind an endpoint).
        stop: strings that end a program and are cut from it.
        items: only the first so many; None takes all.
        group_items: items of a group, the unit of resuming.
    """

    samples: Annotated[int, Field(ge=1)] = 1
    k: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    temperature: Annotated[float, Field(ge=0)] | tuple[Annotated[float, Field(ge=0)], ...] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=2)] = 512
    heal: bool = True
    stop: tuple[str, ...] = ()
    items: Annotated[int, Field(ge=1)] | None = None
    group_items: Annotated[int, Field(ge=1)] = 16

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if max(self.k) > self.samples:
            raise ValueError(f"pass@{max(self.k)} needs {max(self.k)} samples, {self.samples} are drawn")
        if self.samples > 1 and 0 in self.temperatures:
            raise ValueError("greedy samples are all alike: set a temperature, or draw 1")
        return self

    @property
    def temperatures(self) -> tuple[float, ...]:
        """All of them."""
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)

    @property
    def measures(self) -> list[str]:
        """The names of the figures."""
        return [f"pass@{k}" for k in self.k]


def method_of(temperature: float) -> str:
    """How rows name a way of sampling: `greedy`, `T=0.8`."""
    return f"T={temperature:g}" if temperature else "greedy"


@dataclass(frozen=True)
class Item:
    """A program to be written.

    Attributes:
        id: names it within the task.
        asked: the prompt; the recipe's sampling is added to its options.
        program: from what was written to what is run: a program, or several (one a test) of which all must pass; None
            where it is no program at all, which fails.
        public: so many of several are shown in the prompt; with them `pass@k filtered` counts samples that pass these.
            None where the task knows no such tests.
        limits: of the run, where they are not the judge's.
        context: for showing, with the sample.
        more: further figures of a sample's text; the row has their mean over the samples.
    """

    id: str
    asked: Asked
    program: Callable[[str], Program | Source | Sequence[Program] | None]
    public: int | None = None
    limits: Limits | None = None
    context: Mapping[str, str] = field(default_factory=dict[str, str])
    more: Callable[[str], dict[str, float]] | None = None


def program_groups(
    task: str, items: Sequence[Item], recipe: SampledRecipe, seed: int, method: str | None = None
) -> list[Group]:
    """Groups of items, temperature by temperature.

    Args:
        task: the rows' `task`.
        items: all that the task has; the recipe's `items` of them are taken.
        recipe: sampling and grouping.
        seed: of every draw; each item's samples are drawn by a key of their own.
        method: goes before the way of sampling in the rows' `method` (`psm`), and alone where that is greedy.
    """
    groups: list[Group] = []
    for temperature in recipe.temperatures:
        named = method_of(temperature)
        if method is not None:
            named = f"{method} {named}" if temperature else method
        run = partial(run_programs, task=task, method=named, recipe=recipe, temperature=temperature, seed=seed)
        groups += in_groups(f"{task}-{named}", items[: recipe.items], recipe.group_items, run)
    return groups


def run_programs(
    subject: Subject,
    judge: Judge,
    task: str,
    method: str,
    items: Sequence[Item],
    recipe: SampledRecipe,
    temperature: float,
    seed: int,
) -> Rows:
    """Write the items' programs; each is handed to the sandbox when it has ended.

    Returns:
        What waits for the verdicts and gives a sample an item, in order.
    """
    asked = [sampled(item.asked, recipe, temperature, seed, task, item.id) for item in items]
    reasons = [subject.reason_against(each) for each in asked]
    fitting = [place for place, reason in enumerate(reasons) if not reason]
    futures: dict[tuple[int, int], Future[list[Verdict]] | str] = {}

    def run(at: int, number: int, completion: Completion) -> None:
        item = items[fitting[at]]
        program = item.program(completion.text)
        series = [program] if isinstance(program, Program | Source) else program or []
        futures[fitting[at], number] = judge.submit_series(series, item.limits) or judge.reason

    written = subject.write([asked[place] for place in fitting], run)
    completions = dict(zip(fitting, written, strict=True))

    def rows() -> list[Sample]:
        found: list[Sample] = []
        for place, item in enumerate(items):
            if place in completions:
                waiting = [futures[place, number] for number in range(len(completions[place]))]
                row = _judged(item, completions[place], waiting, recipe)
                sha256 = subject.prompt_sha256(asked[place])
                found.append(replace(row, task=task, method=method, prompt_sha256=sha256))
            else:
                found.append(Sample(task, method, item.id, not_run=dict.fromkeys(recipe.measures, reasons[place])))
        return found

    return rows


def sampled(asked: Asked, recipe: SampledRecipe, temperature: float, *key: int | str) -> Asked:
    """The same with the recipe's sampling. The draws are keyed by item, so that no two share theirs."""
    options: InfillOptions = {
        "max_tokens": recipe.max_tokens,
        "temperature": temperature,
        "top_p": recipe.top_p if temperature else 1.0,
        "seed": draw_bits("evaluation", *key) >> 1,
        "stop": recipe.stop,
        "n": recipe.samples,
        "heal": recipe.heal,
    }
    if asked.messages is not None:
        del options["heal"]
    return replace(asked, options=cast("InfillOptions", {**options, **asked.options}))


def _judged(
    item: Item, completions: Sequence[Completion], waiting: Sequence[Future[list[Verdict]] | str], recipe: SampledRecipe
) -> Sample:
    """Of an item one of whose programs could not be run, no verdict counts."""
    outputs = [completion.text for completion in completions]
    measures: dict[str, float] = {}
    verdicts: list[dict[str, str]] = []
    reason = next((each for each in waiting if isinstance(each, str)), "")
    not_run = dict.fromkeys(recipe.measures, reason) if reason else {}
    if not reason:
        verdicts = [_told(each.result(), item.public or 0) for each in waiting if not isinstance(each, str)]
        measures = {f"pass@{k}": _pass(verdicts, k) for k in recipe.k}
        if item.public:
            kept = [verdict for verdict in verdicts if verdict.get("public") == "passed"]
            measures |= {f"pass@{k} filtered": _pass(kept, min(k, len(kept))) for k in recipe.k}
        elif item.public is not None:
            not_run = {f"pass@{k} filtered": "no tests shown in the prompt" for k in recipe.k}
    if item.more is not None:
        figures = [item.more(output) for output in outputs]
        measures |= {name: fmean(each[name] for each in figures) for name in figures[0]}
    return Sample(
        "",
        "",
        item.id,
        outputs=outputs,
        near_ties=[len(completion.near_ties) for completion in completions],
        verdicts=verdicts,
        measures=measures,
        not_run=not_run,
        context=dict(item.context),
    )


_NO_PROGRAM = {"status": "failed", "detail": "no program in the answer"}


def _told(verdicts: Sequence[Verdict], public: int) -> dict[str, str]:
    """The last verdict of a series that ends with the first that did not pass; of none, that there is no program."""
    if not verdicts:
        return _NO_PROGRAM
    last = verdicts[-1]
    detail = last.detail if last.passed or len(verdicts) == 1 else f"test {len(verdicts)}: {last.detail}"
    told = {"status": last.status, "detail": detail}
    shown = last.passed or len(verdicts) > public
    return {**told, "public": "passed" if shown else "failed"} if public else told


def _pass(verdicts: Sequence[dict[str, str]], k: int) -> float:
    right = sum(verdict["status"] == "passed" for verdict in verdicts)
    return float(pass_at_k([len(verdicts)], [right], k)[0]) if verdicts else 0.0
