"""Which number format a device computes fast in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are hardware on this device: NVIDIA from Ampere on, x86 with AVX512-BF16 or AMX.

    Elsewhere PyTorch emulates them, slower than float32 and with its own rounding.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of matrix products: as asked, or for `auto` bfloat16 where it is native and float32 elsewhere."""
    if precision == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def pick_device(name: str = "auto") -> torch.device:
    """A device by name; `auto` takes the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
