import pytest

from codecria.evaluation.answers import between, fenced_block


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
