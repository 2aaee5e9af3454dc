"""The fork server: one warm interpreter inside the isolation, two forks of it for each program.

It talks to the world outside through frames on descriptors 0 and 1:

    in   settings                                 once
    out  {"landlock": abi} | {"refused": why}     once
    in   {"files", "steps"}                       a program of another language, answered at once: see `steps`
    or   {"prelude_bytes", "code_bytes", "stdin_bytes", "script"}
                                                  then prelude, code and input, which the candidate reads itself,
                                                  and the tests as `judge.written` has them, which the judge reads
    out  {"status", "detail", "calls", "nonce"}   written by the judge itself, where it came to a verdict
    out  {"status", "detail", "wall_s", "output", "last"}

The server never holds code, tests or expected values: each half reads its own from the pipe and the judge answers past
the server, so that no later fork finds another program's in its memory. The last status is "told" where the judge's
counts. `last` says that this server ends and a new one must be started.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from . import confine, landlock, wire
from .halves import prepare
from .libc import libc
from .peer import Peer
from .settings import Settings
from .trial import Trial

if TYPE_CHECKING:
    from .steps import Steps

_USUAL_MODULES = "bisect collections.abc contextlib copy enum functools heapq itertools json math re string typing"
"""Imported before the first fork, so that programs need not wait for them. Only what is small or used by many: every
fork copies the page tables of all that is loaded. Not `threading` nor `random`, nor what imports them: they have work
to do after every fork."""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Serve until the pipe ends, a program leaves the server in disorder, or enough programs have run."""
    body = wire.read_frame(0)
    if body is None:
        return
    settings = Settings(**json.loads(body))
    del os.environ["LD_BIND_NOW"]
    try:
        os.chdir(settings.work)
        walls = confine.build_walls(settings)
        confine.enter_server(settings)
    except (confine.RefusedError, OSError) as error:
        wire.reply({"refused": str(error)})
        return
    sys.path += settings.import_paths
    for name in _USUAL_MODULES.split():
        importlib.import_module(name)
    if refused := _preload(settings.preload):
        wire.reply({"refused": refused})
        return
    _warm_up()
    steps = None
    if settings.toolchains:  # its servers alone need it, and every fork pays for every module
        from . import steps as others

        steps = others.Steps
    # A program's `import server` must not find ours.
    for name in [name for name in sys.modules if name.partition(".")[0] == __name__.partition(".")[0]]:
        del sys.modules[name]
    abi = landlock.abi()  # the filter refuses to tell
    if walls.inherited is not None:
        walls.inherited.install()
    gc.collect()
    # What the imports left free lies scattered: every fork would write, hence copy, many pages of it.
    with contextlib.suppress(AttributeError):  # a C library without it
        libc.malloc_trim(0)
    gc.freeze()
    wire.reply({"landlock": abi})
    for left in reversed(range(settings.recycle_after)):
        if _serve(walls, steps, last=not left):
            return


def _serve(walls: confine.Walls, steps: type[Steps] | None, *, last: bool) -> bool:
    """Run one program; whether the server must end. Nothing of it is kept: the next one's halves are forks of this."""
    # Where other processes are started none wait: they would be counted with them.
    pair = None if walls.settings.toolchains else prepare(walls)
    body = wire.read_frame(0)
    if body is None:
        return True
    request = json.loads(body)
    if steps is not None and "steps" in request:
        trial = steps(walls, request)
    else:
        trial = Trial(walls, request, pair or prepare(walls))
    verdict = trial.run()
    last = last or trial.astray or not _emptied(walls.settings.work)
    wire.reply({**verdict, "last": last})
    return last


def _preload(names: list[str]) -> str:
    """Import modules; why not, if one fails.

    A server with threads cannot be forked safely, and NumPy would start some.
    """
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        for name in names:
            importlib.import_module(name)
    except BaseException as error:  # a package may fail in any way
        return f"{', '.join(names)} cannot be imported: {type(error).__name__}: {error}"
    finally:
        for name in _ONE_THREAD:
            del os.environ[name]
    return ""


def _warm_up() -> None:
    """Let the interpreter adapt its code before the first fork: later every fork would pay for that again."""
    (ask_r, ask_w), (answer_r, answer_w) = os.pipe(), os.pipe()
    done = _thread.allocate_lock()
    done.acquire()

    def answer() -> None:
        code = "def f(*arguments, **named):\n    return arguments"
        names: dict[str, Any] = {}
        exec(compile(code, "<program>", "exec", dont_inherit=True), names)
        peer = Peer(ask_r, answer_w, home=None)
        peer.offer(names)
        peer.serve()
        done.release()

    _thread.start_new_thread(answer, ())
    peer = Peer(answer_r, ask_w, home="tests")
    peer.offered()
    function = peer.ask("global", "f")[1]
    for number in range(20):
        function([number, (2.0, "text")], key={b"bytes": None, True: {3}})
    os.close(ask_w)
    done.acquire()
    for descriptor in (ask_r, answer_r, answer_w):
        os.close(descriptor)


def _emptied(folder: str) -> bool:
    """Remove what the program left; false where that fails (a folder without rights, 1,000 folders deep)."""
    try:
        with os.scandir(folder) as left:
            for entry in left:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                elif _emptied(entry.path):
                    os.rmdir(entry.path)
                else:
                    return False
    except (OSError, RecursionError):
        return False
    return True
