from __future__ import annotations

import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.generation.reading import read_chunks
from codecria.model.config import ModelConfig
from codecria.model.transformer import Transformer


@pytest.fixture(scope="module")
def model() -> Transformer:
    made = Transformer(ModelConfig(97, 32, 64, 2, 4, 2, 8, 1e-5, 1e4, None, 1024, True))
    made.initialise(0, std=0.3)
    return made.eval()


@pytest.mark.parametrize("chunk_tokens", [1, 7, 64, 512])
def test_chunks_give_the_states_of_one_pass(model: Transformer, chunk_tokens: int) -> None:
    ids = torch.randint(97, (300,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        whole = model(torch.tensor([ids]))[0]
    chunks = list(read_chunks(model, ids, chunk_tokens))
    assert [len(chunk) for chunk in chunks[:-1]] == [chunk_tokens] * (len(chunks) - 1)
    torch.testing.assert_close(torch.cat(chunks), whole, rtol=1e-4, atol=1e-5)


def test_keys_and_values_that_do_not_fit_are_refused_before_a_chunk_is_read(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_device: torch.device, needed: int) -> int:
        return needed // 2

    monkeypatch.setattr("codecria.generation.reading.default_cache_bytes", half)
    with pytest.raises(CodecriaError, match="has no room"):
        next(read_chunks(model, [1] * 640))
