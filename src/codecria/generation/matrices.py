"""A matrix in some form, and its product with tokens.

Few tokens go through product kernels for their form, whose time grows with every token; for many the weights are made
wide once, and one wide product follows. On a CPU the first is bound by memory, the second by sums.

Shapes: N tokens, I inputs, O outputs, R rank.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from codecria.generation.int4_packing import ROWS, packed, packed_rows, unpacked
from codecria.generation.native.layout import fits, interleave4, interleave8, rows8
from codecria.generation.native.library import INT4, INT8, KINDS, Matrix, loaded
from codecria.generation.quantise import GROUP
from codecria.model.precision import native_bfloat16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.generation.native.library import Library
    from codecria.generation.quantise import Grouped
    from codecria.model.transformer import RMSNorm

MOST_NARROW_TOKENS = {4: 40, 8: 12}
"""By the bits of a weight, up to how many tokens PyTorch's narrow product is the faster one on a CPU."""

MOST_NATIVE_TOKENS = 32
"""The same of our own product."""


class Product(ABC):
    """A matrix [O, I] in some form.

    Attributes:
        tensors: what the form holds.
        outputs: O.
        inputs: I.
        narrow: whether it has few bits.
    """

    tensors: tuple[Tensor, ...]
    outputs: int
    inputs: int
    narrow: bool = False

    @abstractmethod
    def __call__(
        self, x_NI: Tensor, *, norm: RMSNorm | None = None, gated: bool = False, added_NO: Tensor | None = None
    ) -> Tensor:
        """The product with what stands around it in a block: [N, O].

        Args:
            x_NI: [N, I], or [N, 2 I] when `gated`.
            norm: of x before the product.
            gated: x is silu(first half) · second half before the product.
            added_NO: added to the product.
        """
        ...

    @abstractmethod
    def native(self, library: Library) -> Matrix | None:
        """How it lies for our own step, laid out for it first; None where that takes no such matrix.

        The memory stays this object's.
        """
        ...

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return sum(each.nbytes for each in self.tensors)


class Plain(Product):
    """A matrix of floats, held as it is."""

    def __init__(self, weight_OI: Tensor) -> None:
        self.tensors, (self.outputs, self.inputs) = (weight_OI,), weight_OI.shape

    def __call__(
        self, x_NI: Tensor, *, norm: RMSNorm | None = None, gated: bool = False, added_NO: Tensor | None = None
    ) -> Tensor:
        """See `Product.__call__`."""
        x_NI, weight_IO = _prepared(x_NI, norm, gated), self.tensors[0].t()
        return torch.mm(x_NI, weight_IO) if added_NO is None else torch.addmm(added_NO, x_NI, weight_IO)

    def native(self, library: Library) -> Matrix | None:  # noqa: ARG002
        """See `Product.native`."""
        weight_OI = self.tensors[0]
        whole = weight_OI.is_contiguous() and self.outputs % 16 == 0 and self.inputs % 8 == 0
        if not whole or weight_OI.device.type != "cpu" or weight_OI.dtype not in (torch.float32, torch.bfloat16):
            return None
        return Matrix(KINDS[weight_OI.dtype], self.inputs, self.outputs, 0, weight_OI.data_ptr())


