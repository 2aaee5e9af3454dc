"""Attention over documents packed in one row: block-diagonal and causal, so that no document sees another.

Shapes: B rows, L tokens of a row, Q queries of a row that are here (all L, but for context parallelism), H query heads,
G key-value heads, K head_dim, N blocks of queries, M blocks of keys.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import BlockMask, flex_attention

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

_SHORT_DOCUMENT = 1024
_BLOCK = 128


class PackedAttention(Protocol):
    """How the queries of a packed row take from its keys and values; made once a forward pass, used by every layer."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        """What each query takes: queries [B, H, Q, K], keys and values [B, G, L, K] in, [B, H, Q, K] out."""
        ...


def document_attention(
    documents: list[list[int]], device: torch.device, chunks: Sequence[range] | None = None
) -> PackedAttention:
    """The fastest way for a device to attend within packed documents.

    Args:
        documents: for each row the lengths of the documents packed in it; their sum is L.
        device: where it runs.
        chunks: ascending parts of each row whose queries are here, while keys and values are those of the whole row;
            all of it when absent.
    """
    chunks = [range(sum(documents[0]))] if chunks is None else chunks
    if device.type == "cuda":
        return BlockMaskAttention(documents, chunks, device)
    return DocumentAttention(documents, chunks)


class Span(NamedTuple):
    """Neighbouring queries of one document, and the keys from its beginning to the last of them."""

    queries: int
    keys: slice


class DocumentAttention:
    """Each document on its own: exact, on any device, and the only one with a backward pass on a CPU.

    Memory grows with the tokens, not with their square: the fused kernel keeps no scores. Only a chunk that begins
    inside a document needs a mask, of its queries by the document's keys.

    Args:
        documents: see `document_attention`.
        chunks: see `document_attention`.
    """

    def __init__(self, documents: list[list[int]], chunks: Sequence[range]) -> None:
        self._spans = [_spans(lengths, chunks) for lengths in documents]

    def __call__(self, q_BHQK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, /) -> Tensor:
        """See `PackedAttention`."""
        return _attend_spans(self._spans, q_BHQK, k_BGLK, v_BGLK)  # pyright: ignore[reportCallIssue, reportReturnType]


@torch.compiler.disable  # a compiled block would be compiled anew for each packing
def _attend_spans(spans: list[list[Span]], q_BHQK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
    rows: list[Tensor] = []
    for row, q_1HQK, k_1GLK, v_1GLK in zip(spans, q_BHQK.split(1), k_BGLK.split(1), v_BGLK.split(1), strict=True):
        pieces = zip(q_1HQK.split([span.queries for span in row], dim=2), row, strict=True)
        rows.append(torch.cat([_attend(q, k_1GLK[:, :, s.keys], v_1GLK[:, :, s.keys]) for q, s in pieces], dim=2))
    return torch.cat(rows, dim=0)


def _spans(lengths: list[int], chunks: Sequence[range]) -> list[Span]:
    spans: list[Span] = []
    for chunk in chunks:
        begin = 0
        for length in lengths:
            first, end = max(begin, chunk.start), min(begin + length, chunk.stop)
            if first < end:
                spans.append(Span(end - first, slice(begin, end)))
            begin += length
    return spans


def causal_attention(q_BHQK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
    """Plain causal attention of whole rows, or of their last Q queries: [B, H, Q, K]."""
    # Repeating the groups costs less than the grouped kernel, which on a CPU falls back to plain matrix products.
    groups = q_BHQK.shape[1] // k_BGLK.shape[1]
    k_BHLK = k_BGLK.repeat_interleave(groups, dim=1)
    v_BHLK = v_BGLK.repeat_interleave(groups, dim=1)
    queries, keys = q_BHQK.shape[2], k_BGLK.shape[2]
    if queries == keys:
        return F.scaled_dot_product_attention(q_BHQK, k_BHLK, v_BHLK, is_causal=True)
    return F.scaled_dot_product_attention(q_BHQK, k_BHLK, v_BHLK, attn_mask=causal_lower_right(queries, keys))


def _attend(q_1HQK: Tensor, k_1GLK: Tensor, v_1GLK: Tensor) -> Tensor:
    """The last queries of a document. Short ones in bfloat16 on a CPU: plain products, 3 times as fast at 400.

    The fused kernel there computes in float32; the plain one rounds the scores to bfloat16, as eager attention
    does everywhere.
    """
    queries, keys, width = q_1HQK.shape[2], *k_1GLK.shape[2:]
    if q_1HQK.dtype != torch.bfloat16 or q_1HQK.device.type != "cpu" or keys > _SHORT_DOCUMENT:
        return causal_attention(q_1HQK, k_1GLK, v_1GLK)
    groups = q_1HQK.shape[1] // k_1GLK.shape[1]
    k_HLK = k_1GLK[0].repeat_interleave(groups, dim=0)
    v_HLK = v_1GLK[0].repeat_interleave(groups, dim=0)
    future_QL = torch.full((queries, keys), -torch.inf, dtype=q_1HQK.dtype).triu_(1 + keys - queries)
    scores_HQL = torch.baddbmm(future_QL, q_1HQK[0], k_HLK.transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(scores_HQL.softmax(dim=-1), v_HLK)[None]


class BlockMaskAttention:
    """All documents in one FlexAttention kernel, which passes over the blocks of keys that no query of a block sees.

    The documents are data of the mask: a compiled kernel or block serves every packing of the same length. The mask is
    made from the documents' borders in time and memory that grow with the blocks, not with the square of the tokens.
    On a GPU the kernel is compiled; on a CPU the forward pass alone runs, unfused. Tested: the mask and the forward
    pass on a CPU, and that new packings compile nothing. Not run: the compiled kernel and its backward pass on a GPU.

    Args:
        documents: see `document_attention`.
        chunks: see `document_attention`.
        device: where it runs.
    """

    def __init__(self, documents: list[list[int]], chunks: Sequence[range], device: torch.device) -> None:
        starts = [
            torch.tensor([0, *lengths]).cumsum(0)[:-1].repeat_interleave(torch.tensor(lengths)) for lengths in documents
        ]
        places_Q = torch.cat([torch.arange(chunk.start, chunk.stop) for chunk in chunks])
        self.mask = _block_mask(torch.stack(starts).to(device), places_Q.to(device))
        self._kernel = _compiled_kernel() if device.type == "cuda" else flex_attention

    def __call__(self, q_BHQK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, /) -> Tensor:
        """See `PackedAttention`."""
        return self._kernel(q_BHQK, k_BGLK, v_BGLK, block_mask=self.mask, enable_gqa=True)


@cache
def _compiled_kernel() -> Callable[..., Any]:
    return torch.compile(flex_attention)


def _block_mask(starts_BL: Tensor, places_Q: Tensor) -> BlockMask:
    """Query `places_Q[q]` sees the keys from its document's start, `starts_BL`, up to itself."""

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (starts_BL[row, places_Q[query]] <= key) & (key <= places_Q[query])

    def by_block(x: Tensor) -> Tensor:
        # The last block is filled with copies of its last query, which change neither the least nor the greatest.
        padding = -x.shape[-1] % _BLOCK
        return torch.cat([x, x[..., -1:].expand(*x.shape[:-1], padding)], dim=-1).unflatten(-1, (-1, _BLOCK))

    rows, length = starts_BL.shape
    starts_BNq, places_Nq = by_block(starts_BL[:, places_Q]), by_block(places_Q)
    latest_start_BN, first_place_N = starts_BNq.amax(-1), places_Nq.amin(-1)
    needed_from_BN = starts_BNq.amin(-1) // _BLOCK
    needed_to_BN = (places_Nq.amax(-1) // _BLOCK + 1).expand(rows, -1)
    # Blocks that all queries of a block see need no mask: from the latest start to the first place.
    whole_from_BN = (latest_start_BN + _BLOCK - 1) // _BLOCK
    whole_to_BN = torch.maximum((first_place_N + 1) // _BLOCK, whole_from_BN)
    blocks_M = torch.arange(-(-length // _BLOCK), device=places_Q.device)

    def between(from_BN: Tensor, to_BN: Tensor) -> Tensor:
        return (blocks_M >= from_BN[..., None]) & (blocks_M < to_BN[..., None])

    whole_BNM = between(whole_from_BN, whole_to_BN)
    if len(places_Q) % _BLOCK:  # the kernel leaves out the queries past the end only where it masks
        whole_BNM[:, -1] = False
    partial_BNM = between(needed_from_BN, needed_to_BN) & ~whole_BNM
    return BlockMask.from_kv_blocks(
        *_listed(partial_BNM), *_listed(whole_BNM), _BLOCK, sees, seq_lengths=(len(places_Q), length)
    )


def _listed(chosen_BNM: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has, and which, those first: [B, 1, N] and [B, 1, N, M]."""
    order = chosen_BNM.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return chosen_BNM.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None].contiguous()
