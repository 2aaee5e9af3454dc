import pytest

from codecria.infill.layout import Sentinels, infill_prompt
from codecria.infill.repository import behind_files, files_context
from codecria.tokenizer.sentinels import add_sentinels, find_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import write_tiny_checkpoint

FILES = [("a/one.py", "x = 1\n\ny = 2\n"), ("two.py", "z = 3")]
CODE_LLAMA = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Tokenizer.from_folder(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


def spelled(tokenizer, ids):
    return "".join(tokenizer.token_text(id) if id in tokenizer.special_ids else tokenizer.decode([id]) for id in ids)


def prompt(tokenizer, sentinels, files, path, order, room=500):
    context = files_context(tokenizer, sentinels, files, path, room)
    assert len(context) <= room
    ids = infill_prompt(tokenizer, sentinels, "f(", ")\n", order)
    return spelled(tokenizer, behind_files(tokenizer, sentinels, context, path, ids, order))


def without_markers(plain):
    """Code Llama's layout: no marker between files."""
    tokenizer = plain.with_added_tokens(CODE_LLAMA)
    prefix, suffix, middle, end = map(tokenizer.token_id, CODE_LLAMA)
    return tokenizer, Sentinels(prefix, suffix, middle, (end,), "code-llama")


def test_files_come_behind_their_markers_where_the_vocabulary_has_them(plain):
    tokenizer = add_sentinels(plain.with_added_tokens(["<file_sep>", "<repo_name>"]))[0]
    sentinels = find_sentinels(tokenizer)
    assert prompt(tokenizer, sentinels, FILES, "main.py", "spm") == (
        "<file_sep>a/one.py\nx = 1\n\ny = 2\n<file_sep>two.py\nz = 3<file_sep>"
        "<|fim_prefix|><|fim_suffix|>)\n<|fim_middle|>main.py\nf("
    )


@pytest.mark.parametrize("order", ["psm", "spm"])
def test_files_are_comments_elsewhere(plain, order):
    tokenizer, sentinels = without_markers(plain)
    comments = "# a/one.py\n# x = 1\n#\n# y = 2\n\n# two.py\n# z = 3\n\n"
    bare = spelled(tokenizer, infill_prompt(tokenizer, sentinels, "f(", ")\n", order))
    assert prompt(tokenizer, sentinels, FILES, "main.py", order) == comments + bare
    assert prompt(tokenizer, sentinels, FILES, None, order) == comments + bare
    assert prompt(tokenizer, sentinels, FILES[1:], "main.rs", order) == "// two.py\n// z = 3\n\n" + bare
    assert prompt(tokenizer, sentinels, FILES[1:], "main.html", order) == "<!-- two.py -->\n<!-- z = 3 -->\n\n" + bare
    assert prompt(tokenizer, sentinels, FILES[1:], "two.py", order) == bare
    assert prompt(tokenizer, sentinels, [("empty.py", "\n")], "main.py", order) == bare


def test_the_last_files_are_kept_and_cut_at_line_ends(plain):
    tokenizer, sentinels = without_markers(plain)
    files = [(f"{name}.py", "".join(f"{name}{line} = {line}\n" for line in range(30))) for name in "abc"]
    whole = len(files_context(tokenizer, sentinels, files[2:], "main.py", 10_000))
    text = spelled(tokenizer, files_context(tokenizer, sentinels, files, "main.py", whole * 3 // 2))
    assert "# c29 = 29\n" in text and "# a0" not in text
    kept = [line for line in range(30) if f"# b{line} = {line}\n" in text]
    assert 0 < len(kept) < 30 and kept == list(range(len(kept)))
    for room in range(0, whole, 7):
        assert len(files_context(tokenizer, sentinels, files, "main.py", room)) <= room
