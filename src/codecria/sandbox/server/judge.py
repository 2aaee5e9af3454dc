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
_VERDICT_BYTES = 3800
"""Of its detail: with the rest and its length below 4,096, which a pipe takes whole or not at all."""

NONCE_CHARACTERS = 32
_TESTS = struct.Struct(f"={NONCE_CHARACTERS}s?I")

_quoted = json.encoder.encode_basestring_ascii


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
        order = os.read(turn, ORDER.size)
        if not order or not os.read(turn, 1):
            return
        (script,) = ORDER.unpack(order)
        body = wire.read_frame(0)
        if body is None:
            return
        os.write(report, READY)
        os.dup2(walls.nothing, 0)
        output = None
        if script:
            printed = wire.read_frame(turn)
            if printed is None:
                return
            output = printed.decode("utf-8", "replace")
        os.close(turn)
        confine.enter_program(walls)
        peer = Peer(reader, writer, home="tests")
        nonce, entry_point, tests = _taken_apart(body)
        verdict = _judge(tests, entry_point, peer, output)
        if verdict is not None:
            detail = _quoted(verdict["detail"])
            if len(detail) > _VERDICT_BYTES:
                detail = _quoted(verdict["detail"].encode("ascii", "replace").decode())
            told = f'{{"status": "{verdict["status"]}", "detail": {detail}, "calls": {peer.calls}, "nonce": "{nonce}"}}'
            wire.write_all(world, wire.frame(told.encode()))
        wire.write_all(report, ENDED if verdict is None else TOLD)
        status = 0
    except MemoryError:
        status = candidate.MEMORY_EXIT
    finally:
        os._exit(status)


def written(nonce: str, entry_point: str | None, tests: str) -> bytes:
    """A program's tests as the judge reads them. The nonce is of `NONCE_CHARACTERS` hexadecimal digits."""
    name = (entry_point or "").encode("utf-8", "surrogatepass")
    head = _TESTS.pack(nonce.encode(), entry_point is not None, len(name))
    return wire.frame(head + name + tests.encode("utf-8", "surrogatepass"))


def _taken_apart(body: bytes) -> tuple[str, str | None, str]:
    nonce, named, count = _TESTS.unpack_from(body)
    place = _TESTS.size + count
    name = body[_TESTS.size : place].decode("utf-8", "surrogatepass")
    return nonce.decode(), name if named else None, body[place:].decode("utf-8", "surrogatepass")


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
