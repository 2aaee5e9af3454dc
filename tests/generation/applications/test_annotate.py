import ast
import typing

import pytest

from codecria.generation.applications.annotate import annotate, places, recover, same_but_annotations
from codecria.generation.applications.annotation import may_return, names_at, read_annotation
from codecria.generation.applications.source import Source


def by_name(**types):
    """Says the type of the parameter or function that the prefix ends with."""

    def say(prefix, _suffix, _options):
        name = prefix.removesuffix(" -> ").removesuffix(": ").rstrip(")")
        if prefix.endswith(" -> "):
            name = "return"
        return next((types[each] for each in types if name.endswith(each)), "?")

    return say


def test_types_go_where_they_are_missing_and_nothing_else_changes(told, shop):
    told = told(by_name(owner="str) -> None:", name="str, price", price="float", count="int = 3", path="str,"))
    found = annotate(told, shop)
    assert same_but_annotations(ast.parse(shop), ast.parse(found.text))
    assert "def add(self, name: str, price: float, count: int = 1):" in found.text
    assert "    path: str,\n" in found.text
    assert ("Basket.add(count)", "int") in found.written
    assert "Basket.add()" in found.skipped
    # In order: an answer is context for what follows.
    assert next(prefix for prefix, _ in told.asked if prefix.endswith("price: ")).endswith("name: str, price: ")
    assert annotate(told, shop, name="Basket.add").text.count(": str") == 1


def test_a_result_goes_behind_the_bracket_that_closes_the_parameters(told):
    text = "def f(a=(1, ')'), *b, c={}) :\n    return {}\n"
    found = annotate(told(by_name(**{"return": "dict[str, int]"})), text)
    assert found.text == "def f(a=(1, ')'), *b, c={}) -> dict[str, int] :\n    return {}\n"


def test_names_of_typing_are_imported_where_they_can_be(told):
    text = '"""Doc."""\nfrom __future__ import annotations\n\nimport os\n\n\ndef f(a, b=None, *c, **d):\n    return a\n'
    say = by_name(a="Iterable[int]", b="Callable[[int], str]", d="Any", **{"return": "Optional[Any]"})
    found = annotate(told(say), text)
    assert found.text == (
        '"""Doc."""\nfrom __future__ import annotations\n\nfrom typing import Any, Callable, Iterable, Optional\n'
        "import os\n\n\n"
        "def f(a: Iterable[int], b: Callable[[int], str] | None = None, *c, **d: Any) -> Optional[Any]:\n"
        "    return a\n"
    )
    exec(compile(found.text, "x", "exec"), {})


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("int", "int"),
        ("int, b: str", "int"),
        ("dict[str, list[int]] = {}", "dict[str, list[int]]"),
        ("Foo | None", "Foo | None"),
        ("tuple[int, ...])", "tuple[int, ...]"),
        ("Literal['a', 'b']", "Literal['a', 'b']"),
        ("os.PathLike", "os.PathLike"),
        ("Unknown", None),
        ("os", None),
        ("int[str]", None),
        ("print(1)", None),
        ("'Foo'", None),
        ("list[", None),
        ("", None),
        ("1", None),
    ],
)
def test_only_what_can_stand_there_is_kept(said, kept):
    names = names_at(Source("import os\nclass Foo: pass\ndef f(a): pass\n", "x"), 1) | {"Literal"}
    assert read_annotation(said, "parameter", names) == kept


def test_names_count_from_where_they_are_bound():
    text = "class A:\n    def set(self): pass\n    def f(self, a): pass\n\n"
    text += "class B: pass\ndef list(): pass\ndef g(a): pass\n"
    at = {each.name: names_at(Source(text, "x"), place) for place, each in enumerate(Source(text, "x").definitions)}
    assert "B" not in at["A.f"]
    assert "A" not in at["A.f"]
    assert {"A", "B"} <= at["g"]
    assert "set" in at["g"]
    assert "set" not in at["A.f"]
    assert "list" not in at["g"]
    lazy = Source("from __future__ import annotations\n" + text, "x")
    assert {"A", "B"} <= names_at(lazy, 2)


def test_what_a_body_shows_outvotes_the_model():
    def judged(body, annotation):
        return may_return(ast.parse(f"def f():\n    {body}\n").body[0], annotation)

    assert judged("yield 1", "Iterator[int]")
    assert not judged("yield 1", "int")
    assert not judged("print(1)", "int")
    assert judged("raise ValueError", "int")
    assert not judged("return 1", "None")
    assert judged("return None", "None")
    assert judged("def g(): return 1", "None")


def test_recovering_does_not_show_what_stands_there(told):
    text = "def total(prices: list[float], tax: float = 0.2) -> float:\n    return sum(prices) * (1 + tax)\n"
    source = Source(text, "x")
    found = {place.name: place for place in places(source)}
    assert {name: text[place.start : place.stop] for name, place in found.items()} == {
        "prices": ": list[float]",
        "tax": ": float",
        "return": " -> float",
    }
    told = told(lambda *_: ["list[float]", "list", "list[float]"])
    assert recover(told, source, found["prices"]) == "list[float]"
    assert told.asked[0] == ("def total(prices: ", text[text.index(", tax") :])


def test_typing_is_known_by_its_names():
    from codecria.generation.applications.annotation import TYPING

    assert all(hasattr(typing, name) for name in TYPING)


def test_a_real_model_recovers_types(infilling_model):
    text = (
        "def is_leap_year(year: int) -> bool:\n    return year % 4 == 0\n\n\ndef greet(name: str) -> str:\n"
        '    return "Hello, " + name\n'
    )
    source = Source(text, "x")
    found = [recover(infilling_model, source, place, samples=2) for place in places(source)]
    assert sum(one == other for one, other in zip(found, ["int", "bool", "str", "str"], strict=True)) >= 3, found
