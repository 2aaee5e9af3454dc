import ast

import pytest

from codecria.common.errors import CodecriaError
from codecria.generation.applications.document import document, same_but_docstrings


def docstrings(text):
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return {node.name: ast.get_docstring(node) for node in nodes}


def test_docstrings_go_where_they_are_missing_and_nothing_else_changes(told, shop):
    told = told(lambda prefix, _suffix, _options: f"Text {prefix.count('Text')} of it")
    found = document(told, shop)
    assert found.written == ["Basket", "Basket.add", "Basket.total", "read_baskets"]
    assert found.skipped == [("Basket.empty", "its body stands on the header's line")]
    assert same_but_docstrings(ast.parse(shop), ast.parse(found.text))
    # Those written before are context for those that follow.
    assert '    def total(self):\n        """Text 2 of it."""\n        return' in found.text
    assert '):\n    """Text 3 of it."""\n    # one a line\n' in found.text
    assert 'class Basket:\n    """Text 0 of it."""\n\n    def __init__' in found.text
    for prefix, suffix in told.asked:
        assert prefix.endswith('"""')
        assert suffix.startswith('"""\n')


def test_one_by_its_name_even_a_private_one(told, shop):
    told = told(lambda *_: "Give the date.")
    found = document(told, shop, name="_private")
    assert found.written == ["_private"]
    assert docstrings(found.text)["_private"] == "Give the date."
    assert len(told.asked) == 1
    with pytest.raises(CodecriaError, match="'_private' has a docstring"):
        document(told, found.text, name="_private")
    with pytest.raises(CodecriaError, match="no function or class 'nothing'"):
        document(told, shop, name="nothing")


@pytest.mark.parametrize(
    "text", ["", "Total", 'A "quoted"', "a \\d b", "x\x00 y", "def total(self): pass", "total total"]
)
def test_what_is_not_fit_is_drawn_again(told, shop, text):
    def say(_prefix, _suffix, options):
        return text if options["temperature"] == 0 else [text, "Sum the prices.", "Never looked at."]

    found = document(told(say), shop, name="Basket.total")
    assert docstrings(found.text)["total"] == "Sum the prices."
    refused = document(told(lambda *_: text), shop, name="Basket.total", tries=3)
    assert (refused.text, refused.written) == (shop, [])
    assert refused.skipped[0][0] == "Basket.total"
    assert refused.skipped[0][1].startswith("no text of 4 was fit (the last: ")


def test_a_text_that_repeats_itself_is_not_fit(told, shop):
    again = "Sum the prices of all, sum the prices of all, sum the prices of all"
    assert "repeats itself" in document(told(lambda *_: again), shop, name="Basket.total").skipped[0][1]
    rows = "Sum the prices.\n\nSum the prices."
    assert "repeats itself" in document(told(lambda *_: rows), shop, name="Basket.total", lines=9).skipped[0][1]


def test_lines_quotes_and_line_ends_are_the_files(told):
    text = "class A:\r\n\t'''Has one.'''\r\n\tdef f(self):\r\n\t\treturn 1\r\n"
    say = told(lambda *_: "Return one.\n\n        Always the same one,\n  whatever happens.\nAnd a fifth line.")
    assert document(say, text).text.splitlines(keepends=True)[2:5] == [
        "\tdef f(self):\r\n",
        "\t\t'''Return one.'''\r\n",
        "\t\treturn 1\r\n",
    ]
    assert document(say, text, lines=4).text == (
        "class A:\r\n\t'''Has one.'''\r\n\tdef f(self):\r\n\t\t'''Return one.\r\n\r\n\t\tAlways the same one,\r\n"
        "\t\twhatever happens.\r\n\t\t'''\r\n\t\treturn 1\r\n"
    )


def test_a_long_text_ends_with_a_sentence(told, shop):
    said = "Sum the prices. " + "This goes on and says ever more other words without any full stop " * 2
    assert docstrings(document(told(lambda *_: said), shop, name="Basket.total").text)["total"] == "Sum the prices."


def test_a_real_model_documents_a_real_file(infilling_model, shop):
    found = document(infilling_model, shop, name="Basket.add")
    assert found.written == ["Basket.add"], found.skipped
    said = docstrings(found.text)["add"]
    assert len(said.split()) > 2
    assert same_but_docstrings(ast.parse(shop), ast.parse(found.text))
    print(said)
