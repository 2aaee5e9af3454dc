"""EvalPlus's form: many inputs, and a reference solution that says what must come out (Liu et al. 2023).

What counts as equal follows EvalPlus: `==`, else floats within the task's `atol` (1e-6 where none is given) or a
relative 1e-7; for eight tasks the order does not count, for three only whether something came, two may answer always
True or always 0, and `find_zero` any root, the polynomial being within `atol` of 0 there. Inputs stand in JSON, which
has no tuples, sets or complex numbers: their types are read off the calls in the task's own assertions.
"""

from __future__ import annotations

import ast
from typing import Any, cast

from codecria.evaluation.literals import literal
from codecria.sandbox.limits import Limits

LIMITS = Limits(wall_s=60.0, cpu_s=20.0, memory_bytes=2 << 30)
"""The reference and the program each run all inputs, some of which take the reference seconds."""

_SETS = "similar_elements find_char_long common_in_nested_lists extract_singly larg_nnum intersection_array"
UNORDERED = (*_SETS.split(), "find_dissimilar", "Diff")
ANYTHING = ("check_str", "text_match_three", "text_starta_endb")

_TESTS = """
def _near(out, wanted, atol):
    if isinstance(wanted, (list, tuple)) and isinstance(out, (list, tuple)):
        return len(out) == len(wanted) and all(_near(a, b, atol) for a, b in zip(out, wanted))
    try:
        return out == wanted or abs(out - wanted) <= atol + 1e-7 * abs(wanted)
    except TypeError:
        return False

def _floats(value):
    if isinstance(value, (list, tuple)):
        return all(isinstance(each, float) for each in value)
    return isinstance(value, float)

def _right(out, wanted, atol):
    if _RULE == "unordered":
        return set(out) == set(wanted)
    if _RULE == "anything":
        return (out if isinstance(out, bool) else out is not None) == (wanted is not None)
    if out == wanted:
        return True
    atol = 1e-6 if atol == 0 and _floats(wanted) else atol
    return atol != 0 and type(out) is type(wanted) and _near(out, wanted, atol)

def _is_root(out, coefficients):
    return abs(sum(each * float(out) ** power for power, each in enumerate(coefficients))) <= _ATOL

import copy as _copy

_reference = {}
exec(_SOURCE, _reference)
_degenerate = _RULE in ("true", "zero")
for _input in _INPUTS:
    _wanted = _reference[_NAME](*_copy.deepcopy(_input))
    _out = _CALLED(*_copy.deepcopy(_input))
    _degenerate = _degenerate and _out == (_RULE == "true")
    _right_here = _is_root(_out, *_input) if _RULE == "root" else _degenerate or _right(_out, _wanted, _ATOL)
    assert _right_here, f"{_NAME}{tuple(_input)!r} gives {_out!r}, not {_wanted!r}"[:300]
"""


def plus_tests(reference: str, entry_point: str, inputs: list[list[Any]], atol: float) -> str:
    """Tests that compare a program with a reference on every input.

    Args:
        reference: a program that defines `entry_point`.
        entry_point: the function under test.
        inputs: the arguments of each call.
        atol: how far floats may lie apart.
    """
    rule = {"are_equivalent": "true", "sum_div": "zero", "find_zero": "root"}.get(entry_point, "")
    rule = "unordered" if entry_point in UNORDERED else "anything" if entry_point in ANYTHING else rule
    values = {"_RULE": rule, "_SOURCE": reference, "_NAME": entry_point, "_ATOL": atol, "_INPUTS": inputs}
    given = "".join(f"{name} = {literal(value)}\n" for name, value in values.items())
    return f"{given}_CALLED = {entry_point}\n{_TESTS}"


def typed_inputs(assertions: str, entry_point: str, inputs: list[list[Any]]) -> list[list[Any]]:
    """Inputs out of JSON with the types that the arguments have in a task's assertions."""
    calls: list[list[Any]] = []
    for node in ast.walk(ast.parse(assertions)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point:
            try:
                calls.append([ast.literal_eval(each) for each in node.args])
            except ValueError:
                continue
    return [
        [_typed(value, [call[place] for call in calls if place < len(call)]) for place, value in enumerate(each)]
        for each in inputs
    ]


def _typed(value: Any, examples: list[Any], around: type[Any] = list) -> Any:
    """A value with the types of examples of it.

    Parts of a container are like any part of an example; deeper than the examples go, a list becomes what is `around`.
    """
    if isinstance(value, str) and examples and all(isinstance(each, int | float | complex) for each in examples):
        return _number(value, any(isinstance(each, complex) for each in examples))
    if isinstance(value, dict):
        parts = [part for each in examples if isinstance(each, dict) for part in cast("dict[Any, Any]", each).values()]
        return {key: _typed(part, parts) for key, part in cast("dict[str, Any]", value).items()}
    if not isinstance(value, list):
        return value
    items = cast("list[Any]", value)
    containers = [each for each in examples if isinstance(each, list | tuple | set | dict)]
    if not items and any(isinstance(each, set | dict) for each in containers):
        return {}  # what the assertions write for an empty set
    parts = [part for each in containers for part in cast("list[Any]", each)]
    sort = next((type(each) for each in containers if not isinstance(each, dict)), around)
    return sort(_typed(part, parts, sort) for part in items)


def _number(text: str, complex_numbers: bool) -> complex | float | str:
    """What a number stands for that JSON keeps as text; another text as it is."""
    for sort in (complex,) if complex_numbers else (float, complex):
        try:
            return sort(text)
        except ValueError:
            continue
    return text
