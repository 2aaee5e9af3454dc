"""Steps of a run: work on groups of items, one file a group, so that a killed run goes on with the next group.

A group is worked on whole or not at all, and what it gives is a function of its items and the recipe; so a run that was
killed anywhere ends with the files of one that was not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from rich.table import Table

from codecria.common.errors import CodecriaError
from codecria.common.files import clear_parts, write_atomic
from codecria.common.progress import progress_bar
from codecria.common.random import digest
from codecria.common.recipe import load_recipe, resolved
from codecria.instruct.question import read_lines, to_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from codecria.common.recipe import Recipe

Row = dict[str, Any]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Yield:
    """What a step was given and what it kept.

    Attributes:
        step: its name.
        given, kept: how many.
        unit: of what.
        dropped: how many for each reason.
    """

    step: str
    given: int
    kept: int
    unit: str = "questions"
    dropped: dict[str, int] = field(default_factory=dict[str, int])

    def row(self) -> Row:
        """As `yields.json` has it."""
        return asdict(self)


def claim(folder: Path, recipe: Recipe, free: Collection[str] = ()) -> None:
    """Write `recipe.yaml`, or find that the folder holds a run of the same recipe, keys that are `free` aside.

    Raises:
        CodecriaError: it holds another run; the keys that differ are named.
    """
    path = folder / "recipe.yaml"
    if not path.exists():
        write_atomic(path, recipe.to_yaml())
        return
    old, new = (resolved(each.model_dump(mode="json")) for each in (load_recipe(type(recipe), path), recipe))
    if keys := [key for key in new if old[key] != new[key] and key not in free]:
        what = f"holds a run of another recipe: {', '.join(keys)} differ"
        raise CodecriaError(what, where=folder, mend="name another folder, or remove this one")


def run_step(
    folder: Path, name: str, items: Sequence[Item], size: int, work: Callable[[Sequence[Item]], list[Row]]
) -> list[Row]:
    """The rows of every group, those that are there read, the others made.

    Args:
        folder: the run's.
        name: of the step and of its folder.
        items: what is worked on; the same at every start.
        size: items of a group.
        work: makes a group's rows.

    Raises:
        CodecriaError: the groups that are there are of other items.
    """
    _claim_items(folder / name, items)
    starts = range(0, len(items), size)
    files = [folder / name / f"{start // size:05d}.jsonl" for start in starts]
    done = sum(min(size, len(items) - start) for start, file in zip(starts, files, strict=True) if file.exists())
    clear_parts(folder / name)
    if done < len(items):
        with progress_bar(name, total=len(items), start=done) as bar:
            for start, file in zip(starts, files, strict=True):
                if not file.exists():
                    part = items[start : start + size]
                    write_atomic(file, to_lines(work(part)))
                    bar.advance(len(part))
    return [row for file in files for row in read_lines(file)]


def _claim_items(folder: Path, items: Sequence[Any]) -> None:
    """Write a digest of the items, or find that groups are of the same: rows are theirs by place alone."""
    path, key = folder / "items.digest", digest(*map(repr, items)).hex()
    if path.exists() and path.read_text() != key:
        mend = "bring back what was there, or name another folder"
        raise CodecriaError("what it works on changed since it was begun", where=folder, mend=mend)
    write_atomic(path, key)


def dropped(why: str, id: str) -> Row:
    """The row of an item that goes no further."""
    return {"dropped": why, "id": id}


def kept(rows: Sequence[Row]) -> list[Row]:
    """The rows that go on."""
    return [row for row in rows if "dropped" not in row]


def yield_of(step: str, given: int, rows: Sequence[Row], unit: str = "questions") -> Yield:
    """What a step's rows say."""
    reasons: dict[str, int] = {}
    for row in rows:
        if "dropped" in row:
            reasons[row["dropped"]] = reasons.get(row["dropped"], 0) + 1
    return Yield(step, given, len(kept(rows)), unit, dict(sorted(reasons.items())))


def yield_table(yields: Sequence[Yield]) -> Table:
    """A table to print."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("step", "given", "kept", "share", "dropped"):
        table.add_column(heading, justify="left" if heading in ("step", "dropped") else "right")
    for each in yields:
        share = f"{100 * each.kept / each.given:.1f} %" if each.given else ""
        reasons = ", ".join(f"{why} {count:,}" for why, count in each.dropped.items())
        table.add_row(f"{each.step} ({each.unit})", f"{each.given:,}", f"{each.kept:,}", share, reasons)
    return table
