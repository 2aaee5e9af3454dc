import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.corpus.languages import CODE_LANGUAGES
from codecria.infill.split import Draws, split_document
from codecria.infill.syntax import _GRAMMARS, node_around, require_syntax
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import write_tiny_checkpoint

PROGRAMS = {
    "Python": "def area(r):\n    if r > 0:\n        return math.pi * r**2\n    return 0\n\nprint(area(2))\n",
    "Java": "class A {\n  int f(int a) {\n    if (a > 1) { return g(a, 2); }\n    return 0;\n  }\n}\n",
    "JavaScript": "function f(a) {\n  return a.map((x) => x + 1);\n}\nconsole.log(f([1, 2]));\n",
    "TypeScript": "function f(a: number[]): number[] {\n  return a.map((x) => x + 1);\n}\nlet y = f([1, 2]);\n",
    "C": "int f(int a) {\n  if (a) { g(a, 1); }\n  return 2;\n}\nint b = 3 + 4;\n",
    "C++": "template <class T> T f(T a) {\n  return a + g(a, 1);\n}\nint main() { return f(2); }\n",
    "Go": "package main\n\nfunc f(a int) int {\n\treturn g(a, 1) + 2\n}\n\nvar x = f(1)\n",
    "Rust": "fn f(a: i32) -> i32 {\n    let b = g(a, 1);\n    b + 2\n}\n\nfn main() { f(1); }\n",
    "PHP": "function f($a) {\n  return g($a, 1) + 2;\n}\necho f(1);\n",
    "Ruby": "def f(a)\n  g(a, 1) + 2\nend\n\nputs f(1)\n",
    "C#": "class A {\n  int F(int a) {\n    return G(a, 1) + 2;\n  }\n}\n",
    "Shell": 'f() {\n  if [ -n "$1" ]; then\n    echo "$1" | sort -u\n  fi\n}\nf a b\n',
}


@pytest.mark.parametrize("language", PROGRAMS)
def test_middles_are_nodes_of_all_sizes(language):
    text = PROGRAMS[language]
    splits = [node_around(text, language, Draws(key)) for key in range(300)]
    found = [split for split in splits if split is not None]
    assert len(found) > 200
    assert all(split.prefix + split.middle + split.suffix == text for split in found)
    sizes = Counter(len(split.middle).bit_length() for split in found if split.middle != text)
    assert len([size for size, count in sizes.items() if count >= 15]) >= 3
    # A node is whole: what opens in it closes in it.
    for split in found:
        assert all(split.middle.count(one) == split.middle.count(other) for one, other in ["()", "[]", "{}"])


def test_python_s_middles_are_its_statements_expressions_blocks_and_arguments():
    splits = [node_around(PROGRAMS["Python"], "Python", Draws(key)) for key in range(500)]
    middles = Counter(split.middle for split in splits if split is not None)
    for middle in ("return 0", "r > 0", "(area(2))", "math.pi * r**2", "math.pi", "print(area(2))"):
        assert middles[middle] > 0
    block = "if r > 0:\n        return math.pi * r**2\n    return 0"
    assert middles[block] > 10
    assert PROGRAMS["Python"].strip() not in middles


@given(st.text(alphabet="éß😀\u0301界", min_size=1, max_size=6), st.integers(0, 20))
def test_offsets_are_characters_where_text_is_not_ascii(odd, key):
    text = f"# {odd}\nname = '{odd}'\nprint(name, '{odd}', [len(name)])  # {odd}\n"
    split = node_around(text, "Python", Draws(key))
    assert split is None or split.prefix + split.middle + split.suffix == text
    middles = {node.middle for key in range(60) if (node := node_around(text, "Python", Draws(key))) is not None}
    assert {f"name = '{odd}'", f"(name, '{odd}', [len(name)])"} <= middles


def test_what_the_grammar_cannot_read_is_cut_at_lines(tmp_path):
    encoder = Tokenizer.from_folder(write_tiny_checkpoint(tmp_path))
    prose = "the radius of a disc, squared: and then (so they say\n?? !! 3 4 ))\n" * 5
    assert sum(node_around(prose, "Python", Draws(key)) is None for key in range(100)) > 90
    assert node_around(PROGRAMS["C"], "Brainfuck", Draws(0)) is node_around(PROGRAMS["C"], None, Draws(0)) is None
    lines = [split_document(prose, {"line": 1}, Draws(key), encoder) for key in range(50)]
    assert [split_document(prose, {"syntax": 1}, Draws(key), encoder, "COBOL") for key in range(50)] == lines


def test_every_grammar_is_there_without_a_network_and_of_a_language_we_know(monkeypatch):
    from tree_sitter_language_pack import get_parser

    monkeypatch.setattr("socket.socket", None)
    for language, grammar in _GRAMMARS.items():
        assert language in CODE_LANGUAGES
        assert get_parser(grammar).parse(b"x").root_node is not None


def test_without_the_package_the_mend_is_named(monkeypatch):
    require_syntax()
    monkeypatch.setitem(sys.modules, "tree_sitter_language_pack", None)
    with pytest.raises(CodecriaError, match=r"not installed; pip install 'codecria\[syntax\]'"):
        require_syntax()