class Narrow(Product):
    """A matrix in few bits on one device: in the order of PyTorch's kernel, or of ours once that is there."""

    bits: int
    narrow = True
    _library: Library | None = None

    @abstractmethod
    def multiply(self, x_NI: Tensor) -> Tensor:
        """x times the transpose of the matrix by PyTorch's kernel, [N, O], for few tokens."""
        ...

    @abstractmethod
    def wide(self, dtype: torch.dtype) -> Tensor:
        """The matrix [O, I]; it may be the transpose of what is contiguous."""
        ...

    @abstractmethod
    def _lay_out(self) -> None:
        """Put `tensors` into our own order."""
        ...

    def native(self, library: Library) -> Matrix | None:
        """See `Product.native`."""
        if self._library is None:
            if self.tensors[0].device.type != "cpu" or not fits(self.outputs, self.inputs) or not self._opens():
                return None
            self._lay_out()
            self._library = library
        return self._structure()

    def _structure(self) -> Matrix:
        weights, table = self.tensors
        kind = {4: INT4, 8: INT8}[self.bits]
        return Matrix(kind, self.inputs, self.outputs, 0, weights.data_ptr(), table.data_ptr())

    def __call__(
        self, x_NI: Tensor, *, norm: RMSNorm | None = None, gated: bool = False, added_NO: Tensor | None = None
    ) -> Tensor:
        """See `Product.__call__`."""
        x_NI, own = _prepared(x_NI, norm, gated), self._library
        if own is None and (found := loaded()) and self.native(found):
            own = found
        if own is not None and len(x_NI) <= MOST_NATIVE_TOKENS:
            product_NO = own.product(self._structure(), x_NI).to(x_NI.dtype)
        elif own is None and (
            x_NI.device.type != "cpu" or len(x_NI) <= MOST_NARROW_TOKENS[self.bits] or not self._opens()
        ):
            product_NO = self.multiply(x_NI)
        else:
            wide = _wide_dtype()
            product_NO = F.linear(x_NI.to(wide), self.wide(wide)).to(x_NI.dtype)
        return product_NO if added_NO is None else product_NO.add_(added_NO)

    def _opens(self) -> bool:
        """Whether the order of PyTorch's kernel is known here."""
        return True

    def _widened(self, dtype: torch.dtype) -> Tensor | None:
        """The matrix out of our own order."""
        if self._library is None:
            return None
        kept = dtype if dtype in (torch.float32, torch.bfloat16) else torch.float32
        return self._library.widen(self._structure(), kept).to(dtype)


class Int8(Narrow):
    """Rows of eight bits; I is a multiple of 16."""

    bits = 8

    def __init__(self, codes_OI: Tensor, scales_O: Tensor) -> None:
        self.tensors, (self.outputs, self.inputs) = (codes_OI, scales_O), codes_OI.shape

    @staticmethod
    def fits(inputs: int) -> bool:
        """Whether rows of this length can have this form; the CPU's kernel reads past the end of others."""
        return inputs % 16 == 0

    def multiply(self, x_NI: Tensor) -> Tensor:
        """See `Narrow.multiply`."""
        return torch.ops.aten._weight_int8pack_mm(x_NI, *self.tensors)

    def wide(self, dtype: torch.dtype) -> Tensor:
        """See `Narrow.wide`."""
        widened = self._widened(dtype)
        if widened is not None:
            return widened
        codes, scales = self.tensors
        return codes.to(dtype).mul_(scales[:, None])

    def rows(self, ids: Tensor) -> Tensor:
        """Some rows, bfloat16 [..., I]."""
        codes, scales = self.tensors
        chosen = codes[ids] if self._library is None else rows8(codes, ids)
        return chosen.to(scales.dtype).mul_(scales[ids][..., None])

    def _lay_out(self) -> None:
        self.tensors = (interleave8(self.tensors[0]), self.tensors[1])


