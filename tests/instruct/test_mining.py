import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.instruct.mining import group_examples, mine_source, prose
from codecria.instruct.question import Place, question_of, question_row
from tests.instruct.packages import TESTED


def test_public_functions_with_an_expectation_are_mined_but_not_what_cannot_be_moved(questions):
    assert tuple(questions) == TESTED


def test_a_question_is_prose_signature_examples_and_the_function_without_its_docstring(questions):
    clamp = questions["clamp"]
    assert clamp.text == (
        "Bring a value into the range from low to LIMIT, ends included.\n\n"
        "Parameters\n----------\nvalue : int\n    Any."
    )
    assert clamp.signature == "def clamp(value, low=0):"
    assert clamp.tests == (">>> clamp(7)\n3\n", ">>> clamp(-2)\n0\n", ">>> start = 1\n>>> clamp(-2, start)\n1\n")
    assert '"""' not in clamp.reference and clamp.reference.startswith("def clamp(value, low=0):\n    if value")
    assert clamp.place == Place("small_lists.inside", "clamp")
    assert clamp.place.package == "small_lists"


def test_only_decorators_that_make_the_attribute_what_it_is_are_kept():
    text = '@cache\n@staticmethod\ndef f():\n    """Words.\n\n    >>> f()\n    1\n    """\n    return 1\n'
    (question,) = mine_source(text, "m")
    assert question.reference == "@staticmethod\ndef f():\n    return 1\n"


@pytest.mark.parametrize("statement", ["@cache\n    def g():\n        return 1", "@final\n    class G:\n        x = 1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_decorators_of_the_first_statement_and_form_feeds_are_kept_in_their_place(statement, end):
    text = (
        f'x = 1\n\f\ndef f():\n    """Words.\n\n    >>> f()\n    1\n    """\n    {statement}\n    return 1\n\ny = 2\n'
    )
    (question,) = mine_source(text.replace("\n", end), "m")
    assert question.signature == "def f():"
    assert question.reference.replace("\r", "") == f"def f():\n    {statement}\n    return 1\n"


def test_a_multi_line_signature_and_comments_are_kept_as_written():
    text = 'def f(\n    a,  # first\n    b=1,\n):\n    """Words.\n\n    >>> f(1)\n    2\n    """\n    return a + b\n'
    (question,) = mine_source(text, "m")
    assert question.signature == "def f(\n    a,  # first\n    b=1,\n):"


def test_text_that_is_no_python_gives_nothing():
    assert list(mine_source("def f(:\n    '''>>> 1\n    1'''", "m")) == []
    assert list(mine_source('def f():\n    """Words.\n\n    >>> f()\n  1\n    """\n    return 1\n', "m")) == []


@pytest.mark.parametrize(
    ("docstring", "told"),
    [
        ("A.\n\nExamples\n--------\n\n", "A."),
        ("A.\n\nExamples\n========\n\nFirst this:\n\n", "A.\n\nExamples\n========\n\nFirst this:"),
        ("A.\n\nSee Also\n--------\nother\n", "A."),
        ("A.\n\nReferences\n==========\n\n.. [1] x\n", "A."),
        ("Example:\n\n", ""),
    ],
)
def test_prose_has_no_empty_sections(docstring, told):
    assert prose(docstring) == told


def test_long_prose_ends_at_a_paragraph():
    told = prose("\n\n".join(f"{number} " + "x" * 300 for number in range(20)))
    assert len(told) <= 2000
    assert told.splitlines()[-1].startswith("5 ")


@given(st.lists(st.tuples(st.sampled_from(["f(1)", "x = 2", "for i in y:\n    g(i)\n"]), st.sampled_from(["", "1\n"]))))
def test_examples_written_as_tests_are_the_same_examples(pairs):
    examples = [doctest.Example(source, want) for source, want in pairs]
    tests = group_examples(examples)
    parsed = [each for test in tests for each in doctest.DocTestParser().get_examples(test)]
    last = max((number for number, (_, want) in enumerate(pairs) if want), default=-1)
    assert [(each.source, each.want) for each in parsed] == [(e.source, e.want) for e in examples[: last + 1]]
    assert len(tests) == sum(bool(want) for _, want in pairs)


def test_a_question_survives_its_row(questions):
    for question in questions.values():
        assert question_of(question_row(question)) == question
