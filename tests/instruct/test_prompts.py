import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.instruct import prompts
from codecria.instruct.prompts import (
    SEEDS,
    description_prompt,
    fault_of_description,
    function_prompt,
    functions_in,
    questions_prompt,
    read_description,
    read_function,
    read_questions,
    read_solution,
    read_tests,
    solution_prompt,
)
from codecria.instruct.question import Question
from codecria.instruct.solutions import shown_test

QUESTION = Question("Add two numbers.", "invented", "add", tests=("assert add(1, 2) == 3", "assert add(0, 0) == 0"))


def test_questions_are_asked_for_after_ten_that_the_key_draws():
    prompts = [questions_prompt(50, 0, number) for number in range(20)]
    assert len(set(prompts)) == 20
    assert prompts[0] == questions_prompt(50, 0, 0)
    for prompt in prompts:
        shown = [line.partition(". ")[2] for line in prompt.splitlines() if line[:1].isdigit()]
        assert len(set(shown)) == 10 and set(shown) <= set(SEEDS)


def test_a_numbered_list_is_read_without_the_questions_that_were_shown():
    text = f"11. Write a function that   adds numbers.\n12) Count the vowels of a text.\n13. {SEEDS[1]}\n14. Hm."
    assert read_questions(text) == ["Write a function that adds numbers.", "Count the vowels of a text."]


@pytest.mark.parametrize(
    ("text", "tests"),
    [
        ("[TESTS]\n# Case 1:\nassert f(1) == 2\nassert f(2) == 3\n[/TESTS]", ["assert f(1) == 2", "assert f(2) == 3"]),
        ("Here:\n```python\nassert f(1) == 2\n```\nDone.", ["assert f(1) == 2"]),
        ("[TESTS]\nassert f(1) == 2\nassert f(1) == 2\nassert f([1) == 2\n", ["assert f(1) == 2"]),
        ("[TESTS]\nimport math\nx = 2\nassert f(x) == 4\nassert f(math.pi)\n[/TESTS] [TESTS]\nassert g()\n[/TESTS]",
         ["import math\nx = 2\nassert f(x) == 4", "import math\nassert f(math.pi)"]),
        ("No tests at all.", []),
        ("", []),
    ],
)  # fmt: skip
def test_tests_are_read_one_by_one(text, tests):
    assert read_tests(text) == tests


@given(st.text())
def test_whatever_a_model_says_is_read(text):
    for test in read_tests(text):
        ast.parse(test)
    read_questions(text), read_solution(text), read_description(text), functions_in(text)


@pytest.mark.parametrize("text", [
    "[PYTHON]\ndef add(a, b):\n    return a + b\n[/PYTHON]",
    "def add(a, b):\n    return a + b\n[/PYTHON]\nand more",
    "Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds.",
    "```\ndef add(a, b):\n    return a + b",
    "  def add(a, b):\n      return a + b\n",
])  # fmt: skip
def test_code_is_found_between_marks_in_a_block_or_bare(text):
    assert read_solution(text) == "def add(a, b):\n    return a + b\n"


def test_a_solution_sees_one_test_and_no_other():
    for number, shown in enumerate(QUESTION.tests):
        prompt = solution_prompt(QUESTION, shown)
        assert shown in prompt and QUESTION.tests[1 - number] not in prompt
    assert not any(test in solution_prompt(QUESTION, None) for test in QUESTION.tests)


def test_every_test_is_shown_to_some_sample_and_none_to_a_question_that_must_do_alone():
    numbers = {shown_test(QUESTION, sample, 0) for sample in range(40)}
    assert numbers == {0, 1}
    assert [shown_test(QUESTION, sample, 0) for sample in range(9)] == [shown_test(QUESTION, s, 0) for s in range(9)]
    assert shown_test(Question("Add.", "described", tests=QUESTION.tests, alone=True), 0, 0) is None
    assert shown_test(Question("Add.", "mined", tests=QUESTION.tests[:1]), 0, 0) is None


def test_prompts_of_one_kind_begin_alike():
    other = Question("Count the words of a text.", "invented", "count")
    for prompt in (prompts.tests_prompt, lambda question: solution_prompt(question, None)):
        first, second = prompt(QUESTION), prompt(other)
        assert first.startswith(second[: second.index(other.text)])


def test_a_function_to_be_completed_is_python_up_to_its_docstring():
    text = 'Quote """ and \\ it.\n\nSecond paragraph.'
    question = Question(text, "mined", "f", "def f(a,\n      b=1):", (">>> f(1)\n2\n",))
    prompt = function_prompt(question, question.tests[0])
    node = ast.parse(prompt + "    return 1\n").body[0]
    assert isinstance(node, ast.FunctionDef)
    assert ">>> f(1)" in ast.get_docstring(node)
    assert read_function(question, "    return a + b\n\n") == "def f(a,\n      b=1):\n    return a + b\n"


def test_a_description_is_the_first_paragraph(questions):
    assert questions["clamp"].reference.rstrip() in description_prompt(questions["clamp"])
    assert read_description("Task: Write a\n function.\n\nMore.") == "Write a function."
    assert read_description("Write it.\nFunction:\ndef f") == "Write it."


def test_words_that_give_the_answer_away_are_no_description():
    reference = "def first(seq):\n    return next(islice(seq, 0, None))\n"
    assert fault_of_description("Write a function that returns the first item.", reference) == ""
    assert fault_of_description("def first(seq): gives the first item.", reference) == "the description holds code"
    assert fault_of_description("Do return next(islice(seq, 0, None)).", reference) == "the description holds code"
    # The function that the prompt shows, told again: what SmolLM2 does in a fifth of its answers.
    shown = description_prompt(QUESTION).partition("Task:")[2].partition("\n\n")[0]
    assert fault_of_description(read_description(shown), reference) == "the description is the example's"
    assert fault_of_description("Not clear to me.", reference) == "no description"
