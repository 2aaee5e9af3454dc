from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from codecria.checkpoint.open import open_checkpoint
from codecria.model.config import ModelConfig
from codecria.model.transformer import Transformer
from codecria.tokenizer.sentinels import add_sentinels

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Sentinels
    from codecria.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def plain_tokenizer(smollm2_gguf: Path) -> Tokenizer:
    """SmolLM2's own tokenizer: no infill markers, no BOS."""
    return open_checkpoint(smollm2_gguf).tokenizer


@pytest.fixture(scope="session")
def marked(plain_tokenizer: Tokenizer) -> tuple[Tokenizer, Sentinels]:
    """SmolLM2's tokenizer with codecria's markers."""
    return add_sentinels(plain_tokenizer)


@pytest.fixture(scope="session")
def tiny_model(marked: tuple[Tokenizer, Sentinels]) -> Transformer:
    """Random weights, the real vocabulary: everything runs, nothing is learnt."""
    config = ModelConfig(marked[0].vocab_size, 32, 64, 2, 4, 2, 8, 1e-5, 1e4, None, 1024, True)
    model = Transformer(config)
    model.initialise(0, std=0.2)
    return model.eval()
