"""The two halves of a program, forked before it comes: each waits, clean, for its own.

A half is a fork of the server, which holds nothing of any program, and reads nothing before its turn. The order of
reading from the world's pipe: the server the head, the candidate the code and the input, then, told so by the candidate
before that goes behind its walls, the judge the tests.
"""

from __future__ import annotations

import functools
import itertools
import os
from typing import TYPE_CHECKING, NamedTuple

from . import candidate, confine, judge

if TYPE_CHECKING:
    from collections.abc import Callable

_DESCRIPTORS_MAX = os.sysconf("SC_OPEN_MAX")


class Half(NamedTuple):
    """A process that waits: its number, the pipe that tells it to go, the pipe on which it tells how far it is."""

    pid: int
    go: int
    report: int


class Pair(NamedTuple):
    """Both halves of a program to come, and the pipe of what it prints."""

    candidate: Half
    judge: Half
    output: int


def prepare(walls: confine.Walls) -> Pair:
    """Fork the halves of one program."""
    (output_r, output_w), (ask_r, ask_w), (answer_r, answer_w) = os.pipe(), os.pipe(), os.pipe()
    (go_r, go_w), (report_r, report_w) = os.pipe(), os.pipe()
    (turn_r, turn_w), (verdict_r, verdict_w) = os.pipe(), os.pipe()
    world = os.dup(1)

    def run_candidate() -> None:
        candidate.run(walls, go_r, turn_w, report_w, ask_r, answer_w)

    def run_judge() -> None:
        judge.run(walls, turn_r, world, verdict_w, answer_r, ask_w)

    first = fork(walls, output_w, (go_r, turn_w, report_w, ask_r, answer_w), run_candidate)
    second = fork(walls, None, (turn_r, world, verdict_w, answer_r, ask_w), run_judge)
    for descriptor in (output_w, ask_r, ask_w, answer_r, answer_w, go_r, report_w, turn_r, verdict_w, world):
        os.close(descriptor)
    return Pair(Half(first, go_w, report_r), Half(second, turn_w, verdict_r), output_r)


def fork(walls: confine.Walls, output: int | None, kept: tuple[int, ...], run: Callable[[], None]) -> int:
    """Fork the server; the fork keeps these descriptors, 0, those of the walls, and what it prints goes to `output`."""
    gaps = _gaps(kept, walls.nothing, walls.rules)
    pid = os.fork()
    if pid:
        return pid
    # Every page that is written from here on is copied first: what can be worked out before is.
    try:
        confine.enter_group()
        os.dup2(walls.nothing if output is None else output, 1)
        os.dup2(walls.nothing, 2)
        for low, high in gaps:
            os.closerange(low, high)
        run()
    finally:
        os._exit(1)


@functools.cache
def _gaps(*kept: tuple[int, ...] | int | None) -> list[tuple[int, int]]:
    """The descriptors besides these and the first three, as ranges. The same numbers come for every program."""
    groups = (each if isinstance(each, tuple) else (each or 2,) for each in kept)
    held = sorted({2, *itertools.chain(*groups)})
    # An empty range would close everything (Python 3.11).
    return [(low + 1, high) for low, high in itertools.pairwise([*held, _DESCRIPTORS_MAX]) if low + 1 < high]
