"""Objects of the other half of a program: what can be done with them from afar.

The half that judges never hands an expected value to the other for comparison: a `Remote` is equal only to another
`Remote` that its owner says is equal, never to plain data, and has no order or arithmetic with plain data. It turns
into no number, so `math.isclose` and `round` refuse it too.
"""

from __future__ import annotations

import copy
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .peer import Peer


def _enter(value: Any) -> Any:
    return type(value).__enter__(value)


def _exit(value: Any, *details: Any) -> Any:
    return type(value).__exit__(value, *details)


def _is_instance(kind: Any, value: object) -> bool:
    return isinstance(value, kind)


_ONE: dict[str, Callable[..., Any]] = {
    "__len__": len,
    "__iter__": iter,
    "__next__": next,
    "__bool__": bool,
    "__repr__": repr,
    "__str__": str,
    "__hash__": hash,
    "__neg__": operator.neg,
    "__pos__": operator.pos,
    "__invert__": operator.invert,
    "__copy__": copy.copy,
}
_KEYED: dict[str, Callable[..., Any]] = {
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__delitem__": operator.delitem,
    "__enter__": _enter,
    "__exit__": _exit,
    "__deepcopy__": copy.deepcopy,
    "__instancecheck__": _is_instance,
}
_ARITHMETIC = "lt le gt ge add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
_TWO = {f"__{name}__": getattr(operator, f"__{name}__") for name in _ARITHMETIC.split()}
OPERATIONS: dict[str, Callable[..., Any]] = {**_ONE, **_KEYED, **_TWO, "__eq__": operator.eq}
"""What one half may ask the other to do, by the name of the method that asks."""


class Remote:
    """Stands for an object of the other half."""

    __slots__ = ("codecria_number", "codecria_peer")
    codecria_number: int
    codecria_peer: Peer

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "codecria_peer", peer)
        object.__setattr__(self, "codecria_number", number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the object where it lives."""
        return self.codecria_peer.call(self, arguments, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__qualname__", "__doc__", "__annotations__"):
            raise AttributeError(name)
        return self.codecria_peer.ask("get", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self.codecria_peer.ask("set", self, name, value)

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Remote and self.codecria_peer.ask("do", "__eq__", self, other) is True)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __deepcopy__(self, memo: object) -> Any:
        return self.codecria_peer.ask("do", "__deepcopy__", self)


def _forwarding(name: str, *, between_remotes: bool) -> Callable[..., Any]:
    def forward(self: Remote, *operands: Any) -> Any:
        if between_remotes and type(operands[0]) is not Remote:
            return NotImplemented
        return self.codecria_peer.ask("do", name, self, *operands)

    forward.__name__ = name
    return forward


for _name in {*_ONE, *_KEYED, *_TWO} - {"__deepcopy__"}:
    setattr(Remote, _name, _forwarding(_name, between_remotes=_name in _TWO))
