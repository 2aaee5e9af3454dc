from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import codecria
from codecria.corpus.document import Document, content_hash
from codecria.corpus.folder_documents import folder_documents
from codecria.evaluation.data import Data, MissingDataError
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.key_retrieval import (
    TASK,
    KeyRetrievalRecipe,
    build_filler,
    fill,
    prompt_with_key,
    statements,
)
from codecria.generation.sequence import Completion
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

CODE = Path(codecria.__file__).parent / "evaluation"


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [document for document in folder_documents(CODE) if document.language == "Python"]


def document(text: str) -> Document:
    return Document(text, "code", "Python", "MIT", "o", "p", content_hash(text))


def test_statements_keep_comments_and_leave_out_what_may_not_stand_inside() -> None:
    text = (
        "from __future__ import annotations\nimport os\n\n\n# why\n@cache\ndef f():\n    return 1  # \f one\n\n"
        "def my_function(): pass\nx = 1; y = 2\n"
    )
    assert statements(document(text)) == [
        "import os\n\n",
        "# why\n@cache\ndef f():\n    return 1  # \f one\n\n",
        "x = 1; y = 2\n\n",
    ]
    assert statements(document("def broken(:\n")) == []


def test_pieces_fill_a_number_of_tokens() -> None:
    pieces = [("a", 50), ("b", 60), ("c", 30), ("d", 12), ("e", 3)]
    assert fill(pieces, 100) == ["a", "c", "d", "e"]
    assert fill(pieces, 85) == ["a", "c"]
    assert fill(pieces, 20) == ["d", "e"]
    assert fill(pieces, 2) == []


@pytest.mark.parametrize("tokens", [300, 1000, 3000])
def test_a_prompt_is_valid_python_of_the_length_asked_for(
    documents: list[Document], plain_tokenizer: Tokenizer, tokens: int
) -> None:
    def count(text: str) -> int:
        return len(plain_tokenizer.encode(text))

    pieces = build_filler(documents, count, tokens, 0, 1)
    assert pieces == build_filler(documents[::-1], count, tokens, 0, 1)
    assert pieces != build_filler(documents, count, tokens, 0, 2)
    places: list[float] = []
    for depth in (0.0, 0.25, 0.5, 0.75, 1.0):
        prompt = prompt_with_key(pieces, depth, 42)
        assert 0.97 * tokens - 4 <= count(prompt) <= tokens + 4, "joints may cost or save a token"
        tree = ast.parse(f"{prompt}42\n")
        assert ast.unparse(tree.body[-1]) == "assert my_function() == 42"
        (key,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "my_function"]
        scope: dict[str, object] = {}
        exec(compile(ast.Module([key, tree.body[-1]], []), "key", "exec"), scope)  # the assertion holds
        places.append(prompt.index("def my_function") / len(prompt))
    assert places[0] == 0 and places == sorted(places)
    assert prompt.index("def my_function") == sum(map(len, pieces))
    if tokens == 3000:
        assert max(abs(place - depth) for place, depth in zip(places, (0, 0.25, 0.5, 0.75, 1), strict=True)) < 0.06


def test_what_counts_as_found(plain_tokenizer: Tokenizer) -> None:
    recipe = KeyRetrievalRecipe(lengths=(400,), depths=(0.5,), items=1)
    given = Given(Data(), 0, plain_tokenizer, folder=CODE)
    (group,) = TASK.groups(recipe, given)
    (item,) = group.run.keywords["items"]  # pyright: ignore
    value = item.context["truth"]
    assert 10 <= int(value) <= 99 and f"return {value}\n" in item.asked.prompt
    right = [value, f" {value}", f"{value}, 'why'", f"{value}.0"]
    wrong = ["", "x", f"{value}0", f"-{value}", f"len({value})"]
    for text, found in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        measures = item.measure(Completion(text, [], "stop", None, 1, 0, []))
        assert measures == {"retrieved": found, "retrieved@400/0.5": found}, text


def test_lengths_beyond_the_context_say_so_and_the_others_are_run(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    recipe = KeyRetrievalRecipe(lengths=(400, 1400), depths=(0.0, 1.0), items=2)
    groups = TASK.groups(recipe, Given(Data(), 0, marked[0], folder=CODE))
    assert [group.items for group in groups] == [2, 2, 2, 2]
    subject = LocalSubject(tiny_model, marked[0])
    with Judge() as judge:
        rows = list(itertools.chain.from_iterable(finished(group.run(subject, judge)) for group in groups))
    assert len({row.id for row in rows}) == len(rows) == 8
    assert [set(row.measures) for row in rows[:2]] == [
        {"retrieved", "retrieved@400/1"},
        {"retrieved", "retrieved@400/0"},
    ]
    assert all("tokens, the model has 1024 positions" in row.not_run["retrieved"] for row in rows[4:])


def test_prompts_of_one_filler_share_what_stands_before_the_key(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    recipe = KeyRetrievalRecipe(lengths=(1000,), depths=(0.0, 0.6, 1.0), items=1)
    (group,) = TASK.groups(recipe, Given(Data(), 0, marked[0], folder=CODE))
    asked = [item.asked for item in group.run.keywords["items"]]  # pyright: ignore
    deepest, middle, first = (one for (one,) in LocalSubject(tiny_model, marked[0]).write(asked))
    assert deepest.reused_tokens == 0
    assert middle.reused_tokens > 0.5 * middle.prompt_tokens
    assert first.reused_tokens < 20


def test_a_folder_with_too_little_python_is_said(tmp_path: Path, plain_tokenizer: Tokenizer) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(MissingDataError, match="do not fill a prompt of 4,000 tokens"):
        TASK.groups(KeyRetrievalRecipe(items=1), Given(Data(), 0, plain_tokenizer, folder=tmp_path))


def test_the_paper_s_grid_is_the_default() -> None:
    recipe = KeyRetrievalRecipe()
    assert (recipe.lengths, recipe.depths, recipe.items) == ((4000, 8000, 16_000, 24_000), (0.0, 0.2, 0.4), 64)
    assert KeyRetrievalRecipe(protocol="grid").items == 8
