"""A model's pass over a few new tokens in one call of the library: `step.c`.

Shapes: B rows, L tokens of each, V vocabulary, P positions, K head_dim.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codecria.generation.matrices import MOST_NATIVE_TOKENS, Plain
from codecria.generation.native.library import KINDS, Layer, Matrix, Model, New, Pass, Run, View, loaded
from codecria.generation.parts import commit, parts_of
from codecria.generation.quantised import QuantisedTable, QuantisedTransformer
from codecria.model.precision import native_bfloat16
from codecria.model.rotary import rotary_frequencies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.generation.cache import Cache, Place
    from codecria.generation.fused import FusedBlock
    from codecria.generation.matrices import Product
    from codecria.generation.native.library import Library
    from codecria.model.transformer import Transformer

_MOST_HEAD_DIM = 256
_MOST_SCORES = 2**20
"""Of one head: with more of them PyTorch's attention, which has many queries at a time, makes up for its products."""


class NativeStep:
    """One model on one library.

    Args:
        model: its weights stay where they are, and what is changed in them in place is seen.
        blocks: of its layers.
        library: computes.

    Attributes:
        narrow: whether all matrices of the layers have few bits.

    Raises:
        UnfitError: the library does not take this model.
    """

    def __init__(self, model: Transformer, blocks: Sequence[FusedBlock], library: Library) -> None:
        self._library, self._config = library, model.config
        self._held: list[object] = [model]
        self._described = self._describe(model, blocks)
        self._handle = library.new(self._described)
        self._end = weakref.finalize(self, library.free, self._handle)
        self._frequencies = rotary_frequencies(model.config)
        self.narrow = all(product.narrow for block in blocks for product in block.products)
        self._cos_PK = self._sin_PK = torch.empty(0, 0)

    def run(self, cache: Cache, places: Sequence[Place], ids_BL: Sequence[list[int]], scored: int) -> Tensor:
        """Scores behind each row's last tokens: float32 [B · scored, V].

        Memory for the tokens must have been reserved; they count as held when this returns.

        Args:
            cache: has the places.
            places: one for each row.
            ids_BL: the rows' next tokens; more than one of each only if there is one row, which extends its leaf.
            scored: how many tokens of each row; 0 to L.
        """
        tokens = len(ids_BL[0])
        runs, views, news = _Runs(cache, places, tokens), [], []
        for run, seen in runs.seen():
            run.seen, run.first_view = len(seen), len(views)
            views.extend(seen)
        for row, (place, ids) in enumerate(zip(places, ids_BL, strict=True)):
            run, slot = runs.target[row]
            for number, id in enumerate(ids):
                news.append(New(id, place.length + number, run, slot + number, number >= len(ids) - scored))
        self._know_positions(max(new.position for new in news) + 1)
        logits = torch.empty(len(places) * scored, self._config.vocab_size)
        self._library.run(
            self._handle,
            Pass(
                *(len(news), len(runs.runs), torch.get_num_threads()),
                (New * len(news))(*news),
                (Run * len(runs.runs))(*runs.runs),
                (View * len(views))(*views),
                *(self._cos_PK.data_ptr(), self._sin_PK.data_ptr(), logits.data_ptr()),
            ),
        )
        commit(places, ids_BL)
        return logits

    def _know_positions(self, count: int) -> None:
        if count > len(self._cos_PK):
            angles = torch.arange(max(1024, 2 * count)).float()[:, None] * self._frequencies
            self._cos_PK, self._sin_PK = angles.cos(), angles.sin()

    def _describe(self, model: Transformer, blocks: Sequence[FusedBlock]) -> Model:
        config = model.config
        if config.head_dim % 16 or config.head_dim > _MOST_HEAD_DIM or config.vocab_size % 16:
            raise UnfitError
        norms = [norm.weight for block in blocks for norm in block.norms] + [model.model.norm.weight]
        kinds = {KINDS.get(norm.dtype) for norm in norms}
        if len(kinds) != 1 or norms[0].dtype not in (torch.float32, torch.bfloat16) or norms[0].device.type != "cpu":
            raise UnfitError
        layers = (Layer * len(blocks))()
        for layer, block in zip(layers, blocks, strict=True):
            layer.input_norm, layer.middle_norm = (norm.weight.data_ptr() for norm in block.norms)
            for name, product in zip(("inward", "outward", "gate_up", "down"), block.products, strict=True):
                setattr(layer, name, self._matrix(product))
        return Model(
            *(len(blocks), config.hidden_size, config.intermediate_size, config.num_heads, config.num_kv_heads),
            *(config.head_dim, kinds.pop(), config.norm_eps, norms[-1].data_ptr()),
            *(self._matrix(_embedding(model)), self._matrix(_head(model)), layers),
        )

    def _matrix(self, product: Product) -> Matrix:
        found = product.native(self._library)
        if found is None or product.outputs % 16:
            raise UnfitError
        self._held.append(product)
        return found


