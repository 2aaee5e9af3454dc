from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.document import Document, content_hash
from codecria.evaluation.data import Data, MissingDataError
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.long_perplexity import TASK, LongPerplexityRecipe, bins, choose_long, score_long

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


def document(name: str, text: str, origin: str = "repo", kind: str = "code") -> Document:
    return Document(text, kind, "Python", "MIT", origin, name, content_hash(text))  # pyright: ignore


def lines(name: str, count: int) -> str:
    return "".join(f"{name}_{number} = {number * number}  # é\n" for number in range(count))


@given(st.integers(1, 200_000))
def test_bins_follow_each_other_and_double(tokens: int) -> None:
    found = bins(tokens)
    assert found[0][0] == 0 and found[-1][1] == tokens
    assert all(one[1] == other[0] for one, other in itertools.pairwise(found))
    assert [stop for _, stop in found[:-1]] == [128 * 2**number for number in range(len(found) - 1)]


def test_positions_are_scored_as_by_one_pass_over_the_whole_text(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    tokenizer = marked[0]
    (text,) = choose_long([document("a.py", lines("x", 60))], "file", tokenizer, 0, LongPerplexityRecipe(min_bytes=1))
    assert 300 < len(text.ids) < 1000
    subject = LocalSubject(tiny_model, tokenizer)
    whole, chunked = (score_long(subject, text, "file", chunk_tokens) for chunk_tokens in (1024, 50))
    ids = torch.tensor([[tokenizer.eos_ids[0], *text.ids]])
    with torch.inference_mode():
        log_p = torch.log_softmax(tiny_model.logits(tiny_model(ids[:, :-1]))[0].double(), dim=-1)
    nats = -log_p.gather(1, ids[0, 1:, None])[:, 0]
    for sample in (whole, chunked):
        assert sample.measures["perplexity"] == pytest.approx(nats.mean().item(), rel=1e-5)
        assert sample.measures["perplexity@128"] == pytest.approx(nats[:128].mean().item(), rel=1e-5)
        assert sample.measures["perplexity@256"] == pytest.approx(nats[128:256].mean().item(), rel=1e-5)
        size_bytes = len(lines("x", 60).encode())
        bits = nats.sum().item() / math.log(2) / size_bytes
        assert sample.measures["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
        assert sample.weights["bits_per_byte"] == size_bytes
        in_bins = [name for name in sample.measures if "@" in name]
        total = sum(sample.measures[name] * sample.weights[name] for name in in_bins)
        assert total == pytest.approx(nats.sum().item(), rel=1e-5)
        assert sum(sample.weights[name] for name in in_bins) == len(text.ids)


def test_a_text_is_read_as_far_as_the_context_goes(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    tokenizer = marked[0]
    (text,) = choose_long([document("a.py", lines("x", 400))], "file", tokenizer, 0, LongPerplexityRecipe(min_bytes=1))
    assert len(text.ids) > 1024
    sample = score_long(LocalSubject(tiny_model, tokenizer), text, "file", 512)
    assert sample.weights["perplexity"] == tiny_model.config.max_positions == 1024
    assert list(sample.measures)[-1] == "perplexity@1024"


def test_long_documents_are_chosen_by_content_and_cut(plain_tokenizer: Tokenizer) -> None:
    documents = [
        document(f"{name}.py", lines(name, size)) for name, size in zip("abcde", (20, 90, 100, 110, 5), strict=True)
    ]
    documents.append(document("README.md", lines("prose", 200), kind="code-related"))
    recipe = LongPerplexityRecipe(min_bytes=1000, max_tokens=300, items=2)
    chosen = choose_long(documents, "file", plain_tokenizer, 5, recipe)
    assert chosen == choose_long(reversed(documents), "file", plain_tokenizer, 5, recipe)
    assert len(chosen) == 2 and all(len(text.ids) == 300 for text in chosen)
    everything = choose_long(documents, "file", plain_tokenizer, 5, recipe.model_copy(update={"items": 9}))
    assert {text.id.split()[1] for text in everything} == {"b.py", "c.py", "d.py"}
    assert chosen == everything[:2]


def test_a_repository_is_read_in_the_order_of_its_imports(plain_tokenizer: Tokenizer) -> None:
    base, user = lines("base", 30), "from base import base_1\n" + lines("user", 30)
    documents = [document("a_user.py", user), document("base.py", base), document("alone.py", lines("z", 90), "other")]
    recipe = LongPerplexityRecipe(min_bytes=1)
    (text,) = choose_long(documents, "repository", plain_tokenizer, 0, recipe)
    assert plain_tokenizer.decode(text.ids) == f"# base.py\n{base}\n# a_user.py\n{user}"


def test_too_little_code_is_said(tmp_path: Path, plain_tokenizer: Tokenizer) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    given = Given(Data(), 0, plain_tokenizer, folder=tmp_path)
    with pytest.raises(MissingDataError, match="no code of 50,000 bytes or more is held out; lower tasks"):
        TASK.groups(LongPerplexityRecipe(), given)
