"""Values as Python text, for tests that are written as programs."""

from __future__ import annotations

import math
from typing import Any, cast


def literal(value: Any) -> str:
    """Text that evaluates to the value: `repr`, where that has no literal for a part of it too.

    `repr` writes infinity and what is no number as bare names, and a complex number as a sum, which loses the sign of a
    zero and does not exist with infinity.

    Args:
        value: None, bool, int, float, complex, str, bytes, or a list, tuple, set or dict of such.
    """
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"float('{value!r}')"
    if isinstance(value, complex):
        return f"complex({literal(value.real)}, {literal(value.imag)})"
    if isinstance(value, dict):
        pairs = cast("dict[Any, Any]", value).items()
        return f"{{{', '.join(f'{literal(key)}: {literal(part)}' for key, part in pairs)}}}"
    if not value or not isinstance(value, list | tuple | set):
        return repr(cast("object", value))  # an empty set too
    parts = ", ".join(map(literal, cast("list[Any]", value)))
    if isinstance(value, tuple):
        return f"({parts},)"
    return f"[{parts}]" if isinstance(value, list) else f"{{{parts}}}"
