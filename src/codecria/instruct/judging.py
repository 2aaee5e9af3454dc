"""Solutions judged by their question's tests, in the sandbox: which of the tests each of them passes.

A solution to a mined question is put where the package's own function was: executed among its module's names, bound to
every name of the package that held the old function, and what still holds the old one is led to the new. A function
that decorators wrapped stays wrapped: only the inner one is replaced. The package
runs in the program's half; an example's output is sent to the tests' half as text and compared there, so what is
expected never reaches the program. It does not keep a solution from reading the package's files, docstrings included:
that a solution was written from the task alone is the writer's honesty, not a property of the verdict.
"""

from __future__ import annotations

import doctest
import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from codecria.common.errors import CodecriaError
from codecria.sandbox import Limits, Program, Sandbox, open_sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from codecria.instruct.question import Place, Question
    from codecria.sandbox import Verdict

LIMITS = Limits(wall_s=90.0, cpu_s=4.0, memory_bytes=1 << 30)
"""Packages are large, and some examples of SymPy's take seconds. The processor's time decides, so that a busy machine
does not change a verdict."""
QUICK = replace(LIMITS, cpu_s=1.0)
"""For what ends in it, and for wrong versions of that."""

_FAILED = re.compile(r"AssertionError: tests failed:((?: \d+)+)(?:;|$)")
_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL

_PLACED = """
import __future__, importlib, inspect, io, sys, traceback, types

def _codecria_inner(held):
    return next((getattr(held, name) for name in ("fget", "func", "__func__") if hasattr(held, name)), held)

def _codecria_place(text, module_name, name):
    module = importlib.import_module(module_name)
    *path, last = name.split(".")
    owner = module
    for part in path:
        owner = getattr(owner, part)
    old = vars(owner)[last]
    names = dict(vars(module))
    exec(compile(text, "<program>", "exec", __future__.annotations.compiler_flag, True), names)
    new = names[last]
    if path:  # inside a method its own name is the module's or Python's
        del names[last]
        names.update({last: vars(module)[last]} if last in vars(module) else {})
        getattr(type(new), "__set_name__", lambda *given: None)(new, owner, last)
    direct = _codecria_inner(old)
    inner = inspect.unwrap(direct)
    redirected = isinstance(inner, types.FunctionType) and not inner.__closure__
    if redirected:
        inner.__signature__ = inspect.signature(inner)  # decorators may look at it at the first call
        inner.__globals__["_codecria_new"] = _codecria_inner(new)
        inner.__code__ = (lambda *given, **named: _codecria_new(*given, **named)).__code__
        inner.__defaults__ = inner.__kwdefaults__ = inner.__doc__ = None
    if inner is direct or not redirected:
        package = module_name.partition(".")[0]
        holders = [owner, *(each for key, each in list(sys.modules.items()) if key.partition(".")[0] == package)]
        for holder in holders:
            for key, value in list(vars(holder).items()):
                if value is old:
                    setattr(holder, key, new)
    return module

_codecria_names = dict(vars(_codecria_place(TEXT, MODULE, NAME)), __name__="__main__")
sys.displayhook = sys.__displayhook__

def codecria_example(source):
    out, sys.stdout, error = sys.stdout, io.StringIO(), None
    try:
        exec(compile(source, "<example>", "single", 0, True), _codecria_names)
    except Exception as raised:
        error = traceback.format_exception_only(type(raised), raised)[-1]
    finally:
        printed, sys.stdout = sys.stdout.getvalue(), out
    return printed, error
"""
"""The program's half of a mined question. The old function's code is led to the new; decorators go on wrapping it."""

_OFFERED = "\nglobals().update({name: value for name, value in _codecria_names.items() if name[:2] != '__'})\n"

_TALLY = """
def _codecria_passes(test):
    if isinstance(test, str):
        exec(compile(test, "<test>", "exec", 0, True), globals())
        return True
    checker = doctest.OutputChecker()
    right = True
    for source, want, raises, flags in test:
        got, error = codecria_example(source)
        if error is None:
            right = right and checker.check_output(want, got, flags)
        elif raises is None:
            right = False
        else:
            kinds = [text.partition(":")[0].rpartition(".")[2].strip() for text in (raises, error)]
            right = right and kinds[0] == kinds[1]
    return right

_codecria_failed = []
for _codecria_number, _codecria_test in enumerate(TESTS):
    try:
        if not _codecria_passes(_codecria_test):
            _codecria_failed.append(_codecria_number)
    except Exception:
        _codecria_failed.append(_codecria_number)
    if _codecria_failed and not EVERY:
        break
if _codecria_failed:
    raise AssertionError("tests failed: " + " ".join(map(str, _codecria_failed)))
"""


