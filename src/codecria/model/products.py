"""Matrix products in float32 on x86 CPUs, through oneDNN instead of MKL.

PyTorch gives float32 products to MKL, which leaves half of AVX-512 unused on AMD's processors: 110 GFLOP/s on a core of
an EPYC 9005, where oneDNN, which PyTorch ships and calls for bfloat16, reaches 235. The sums are float32 in both, in
another order.

Shapes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")


def _through_onednn(x: Tensor) -> bool:
    return _HAS_ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu"


def product(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """`x @ weight.T` of matrices without a gradient of its own; both may be transposed views."""
    if _through_onednn(x_NI):
        return torch.ops.mkldnn._linear_pointwise(x_NI, weight_OI, None, "none", [], "")
    return x_NI @ weight_OI.T


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_NI, weight_OI)
        return product(x_NI, weight_OI)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_NO: Tensor = grads[0]
        x_NI, weight_OI = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        return (
            product(grad_NO, weight_OI.T) if wants_x else None,
            product(grad_NO.T, x_NI.T) if wants_weight else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` without a bias, its float32 products on a CPU through oneDNN."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] in, [..., O] out."""
        whole = type(x) is Tensor and type(self.weight) is nn.Parameter  # not a rank's part
        if not (whole and x.dtype == self.weight.dtype and _through_onednn(x)) or torch.is_autocast_enabled("cpu"):
            return F.linear(x, self.weight)
        return _Product.apply(x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])  # pyright: ignore
