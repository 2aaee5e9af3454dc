"""No arrow runs back up: a room imports only from rooms on floors below it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "codecria"
FLOORS = [
    {"common"},
    {"corpus", "sandbox", "model", "infill"},
    {"tokenizer"},
    {"batches", "checkpoint"},
    {"training", "generation"},
    {"instruct", "evaluation", "serving"},
    {"pipeline"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_TORCH = {"common", "corpus", "sandbox", "infill", "tokenizer"}


def imported(path):
    """Every module a file imports, inside functions and type-checking blocks too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 1:
                continue  # a file of the same folder, so of the same room
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    names = (name.split(".") for name in imported(path))
    return {parts[1] for parts in names if parts[0] == "codecria" and len(parts) > 1 and parts[1] in FLOOR_OF}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_from_floors_below(path):
    parts = path.relative_to(SOURCE).parts
    if len(parts) == 1:
        return  # the package's front door opens every room
    room = parts[0]
    for other in rooms_imported(path) - {room}:
        assert FLOOR_OF[other] < FLOOR_OF[room], (
            f"{room} (floor {FLOOR_OF[room]}) imports {other} (floor {FLOOR_OF[other]})"
        )
    if room in WITHOUT_TORCH:
        assert not any(name.split(".")[0] == "torch" for name in imported(path))


def test_every_room_has_a_floor():
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms <= set(FLOOR_OF)


def test_transformers_is_never_imported():
    for path in SOURCE.rglob("*.py"):
        assert not any(name.split(".")[0] in ("transformers", "accelerate") for name in imported(path)), path
