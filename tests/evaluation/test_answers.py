import pytest

from codecria.evaluation.answers import between, fenced_block, one_block


@pytest.mark.parametrize(
    ("answer", "block"),
    [
        ("Here:\n```python\nx = 1\n```\nand\n```python\ny = 2\n```\n", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```Python title=a\nx = 1\n```", "x = 1\n"),
        ("```bash\nls\n```\n```py\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\ny = 2", "x = 1\ny = 2"),
        ("````python\ns = '''\n```\n'''\n````\n", "s = '''\n```\n'''\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("```python\n```", ""),
        ("x = 1", None),
        ("use `x = 1`", None),
        ("```java\nint x;\n```", None),
    ],
)
def test_the_first_block_of_the_language(answer: str, block: str | None) -> None:
    assert fenced_block(answer) == block


def test_marks() -> None:
    assert between("a [X] b [/X] c [X] d [/X]", "[X]", "[/X]") == " b "
    assert between("a [X] b", "[X]", "[/X]") == " b"
    assert between("a b [/X]", "[X]", "[/X]") is None


@pytest.mark.parametrize(
    ("answer", "one"),
    [
        ("Here:\n```python\nx = 1\n```\nSo.", 1.0),
        ("```\nx = 1", 1.0),
        ("[PYTHON]\nx = 1\n[/PYTHON]", 1.0),
        ("[PYTHON]\n```python\nx = 1\n```\n[/PYTHON]", 1.0),
        ("```python\nx = 1\n```\n```python\nf(x)\n```", 0.0),
        ("[PYTHON]x = 1[/PYTHON] or [PYTHON]x = 2[/PYTHON]", 0.0),
        ("```python\nx = \n```", 0.0),
        ("```python\n```", 0.0),
        ("x = 1", 0.0),
    ],
)
def test_an_answer_with_exactly_one_block_that_parses(answer: str, one: float) -> None:
    assert one_block(answer) == {"one_block": one}
