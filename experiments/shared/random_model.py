"""A model to begin with: a tokenizer trained on the corpus, a Llama of random weights, as a Hugging Face folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from codecria.checkpoint.config_json import new_config
from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.source import Description
from codecria.common.files import atomic_folder
from codecria.corpus.store import iterate_documents
from codecria.model.transformer import Transformer
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.model.config import ModelConfig

_END = "<|endoftext|>"


def train_tokenizer(corpus: Path, vocab_size: int, folder: Path) -> None:
    """A byte-level BPE of the corpus's training code, split before digits, words and runs of blanks as GPT-2's.

    Line ends and the indentation behind them are one token, as in SmolLM2's vocabulary.
    """
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (document.text for document in iterate_documents(corpus, "train") if document.kind == "code")
    bpe.train_from_iterator(texts, trainer)
    with atomic_folder(folder) as aside:
        bpe.save(str(aside / "tokenizer.json"))
        config = {"eos_token": _END, "bos_token": None, "add_bos_token": False}
        (aside / "tokenizer_config.json").write_text(json.dumps(config))


def write_random_model(corpus: Path, shape: ModelConfig, seed: int, folder: Path) -> None:
    """A checkpoint folder with random weights; `shape.vocab_size` is the tokenizer's to be. Once written it stays."""
    tokens = folder.with_name(f"{folder.name}-tokenizer")
    if not (tokens / "tokenizer.json").exists():
        train_tokenizer(corpus, shape.vocab_size, tokens)
    tokenizer = Tokenizer.from_folder(tokens)
    hf_config = new_config(shape, None, tokenizer.eos_ids[0], "float32")
    write_random_weights(Description(shape, tokenizer, hf_config, {}), seed, folder)


def write_random_weights(like: Description, seed: int, folder: Path) -> None:
    """A checkpoint folder as `like` describes it, its weights those of a model from scratch. Once written it stays."""
    if (folder / "config.json").exists():
        return
    model = Transformer(like.config)
    model.initialise(seed)
    save_huggingface(folder, model, like, dtype=torch.float32)
