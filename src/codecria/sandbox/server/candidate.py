"""The half of a program that is judged: its code runs here and never shares memory with the tests."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import struct
import sys
import types
from typing import Any

from . import confine, peer, wire

ENDED, FAILED = b"D", b"E"
"""What the candidate tells the server: the script ran to its end; the code failed, and how. Else it says nothing."""

ORDER = struct.Struct("=IIIB")
"""What the server orders: how many bytes of prelude, code and input to read, and whether the code is a script,
which runs to its end, or defines what the tests then call."""

MEMORY_EXIT = 121
"""Exit status of a half that had no memory left to say so."""


def run(walls: confine.Walls, go: int, turn: int, report: int, reader: int, writer: int) -> None:
    """Wait for a program, then run it; to be called in a fork of the server, does not return.

    Args:
        walls: what to go behind before the program starts.
        go: the pipe on which an `ORDER` comes; prelude, code and input then come on descriptor 0.
        turn: where to tell the judge that all is read.
        report: where to tell the server how it went.
        reader: the pipe on which the tests ask.
        writer: the pipe on which they are answered.
    """
    status = 1
    try:
        order = os.read(go, ORDER.size)
        if len(order) < ORDER.size:
            return
        prelude_bytes, code_bytes, stdin_bytes, script = ORDER.unpack(order)
        prelude, code = (wire.read_exactly(0, count) for count in (prelude_bytes, code_bytes))
        if stdin_bytes:
            _give_input(wire.read_exactly(0, stdin_bytes))
        else:
            os.dup2(walls.nothing, 0)
        os.close(go)
        os.write(turn, b"T")
        os.close(turn)
        confine.enter_program(walls)
        before, text = (part.decode("utf-8", "surrogatepass") for part in (prelude, code))
        status = _run(before, text, bool(script), report, reader, writer)
    except MemoryError:
        status = MEMORY_EXIT
    finally:
        os._exit(status)


def _run(prelude: str, code: str, script: bool, report: int, reader: int, writer: int) -> int:
    module = types.ModuleType("__main__" if script else "program")
    sys.modules[module.__name__] = module
    sys.argv = ["program.py"]
    flush = sys.stdout.flush
    try:
        try:
            if prelude:
                exec(compile(prelude, "<prelude>", "exec", dont_inherit=True), module.__dict__)
            exec(compile(code, "<program>", "exec", dont_inherit=True), module.__dict__)
        finally:
            if script:
                _finish()
            _quietly(flush)
    except BaseException as error:
        if not (script and isinstance(error, SystemExit) and error.code in (None, 0)):
            told = explain(error, "program", code, "the program called {}")
            wire.write_all(report, FAILED + wire.frame(json.dumps(told).encode()))
            return 1
    if script:
        wire.write_all(report, ENDED)
    else:
        tests = peer.Peer(reader, writer, home=None, after=lambda: _quietly(flush))
        tests.offer(module.__dict__)
        tests.serve()
    return 0


def explain(error: BaseException, half: str, source: str, leaving: str) -> dict[str, str]:
    """A verdict of one line: the kind of error, its message and the line of the source it came from.

    Args:
        error: what a half of the program raised.
        half: "program" or "tests".
        source: its text.
        leaving: what is said of an exit, with `{}` for the call.
    """
    if isinstance(error, MemoryError):
        return {"status": "memory", "detail": "MemoryError"}
    detail = type(error).__name__
    with contextlib.suppress(Exception):
        if message := " ".join(str(error).split()):
            detail = f"{detail}: {message[:1000]}"
    if isinstance(error, SystemExit):
        detail = leaving.format(f"exit({error.code!r:.100})")
    line = peer.place_in(error, f"<{half}>")
    if isinstance(error, SyntaxError) and not line:
        line = error.lineno or 0
    if line:
        quoted = source.splitlines()[line - 1 : line] if line > 0 else []
        detail += f"; line {line} of the {half}" + "".join(f": `{text.strip()[:200]}`" for text in quoted)
    return {"status": "failed", "detail": detail}


def _finish() -> None:
    """What the interpreter does after a script: wait for its threads, run its exit functions."""
    if "threading" in sys.modules:
        threading: Any = sys.modules["threading"]
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]


def _give_input(data: bytes) -> None:
    """Make descriptor 0 a file of the program's input, instead of the server's requests."""
    file = os.memfd_create("stdin")
    wire.write_all(file, data)
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    os.close(file)


def _quietly(flush: Any) -> None:
    with contextlib.suppress(Exception):
        flush()
