"""A tiny real checkpoint and corpus for tests: a Llama of 60,000 weights, a byte-level BPE trained on this project."""

import json
from pathlib import Path

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers

from codecria.corpus.build import CorpusRecipe, DecontaminationRecipe, build_corpus
from codecria.corpus.sources.folder import FolderRecipe
from codecria.model.config import ModelConfig
from codecria.model.transformer import Transformer
from codecria.training.recipe import TrainRecipe
from codecria.training.start import save_start

SOURCE = Path(__file__).parent.parent / "src" / "codecria"


def tiny_config(vocab_size: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        norm_eps=1e-5,
        rope_theta=1e4,
        rope_scaling=None,
        max_positions=2048,
        tied_embeddings=True,
    )


def write_infilling_checkpoint(folder: Path, plain: Path) -> Path:
    """A checkpoint of `write_tiny_checkpoint` with infill markers, their rows untrained."""
    recipe = TrainRecipe(model=str(plain), corpus="", steps=1, sequences_per_step=1, export_precision="fp32")
    recipe = recipe.model_copy(update={"batches": recipe.batches.model_copy(update={"sequence_tokens": 64})})
    save_start(recipe, folder)
    return folder


def write_tiny_checkpoint(folder: Path, vocab_size: int = 600, markers: tuple[str, ...] = ()) -> Path:
    """A Hugging Face folder with random weights and a tokenizer without infill markers."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *markers]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    texts = [path.read_text() for path in sorted((SOURCE / "common").glob("*.py"))]
    bpe.train_from_iterator(texts, trainer)
    bpe.save(str(folder / "tokenizer.json"))
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "bos_token": None, "add_bos_token": False, "chat_template": template})
    )
    config = tiny_config(bpe.get_vocab_size())
    model = Transformer(config)
    model.initialise(seed=0, std=0.05)
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "vocab_size": config.vocab_size,
                "hidden_size": config.hidden_size,
                "intermediate_size": config.intermediate_size,
                "num_hidden_layers": config.num_layers,
                "num_attention_heads": config.num_heads,
                "num_key_value_heads": config.num_kv_heads,
                "head_dim": config.head_dim,
                "rms_norm_eps": config.norm_eps,
                "rope_theta": config.rope_theta,
                "max_position_embeddings": config.max_positions,
                "tie_word_embeddings": True,
                "hidden_act": "silu",
                "torch_dtype": str(torch.float32).removeprefix("torch."),
                "eos_token_id": 2,
            }
        )
    )
    return folder


def write_tiny_corpus(folder: Path) -> Path:
    """A corpus of this project's own source."""
    recipe = CorpusRecipe(
        sources=(FolderRecipe(path=str(SOURCE), licence="Apache-2.0"),),
        decontamination=DecontaminationRecipe(human_eval=False),
    )
    build_corpus(recipe, folder)
    return folder
