"""The two halves of a program, forked before it comes: each waits, clean, for its own.

A half is a fork of the server, which holds nothing of any program, and reads nothing before its turn. The order of
reading from the world's pipe: the server the head, the candidate the code and the input, then, told so by the candidate
before that goes behind its walls, the judge the tests.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import candidate, confine, judge

if TYPE_CHECKING:
    from collections.abc import Callable

_DESCRIPTORS_MAX = os.sysconf("SC_OPEN_MAX")


@dataclass(frozen=True)
class Half:
    """A process that waits: its number, the pipe that tells it to go, the pipe on which it tells how far it is."""

    pid: int
    go: int
    report: int


@dataclass(frozen=True)
class Pair:
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
    """Fork the server; the fork keeps these descriptors, 0, the rules' and what it prints goes to `output`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        confine.enter_group()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing if output is None else output, 1)
        os.dup2(nothing, 2)
        _close_all_but({0, 1, 2, *kept, *(() if walls.rules is None else (walls.rules,))})
        run()
    finally:
        os._exit(1)


def _close_all_but(kept: set[int]) -> None:
    held = sorted(kept)
    for low, high in zip(held, [*held[1:], _DESCRIPTORS_MAX], strict=True):
        if low + 1 < high:  # an empty range would close everything (Python 3.11)
            os.closerange(low + 1, high)
