"""Whole runs: a real package and sandbox, a server whose answers are known; killed in each step and started again."""

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe, shipped_recipes
from codecria.instruct.question import read_triplets
from codecria.instruct.recipe import SelfInstructRecipe
from codecria.instruct.self_instruct import self_instruct
from codecria.pipeline.rounds import RoundsRecipe
from tests.instruct.packages import scripted

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.instruct.test_self_instruct"])

INVENTED = "11. Write a function that triples a number.\n12. Write a function that squares a number.\n" * 2


def answer(prompt, seed):
    """A model that knows some things: what it writes follows from what it is asked."""
    if "interview questions" in prompt:
        return INVENTED
    if prompt.startswith("Describe") and "def halves" in prompt:
        return "Task: def halves(values): middle = len(values) // 2, cut there."
    if prompt.startswith("Describe"):
        return "Task: Write a function that keeps a number between a lower bound and three."
    name = "triple" if "triples" in prompt.rpartition("Problem:")[2] else "square"
    operation = "3 * x" if name == "triple" else "x * x"
    if "Write 5 tests" in prompt:
        right = "9" if name == "triple" else "10"  # of the square's tests one is wrong
        last = "-6" if name == "triple" else "4"
        return f"[TESTS]\nassert {name}(3) == {right}\nassert {name}(0) == 0\nassert {name}(-2) == {last}\n[/TESTS]"
    if "def clamp" in prompt:
        return "[PYTHON]\ndef clamp(value, low=0):\n    return max(low, min(value, 3))\n[/PYTHON]"
    if "def halves" in prompt:
        return "[PYTHON]\ndef halves(values):\n    return values[:1], values[1:]\n[/PYTHON]"
    if seed is not None and seed % 2:
        operation = "3"
    return f"[PYTHON]\ndef {name}(x):\n    return {operation}\n[/PYTHON]"


@pytest.fixture(scope="module")
def server():
    with scripted(answer) as opened:
        yield opened


