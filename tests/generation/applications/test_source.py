import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.generation.applications.source import REACH, Source, diff, is_public

LINE_ENDS = ["\n", "\r\n", "\r"]


@given(st.lists(st.text(alphabet="aé😀 \x0c\u2028", max_size=6), min_size=1, max_size=6), st.sampled_from(LINE_ENDS))
def test_places_in_the_tree_are_places_in_the_text(comments, end):
    text = "".join(f"é{number} = 'ü😀'; name{number} = {number} # {each}{end}" for number, each in enumerate(comments))
    source = Source(text, "x")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.expr):
            start, stop = (
                source.offset(node.lineno, node.col_offset),
                source.offset(node.end_lineno, node.end_col_offset),
            )
            assert ast.dump(ast.parse(text[start:stop], mode="eval").body) == ast.dump(node).replace("Store", "Load")


def test_definitions_have_names_and_know_functions_around_them(shop):
    found = [(each.name, each.nested) for each in Source(shop, "x").definitions]
    assert found[:3] == [("Basket", False), ("Basket.__init__", False), ("Basket.add", False)]
    assert found[-2:] == [("_private", False), ("_private.inner", True)]
    assert is_public("Basket.add")
    assert not is_public("Basket.__init__")


def test_a_text_that_does_not_parse_is_refused_with_its_line():
    with pytest.raises(CodecriaError, match=r"shop\.py:2: does not parse: "):
        Source("x = 1\ndef f(:\n", "shop.py")
    with pytest.raises(CodecriaError, match=r"shop\.py: does not parse"):
        Source("x = '\0'", "shop.py")


def test_an_unknown_name_names_the_nearest(shop):
    with pytest.raises(CodecriaError, match=r"no function or class 'Basket\.totl'; did you mean 'Basket\.total'\?"):
        Source(shop, "x").find("Basket.totl")


def test_what_a_prompt_shows_is_cut_at_line_ends():
    lines = [f"x{number} = {number}\n" for number in range(3000)]
    source = Source("".join(lines), "x")
    start = source.line_start(1500)
    before, after = source.around(start, start)
    assert source.text.count(before + after) == 1
    assert REACH - 20 < len(before) <= REACH
    assert REACH - 20 < len(after) <= REACH
    assert before.split("\n", 1)[0] + "\n" in lines
    assert Source("x\ny\n", "x").around(2, 2) == ("x\n", "y\n")


def test_a_diff_is_patchs():
    assert diff("a\nb\n", "a\nc\n", "/x.py") == "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert diff("a", "b", "x").endswith("-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n")
    assert diff("a\r\n", "a\r\n", "x") == ""