class Int4(Narrow):
    """Groups of four bits.

    Args:
        groups: O is a multiple of 64.
        device: where the matrix will stay.
    """

    bits = 4

    def __init__(self, groups: Grouped, device: torch.device) -> None:
        self.outputs, self.inputs = groups.codes_OI.shape
        scales_zeros = torch.stack([groups.scales_OG.t(), groups.zeros_OG.t()], dim=-1)
        codes = groups.codes_OI.to(device)
        self.tensors = (packed(codes), scales_zeros.to(device, torch.bfloat16).contiguous())

    @staticmethod
    def fits(outputs: int, inputs: int) -> bool:
        """Whether a matrix of this shape can have this form."""
        return outputs % ROWS == 0 and inputs % GROUP == 0

    def multiply(self, x_NI: Tensor) -> Tensor:
        """See `Narrow.multiply`."""
        codes, scales_zeros = self.tensors
        if x_NI.device.type == "cpu":
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x_NI, codes, GROUP, scales_zeros)
        return torch.ops.aten._weight_int4pack_mm(x_NI, codes, GROUP, scales_zeros)

    def wide(self, dtype: torch.dtype) -> Tensor:
        """See `Narrow.wide`."""
        widened = self._widened(dtype)
        if widened is not None:
            return widened
        codes, scales_zeros = self.tensors
        return unpacked(codes, scales_zeros, dtype).t()

    def _lay_out(self) -> None:
        codes, scales_zeros = self.tensors
        plain = torch.tensor([1.0, 8.0], dtype=torch.bfloat16).expand(scales_zeros.shape)
        codes_OI = unpacked(codes, plain, torch.float32).t().to(torch.uint8).contiguous()
        scales_OG, zeros_OG = (each.t().contiguous() for each in scales_zeros.unbind(-1))
        self.tensors = interleave4(codes_OI, scales_OG, zeros_OG)

    def _opens(self) -> bool:
        return self._library is not None or packed_rows() > 0


class Adapted(Product):
    """A matrix and the low-rank products beside it: base(x) + x · down · up.

    Args:
        base: the matrix.
        down_IR: of all the parts of a stacked matrix, side by side.
        up_RO: block by block, zero where an output has no part in a rank; the adapter's scale is in it.
    """

    def __init__(self, base: Product, down_IR: Tensor, up_RO: Tensor) -> None:
        self.base, self.outputs, self.inputs, self.narrow = base, base.outputs, base.inputs, base.narrow
        self._factors = (down_IR, up_RO)

    @property
    def tensors(self) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Product`."""
        return (*self.base.tensors, *self._factors)

    def __call__(
        self, x_NI: Tensor, *, norm: RMSNorm | None = None, gated: bool = False, added_NO: Tensor | None = None
    ) -> Tensor:
        """See `Product.__call__`."""
        x_NI = _prepared(x_NI, norm, gated)
        down_IR, up_RO = self._factors
        return torch.addmm(self.base(x_NI, added_NO=added_NO), torch.mm(x_NI, down_IR), up_RO)

    def native(self, library: Library) -> Matrix | None:
        """See `Product.native`."""
        down_IR, up_RO = self._factors
        found = self.base.native(library)
        if found is None or down_IR.shape[1] % 8 or down_IR.dtype != torch.bfloat16:
            return None
        found.rank, found.down, found.up = down_IR.shape[1], down_IR.data_ptr(), up_RO.data_ptr()
        return found


def beside(base: Product, factors: Sequence[tuple[int, Tensor | None, Tensor | None]], scale: float) -> Product:
    """A stacked matrix with its parts' adapters beside it.

    Args:
        base: the parts below one another.
        factors: for each part its number of outputs, and its down [R, I] and up [O, R] where it has them.
        scale: of every product.
    """
    pairs = [(down, up) for _, down, up in factors if down is not None and up is not None]
    if not pairs:
        return base
    device, dtype = base.tensors[-1].device, torch.bfloat16
    down_IR = torch.cat([down for down, _ in pairs]).t().contiguous()
    up_RO = torch.zeros(down_IR.shape[1], base.outputs)
    output = rank = 0
    for outputs, _, up in factors:
        if up is not None:
            up_RO[rank : rank + up.shape[1], output : output + outputs] = scale * up.t()
            rank += up.shape[1]
        output += outputs
    return Adapted(base, down_IR.to(device, dtype), up_RO.to(device, dtype))


def _prepared(x_NI: Tensor, norm: RMSNorm | None, gated: bool) -> Tensor:
    if norm is not None:
        x_NI = F.rms_norm(x_NI, (x_NI.shape[-1],), norm.weight, norm.eps)
    if gated:
        gate, up = x_NI.chunk(2, dim=-1)
        x_NI = F.silu(gate).mul_(up)
    return x_NI


@functools.cache
def _wide_dtype() -> torch.dtype:
    return torch.bfloat16 if native_bfloat16(torch.device("cpu")) else torch.float32