class UnfitError(Exception):
    """A model that the library does not take: shapes it has no code for, another device, another form."""


class _Runs:
    """The memory that some rows attend, as the library wants it described."""

    def __init__(self, cache: Cache, places: Sequence[Place], tokens: int) -> None:
        self._places, self._tokens = places, tokens
        self._parts = parts_of(places, tokens)
        self.runs: list[Run] = []
        self.target: dict[int, tuple[int, int]] = {}
        layout = cache.layout
        for number, part in enumerate(self._parts):
            capacity, (stored, scales) = part.extent.capacity, part.extent.pointers()
            kind = KINDS[torch.int8 if layout.int8 else layout.dtype]
            at = (0, layout.kv_heads * capacity, capacity, part.start)
            self.runs.append(Run(kind, 0, 0, _address(stored), _address(scales), *at))
            for row in part.rows:
                if places[row].row is None:
                    self.target[row] = (number, part.stop - tokens)
        self._tails = [row for row, place in enumerate(places) if place.row is not None]
        if self._tails:
            stored, _ = cache.tails.pointers()
            slots, head = cache.tails.slots, cache.tails.slots * layout.kv_heads
            for row in self._tails:
                place = places[row]
                assert place.row is not None
                at = (place.row * head, (cache.tails.rows + place.row) * head, slots, 0)
                self.target[row] = (len(self.runs), len(place.tail))
                self.runs.append(Run(KINDS[layout.dtype], 0, 0, _address(stored), None, *at))

    def seen(self) -> list[tuple[Run, list[View]]]:
        """Each run with those who attend it, and up to where."""
        found: list[tuple[Run, list[View]]] = []
        for run, part in zip(self.runs, self._parts, strict=False):
            if self._tokens == 1:
                views = [View(row, part.stop) for row in part.rows]
            else:
                grows = part is self._parts[-1]
                later = [self._tokens - 1 - number if grows else 0 for number in range(self._tokens)]
                views = [View(number, part.stop - more) for number, more in enumerate(later)]
            found.append((run, views))
        for run, row in zip(self.runs[len(self._parts) :], self._tails, strict=True):
            found.append((run, [View(row, len(self._places[row].tail) + 1)]))
        return found


class NativeSteps:
    """The model's step once the library is there.

    Args:
        model: the one that is generated with.
        blocks: of its layers, None where one of them is not of the kind that the step knows.
    """

    def __init__(self, model: Transformer, blocks: Sequence[FusedBlock] | None) -> None:
        self._model, self._blocks = model, blocks
        self._step: NativeStep | None = None

    def ready(self, tokens: int, slots: int) -> NativeStep | None:
        """The step, if it is there and the faster way for so many tokens at once that attend so many slots."""
        if self._step is None and self._blocks is not None and (library := loaded()):
            try:
                self._step = NativeStep(self._model, self._blocks, library)
            except UnfitError:
                self._blocks = None
        if self._step is None or tokens <= MOST_NATIVE_TOKENS:
            return self._step
        # Whole chunks of a prompt: products of few bits are faster than float32's, and slower than bfloat16's where the
        # processor has those.
        chunks = self._step.narrow and not native_bfloat16(torch.device("cpu"))
        return self._step if chunks and tokens * slots <= _MOST_SCORES else None


def _address(pointers: ctypes.Array[ctypes.c_void_p] | None) -> int | None:
    return None if pointers is None else ctypes.addressof(pointers)


def _embedding(model: Transformer) -> Product:
    table = model.model.embed_tokens
    return table.rows if isinstance(table, QuantisedTable) else Plain(table.weight.detach())


def _head(model: Transformer) -> Product:
    return model.head if isinstance(model, QuantisedTransformer) else Plain(model.head_weight.detach())
