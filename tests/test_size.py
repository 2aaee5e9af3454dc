"""The house stays small: lines of code under `src/`, blank lines, comments and docstrings not counted."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "codecria"
MOST_LINES = 33_500


def docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for one in node.body:
                # A text that stands alone: a docstring, or one under an attribute.
                if (
                    isinstance(one, ast.Expr)
                    and isinstance(one.value, ast.Constant)
                    and isinstance(one.value.value, str)
                ):
                    lines.update(range(one.lineno, (one.end_lineno or one.lineno) + 1))
    return lines


def code_lines(path: Path) -> int:
    text = path.read_text()
    prose = docstring_lines(ast.parse(text))
    rows = enumerate(text.splitlines(), start=1)
    return sum(1 for number, row in rows if row.strip() and not row.strip().startswith("#") and number not in prose)


def test_the_source_is_small():
    total = sum(code_lines(path) for path in SOURCE.rglob("*.py"))
    assert 5_000 < total <= MOST_LINES


def test_prose_is_not_counted(tmp_path):
    file = tmp_path / "one.py"
    file.write_text(
        '"""Doc\n\nstring."""\n\n# comment\nx: int = 1\n"""Of x."""\n\n\ndef f():\n    """Doc."""\n    return x\n'
    )
    assert code_lines(file) == 3
