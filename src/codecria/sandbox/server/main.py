"""The fork server: one warm interpreter inside the isolation, two forks of it for each program.

It talks to the world outside through frames on descriptors 0 and 1:

    in   settings                                 once
    out  {"landlock": abi} | {"refused": why}     once
    in   {"files", "steps"}                       a program of another language, answered at once: see `steps`
    or   {"code_bytes", "stdin_bytes", "script"}  then the code and the input, which the candidate reads itself
         {"tests", "entry_point", "nonce"}        which the judge reads itself
    out  {"status", "detail", "calls", "nonce"}   written by the judge itself, where it came to a verdict
    out  {"status", "detail", "wall_s", "output", "last"}

The server never holds code, tests or expected values: each half reads its own from the pipe and the judge answers past
the server, so that no later fork finds another program's in its memory. The last status is "told" where the judge's
counts. `last` says that this server ends and a new one must be started.
"""

from __future__ import annotations

import _thread
import gc
import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from . import confine, landlock, wire
from .halves import prepare
from .peer import Peer
from .settings import Settings
from .steps import Steps
from .trial import Trial

_USUAL_MODULES = """
    abc array bisect cmath collections.abc contextlib copy dataclasses datetime decimal enum fractions functools
    hashlib heapq inspect io itertools json math numbers operator re string struct textwrap time traceback types
    typing
"""
"""Imported before the first fork, so that programs need not wait for them. Not `threading` nor `random`, nor
what imports them: they have work to do after every fork, which costs more than it saves."""


_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Serve until the pipe ends, a program leaves the server in disorder, or enough programs have run."""
    body = wire.read_frame(0)
    if body is None:
        return
    settings = Settings(**json.loads(body))
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
    # A program's `import server` must not find ours.
    for name in [name for name in sys.modules if name.partition(".")[0] == __name__.partition(".")[0]]:
        del sys.modules[name]
    if walls.inherited is not None:
        walls.inherited.install()
    gc.collect()
    gc.freeze()
    wire.reply({"landlock": landlock.abi()})
    for left in reversed(range(settings.recycle_after)):
        # Where other processes are started none wait: they would be counted with them.
        pair = None if settings.toolchains else prepare(walls)
        body = wire.read_frame(0)
        if body is None:
            return
        request = json.loads(body)
        trial = Steps(walls, request) if "steps" in request else Trial(walls, request, pair or prepare(walls))
        verdict = trial.run()
        last = trial.astray or not _emptied(Path(settings.work)) or not left
        wire.reply({**verdict, "last": last})
        if last:
            return


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


def _emptied(work: Path) -> bool:
    """Remove what the program left; false where that fails (a folder without rights, 1,000 folders deep)."""
    try:
        for left in work.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
    except (OSError, RecursionError):
        return False
    return True
