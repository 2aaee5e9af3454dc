"""Matrix products in float32 on x86 CPUs, through oneDNN instead of MKL where that is faster.

PyTorch gives float32 products to MKL, which leaves half of AVX-512 unused on AMD's processors: 110 GFLOP/s on a core of
an EPYC 9005, where oneDNN, which PyTorch ships and calls for bfloat16, reaches 235. With AVX2 MKL is the faster one: 98
to 146 GFLOP/s on two cores of an EPYC in products for gradients of weights, 51 to 95 through oneDNN. The sums are
float32 in both, in another order.

Shapes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

_IS_X86 = platform.machine() in ("x86_64", "AMD64")
_THROUGH_ONEDNN = (
    _IS_X86 and torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
)


def _is_ours(x: Tensor) -> bool:
    # The compiler makes its own of a plain product.
    return _IS_X86 and x.dtype == torch.float32 and x.device.type == "cpu" and not torch.compiler.is_compiling()


def product(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """`x @ weight.T` without a gradient of its own; `weight` is contiguous or the transpose of what is.

    With other strides oneDNN falls back to a loop that is slower by orders of magnitude.
    """
    if _THROUGH_ONEDNN and _is_ours(x_NI):
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


def is_plain(layer: nn.Module, x: Tensor) -> bool:
    """Whether `layer(x)` is one float32 product on a CPU: no adapter, no rank's part of a weight, no autocast."""
    if type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter or type(x) is not Tensor:
        return False
    return _is_ours(x) and layer.weight.dtype == x.dtype and not torch.is_autocast_enabled("cpu")


def project(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)`; where that is one float32 product on a CPU, by `product`, and hooks on the layer are not called."""
    if not is_plain(layer, x):
        return layer(x)
    return _Product.apply(x.flatten(0, -2).contiguous(), layer.weight).unflatten(0, x.shape[:-1])  # pyright: ignore
