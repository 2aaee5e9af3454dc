from pathlib import Path

import pytest

from codecria.common.errors import CodecriaError
from codecria.generation.applications.fix import fix, suspects
from codecria.generation.applications.source import Source
from codecria.generation.applications.tests import Suite

CLAMP = '''\
def helper(value):
    """Never wrong."""
    return value


def clamp(value, low, high):
    if value < low:
        return helper(high)
    if value > high:
        return high
    return value


def unrelated():
    return 1
'''
TESTS = Suite("def test_clamp():\n    assert clamp(0, 1, 3) == 1\n    assert clamp(5, 1, 3) == 3\ntest_clamp()\n")
FILE = Path("clamp.py")


def test_the_first_program_that_passes_is_kept(told):
    def say(prefix, _suffix, _options):
        return "return low" if prefix.endswith("low:\n        ") else "return nothing"

    told = told(say)
    found = fix(told, CLAMP, TESTS, file=FILE)
    assert found.text == CLAMP.replace("return helper(high)", "return low")
    assert (found.before.status, found.lines) == ("failed", [7, 8])
    assert found.candidates >= 1
    # What stands there is not shown; what stands around is.
    prefix, suffix = next(pair for pair in told.asked if pair[0].endswith("low:\n        "))
    assert CLAMP.startswith(prefix)
    assert suffix == CLAMP[len(prefix) + len("return helper(high)") :]


def test_a_line_is_also_written_from_each_of_its_words_on(told):
    def say(prefix, _suffix, _options):
        return "low)" if prefix.endswith("helper(") else "]"

    assert "helper(low)" in fix(told(say), CLAMP, TESTS, file=FILE).text


def test_blocks_come_after_lines(told):
    said = "if value < low:\n        return low\n    return min(value, high)"
    told = told(lambda _prefix, _suffix, options: said if options["stop_at"] == "block" else "]")
    found = fix(told, CLAMP, TESTS, file=FILE)
    assert "def clamp(value, low, high):\n    if value < low:\n        return low\n    return min" in found.text


def test_what_does_not_pass_is_not_kept_and_nothing_runs_twice(told):
    found = fix(told(lambda *_: ["return 7", "]", "return 8"]), CLAMP, TESTS, file=FILE, samples=3)
    assert found.text is None
    assert set(found.lines) >= {3, 7, 8, 9, 10, 11}
    assert 15 not in found.lines
    least = fix(told(lambda *_: ["return 7", "]", "return 8"]), CLAMP, TESTS, file=FILE, samples=3, most=2)
    assert least.candidates == 2 < found.candidates


def test_what_passes_already_is_said(told):
    told = told(lambda *_: "never asked")
    found = fix(told, CLAMP, Suite("assert clamp(2, 1, 3) == 2"), file=FILE)
    assert (found.text, found.before.passed, told.asked) == (CLAMP, True, [])
    with pytest.raises(CodecriaError, match=r"clamp\.py: the tests never call it"):
        fix(told, CLAMP, Suite("assert True"), file=FILE)


def test_a_program_that_attacks_is_only_a_program_that_fails(told, tmp_path):
    target = tmp_path / "written"
    said = f"open({str(target)!r}, 'w').write('x')"
    found = fix(told(lambda *_: [said, "while True: pass"]), CLAMP, TESTS, file=FILE, samples=2, most=6)
    assert found.text is None
    assert not target.exists()


def test_suspects_begin_where_the_traceback_ends():
    source = Source(CLAMP, "x")
    lines = [
        line for line, _ in suspects(source, TESTS.text, "KeyError: 1; line 2 of the tests; line 3 of the program")
    ]
    assert lines[0] == 3
    lines = [line for line, _ in suspects(source, TESTS.text, "AssertionError; line 2 of the tests")]
    assert lines[0] == 7
    assert lines.index(3) > lines.index(11)


def test_every_line_of_a_statement_is_a_suspect():
    text = (
        'def f(a, b):\n    if (a and\n            b):\n        "alone"\n        return [\n            a,\n        ]\n'
    )
    spans = dict(suspects(Source(text, "x"), "assert f(1, 2) == [1]", "line 1 of the tests"))
    lines = [line for line, some in suspects(Source(text, "x"), "assert f(1, 2)", "") if some[0].kind == "line"]
    assert lines == [2, 3, 5, 6, 7]
    assert [text[each.start : each.stop] for each in spans[6]] == ["a,", ","]


def test_a_real_model_mends_a_comparison(infilling_model):
    text = (
        'def is_leap_year(year):\n    """Whether a year has a 29 February."""\n'
        "    return year % 4 == 0 and (year % 100 == 0 or year % 400 == 0)\n"
    )
    tests = Suite("assert is_leap_year(2024) and is_leap_year(2000)\nassert not is_leap_year(1900)\n")
    found = fix(infilling_model, text, tests, file=FILE, samples=1, most=100)
    assert found.text == text.replace("100 == 0", "100 != 0")
