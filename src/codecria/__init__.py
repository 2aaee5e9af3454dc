"""codecria turns an open foundation model into a code model, and uses it.

    import codecria

    model = codecria.load("smollm2-135m")
    model.complete("def fibonacci(n):").text

    codecria.load("runs/demo/code/checkpoint").infill(prefix, suffix).text

`load` is fetched when it is first used, so that importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codecria.generation.code_model import CodeModel, load

    __version__: str

__all__ = ["CodeModel", "__version__", "load"]

_HOMES = {"CodeModel": "codecria.generation.code_model", "load": "codecria.generation.code_model"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("codecria")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'codecria' has no attribute '{name}'")
