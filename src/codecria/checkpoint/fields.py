"""Typed look-ups in what a file says of a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Fields:
    """The keys of a config.json, a params.json or a GGUF file; refusals name the file and the key.

    Args:
        values: by key; None counts as absent.
        where: named in errors.
    """

    def __init__(self, values: Mapping[str, Any], where: str | Path) -> None:
        self.values, self.where = values, where

    def integer(self, key: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(f"'{key}' = {shown(value)} is not a positive whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number."""
        value = self._value(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise self.error(f"'{key}' = {shown(value)} is not a positive number")
        return float(value)

    def error(self, what: str, mend: str | None = None) -> CodecriaError:
        """A refusal that names the file."""
        return CodecriaError(what, where=self.where, mend=mend)

    def _value(self, key: str, default: float | None) -> Any:
        value = self.values.get(key)
        value = default if value is None else value
        if value is None:
            raise self.error(f"the key '{key}' is missing")
        return value


def shown(value: object) -> str:
    """A value in an error, cut where it is long."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
