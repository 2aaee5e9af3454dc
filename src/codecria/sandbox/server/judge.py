"""The half of a program that judges: the tests run here, out of the candidate's reach, and call it from afar."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import struct
import sys
import types
from typing import Any

from . import candidate, confine, wire
from .peer import Gone, Peer, place_in
from .remote import Remote

READY, TOLD, ENDED = b"R", b"T", b"G"
"""What the judge tells the server: the tests are read, the verdict is sent, the program ended under the tests."""

ORDER = struct.Struct("=B")
"""What the server orders: whether what the program prints will come."""

_DETAIL_CHARACTERS = 600
_VERDICT_BYTES = 4000
"""With its length below 4,096, which a pipe takes whole or not at all."""


class _Names(dict[str, Any]):
    """The tests' globals: their own names, then what the program defines, then built-in names.

    A program cannot put its own `all` or `abs` under the tests, unless that is the very name under test.
    """

    def __init__(self, peer: Peer, offered: set[str], entry_point: str | None) -> None:
        super().__init__(__name__="tests", __builtins__=builtins)
        self._peer = peer
        hidden = {name for name in offered if name in vars(builtins) or name.startswith("__")}
        self._offered = offered - (hidden - {entry_point})

    def __missing__(self, name: str) -> Any:
        if name not in self._offered:
            raise KeyError(name)
        kind, value = self._peer.ask("global", name)
        if kind == "module":
            value = importlib.import_module(name)
        if kind == "module" or type(value) is Remote:
            self[name] = value
        return value


def run(walls: confine.Walls, turn: int, world: int, report: int, reader: int, writer: int) -> None:
    """Wait for tests, then run them; to be called in a fork of the server, does not return.

    Args:
        walls: what to go behind before the tests start.
        turn: the pipe on which come an `ORDER`, the candidate's word that it has read its own, and, of a script, what
            it printed; the tests then come on descriptor 0.
        world: where the verdict goes, past the server: it may quote the tests.
        report: where to tell the server how far it is.
        reader: the pipe on which the program answers.
        writer: the pipe on which it is asked.
    """
    status = 1
    try:
        order = wire.read_exactly(turn, ORDER.size)
        if len(order) < ORDER.size or not wire.read_exactly(turn, 1):
            return
        (script,) = ORDER.unpack(order)
        body = wire.read_frame(0)
        if body is None:
            return
        wire.write_all(report, READY)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = None
        if script:
            printed = wire.read_frame(turn)
            if printed is None:
                return
            output = printed.decode("utf-8", "replace")
        os.close(turn)
        request = json.loads(body)
        confine.enter_program(walls)
        peer = Peer(reader, writer, home="tests")
        verdict = _judge(request["tests"], request["entry_point"], peer, output)
        if verdict is not None:
            told: dict[str, Any] = {**verdict, "calls": peer.calls, "nonce": request["nonce"]}
            if len(json.dumps(told)) > _VERDICT_BYTES:
                told["detail"] = told["detail"].encode("ascii", "replace").decode()
            wire.write_all(world, wire.frame(json.dumps(told).encode()))
        wire.write_all(report, ENDED if verdict is None else TOLD)
        status = 0
    except MemoryError:
        status = candidate.MEMORY_EXIT
    finally:
        os._exit(status)


def _judge(tests: str, entry_point: str | None, peer: Peer, output: str | None) -> dict[str, Any] | None:
    """The verdict; None where the program ended under the tests."""
    try:
        names = _namespace(peer, entry_point, output)
        exec(compile(tests, "<tests>", "exec", dont_inherit=True), names)
        if entry_point is not None and output is None:
            function = names[entry_point]
            check = names.get("check")
            # The tests' own, whatever it is; the program may have something of that name.
            if check is not None and not isinstance(check, Remote | types.ModuleType):
                check(function)
    except Gone:
        return None
    except BaseException as error:
        return None if peer.gone else _explained(error, tests, entry_point)
    return None if peer.gone else {"status": "passed", "detail": ""}


def _namespace(peer: Peer, entry_point: str | None, output: str | None) -> dict[str, Any]:
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    if output is not None:
        names = _Names(peer, set(), None)
        names["stdout"] = output
        return names
    return _Names(peer, peer.offered(), entry_point)


def _explained(error: BaseException, tests: str, entry_point: str | None) -> dict[str, str]:
    if isinstance(error, KeyError) and error.args == (entry_point,) and not place_in(error, "<tests>"):
        return {"status": "failed", "detail": f"the program does not define '{entry_point}'"}
    verdict = candidate.explain(error, "tests", tests, "{} was called before the tests ended")
    if verdict["status"] == "memory":
        return verdict
    notes = [note for note in getattr(error, "__notes__", []) if isinstance(note, str)]
    return {**verdict, "detail": "; ".join([verdict["detail"], *notes[:1]])[:_DETAIL_CHARACTERS]}
