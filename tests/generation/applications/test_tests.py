import pytest

from codecria.common.errors import CodecriaError
from codecria.generation.applications.source import Source
from codecria.generation.applications.tests import read_tests, runnable
from codecria.sandbox import Program, open_sandbox

GOOD = "from .units import CENTS\n\n\ndef total(prices):\n    return sum(prices) * CENTS\n"
BAD = GOOD.replace("* CENTS", "+ CENTS")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    package = folder / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from shop.money import total\n")
    (package / "units.py").write_text("CENTS = 100\n")
    (package / "money.py").write_text(BAD)
    (folder / "tests").mkdir()
    return folder


@pytest.fixture(scope="module")
def verdicts(project):
    """Writes a test file and judges the good and the bad program by it: the file's tests, two verdicts."""

    def judge(text, command="pytest -q {}"):
        path = project / "tests" / "test_money.py"
        path.write_text(text)
        file = project / "src" / "shop" / "money.py"
        tests = read_tests(command.format(path), file, Source(BAD, "x"))
        with open_sandbox(import_paths=tests.import_paths) as sandbox:
            programs = [Program(runnable(each, file), tests.text) for each in (GOOD, BAD)]
            return tests, [verdict.passed for verdict in sandbox.run_many(programs)], sandbox.run(programs[1]).detail

    return judge


IMPORTS = [
    ("from shop.money import total", "total"),
    ("from shop.money import (\n    total as t,\n)", "t"),
    ("from shop.money import *", "total"),
    ("from shop import money", "money.total"),
    ("from shop import money as m, units", "m.total"),
    ("import shop.money", "shop.money.total"),
    ("import shop.money as m", "m.total"),
]


@pytest.mark.parametrize(("line", "spelling"), IMPORTS)
def test_the_program_is_the_sandboxs_however_it_is_imported(verdicts, line, spelling):
    text = f"import math\n{line}\n\n\ndef test_total():\n    assert {spelling}([1, 2]) == math.prod([3, 100])\n"
    _, passed, detail = verdicts(text)
    assert passed == [True, False], detail
    number = text.splitlines().index(f"    assert {spelling}([1, 2]) == math.prod([3, 100])") + 1
    assert f"line {number} of the tests" in detail


@pytest.mark.parametrize(
    "body",
    [
        "assert total([1]) == 100\n",
        "class TestTotal:\n    def test_one(self):\n        assert total([1]) == 100\n",
        "import unittest\n\n\nclass Case(unittest.TestCase):\n    def setUp(self):\n        self.one = 100\n\n"
        "    def test_one(self):\n        self.assertEqual(total([1]), self.one)\n",
        "import pytest\n\n\n@pytest.mark.parametrize('prices, sum', [([1], 100), pytest.param([2], 200, id='x')])\n"
        "def test_sums(prices, sum):\n    assert total(prices) == sum\n",
        "import pytest\n\n\n@pytest.mark.parametrize('price', [1, 2])\n@pytest.mark.parametrize(('n',), [(1,), (3,)])\n"
        "def test_sums(price, n):\n    assert total([price] * n) == 100 * price * n\n",
    ],
)
def test_asserts_functions_classes_cases_and_parameters(verdicts, body):
    _, passed, detail = verdicts(f"from shop.money import total\n{body}")
    assert passed == [True, False], detail


def test_one_by_its_name_and_fixtures_are_said(verdicts, project):
    text = "from shop.money import total\n\n\ndef test_no():\n    assert total([]) == 0\n\n\n"
    text += "def test_yes():\n    assert total([1]) < 200\n\n\ndef test_files(tmp_path):\n    assert tmp_path\n"
    tests, passed, _ = verdicts(text)
    assert (tests.skipped, passed) == (("test_files",), [True, False])
    assert verdicts(text, "python -m pytest {}::test_yes")[1] == [True, True]
    path, file = project / "tests" / "test_money.py", project / "src" / "shop" / "money.py"
    for command, said in (
        (f"pytest {path}::test_files", "its tests need fixtures, which are not known here: test_files"),
        (f"pytest {path}::test_none", "test_none: no such test"),
        ("make test", "'make test' is neither a file nor `pytest FILE`"),
        ("pytest nowhere.py", r"nowhere\.py: no such file"),
    ):
        with pytest.raises(CodecriaError, match=said):
            read_tests(command, file, Source(BAD, "x"))
