"""The compiled step: `step.c`, built by the machine's own C compiler for its own processor, behind the first answers.

Nothing waits for the compiler. Until it has ended, without one, and on processors without AVX512-VNNI, PyTorch's own
products do the same; weights are laid out anew when the kernel is there. What was built is kept in the cache folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import threading
from pathlib import Path

import torch
from torch import Tensor

from codecria.common.files import cache_folder

SOURCE = Path(__file__).with_name("step.c")
FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    # Sums may be taken in vectors. Not -ffast-math: it would change how the whole process treats tiny numbers.
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
MOST_TOKENS = 8
_MOST_INPUTS = 32_768


class Kernel:
    """The loaded library. Tensors are contiguous, on the CPU; numbers bfloat16.

    Shapes: N tokens, at most `MOST_TOKENS`; I inputs, a multiple of 32; O outputs, a multiple of 16.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        integer, pointer, real = ctypes.c_int, ctypes.c_void_p, ctypes.c_float
        self._product, self._widen, self._rotate = library.product, library.widen, library.rotate
        for function in (self._product, self._widen, self._rotate):
            function.restype = None
        self._product.argtypes = [integer] * 4 + [pointer] * 4 + [real, integer] + [pointer] * 2 + [integer]
        self._widen.argtypes = [integer] * 3 + [pointer] * 3 + [integer]
        self._rotate.argtypes = [integer] * 4 + [pointer] * 3

    @staticmethod
    def fits(outputs: int, inputs: int) -> bool:
        """Whether it takes a matrix of this shape."""
        return outputs % 16 == 0 and inputs % 32 == 0 and inputs <= _MOST_INPUTS

    def product(
        self,
        bits: int,
        weights: Tensor,
        table: Tensor,
        x_NI: Tensor,
        outputs: int,
        norm: tuple[Tensor, float] | None,
        gated: bool,
        added_NO: Tensor | None,
    ) -> Tensor:
        """x times the matrix: [N, O].

        Args:
            bits: 4 or 8.
            weights: as `interleave4` or `interleave8` lays them.
            table: the scales that belong to them.
            x_NI: [N, I], or [N, 2 I] when `gated`.
            outputs: O.
            norm: weight and epsilon of an RMS norm of x before the product.
            gated: x is silu(first half) · second half before the product.
            added_NO: added to the product.
        """
        x = x_NI.contiguous()
        tokens, inputs = x.shape
        out = x.new_empty(tokens, outputs)
        self._product(
            bits,
            tokens,
            inputs // 2 if gated else inputs,
            outputs,
            weights.data_ptr(),
            table.data_ptr(),
            x.data_ptr(),
            norm[0].data_ptr() if norm else None,
            norm[1] if norm else 0.0,
            int(gated),
            added_NO.data_ptr() if added_NO is not None else None,
            out.data_ptr(),
            torch.get_num_threads(),
        )
        return out

    def widen(self, bits: int, weights: Tensor, table: Tensor, outputs: int, inputs: int) -> Tensor:
        """The matrix [O, I], the transpose of what is contiguous."""
        out = torch.empty(inputs, outputs, dtype=torch.bfloat16)
        place = (weights.data_ptr(), table.data_ptr(), out.data_ptr())
        self._widen(bits, inputs, outputs, *place, torch.get_num_threads())
        return out.t()

    def rotate(self, x_NhK: Tensor, turned: int, cos_NK: Tensor, sin_NK: Tensor) -> None:
        """Turn the first heads of each token by its position, in place; cosines and sines float32."""
        tokens, heads, width = x_NhK.shape
        cos, sin = cos_NK.contiguous(), sin_NK.contiguous()
        self._rotate(tokens, heads, turned, width, x_NhK.data_ptr(), cos.data_ptr(), sin.data_ptr())


def interleave4(codes_OI: Tensor, scales_OG: Tensor, zeros_OG: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 in 0 … 15 and their scales and zeros in the kernel's order; see step.c."""
    outputs, inputs = codes_OI.shape
    blocks, groups = outputs // 16, inputs // 32
    halves = codes_OI.view(blocks, 16, groups, 2, 4, 4).permute(3, 0, 2, 4, 1, 5)
    table = torch.stack([each.view(blocks, 16, groups).transpose(1, 2) for each in (scales_OG, zeros_OG)], dim=2)
    return (halves[0] | (halves[1] << 4)).contiguous(), table.bfloat16().contiguous()


def interleave8(codes_OI: Tensor) -> Tensor:
    """Codes int8 in the kernel's order."""
    outputs, inputs = codes_OI.shape
    return (codes_OI.view(torch.uint8) ^ 0x80).view(outputs // 16, 16, inputs // 4, 4).transpose(1, 2).contiguous()


def rows8(weights: Tensor, ids: Tensor) -> Tensor:
    """Codes int8 [..., I] of some rows out of `interleave8`'s order."""
    return (weights[ids // 16, :, ids % 16].flatten(-2) ^ 0x80).view(torch.int8)


def step_kernel() -> Kernel | None:
    """The kernel if it is there by now. The first call starts its building, if that can be."""
    return _found[0] if _found else _start()


def build() -> Kernel | None:
    """Load the kernel, built first if it is not in the cache; None where it cannot be had."""
    flags, compiler = _processor_flags(), _compiler()
    if "avx512_vnni" not in flags or os.environ.get("CODECRIA_KERNEL") == "off":
        return None
    key = hashlib.sha256("\0".join((SOURCE.read_text(), *FLAGS, flags)).encode()).hexdigest()[:16]
    path = cache_folder() / "kernels" / f"step-{key}.so"
    if not path.exists():
        if compiler is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(aside), "-lm"]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=120)
            aside.replace(path)
        except (OSError, subprocess.SubprocessError):
            return None
        finally:
            aside.unlink(missing_ok=True)
    try:
        return Kernel(path)
    except OSError:
        return None


_found: list[Kernel | None] = []
_lock = threading.Lock()


def _start() -> Kernel | None:
    """Build in a thread; what is in the cache is loaded at once by it, long before a model has been read."""
    with _lock:
        if not _started:
            _started.append(threading.Thread(target=_build, daemon=True, name="codecria-kernel"))
            _started[0].start()
    return None


_started: list[threading.Thread] = []


def _build() -> None:
    result = None
    with contextlib.suppress(OSError):
        result = build()
    _found.append(result)


@functools.cache
def _processor_flags() -> str:
    if platform.machine() not in ("x86_64", "AMD64"):
        return ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _compiler() -> str | None:
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((found for name in names if name and (found := shutil.which(name))), None)
