"""The conversation between the two halves of a program, the tests and the candidate, each in a process of its own.

Plain data is copied. Any other object stays where it was made and the other half holds a `Remote` for it. Lists, dicts,
sets and bytearrays given to a call are brought up to date after it, so a function that changes its argument is seen to.
"""

from __future__ import annotations

import _thread
import collections
import io
import operator
import re
import sys
from typing import TYPE_CHECKING, Any, cast

from . import wire
from .remote import OPERATIONS, Remote

if TYPE_CHECKING:
    from collections.abc import Callable

_CHANGEABLE = (list, dict, set, bytearray)
_OPEN_TYPES = (io.StringIO, io.BytesIO, re.Pattern, re.Match)
_OPEN_OPERATIONS = {"__iter__", "__next__"}
_EXCEPTION_MODULES = {"builtins", "json.decoder", "decimal", "re", "struct", "statistics", "zlib", "binascii"}
_TYPES = {kind.__name__: kind for kind in (*wire.PLAIN_TYPES, object)}


class Gone(BaseException):
    """The other half ended. Not an Exception, so that `except Exception` in tests does not hide it."""


class Peer:
    """One end of the conversation.

    Args:
        reader: the pipe the other half writes to.
        writer: the pipe the other half reads from.
        home: the module whose objects the other half may look into; None opens everything. The half that judges names
            the tests' own module: of all else it handed out, functions can be called, iterators advanced, and files
            in memory and patterns used, no more. A frame, a function's globals, a module stay closed.
        after: run after every answer (the candidate flushes what it printed).
    """

    def __init__(self, reader: int, writer: int, *, home: str | None, after: Callable[[], None] = lambda: None) -> None:
        self._reader, self._writer, self._home, self._after = wire.Frames(reader), writer, home, after
        self._names: dict[str, Any] | None = None
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, Any] = {}
        self._mirrored: dict[type, int] = {}
        self._records: dict[tuple[Any, ...], Any] = {}
        self._thread = _thread.get_ident()
        self.gone = False
        self.calls = 0

    def ask(self, kind: str, *details: Any) -> Any:
        """Ask the other half for something and return its answer.

        Raises:
            Gone: the other half ended.
            RuntimeError: called from a second thread.
            Exception: whatever the other half raised, as its nearest built-in kind.
        """
        return self._converse(kind, details)[0]

    def call(self, target: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call an object of the other half; what it changed in the arguments is changed here."""
        self.calls += 1
        answer, changes = self._converse("call", (target, arguments, named))
        given = [*arguments, *named.values()]
        for place, new in changes:
            _replace(given[place], new)
        return answer

    def offer(self, names: dict[str, Any]) -> None:
        """Let the other half ask for these names."""
        self._names = names
        self._send(("names", [name for name in names if type(name) is str]))

    def offered(self) -> set[str]:
        """The names the other half offers."""
        return {str(name) for name in self._receive()[1]}

    def serve(self) -> None:
        """Answer until the other half ends."""
        while True:
            try:
                message = self._receive()
            except Gone:
                return
            self._answer(message)

    def _converse(self, kind: str, details: tuple[Any, ...]) -> tuple[Any, list[tuple[int, Any]]]:
        if _thread.get_ident() != self._thread:
            raise RuntimeError("the tests and the program call each other from their main threads only")
        self._send(("ask", kind, details))
        while True:
            message = self._receive()
            if message[0] == "ask":
                self._answer(message)
            elif message[0] == "raise":
                raise _rebuilt(*message[1:])
            else:
                return message[1], message[2]

    def _answer(self, message: tuple[Any, ...]) -> None:
        try:
            _, kind, details = message
            value, changes = self._perform(kind, details)
            self._after()
            answer = wire.frame(self._written(("answer", value, changes)))
        except BaseException as error:
            answer = wire.frame(self._written(self._raised(error)))
        self._write(answer)

    def _perform(self, kind: str, details: tuple[Any, ...]) -> tuple[Any, list[tuple[int, Any]]]:
        if kind == "call":
            return self._called(*details)
        if kind == "do":
            name, *operands = details
            if name not in _OPEN_OPERATIONS and not self._is_open(operands[0]):
                raise TypeError(f"{name} of {type(operands[0]).__name__}: not open to the program")
            return OPERATIONS[name](*operands), []
        if kind == "get":
            target, name = details
            self._require_open(target, name)
            return getattr(target, name), []
        if kind == "set":
            target, name, value = details
            self._require_open(target, name)
            return setattr(target, name, value), []
        if kind == "global" and self._names is not None:
            return self._found(*details), []
        raise WrongRequestError(kind)

    def _called(self, target: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, list[Any]]:
        given = [*arguments, *named.values()]
        before = {place: self._written(value) for place, value in enumerate(given) if type(value) in _CHANGEABLE}
        value = target(*arguments, **named)
        changes = [(place, given[place]) for place, old in before.items() if self._written(given[place]) != old]
        return value, changes

    def _found(self, name: str) -> tuple[str, Any]:
        """A module is not sent: the tests import their own of that name."""
        value = cast("dict[str, Any]", self._names)[name]
        if getattr(value, "__name__", None) == name and sys.modules.get(name) is value:
            return ("module", None)
        return ("value", value)

    def _is_open(self, target: object) -> bool:
        kind = type(target)
        return self._home is None or kind.__module__ == self._home or kind in _OPEN_TYPES

    def _require_open(self, target: object, name: str) -> None:
        if not self._is_open(target) or (self._home is not None and name.startswith("_")):
            raise AttributeError(f"{type(target).__name__} {name}: not open to the program")

    def _raised(self, error: BaseException) -> tuple[Any, ...]:
        try:
            self._written(error.args)
            arguments = error.args
        except Exception:
            arguments = (str(error)[:1000],)
        return ("raise", type(error), arguments, place_in(error, "<program>"))

    def _send(self, message: tuple[Any, ...]) -> None:
        self._write(wire.frame(self._written(message)))

    def _written(self, value: object) -> bytes:
        return wire.encode(value, self._refer)

    def _write(self, frame: bytes) -> None:
        try:
            wire.write_all(self._writer, frame)
        except BrokenPipeError:
            self.gone = True
            raise Gone from None

    def _receive(self) -> tuple[Any, ...]:
        body = None if self.gone else self._reader.frame()
        if body is None:
            self.gone = True
            raise Gone
        message = wire.decode(body, self._resolve)
        if type(message) is not tuple or not message:
            raise wire.WireError("not a message")
        return cast("tuple[Any, ...]", message)

    def _refer(self, value: Any) -> tuple[Any, ...]:
        """The tuple that crosses instead of something that is not plain data."""
        if type(value) is Remote:
            return ("yours", value.codecria_number)
        if isinstance(value, type):
            return self._refer_to_type(value)
        if isinstance(value, tuple) and type(value).__mro__[1:] == (tuple, object) and hasattr(value, "_fields"):
            record = cast("Any", value)
            return ("record", type(record).__name__, tuple(record._fields), tuple(record))
        return ("object", self._number(value))

    def _refer_to_type(self, kind: type) -> tuple[Any, ...]:
        if _TYPES.get(kind.__name__) is kind or wire.known_name(kind):
            return ("type", kind.__name__)
        if kind in self._mirrored:
            return ("yours", self._mirrored[kind])
        if not issubclass(kind, BaseException):
            return ("object", self._number(kind))
        if _exception_by_name(kind.__module__, kind.__name__) is kind:
            return ("error", kind.__module__, kind.__name__)
        bases = tuple(base for base in kind.__bases__ if issubclass(base, BaseException))
        return ("new error", self._number(kind), kind.__name__, bases)

    def _number(self, value: object) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return number

    def _resolve(self, reference: tuple[Any, ...]) -> Any:
        """The object for a tuple that crossed: ours by number, theirs as a `Remote`, classes by name."""
        kind, *details = reference
        if kind == "yours":
            return self._objects[operator.index(details[0])]
        if kind == "object":
            return self._remotes.setdefault(details[0], Remote(self, details[0]))
        if kind == "type":
            return _TYPES.get(details[0]) or wire.known_type(details[0])
        if kind == "error":
            return _exception_by_name(*details) or Exception
        if kind == "new error":
            return self._mirror(*details)
        if kind == "record":
            name, fields, values = details
            if (name, fields) not in self._records:
                make: Any = collections.namedtuple
                self._records[name, fields] = make(name, fields, rename=True)
            return self._records[name, fields](*values)
        raise wire.WireError(f"an unknown reference {kind!r}")

    def _mirror(self, number: int, name: str, bases: tuple[type, ...]) -> type:
        """An exception class like the other half's own, so that tests can catch it by name."""
        mirror = self._remotes.get(number)
        if mirror is None:
            mirror = self._remotes[number] = type(name, bases, {})
            self._mirrored[mirror] = number
        return mirror


class WrongRequestError(Exception):
    """The other half asked for something it has no right to."""


def place_in(error: BaseException, file: str) -> int:
    """The line of `file` the error went through last; 0 where it did not."""
    line, step = 0, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == file:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _rebuilt(kind: Any, arguments: Any, line: Any) -> BaseException:
    if not (isinstance(kind, type) and issubclass(kind, BaseException) and type(arguments) is tuple):
        raise wire.WireError("raised something that is no exception")
    try:
        error = kind(*arguments)
    except Exception:
        error = kind.__new__(kind)
        error.args = arguments
    if type(line) is int and line > 0:
        error.add_note(f"line {line} of the program")
    return error


def _replace(old: Any, new: Any) -> None:
    """Give a list, dict, set or bytearray the content it has in the other half."""
    if type(old) is not type(new) or type(old) not in _CHANGEABLE:
        raise wire.WireError("an argument that changed its type")
    if type(old) in (list, bytearray):
        old[:] = new
    else:
        old.clear()
        old.update(new)


def _exception_by_name(module: str, name: str) -> type[BaseException] | None:
    if module not in _EXCEPTION_MODULES or module not in sys.modules:
        return None
    found = getattr(sys.modules[module], name, None)
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    return None
