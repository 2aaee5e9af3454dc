"""Which tensors a model must have: nothing is loaded before all of them are there in the right shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from codecria.model.config import ModelConfig

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
PRECOMPUTED = ".rotary_emb.inv_freq"
"""Rotary frequencies that old Hugging Face checkpoints store in every layer; kept in copies, never used."""


_SPELLINGS = """
model.embed_tokens                       tok_embeddings            1  token_embd
model.norm                               norm                      -  output_norm
lm_head                                  output                    0  output
model.layers.#.input_layernorm           layers.#.attention_norm   -  blk.#.attn_norm
model.layers.#.self_attn.q_proj          layers.#.attention.wq     0  blk.#.attn_q
model.layers.#.self_attn.k_proj          layers.#.attention.wk     0  blk.#.attn_k
model.layers.#.self_attn.v_proj          layers.#.attention.wv     0  blk.#.attn_v
model.layers.#.self_attn.o_proj          layers.#.attention.wo     1  blk.#.attn_output
model.layers.#.post_attention_layernorm  layers.#.ffn_norm         -  blk.#.ffn_norm
model.layers.#.mlp.gate_proj             layers.#.feed_forward.w1  0  blk.#.ffn_gate
model.layers.#.mlp.down_proj             layers.#.feed_forward.w2  1  blk.#.ffn_down
model.layers.#.mlp.up_proj               layers.#.feed_forward.w3  0  blk.#.ffn_up
"""


class Spelling(NamedTuple):
    """A tensor's name in Hugging Face's folders, in Meta's parts and in GGUF.

    `axis` is the one along which Meta's model-parallel parts are joined; None: every part holds the whole.
    """

    ours: str
    meta: str
    axis: int | None
    gguf: str


def spellings(num_layers: int) -> Iterator[Spelling]:
    """The names of every tensor: those of the whole model, then layer by layer."""
    rows = [row.split() for row in _SPELLINGS.strip().split("\n")]
    for layer in range(-1, num_layers):
        for row in rows:
            if ("#" in row[0]) == (layer >= 0):
                ours, meta, axis, gguf = (cell.replace("#", str(layer)) for cell in row)
                yield Spelling(f"{ours}.weight", f"{meta}.weight", None if axis == "-" else int(axis), f"{gguf}.weight")


def expected_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every parameter of the model, in the order of the layers."""
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    yield EMBEDDING, (config.vocab_size, width)
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}."
        yield f"{prefix}input_layernorm.weight", (width,)
        yield f"{prefix}self_attn.q_proj.weight", (queries, width)
        yield f"{prefix}self_attn.k_proj.weight", (keys, width)
        yield f"{prefix}self_attn.v_proj.weight", (keys, width)
        yield f"{prefix}self_attn.o_proj.weight", (width, queries)
        yield f"{prefix}post_attention_layernorm.weight", (width,)
        yield f"{prefix}mlp.gate_proj.weight", (inner, width)
        yield f"{prefix}mlp.up_proj.weight", (inner, width)
        yield f"{prefix}mlp.down_proj.weight", (width, inner)
    yield "model.norm.weight", (width,)
    if not config.tied_embeddings:
        yield HEAD, (config.vocab_size, width)


def check_shapes(shapes: Mapping[str, tuple[int, ...]], config: ModelConfig, where: Path) -> None:
    """Compare a checkpoint's tensors with those the configuration asks for.

    Raises:
        CodecriaError: a tensor is missing, has another shape (both are named), or has no place in the model.
    """
    wanted: set[str] = set()
    for name, shape in expected_shapes(config):
        held = shapes.get(name)
        if held is None:
            mend = "set 'tie_word_embeddings' to true if the head is the embedding" if name == HEAD else None
            raise CodecriaError(f"tensor '{name}' is missing", where=where, mend=mend)
        if held != shape:
            raise _wrong_shape(name, held, shape, where)
        wanted.add(name)
    for name, shape in shapes.items():
        if name == HEAD and config.tied_embeddings:
            if shape != shapes[EMBEDDING]:
                raise _wrong_shape(name, shape, shapes[EMBEDDING], where)
        elif name not in wanted and not name.endswith(PRECOMPUTED):
            raise CodecriaError(f"tensor '{name}' has no place in a model of this configuration", where=where)


def _wrong_shape(name: str, held: tuple[int, ...], shape: tuple[int, ...], where: Path) -> CodecriaError:
    if name in (EMBEDDING, HEAD) and held[1:] == shape[1:]:
        what = f"'vocab_size' is {shape[0]}, but tensor '{name}' has {held[0]} rows"
        return CodecriaError(what, where=where, mend="put the configuration and the weights of one model together")
    return CodecriaError(f"tensor '{name}' has the shape {list(held)}, expected {list(shape)}", where=where)