@dataclass(frozen=True)
class Judged:
    """What became of a solution.

    Attributes:
        status: the verdict's.
        failed: numbers of the tests that failed; all of them where the verdict does not tell.
        detail: why, in a line.
        calls: how often the tests called the program.
    """

    status: str
    failed: tuple[int, ...]
    detail: str = ""
    calls: int = 0

    @property
    def passed(self) -> bool:
        """Whether every test passed, and one of them called the solution."""
        return self.status == "passed" and self.calls > 0


def is_example(test: str) -> bool:
    """Whether a test is a doctest example, not Python with asserts."""
    return test.startswith(">>> ")


def program_of(question: Question, solution: str, every: bool = True) -> Program:
    """A solution and the question's tests, as the sandbox takes them; without `every` up to the first that fails."""
    tests = [_parsed(test) if is_example(test) else test for test in question.tests]
    needs = "import doctest\n" if any(map(is_example, question.tests)) else ""
    tally = f"{needs}TESTS, EVERY = {tests!r}, {every}\n{_TALLY}"
    if question.place is None:
        return Program(solution, tally, question.entry_point or None)
    offered = "" if all(map(is_example, question.tests)) else _OFFERED
    return Program(_placed(question.place, solution) + offered, tally)


def judged(question: Question, verdict: Verdict) -> Judged:
    """What a verdict on `program_of` says of each test."""
    every = tuple(range(len(question.tests)))
    if verdict.passed:
        return Judged("passed", (), verdict.detail, verdict.calls)
    told = _FAILED.match(verdict.detail)
    failed = tuple(int(number) for number in told[1].split()) if told else every
    return Judged(verdict.status, failed, verdict.detail, verdict.calls)


class Bench:
    """Sandboxes for questions, one at a time: another is opened when the package changes. A context manager.

    Args:
        packages: folders that the packages of mined questions are installed in.
        workers: programs at a time.
        limits: of each program.
    """

    def __init__(self, packages: Sequence[Path], workers: int = 1, limits: Limits = LIMITS) -> None:
        self.packages = packages
        self._workers = workers
        self._limits = limits
        self._stack = ExitStack()
        self._sandbox: Sandbox | None = None
        self._package: str | None = None

    def run(self, pairs: Sequence[tuple[Question, str]], every: bool = True) -> list[Judged]:
        """Judge solutions; one result for each pair, in their order.

        Args:
            pairs: questions, each with a solution.
            every: run every test; otherwise none after the first that fails, which is all that `passed` needs.

        Raises:
            CodecriaError: no sandbox can be had, a package cannot be imported in it, or the sandbox itself failed.
        """
        results: dict[int, Judged] = {}
        packages = ["" if question.place is None else question.place.package for question, _ in pairs]
        for package in dict.fromkeys(packages):
            chosen = [number for number, each in enumerate(packages) if each == package]
            programs = (program_of(*pairs[number], every) for number in chosen)
            for number, verdict in zip(chosen, self._open(package).run_many(programs), strict=True):
                if verdict.status == "error":  # not the solution's fault, so it must not be counted as one
                    mend = "start the same command again; what is done is kept"
                    raise CodecriaError(f"a program was not judged: {verdict.detail}", where="sandbox", mend=mend)
                results[number] = judged(pairs[number][0], verdict)
        return [results[number] for number in range(len(pairs))]

    def _open(self, package: str) -> Sandbox:
        if self._sandbox is None or self._package != package:
            self._stack.close()
            given: dict[str, Any] = {}
            if package:
                given = {"import_paths": self.packages, "preload": ["doctest", package]}
            self._sandbox = self._stack.enter_context(open_sandbox(self._limits, workers=self._workers, **given))
            self._package = package
        return self._sandbox

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        self._sandbox = None


def _placed(place: Place, solution: str) -> str:
    return f"TEXT, MODULE, NAME = {solution!r}, {place.module!r}, {place.name!r}\n{_PLACED}"


def _parsed(test: str) -> list[tuple[str, str, str | None, int]]:
    """The examples of a test: source, what is expected, the exception expected, flags of doctest's comparison."""
    examples = doctest.DocTestParser().get_examples(test)
    return [(each.source, each.want, each.exc_msg, _FLAGS | _sum(each.options)) for each in examples]


def _sum(options: dict[int, bool]) -> int:
    return sum(flag for flag, on in options.items() if on)
