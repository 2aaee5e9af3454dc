from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.document import Document, content_hash
from codecria.evaluation.tasks.perplexity import (
    PerplexityRecipe,
    choose_texts,
    cut_to_tokens,
    group_texts,
    score_texts,
    windows,
)
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer


@pytest.fixture(scope="module")
def llama_tokenizer(llama_tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(llama_tokenizer_folder)


def documents(kind: str = "code") -> list[Document]:
    texts = ["".join(f"x_{name}{n} = {n * n}  # é\n" for n in range(6 * size)) for size, name in enumerate("abcde", 1)]
    return [Document(text, kind, "Python", "MIT", "o", "p", content_hash(text)) for text in texts]  # pyright: ignore


@given(st.integers(1, 200), st.integers(16, 64), st.data())
def test_every_token_is_scored_once_in_windows_that_fit(
    plain_tokenizer: Tokenizer, llama_tokenizer: Tokenizer, length: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window - 1))
    ids = list(range(1000, 1000 + length))
    for tokenizer in (plain_tokenizer, llama_tokenizer):
        found = windows(ids, tokenizer, window, stride)
        assert [id for each in found for id in each.target] == ids
        assert all(len(each.context) + len(each.target) - 1 <= window for each in found)
        assert all(len(each.target) <= stride for each in found[1:])
        place = 0
        for each in found:
            context = list(each.context)
            if tokenizer.bos_ids:
                assert context[:1] == [tokenizer.bos_id]
                context = context[1:]
            elif place == 0:
                assert context == [tokenizer.eos_ids[0]]
                context = []
            assert context == ids[place - len(context) : place]
            assert place == 0 or len(each.context) + len(each.target) - 1 == min(
                window, place + len(each.target) - 1 + len(tokenizer.bos_ids)
            )
            place += len(each.target)


def test_one_window_equals_the_plain_road(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> None:
    tokenizer = marked[0]
    texts = choose_texts(documents(), "code", tokenizer, 0, 10_000)
    recipe = PerplexityRecipe(window_tokens=1024, stride_tokens=512)
    for text, sample in zip(texts, score_texts(tiny_model, tokenizer, texts, "code", recipe), strict=True):
        ids = torch.tensor([[tokenizer.eos_ids[0], *text.ids]])
        with torch.inference_mode():
            log_p = torch.log_softmax(tiny_model.logits(tiny_model(ids[:, :-1]))[0].double(), dim=-1)
        nats = -log_p.gather(1, ids[0, 1:, None]).sum().item()
        assert sample.measures["perplexity"] == pytest.approx(nats / len(text.ids), rel=1e-5)
        size = len(text.text.encode())
        assert sample.measures["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
        assert sample.weights == {"bits_per_byte": size, "perplexity": len(text.ids)}
        assert sample.id == content_hash(text.text)[:16]


def test_a_short_window_sees_less(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> None:
    tokenizer = marked[0]
    texts = choose_texts(documents(), "code", tokenizer, 0, 10_000)
    whole = score_texts(tiny_model, tokenizer, texts, "code", PerplexityRecipe())
    short = score_texts(tiny_model, tokenizer, texts, "code", PerplexityRecipe(window_tokens=32, stride_tokens=8))
    assert [each.id for each in whole] == [each.id for each in short]
    assert all(a.measures != b.measures for a, b in zip(whole, short, strict=True))
    assert all(a.weights == b.weights for a, b in zip(whole, short, strict=True))


def test_the_choice_is_keyed_and_stays_within_its_tokens(plain_tokenizer: Tokenizer) -> None:
    all_texts = choose_texts(documents(), "code", plain_tokenizer, 3, 10**9)
    assert len(all_texts) == 5
    assert choose_texts(reversed(documents()), "code", plain_tokenizer, 3, 10**9) == all_texts
    total = sum(len(text.ids) for text in all_texts)
    for limit in (1, 50, 300, total - 1, total):
        texts = choose_texts(documents(), "code", plain_tokenizer, 3, limit)
        assert sum(len(text.ids) for text in texts) <= limit
        assert all(text == whole for text, whole in zip(texts[:-1], all_texts, strict=False))
        if texts and texts[-1] not in all_texts:
            assert texts[-1].id.endswith(f"/0-{len(texts[-1].text)}")
            assert texts[-1].text.endswith("\n")
            assert plain_tokenizer.encode(texts[-1].text) == texts[-1].ids
    assert choose_texts(documents("natural"), "code", plain_tokenizer, 3, 10**9) == []


def test_a_source_is_one_language_and_a_document_gives_its_start(plain_tokenizer: Tokenizer) -> None:
    python = documents()
    java = [replace(each, text=f"// {each.text}", language="Java") for each in python]
    mixed = [*python, *java]
    assert {text.text[:2] for text in choose_texts(mixed, "code/Java", plain_tokenizer, 0, 10**9)} == {"//"}
    assert len(choose_texts(mixed, "code", plain_tokenizer, 0, 10**9)) == 10
    assert choose_texts(mixed, "code/Go", plain_tokenizer, 0, 10**9) == []
    whole = choose_texts(python, "code/Python", plain_tokenizer, 0, 10**9)
    starts = choose_texts(python, "code/Python", plain_tokenizer, 0, 10**9, document_tokens=100)
    assert [each.text.startswith(start.text) for each, start in zip(whole, starts, strict=True)] == [True] * 5
    assert all(60 < len(start.ids) <= 100 for start in starts if "/0-" in start.id)
    few = choose_texts(python, "code/Python", plain_tokenizer, 0, 200, document_tokens=100)
    assert sum(len(text.ids) for text in few) <= 200
    assert few[:2] == starts[:2]


def test_a_cut_keeps_as_many_lines_as_fit(plain_tokenizer: Tokenizer) -> None:
    text = "".join(f"value = {n}\n" for n in range(40))
    for limit in range(0, 60, 7):
        kept = cut_to_tokens(text, plain_tokenizer, limit)
        assert text.startswith(kept)
        assert len(plain_tokenizer.encode(kept)) <= limit
        longer = text[: text.index("\n", len(kept)) + 1]
        assert len(plain_tokenizer.encode(longer)) > limit


def test_groups_are_whole_documents_in_order(plain_tokenizer: Tokenizer) -> None:
    texts = choose_texts(documents(), "code", plain_tokenizer, 0, 10**9)
    groups = group_texts(texts, 200)
    assert [text for group in groups for text in group] == texts
    assert all(sum(len(text.ids) for text in group[:-1]) < 200 for group in groups)
    assert len(groups) > 1
    assert group_texts([], 400) == []
