import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codecria.serving.markers import parse_markers
from codecria.serving.requests import Infill

CODE = st.text(alphabet="ab \n(<>é", max_size=30)


@pytest.mark.parametrize(
    ("prompt", "prefix", "suffix"),
    [
        # Continue, Tabby, llm-ls, Ollama's codellama template
        ("<PRE> def f():\n     <SUF>\n    return x <MID>", "def f():\n    ", "\n    return x"),
        ("<PRE>  x = <SUF>) <MID>", " x =", ")"),
        ("<s><PRE> a <SUF>b <MID>", "a", "b"),
        # twinny, whose suffix has a space before it and whose prefix has none
        ("<PRE># f.py \nx = ( <SUF> )\n <MID>", "# f.py \nx = (", ")\n"),
        ("<PRE> x <SUF> \n <MID>", "x", "\n"),
        # the same without files: a space stands before its header
        (
            "<PRE> \n# Language: Python (python) \n# File uri: a.py \nprint( <SUF> )\n <MID>",
            "\n# Language: Python (python) \n# File uri: a.py \nprint(",
            ")\n",
        ),
        ("<PRE> print( <SUF> )\n <MID>", "print(", " )\n"),
        # Windows line ends, on which a server choked
        ("<PRE> a\r\n <SUF>\r\nb <MID>", "a\r\n", "\r\nb"),
        # suffix first
        ("<PRE> <SUF>after <MID> before", "before", "after"),
        ("<|fim_prefix|>a<|fim_suffix|> b<|fim_middle|>", "a", " b"),
        ("<fim_prefix> a<fim_suffix><fim_middle>", " a", ""),
        ("<fim_prefix><fim_suffix>after<fim_middle>before", "before", "after"),
        ("<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>", "a", "b"),
        ("[SUFFIX]after[PREFIX]before", "before", "after"),
        ("<PRE>  <SUF> <MID>", "", ""),
    ],
)
def test_layouts_that_clients_paste(prompt, prefix, suffix):
    assert parse_markers(prompt) == Infill(prefix, suffix)


def test_files_before_the_document():
    prompt = (
        "<|repo_name|>shop\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b.py\n"
        "<|fim_prefix|>import a\n<|fim_suffix|>\n<|fim_middle|>"
    )
    assert parse_markers(prompt) == Infill("import a\n", "\n", files=(("a.py", "x = 1\n"),), path="b.py")


def test_chunks_of_text_before_markers_that_nobody_writes_by_chance():
    """llama.vscode over OpenAI's interface."""
    prompt = "Context:\n\nx = 1\n<|fim_prefix|>def f():\n<|fim_suffix|>\n<|fim_middle|>"
    assert parse_markers(prompt) == Infill("def f():\n", "\n", files=(("context", "Context:\n\nx = 1\n"),))
    assert parse_markers(prompt + "goes on") is None


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "def f(): pass",
        "<PRE> only a beginning",
        "<PRE> no middle <SUF> here",
        "the markers <PRE> a <SUF> b <MID> in the middle of a text",
        "<PRE> a <SUF> b <MID> and text that goes on",
        "<MID> a <SUF> b <PRE>",
        "[PREFIX]a[SUFFIX]b",
    ],
)
def test_other_prompts_are_texts(prompt):
    assert parse_markers(prompt) is None


@given(CODE, CODE)
def test_what_continue_pastes_comes_back(prefix, suffix):
    assume(prefix and prefix[:1] != " " and not suffix.startswith((" \n", " \r")))
    assert parse_markers(f"<PRE> {prefix} <SUF>{suffix} <MID>") == Infill(prefix, suffix)


@given(CODE, CODE)
def test_what_is_pasted_without_spaces_comes_back(prefix, suffix):
    found = parse_markers(f"<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>")
    assert found == Infill(prefix, suffix)


@given(st.text(alphabet="<>PRESUFMID| \n", max_size=60))
def test_no_text_makes_it_fail(prompt):
    parse_markers(prompt)
