"""A lone text's next token as a CUDA graph: the kernels of a step are recorded once and started by one call.

In eager mode a step of a 7B model is some hundreds of kernels that Python starts one after the other; a GPU is done
with most of them before the next one is there. A graph keeps addresses and shapes, so nothing in the step may depend
on how long the text is: token, slot and position are tensors, the new key goes to the slot by index, and all slots
that there is memory for are attended, those behind the token masked out. What the step costs beside the weights is so
the text's capacity, not its length.

Not for a graph: several texts, several tokens (a draft), a path over more than one extent, keys and values in int8.

Shapes: H query heads, G key-value heads, S slots, K head_dim, Q queries of the heads that share keys, V vocabulary.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from codecria.generation.partial_attention import attend_whole, fold
from codecria.generation.parts import commit, parts_of
from codecria.model.attention import AttentionPlan
from codecria.model.rotary import rotary_frequencies, rotary_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from codecria.generation.cache import Place
    from codecria.generation.extent import Extent
    from codecria.model.transformer import Transformer

PATIENCE = 8
"""Tokens that a text writes eagerly in one memory before its step is captured: short answers never wait for that, nor
do texts that take turns."""

_log = logging.getLogger(__name__)

_Memory = tuple["Extent", int, int]
"""An extent, how often it had moved, and the slot that the text begins at."""


class StaticRun:
    """One text's slots at shapes that do not change; implements `model.attention.KeyValueCache`.

    Args:
        extent: all that the text holds lies in it.
        start: slot of its first token.
        slot_1: slot of the new token, int64 [1] on the device.
    """

    def __init__(self, extent: Extent, start: int, slot_1: Tensor) -> None:
        self._extent, self._start, self._slot_1 = extent, start, slot_1
        layout = extent.layout
        slots_S = torch.arange(start, extent.capacity, device=layout.device)
        unseen_S = slots_S > slot_1
        # Scores to add, made once for all layers: of a boolean mask every layer would make them anew.
        mask_S = torch.zeros(unseen_S.shape, dtype=layout.dtype, device=layout.device)
        self._mask = mask_S.masked_fill_(unseen_S, -torch.inf)[None, None, None]

    def attend(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
        """See `KeyValueCache`."""
        self._extent.write_at(layer, self._slot_1, k_BGLK[0], v_BGLK[0])
        keys, values = self._extent.read(layer, self._start, self._extent.capacity)
        return attend_whole(fold(q_BHLK, k_BGLK.shape[1]), keys, values, self._mask).reshape(q_BHLK.shape)


class GraphStep:
    """One model's step for one text.

    Args:
        model: its weights stay where they are, and what is changed in them in place is seen.
        capture: whether it is captured; without, the same static step runs eagerly, on any device.
        patience: see `PATIENCE`.

    Attributes:
        captures: how often it was captured, or would have been.
        steps: tokens that went through it.
    """

    def __init__(self, model: Transformer, *, capture: bool = True, patience: int = PATIENCE) -> None:
        self.captures = self.steps = 0
        self._model, self._capture, self._patience = model, capture, patience
        self._device = model.model.norm.weight.device
        self._numbers_3 = torch.zeros(3, dtype=torch.int64, device=self._device)
        self._id_1, self._slot_1, self._position_1 = self._numbers_3.split(1)
        self._frequencies = rotary_frequencies(model.config, self._device)
        self._broken = False
        self._memory: _Memory | None = None
        self._waited = 0
        self._captured: _Memory | None = None
        self._clean: tuple[_Memory, int] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream: torch.cuda.Stream | None = None
        self._logits_1V: Tensor | None = None

    def run(self, places: Sequence[Place], ids_BL: Sequence[list[int]]) -> Tensor | None:
        """Scores behind the new token: float32 [1, V]; None where the pass has to be eager, and nothing was done.

        Memory for the token must have been reserved; it counts as held when scores are returned.

        Args:
            places: one for each row.
            ids_BL: the rows' next tokens.
        """
        memory = None if self._broken else _memory_of(places, ids_BL)
        if memory is None:
            return None
        if memory != self._memory:
            self._memory, self._waited = memory, 0
        self._waited += 1
        if self._waited <= self._patience:
            return None
        leaf = places[0].leaf
        if self._clean != (memory, leaf.stop):
            # Slots that are masked out must not hold a NaN, and memory as it comes, or a failed pass, may leave one.
            memory[0].clear(leaf.stop)
        self._numbers_3.copy_(torch.tensor([ids_BL[0][0], leaf.stop, leaf.end]))
        logits_1V = self._scores(memory)
        if logits_1V is not None:
            self._clean = memory, leaf.stop + 1
            self.steps += 1
            commit(places, ids_BL)
        return logits_1V

    def _scores(self, memory: _Memory) -> Tensor | None:
        new = memory != self._captured
        if new:
            self.captures += 1
            self._captured = memory
        if not self._capture:
            return self.compute(memory[0], memory[2])
        if new and not self._try_capture(memory):
            return None
        assert self._graph is not None and self._logits_1V is not None
        self._graph.replay()
        return self._logits_1V.clone()  # the next step writes over it

    def compute(self, extent: Extent, start: int) -> Tensor:
        """The step itself, from what the static tensors say: nothing in it depends on a number of the text."""
        decoder = self._model.model
        cos, sin = rotary_table(self._frequencies, self._position_1[None])
        plan = AttentionPlan(cos, sin, cache=StaticRun(extent, start, self._slot_1))
        x_BLD = decoder.embed_tokens(self._id_1[None])
        for block in decoder.layers:
            x_BLD = self._model.run_block(block, x_BLD, plan)  # pyright: ignore[reportArgumentType]
        return self._model.logits(decoder.norm(x_BLD)[:, -1])

    def _try_capture(self, memory: _Memory) -> bool:
        try:
            self._record(memory)
        except RuntimeError as error:
            self._broken, self._graph, self._logits_1V = True, None, None
            _log.warning("no CUDA graph of the decoding step, which goes on without: %s", error)
        return not self._broken

    def _record(self, memory: _Memory) -> None:
        """Run the step once on the stream that captures, as PyTorch demands, then capture it.

        What is written is the same key and value each time, so running it more than once changes nothing.
        """
        extent, _, start = memory
        graph, old = torch.cuda.CUDAGraph(), self._graph
        # The old graph lives until the new one is there: a pool of memory that no graph uses cannot be used again.
        pool = None if old is None else old.pool()
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            side = self._stream = self._stream or torch.cuda.Stream()
            try:
                side.wait_stream(current)
                with torch.cuda.stream(side):
                    self.compute(extent, start)
                current.wait_stream(side)
                with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                    logits_1V = self.compute(extent, start)
            finally:
                torch.cuda.set_stream(current)  # a capture that fails leaves its own stream behind
        self._graph, self._logits_1V = graph, logits_1V


def new_graph_step(model: Transformer) -> GraphStep | None:
    """The step of a model on a CUDA device; None elsewhere."""
    return GraphStep(model) if model.model.norm.weight.device.type == "cuda" else None


def _memory_of(places: Sequence[Place], ids_BL: Sequence[list[int]]) -> _Memory | None:
    """Where a lone text's next token goes, if all it attends is one run of slots that it extends itself."""
    if len(places) != 1 or len(ids_BL[0]) != 1 or places[0].row is not None or places[0].leaf.extent.layout.int8:
        return None
    parts = parts_of(places, 1)
    if len(parts) != 1:
        return None
    return parts[0].extent, parts[0].extent.moves, parts[0].start
