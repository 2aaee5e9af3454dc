"""Figures of a run, one JSON object a line, cut back to the step a resumed run goes on from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from codecria.common.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path


class MetricsFile:
    """`metrics.jsonl` of a run.

    Opening it at step s drops lines of later steps and a last line that a kill cut short: the resumed run writes
    them again, to the same numbers.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")

    def write(self, **figures: Any) -> None:
        """Append one line and hand it to the operating system."""
        self._file.write(json.dumps(figures) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file; none when there is no file."""
    if not path.exists():
        return []
    lines: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
