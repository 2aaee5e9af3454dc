"""A long text read once, chunk by chunk: its keys and values are held, and the states of one chunk at a time.

Shapes: L tokens of the text, C tokens of a chunk, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from codecria.generation.cache import Cache
from codecria.generation.fused import fuse
from codecria.generation.memory import default_cache_bytes
from codecria.generation.pass_attention import Pass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from codecria.model.transformer import Transformer


@torch.inference_mode()
def read_chunks(model: Transformer, ids_L: list[int], chunk_tokens: int = 512) -> Iterator[Tensor]:
    """Hidden states after the final norm, [C, D] a chunk, in order. The last chunk may be shorter.

    Raises:
        CodecriaError: half of the memory there is does not hold the text's keys and values.
    """
    fused = fuse(model)
    norm = model.model.norm.weight
    cache = Cache(model.config, dtype=norm.dtype, device=norm.device, budget=0)
    needed = cache.layout.whole(len(ids_L)) * cache.layout.slot_bytes
    cache.tree.budget = default_cache_bytes(norm.device, needed)
    place = cache.open(ids_L)
    for start in range(0, len(ids_L), chunk_tokens):
        ids_C = ids_L[start : start + chunk_tokens]
        new = Pass(cache, [place], [ids_C])
        hidden_1CD = fused(torch.tensor([ids_C], device=norm.device), positions_BL=new.positions_BL, cache=new)
        new.commit()
        yield hidden_1CD[0]
