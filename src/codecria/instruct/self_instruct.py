"""A self-instruct run: questions, tests, solutions, execution, the first that passes (paper §2.5).

The folder, each step's files in a folder of its own (see `steps`):

    recipe.yaml            the whole recipe
    mined-* described-* invented-*    questions of each source
    unique/                without copies and near copies
    tests/ checked/        tests by a model; without those a stub passes
    solutions/             samples, and which tests each failed; where none passes, which each stub failed
    triplets.jsonl         question, tests, first solution that passed, without evaluation material
    conversations.parquet  what a stage of training reads
    yields.json            what each step was given, kept and dropped, and why
    statistics.json        difficulty and diversity
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codecria.common.files import write_atomic
from codecria.corpus.decontaminate import open_decontaminator
from codecria.corpus.near_duplicates import find_near_duplicates
from codecria.corpus.shingles import ShingleSets, shingle_hashes
from codecria.instruct.conversations import joined, write_conversations
from codecria.instruct.generators import Writer
from codecria.instruct.judging import Bench
from codecria.instruct.question import TRIPLETS, Question, Triplet, question_of, to_lines, triplet_row
from codecria.instruct.recipe import DescribedRecipe, MinedRecipe, SelfInstructRecipe, TripletsRecipe
from codecria.instruct.solutions import check_tests, choose, solve, write_tests
from codecria.instruct.sources import described, earlier, invented, mined, package_folders
from codecria.instruct.statistics import statistics
from codecria.instruct.steps import Row, Yield, claim, dropped, kept, run_step, yield_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONVERSATIONS, YIELDS = "conversations.parquet", "yields.json"


def self_instruct(recipe: SelfInstructRecipe, folder: Path) -> list[Yield]:
    """Run what is not yet done.

    Returns:
        The yield of each step, in order, as `yields.json` has them.

    Raises:
        CodecriaError: the folder holds a run of another recipe; a package, a model or a sandbox cannot be had.
    """
    claim(folder, recipe, free={"workers"})
    run = _Run(recipe, folder)
    questions = run.unique(run.ask_sources())
    if recipe.tests is not None:
        questions = run.test(questions)
    triplets = run.reference_triplets(questions) if recipe.solutions is None else run.solve(questions)
    triplets = run.decontaminate(triplets)
    write_atomic(folder / TRIPLETS, to_lines(map(triplet_row, triplets)))
    others = [Path(name).expanduser() for name in recipe.conversations]
    count = write_conversations(joined(triplets, others), folder / CONVERSATIONS)
    run.yields.append(Yield("conversations", len(triplets), count, "triplets"))
    write_atomic(folder / YIELDS, _json([each.row() for each in run.yields]))
    write_atomic(folder / "statistics.json", _json(statistics(triplets)))
    return run.yields


class _Run:
    """One recipe in one folder; collects yields."""

    def __init__(self, recipe: SelfInstructRecipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        self.yields: list[Yield] = []
        self._writers = {name: Writer(each) for name, each in recipe.generators.items()}

    def ask_sources(self) -> list[Question]:
        """The questions of every source."""
        questions: list[Question] = []
        for source in self.recipe.questions:
            if isinstance(source, MinedRecipe):
                found, yields = mined(self.folder, source, self.recipe)
            elif isinstance(source, TripletsRecipe):
                found, yields = earlier(source, self.recipe)
            elif isinstance(source, DescribedRecipe):
                found, yields = described(self.folder, source, self.recipe, self._writers[source.generator])
            else:
                found, yields = invented(self.folder, source, self.recipe, self._writers[source.generator])
            questions += found
            self.yields += [each for each in yields if each not in self.yields]
        return questions

    def unique(self, questions: list[Question]) -> list[Question]:
        """Without copies, then without near copies: the first of each stays."""
        seen: dict[str, Question] = {}
        for question in questions:
            seen.setdefault(_said(question), question)
        self.yields.append(_removal("exact copies removed", questions, list(seen.values()), "a copy"))
        exact = list(seen.values())
        near = self.recipe.near_duplicates
        if not near.enabled:
            return exact
        sets = ShingleSets.of([shingle_hashes(_said(question)) for question in exact])
        found = find_near_duplicates(sets, np.arange(len(exact)), near, self.recipe.seed)
        left = [question for question, copy_of in zip(exact, found.kept_for, strict=True) if copy_of < 0]
        self.yields.append(_removal("near copies removed", exact, left, "a near copy"))
        return left

    def test(self, questions: list[Question]) -> list[Question]:
        """Tests by a model for questions without, and the checks of them."""
        tests = self.recipe.tests
        assert tests is not None
        writer = self._writers[tests.generator]
        questions = self._questions("tests", questions, lambda part: write_tests(part, writer, tests, self.recipe.seed))
        with self._bench() as bench:
            return self._questions("checked", questions, lambda part: check_tests(part, bench, tests.least))

    def solve(self, questions: list[Question]) -> list[Triplet]:
        """Samples, and the first of each question that passed."""
        solutions, group = self.recipe.solutions, self.recipe.group
        assert solutions is not None
        writer, seed = self._writers[solutions.generator], self.recipe.seed
        with self._bench() as bench:
            rows = run_step(
                self.folder, "solutions", questions, group, lambda part: solve(part, writer, bench, solutions, seed)
            )
        least = 2 if self.recipe.tests is None else self.recipe.tests.least
        chosen = [
            choose(question, row, writer.recipe.model, least) for question, row in zip(questions, rows, strict=True)
        ]
        statuses = [sample["status"] for row in rows for sample in row["samples"]]
        passing = statuses.count("passed")
        reasons = {name: statuses.count(name) for name in sorted(set(statuses) - {"passed"})}
        self.yields.append(Yield("samples that pass every test", len(statuses), passing, "samples", reasons))
        outcome: list[Row] = [
            dropped(each, question.id) if isinstance(each, str) else {}
            for question, each in zip(questions, chosen, strict=True)
        ]
        self.yields.append(yield_of("first passing solution kept", len(questions), outcome))
        return [each for each in chosen if isinstance(each, Triplet)]

    def reference_triplets(self, questions: list[Question]) -> list[Triplet]:
        """Where nobody solves: the references are the answers."""
        having = [question for question in questions if question.reference]
        self.yields.append(_removal("references kept", questions, having, "no reference"))
        return [Triplet(question, question.reference) for question in having]

    def decontaminate(self, triplets: list[Triplet]) -> list[Triplet]:
        """Without triplets that hold evaluation material."""
        decontaminator, _ = open_decontaminator(self.recipe.decontamination)
        rows: list[Row] = []
        left: list[Triplet] = []
        for triplet in triplets:
            text = "\n\n".join([triplet.question.text, triplet.solution, *triplet.question.tests])
            hit = decontaminator.find(text, shingle_hashes(text)) if len(decontaminator) else None
            rows.append({} if hit is None else dropped(f"holds {hit.set_name}", triplet.question.id))
            left += [triplet] if hit is None else []
        self.yields.append(yield_of("decontaminated", len(triplets), rows, "triplets"))
        return left

    def _questions(
        self, name: str, questions: list[Question], work: Callable[[Sequence[Question]], list[Row]]
    ) -> list[Question]:
        rows = run_step(self.folder, name, questions, self.recipe.group, work)
        self.yields.append(yield_of(name, len(questions), rows))
        return [question_of(row["question"]) for row in kept(rows)]

    def _bench(self) -> Bench:
        return Bench(package_folders(self.recipe.questions), self.recipe.workers)


def _said(question: Question) -> str:
    """What two questions are compared by: words and signature, white space and case aside."""
    return " ".join(f"{question.text}\n{question.signature}".lower().split())


def _removal(step: str, before: Sequence[Question], after: Sequence[Question], why: str) -> Yield:
    count = len(before) - len(after)
    return Yield(step, len(before), len(after), dropped={why: count} if count else {})


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
