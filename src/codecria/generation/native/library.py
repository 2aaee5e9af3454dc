"""`step.c`, built by the machine's own C compiler for its own processor, behind the first answers.

Nothing waits for the compiler. Until it has ended, without one, and on processors without AVX2, PyTorch does the same;
weights are laid out anew when the library is there. What was built is kept in the cache folder.
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

FOLDER = Path(__file__).parent
SOURCES = ("step.c", "attention.h", "numbers.h", "products.h", "threads.h")
FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    # Not -ffast-math: it would change how the whole process treats tiny numbers, and let a token's sums be taken in
    # another order among others than alone.
    *("-fno-math-errno", "-fno-trapping-math"),
)
FLOAT32, BFLOAT16, INT8, INT4 = range(4)
"""How a matrix, a norm, keys or values are stored. The same numbers as in `numbers.h`."""

KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.int8: INT8}
_NEEDED = {"avx2", "fma", "f16c"}
_INTEGER, _LONG, _REAL, _POINTER = ctypes.c_int, ctypes.c_long, ctypes.c_float, ctypes.c_void_p


class Matrix(ctypes.Structure):
    """A matrix, and the adapter beside it if `rank` is not 0. See `products.h`."""

    _fields_ = [
        *((name, _INTEGER) for name in ("kind", "inputs", "outputs", "rank")),
        *((name, _POINTER) for name in ("weights", "table", "down", "up")),
    ]


class Layer(ctypes.Structure):
    """Two norms and four matrices."""

    _fields_ = [
        *((name, _POINTER) for name in ("input_norm", "middle_norm")),
        *((name, Matrix) for name in ("inward", "outward", "gate_up", "down")),
    ]


class Model(ctypes.Structure):
    """A model's shape and weights."""

    _fields_ = [
        *((name, _INTEGER) for name in ("layers", "width", "inner", "heads", "kv_heads", "head_width", "norm_kind")),
        ("eps", _REAL),
        ("norm", _POINTER),
        ("embedding", Matrix),
        ("head", Matrix),
        ("layer", ctypes.POINTER(Layer)),
    ]


class New(ctypes.Structure):
    """A new token: what it is, where its keys and values go, and whether its scores are wanted."""

    _fields_ = [(name, _INTEGER) for name in ("id", "position", "run", "slot", "scored")]


class View(ctypes.Structure):
    """A token that attends a run up to a slot."""

    _fields_ = [(name, _INTEGER) for name in ("token", "stop")]


class Run(ctypes.Structure):
    """Slots in one memory. See `attention.h`."""

    _fields_ = [
        *((name, _INTEGER) for name in ("kind", "seen", "first_view")),
        *((name, _POINTER) for name in ("stored", "scales")),
        *((name, _LONG) for name in ("keys_at", "values_at", "head_slots")),
        ("start", _INTEGER),
    ]


class Pass(ctypes.Structure):
    """Some tokens to take through the model."""

    _fields_ = [
        *((name, _INTEGER) for name in ("tokens", "runs", "threads")),
        ("news", ctypes.POINTER(New)),
        ("run", ctypes.POINTER(Run)),
        ("view", ctypes.POINTER(View)),
        *((name, _POINTER) for name in ("cosines", "sines", "logits")),
    ]


class Library:
    """The loaded library. Tensors are contiguous and on the CPU."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._new, self._free, self._run = library.step_new, library.step_free, library.step_run
        self._product, self._widen = library.step_product, library.step_widen
        self._new.restype, self._free.restype, self._widen.restype = _POINTER, None, None
        self._new.argtypes, self._free.argtypes = [ctypes.POINTER(Model)], [_POINTER]
        self._run.argtypes = [_POINTER, ctypes.POINTER(Pass)]
        self._product.argtypes = [ctypes.POINTER(Matrix), _INTEGER, _INTEGER, _POINTER, _POINTER, _INTEGER]
        self._widen.argtypes = [ctypes.POINTER(Matrix), _INTEGER, _POINTER, _INTEGER]

    def new(self, model: Model) -> int:
        """A step for a model, whose memory stays the caller's; `free` ends it."""
        handle = self._new(model)
        if not handle:
            raise MemoryError
        return handle

    def free(self, handle: int) -> None:
        """Give a step's own memory back."""
        self._free(handle)

    def run(self, handle: int, some: Pass) -> None:
        """Take tokens through the model."""
        if self._run(handle, some):
            raise MemoryError

    def product(self, matrix: Matrix, x_NI: Tensor) -> Tensor:
        """x, float32 or bfloat16, times the transpose of the matrix: float32 [N, O]."""
        x_NI = x_NI.contiguous()
        out = torch.empty(len(x_NI), matrix.outputs)
        kind, threads = KINDS[x_NI.dtype], torch.get_num_threads()
        if self._product(matrix, len(x_NI), kind, x_NI.data_ptr(), out.data_ptr(), threads):
            raise MemoryError
        return out

    def widen(self, matrix: Matrix, dtype: torch.dtype) -> Tensor:
        """The matrix [O, I] of few bits in float32 or bfloat16: the transpose of what is contiguous."""
        out = torch.empty(matrix.inputs, matrix.outputs, dtype=dtype)
        self._widen(matrix, KINDS[dtype], out.data_ptr(), torch.get_num_threads())
        return out.t()


def loaded() -> Library | None:
    """The library if it is there by now. The first call starts its building, if that can be."""
    return _found[0] if _found else _start()


def build() -> Library | None:
    """Load the library, built first if it is not in the cache; None where it cannot be had."""
    flags, compiler = _processor_flags(), _compiler()
    if not _NEEDED.issubset(flags.split()) or os.environ.get("CODECRIA_KERNEL") == "off":
        return None
    sources = [(FOLDER / name).read_text() for name in SOURCES]
    key = hashlib.sha256("\0".join((*sources, *FLAGS, flags)).encode()).hexdigest()[:16]
    path = cache_folder() / "kernels" / f"step-{key}.so"
    if not path.exists():
        if compiler is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        command = [compiler, *FLAGS, str(FOLDER / SOURCES[0]), "-o", str(aside), "-lm"]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=120)
            aside.replace(path)
        except (OSError, subprocess.SubprocessError):
            return None
        finally:
            aside.unlink(missing_ok=True)
    try:
        return Library(path)
    except OSError:
        return None


_found: list[Library | None] = []
_lock = threading.Lock()


def _start() -> Library | None:
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
