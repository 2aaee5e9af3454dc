"""A program to be judged, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "timeout", "memory", "output", "crashed", "build", "error"]


@dataclass(frozen=True)
class Program:
    """Python code and the tests it must pass.

    The code runs in one process, the tests in another; the tests start when the code is defined and call it from there.
    Plain data (numbers, str, bytes, tuple, list, dict, set, None, dates, the containers of `collections`, named tuples)
    is copied; any other object stays where it was made and is called from afar. Tests may import, pass functions and
    objects of their own classes, use the program's objects and catch its exceptions. They cannot subclass the program's
    classes, patch its globals, read its source, call it from a second thread, or await its coroutines. When a call
    changes an argument, the caller's list, dict, set or bytearray is given the new content; parts nested in it are
    replaced. An object of the program's own class never equals plain data, nor is it compared or reckoned with any;
    whether two such objects are equal the program says.

    Whatever name the tests use and do not define comes from the program, and what it does is the program's business:
    tests that lean on the program's own helpers can be misled by them.

    Attributes:
        code: the program. With `stdin` it runs as a script (`__name__ == "__main__"`), else as a module.
        tests: Python that raises if the program is wrong. It sees what the program defines, except under built-in
            names; where `stdin` is given, only `stdout`, what the program printed.
        entry_point: the name under test. It is taken from the program even if it is a built-in name, must be defined,
            and is given to `check` if the tests define that (HumanEval's form). Not used with `stdin`.
        stdin: the program's standard input.
        prelude: Python that runs before the program, under the same names, as a text of its own: the program's lines
            count from 1, and it may begin with `from __future__`.
    """

    code: str
    tests: str
    entry_point: str | None = None
    stdin: str | None = None
    prelude: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Attributes:
        status: `passed`: every test ran to its end without an exception. `failed`: a test or the program raised, or one
            of them ended early. `timeout`, `memory`, `output`: over that limit. `crashed`: killed by a signal.
            `build`: a compiler refused it (other languages than Python).
            `error`: the sandbox itself failed; the program was not judged.
        detail: why, in one line: the exception, the line of the tests, the line of the program.
        wall_s: seconds from the program's start to its verdict.
        output: what the program printed, at most `Limits.output_bytes`.
        calls: how often the tests called the program; 0 with `passed` means that the tests test nothing. Not counted in
            other languages than Python.
    """

    status: Status
    detail: str
    wall_s: float
    output: str = ""
    calls: int = 0

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.status == "passed"
