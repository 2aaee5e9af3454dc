import dataclasses
import json

import numpy as np
import pytest

from codecria.batches.recipe import BatchRecipe, InfillRecipe, LossRecipe
from codecria.batches.repository import packages, render
from codecria.common.errors import CodecriaError
from codecria.corpus.document import Document, content_hash
from codecria.infill.layout import Split, infill_example, infill_prompt
from codecria.infill.repository import place_in_repository, repository_context
from codecria.tokenizer.sentinels import add_sentinels, find_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import write_tiny_checkpoint

FILES = [("a/one.py", "x = 1\n"), ("two.py", "y = 2")]
FIM = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>", "<repo_name>")
PUBLISHED = {
    "starcoder2": (
        FIM,
        "<repo_name>toy<file_sep>a/one.py\nx = 1\n<file_sep>two.py\ny = 2"
        "<file_sep><fim_prefix>main.py\nimport one\n<fim_suffix>\n<fim_middle>",
    ),
    "qwen2.5-coder": (
        tuple(f"<|{name[1:-1]}|>" for name in (*FIM, "<fim_pad>")),
        "<|repo_name|>toy\n<|file_sep|>a/one.py\nx = 1\n<|file_sep|>two.py\ny = 2\n"
        "<|file_sep|>main.py\n<|fim_prefix|>import one\n<|fim_suffix|>\n<|fim_middle|>",
    ),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Tokenizer.from_folder(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


def family(plain, name):
    tokenizer = plain.with_added_tokens(PUBLISHED[name][0])
    sentinels = find_sentinels(tokenizer)
    assert sentinels.family == name
    return tokenizer, sentinels


def spelled(tokenizer, ids):
    return "".join(tokenizer.token_text(id) if id in tokenizer.special_ids else tokenizer.decode([id]) for id in ids)


def document(path, text, origin="toy"):
    return Document(text, "code", "Python", "MIT", origin, path, content_hash(text))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_prompt_is_the_published_layout(plain, name):
    tokenizer, sentinels = family(plain, name)
    context = repository_context(tokenizer, sentinels, "toy", FILES)
    prompt = infill_prompt(tokenizer, sentinels, "import one\n", "\n", "psm")
    placed = place_in_repository(tokenizer, sentinels, context, "main.py", prompt, "psm")
    assert spelled(tokenizer, placed.ids) == PUBLISHED[name][1]
    assert tokenizer.decode(placed.ids[placed.path_start : placed.path_stop]) == "main.py\n"


def test_suffix_first_the_path_begins_the_prefix_too(plain):
    tokenizer, sentinels = family(plain, "starcoder2")
    example = infill_example(tokenizer, sentinels, Split("a", "b", "c"), "spm")
    context = repository_context(tokenizer, sentinels, "toy", FILES[:1])
    placed = place_in_repository(tokenizer, sentinels, context, "main.py", example.ids, "spm")
    assert spelled(tokenizer, placed.ids[len(context) :]) == (
        "<fim_prefix><fim_suffix>c<fim_middle>main.py\nab" + tokenizer.token_text(sentinels.end[0])
    )


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("psm_share", [0.0, 1.0])
def test_the_last_file_is_infilled_behind_the_others(plain, name, psm_share):
    tokenizer, sentinels = family(plain, name)
    texts = [("one.py", "x = 1\ny = 2\n"), ("two.py", "import one\nprint(one.x + one.y)\n")]
    ((text, tokens, last),) = packages([document(*each) for each in texts], tokenizer, sentinels, 500)
    assert last.path == "two.py"
    recipe = BatchRecipe(infill=InfillRecipe(rate=1.0, psm_share=psm_share), loss=LossRecipe(context_share=0.0))
    forms = set()
    for key in range(20):
        rendered = render(tokenizer, sentinels, text, recipe, key=(key,), slot=tokens + 16)
        assert rendered.ids == render(tokenizer, sentinels, text, recipe, key=(key,), slot=tokens + 16).ids
        assert len(rendered.ids) == len(rendered.weights) <= tokens + 16
        forms.add(rendered.form)
        assert rendered.weights[rendered.middle_start :].all()
        assert not rendered.weights[: rendered.middle_start].any()
        shown = tokenizer.decode(rendered.ids)
        assert shown.startswith("toy")
        assert "one.py\nx = 1\ny = 2\n" in shown
        assert sorted(shown) == sorted(
            "toy" + "\n" * (name[0] == "q") + "one.py\n" + texts[0][1] + "two.py\n" + texts[1][1]
        )
    assert forms == ({"psm"} if psm_share or "spm" not in sentinels.orders else {"spm"})


def test_left_to_right_every_file_carries_loss_and_the_last_ends_with_the_marker(plain):
    tokenizer, sentinels = family(plain, "starcoder2")
    ((text, tokens, _),) = packages([document("a.py", "x = 1\n"), document("b.py", "y\n")], tokenizer, sentinels, 500)
    rendered = render(tokenizer, sentinels, text, BatchRecipe(infill=InfillRecipe(rate=0)), key=(0,), slot=tokens)
    assert spelled(tokenizer, rendered.ids) == "<repo_name>toy<file_sep>a.py\nx = 1\n<file_sep>b.py\ny\n<file_sep>"
    assert np.flatnonzero(rendered.weights == 0).size == 2


def test_files_of_a_package_follow_one_another_while_they_fit(plain):
    tokenizer, sentinels = family(plain, "starcoder2")
    names = [("a", "toy"), ("b", "toy"), ("c", "toy"), ("d", "toy"), ("e", "toy"), ("f", "other")]
    documents = [document(f"{path}.py", f"{path} = 1\n" * 10, origin) for path, origin in names]
    size = max(len(tokenizer.encode(each.text)) for each in documents)
    long = document("long.py", "z = 1\n" * 500)
    prose = dataclasses.replace(documents[0], path="a.py#docstrings")
    pieces = list(packages([long, prose, *documents], tokenizer, sentinels, int(2.8 * size)))
    joined = [[path for path, _ in json.loads(text)["files"]] for text, _, _ in pieces]
    assert joined == [["a.py", "b.py"], ["c.py", "d.py"]]
    for text, tokens, _ in pieces:
        recipe = BatchRecipe(infill=InfillRecipe(rate=0))
        assert len(render(tokenizer, sentinels, text, recipe, key=(0,), slot=10_000).ids) <= tokens <= int(2.8 * size)


def test_codecria_s_markers_use_the_file_markers_that_the_vocabulary_has(plain):
    tokenizer, sentinels = add_sentinels(plain.with_added_tokens(["<repo_name>", "<file_sep>"]))
    assert spelled(tokenizer, repository_context(tokenizer, sentinels, "toy", FILES)) == (
        "<repo_name>toy<file_sep>a/one.py\nx = 1\n<file_sep>two.py\ny = 2<file_sep>"
    )


def test_a_vocabulary_without_file_markers_is_one_line_with_the_mend(plain):
    tokenizer, sentinels = add_sentinels(plain)
    with pytest.raises(CodecriaError, match=r"no marker between files.*leave `repository` out"):
        list(packages([], tokenizer, sentinels, 100))
    with pytest.raises(CodecriaError, match="no marker between files"):
        list(packages([], plain, None, 100))
