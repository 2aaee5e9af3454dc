from codecria.instruct.mining import mine_package
from codecria.instruct.question import Place
from codecria.instruct.suites import read_suite, suite_tests

FILE = """
import math
import lists as ls
from lists import halves, other
from lists.inside import clamp

LOW = 1

def near(a, b):
    return math.isclose(a, b)

def unused():
    return halves([1])

def test_clamp():
    # a comment
    assert near(clamp(7), 3) and ls.clamp(9, LOW) == 3

def test_halves():
    assert ls.inside.halves([1, 2]) == ([1], [2])

def test_both():
    assert clamp(len(halves([1])))

def test_neither():
    assert other(1)

def test_fixture(tmp_path):
    assert clamp(1)

class TestClass:
    def test_inside(self):
        assert clamp(1)
"""


def test_a_test_that_names_one_function_comes_with_what_it_rests_on():
    found = list(read_suite(FILE, "lists", {"clamp", "halves"}))
    assert [name for name, _ in found] == ["clamp", "halves"]
    assert found[0][1] == (
        "import math\nimport lists as ls\nLOW = 1\ndef near(a, b):\n    return math.isclose(a, b)\n"
        "def test_clamp():\n    assert near(clamp(7), 3) and clamp(9, LOW) == 3\ntest_clamp()"
    )
    assert (
        found[1][1] == "import lists as ls\ndef test_halves():\n    assert halves([1, 2]) == ([1], [2])\ntest_halves()"
    )
    assert list(read_suite("def test_(:", "lists", {"clamp"})) == []


def test_two_functions_of_one_name_have_no_suite_tests(packages):
    places = [Place("small_lists.inside", "clamp"), Place("small_lists.other", "clamp")]
    assert suite_tests(packages, "small_lists", places[:1])
    assert not suite_tests(packages, "small_lists", places)


def test_a_function_without_examples_is_mined_for_its_suite(packages, bench):
    questions = {question.entry_point: question for question in mine_package(packages, "small_lists")}
    assert "nothing_shown" in questions
    question = questions["nothing_shown"]
    assert bench.run([(question, question.reference)])[0].passed
    assert not bench.run([(question, question.signature + "\n    return [value, 1]\n")])[0].passed
    assert "nothing_shown" not in {each.entry_point for each in mine_package(packages, "small_lists", suites=False)}