def recipe(packages, server, **changes):
    source = {"type": "mined", "packages": ["small-lists"], "folder": str(packages), "mutants": 6, "suites": False}
    values = {
        "generators": {"known": {"model": "known", "endpoint": server.url, "dialect": "openai"}},
        "questions": [
            source,
            {"type": "described", "generator": "known", "functions": source},
            {"type": "invented", "generator": "known", "prompts": 2, "per_prompt": 3},
        ],
        "tests": {"generator": "known"},
        "solutions": {"generator": "known", "samples": 4},
        "decontamination": {"human_eval": False},
        "group": 2,
    }
    return SelfInstructRecipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def finished(packages, server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    self_instruct(recipe(packages, server), folder)
    return folder


def files(folder):
    """Every file of a run with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(values, folder):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    self_instruct(SelfInstructRecipe.model_validate(values), Path(folder))


def test_triplets_of_every_source_with_solutions_that_passed_hidden_tests(finished):
    solved = {(each.question.origin.split()[0], each.question.entry_point): each for each in read_triplets(finished)}
    assert set(solved) == {("mined", "clamp"), ("described", "clamp"), ("invented", "triple"), ("invented", "square")}
    assert solved["mined", "clamp"].tries == 1
    assert solved["invented", "square"].question.tests == ("assert square(0) == 0", "assert square(-2) == 4")
    assert solved["described", "clamp"].question.alone


def test_the_yield_of_each_step_is_kept(finished):
    yields = {each["step"]: each for each in json.loads((finished / "yields.json").read_text())}
    mined = yields["mined functions validated"]
    assert (mined["given"], mined["kept"]) == (7, 5)
    assert mined["dropped"] == {"a stub passes": 1, "the reference fails in its place": 1}
    assert yields["functions described"]["dropped"] == {"the description holds code": 1}
    assert yields["questions invented"]["kept"] == 6
    assert yields["exact copies removed"]["dropped"]["a copy"] == 4  # each invented one came three times
    assert yields["decontaminated"]["kept"] == yields["first passing solution kept"]["kept"] == 4
    statistics = json.loads((finished / "statistics.json").read_text())
    assert statistics["difficulty"]["tries"]["up to 1"] >= 2


def test_what_is_left_when_a_wrong_test_goes_must_still_tell_a_stub(packages, tmp_path):
    """The test that nobody passes was the only one that `return True` failed."""

    def knows_true(prompt, _seed):
        if "interview questions" in prompt:
            return "11. Write a function that says whether a number is even.\n"
        if "Write 5 tests" in prompt:
            return "[TESTS]\nassert even(2) is True\nassert even(4) is True\nassert even(3) == 'odd'\n[/TESTS]"
        return "[PYTHON]\ndef even(x):\n    return True\n[/PYTHON]"

    with scripted(knows_true) as server:
        asked = {"questions": [{"type": "invented", "generator": "known", "prompts": 1, "per_prompt": 1}]}
        yields = self_instruct(recipe(packages, server, **asked), tmp_path / "run")
    (chosen,) = (each for each in yields if each.step == "first passing solution kept")
    assert (chosen.given, chosen.kept, chosen.dropped) == (1, 0, {"a stub passes": 1})


@pytest.mark.usefixtures("finished")
def test_a_described_question_is_solved_from_its_words_alone(server):
    asked = [body["messages"][-1]["content"] for body in server.bodies if "Write a Python function" in str(body)]
    alone = [text for text in asked if "between a lower bound" in text]
    assert alone and not any(">>>" in text.rpartition("Problem:")[2] for text in alone)
    seen = {text.rpartition("Test: ")[2].splitlines()[0] for text in asked if "Cut a list into two" in text}
    assert seen == {">>> halves([1, 2, 3])", ">>> halves([])"}


def test_conversations_are_what_training_reads(finished):
    rows = pq.read_table(finished / "conversations.parquet").to_pylist()
    assert len(rows) == 4
    for row in rows:
        asked, answered = row["messages"]
        assert (asked["role"], answered["role"]) == ("user", "assistant")
        assert answered["content"].startswith("```python\ndef ") and answered["content"].count("```") == 2


def test_killed_in_each_step_it_ends_with_the_same_files(finished, packages, server, tmp_path):
    values, folder = recipe(packages, server).model_dump(mode="json"), tmp_path / "run"
    for step in ("mined-*/validated", "described-*", "invented-*", "tests", "checked", "solutions"):
        process = _CONTEXT.Process(target=run, args=(values, str(folder)))
        process.start()
        deadline = time.monotonic() + 60
        while not list(folder.glob(f"{step}/*.jsonl")):
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
        process.join()
        assert not (folder / "yields.json").exists()
    self_instruct(recipe(packages, server), folder)
    assert files(folder) == files(finished)


def test_a_finished_run_is_not_done_again(finished, packages, server):
    before = len(server.bodies)
    self_instruct(recipe(packages, server), finished)
    assert len(server.bodies) == before


def test_a_folder_of_another_recipe_is_refused(finished, packages, server):
    with pytest.raises(CodecriaError, match="another recipe: group differ"):
        self_instruct(recipe(packages, server, group=3), finished)


def test_questions_of_a_finished_run_are_asked_again(finished, packages, server, tmp_path):
    again = recipe(packages, server, questions=[{"type": "triplets", "run": str(finished)}], tests=None)
    self_instruct(again, tmp_path / "again")
    assert {each.question.entry_point for each in read_triplets(tmp_path / "again")} == {"clamp", "triple", "square"}


def test_the_shortest_of_a_finished_run_are_asked_first(finished, packages, server, tmp_path):
    source = {"type": "triplets", "run": str(finished), "most": 2, "order": "shortest"}
    self_instruct(recipe(packages, server, questions=[source], tests=None), tmp_path / "again")
    lengths = sorted(len(each.solution) for each in read_triplets(finished))
    assert [len(each.question.reference) for each in read_triplets(tmp_path / "again")] == lengths[:2]


def test_solutions_are_not_given_to_other_questions(finished, packages, server, tmp_path):
    """A run whose questions come from another run, which is made anew with as many others."""
    earlier = tmp_path / "earlier"
    shutil.copytree(finished, earlier)
    again = recipe(packages, server, questions=[{"type": "triplets", "run": str(earlier), "most": 2}], tests=None)
    self_instruct(again, tmp_path / "again")
    before = files(tmp_path / "again")
    lines = (earlier / "triplets.jsonl").read_text().splitlines(keepends=True)
    (earlier / "triplets.jsonl").write_text("".join(reversed(lines)))
    with pytest.raises(CodecriaError, match=r"again/solutions: .* changed since .*; bring back .*, or name another"):
        self_instruct(again, tmp_path / "again")
    assert files(tmp_path / "again") == before
    (earlier / "triplets.jsonl").write_text("".join(lines))
    self_instruct(again, tmp_path / "again")
    assert files(tmp_path / "again") == before


def test_evaluation_material_is_left_out(finished, packages, server, tmp_path):
    row = {"prompt": "def clamp(value, low=0):\n    return max(low, min(value, 3))\n", "tests": "assert clamp(7) == 3"}
    (tmp_path / "set.jsonl").write_text(json.dumps(row) + "\n")
    changes = {
        "questions": [{"type": "triplets", "run": str(finished)}],
        "tests": None,
        "decontamination": {"human_eval": False, "files": [str(tmp_path / "set.jsonl")], "min_characters": 20},
    }
    self_instruct(recipe(packages, server, **changes), tmp_path / "run")
    assert {each.question.entry_point for each in read_triplets(tmp_path / "run")} == {"triple", "square"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"tests": None}, "invented questions have no tests"),
        ({"solutions": {"generator": "gone"}}, "no generator is named 'gone' .there are: known."),
        ({"solutions": None}, "questions of a model have no reference"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused(packages, server, changes, error):
    with pytest.raises(ValueError, match=error):
        recipe(packages, server, **changes)


def test_a_package_that_is_not_there_is_named(packages, server, tmp_path):
    missing = {"type": "mined", "packages": ["small-lists", "nothing"], "folder": str(packages)}
    with pytest.raises(CodecriaError, match=r"'nothing' is not there .there are: small-lists"):
        self_instruct(recipe(packages, server, questions=[missing], tests=None), tmp_path)


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith(("self-instruct-", "rounds-"))])
def test_shipped_recipes_load(name):
    load_recipe(RoundsRecipe if name.startswith("rounds-") else SelfInstructRecipe, name)
