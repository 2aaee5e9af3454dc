"""The interfaces, one file each: a module here that has a `DIALECT` is served, nothing else need be told of it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codecria.serving.routes import Dialect


def all_dialects() -> tuple[Dialect, ...]:
    """Every dialect in this folder, by the names of their files."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return tuple(module.DIALECT for module in modules if hasattr(module, "DIALECT"))
