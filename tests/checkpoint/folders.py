"""Tiny checkpoints in all three formats, the Hugging Face ones written by transformers itself."""

import json
from pathlib import Path

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import LlamaForCausalLM

from codecria.checkpoint.meta import meta_names
from codecria.checkpoint.rotary_order import neighbours_from_halves
from codecria.model.config import ModelConfig, RopeScaling
from tests.oracles.transformers import llama_config

SOURCE = Path(__file__).parents[2] / "src" / "codecria"

TINY = {
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_layers": 2,
    "num_heads": 8,
    "num_kv_heads": 8,
    "head_dim": 8,
    "norm_eps": 1e-5,
    "rope_theta": 1e4,
    "rope_scaling": None,
    "max_positions": 256,
    "tied_embeddings": False,
}


def tiny(**changes) -> ModelConfig:
    return ModelConfig(**{**TINY, **changes})


VARIANTS = {
    "multi-head": tiny(),
    "grouped": tiny(num_kv_heads=2),
    "tied": tiny(num_kv_heads=4, tied_embeddings=True),
    "theta 1e6": tiny(rope_theta=1e6, max_positions=16_384),
    "wide heads": tiny(head_dim=16, num_kv_heads=1),
    "linear scaling": tiny(rope_scaling=RopeScaling("linear", 4.0)),
    "llama3 scaling": tiny(rope_scaling=RopeScaling("llama3", 8.0, 1.5, 4.0, 64), rope_theta=5e5),
}


def byte_level_tokenizer(tokens: int = 380) -> tokenizers.Tokenizer:
    """Byte-level BPE that cuts text as SmolLM2's does; a few rows of the embedding stay without a token."""
    bpe = tokenizers.Tokenizer(models.BPE())
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(parts)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train([str(path) for path in sorted((SOURCE / "common").glob("*.py"))], trainer)
    return bpe


def write_tokenizer(folder: Path) -> None:
    """Tokenizer files, spelled in a way that nothing here would write."""
    folder.mkdir(parents=True, exist_ok=True)
    byte_level_tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    config = '{"eos_token":   "<|im_end|>", "bos_token": "<|im_start|>", "add_bos_token": false, "chat_template": '
    config += '"{% for m in messages %}{{ m[\'content\'] }}<|im_end|>{% endfor %}", "model_max_length": 256}'
    (folder / "tokenizer_config.json").write_text(config)
    (folder / "special_tokens_map.json").write_text('{"eos_token":\t"<|im_end|>"}')


def transformers_model(config: ModelConfig) -> LlamaForCausalLM:
    """Random weights, each a number that half precision holds, so that F16 files lose nothing."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama_config(config, bos_token_id=1, eos_token_id=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.2 if parameter.ndim == 2 else 1.0
            parameter.copy_((torch.randn(parameter.shape) * spread).half().float())
    return model


def write_folder(folder: Path, config: ModelConfig, shard_size: str = "1GB") -> LlamaForCausalLM:
    """A Hugging Face folder as transformers writes it, and its model."""
    model = transformers_model(config)
    model.save_pretrained(folder, max_shard_size=shard_size)
    write_tokenizer(folder)
    return model


def write_meta(folder: Path, model: LlamaForCausalLM, config: ModelConfig, parts: int, params: dict | None = None):
    """The model cut into Meta's model-parallel parts."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = model.state_dict()
    shards: list[dict[str, torch.Tensor]] = [{"rope.freqs": torch.ones(4)} for _ in range(parts)]
    for ours, (theirs, axis) in meta_names(config.num_layers).items():
        weight = weights[ours]
        if "q_proj" in ours or "k_proj" in ours:
            weight = neighbours_from_halves(weight, config.num_heads if "q_proj" in ours else config.num_kv_heads)
        pieces = [weight] * parts if axis is None else weight.chunk(parts, dim=axis)
        for shard, piece in zip(shards, pieces, strict=True):
            shard[theirs] = piece.to(torch.bfloat16).clone()
    for number, shard in enumerate(shards):
        torch.save(shard, folder / f"consolidated.{number:02d}.pth")
    values = {
        "dim": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "n_kv_heads": config.num_kv_heads,
        "multiple_of": 32,
        "ffn_dim_multiplier": 0.5,
        "norm_eps": config.norm_eps,
        "vocab_size": -1,
    }
    (folder / "params.json").write_text(json.dumps({**values, **(params or {})}))


def sample_ids(config: ModelConfig, length: int = 40) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (2, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def assert_same_logits(ours, theirs, config: ModelConfig, tolerance: float = 1e-4) -> None:
    ids = sample_ids(config)
    torch.testing.assert_close(ours.logits(ours(ids)), theirs(ids).logits, atol=tolerance, rtol=tolerance)
