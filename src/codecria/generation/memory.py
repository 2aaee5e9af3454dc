"""How much memory keys and values may take, and what it looks like when there is none."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_LEAST_CACHE = 2 * 2**30


def default_cache_bytes(device: torch.device, context_bytes: int) -> int:
    """2 GiB, or what one whole context needs if that is more, and at most half of the memory there is.

    On a GPU that is what is free now, with the weights in place; else the machine's, or what its cgroup allows.

    Args:
        device: where keys and values will lie.
        context_bytes: what a whole context needs.
    """
    wanted = max(_LEAST_CACHE, context_bytes)
    if device.type == "cuda":
        return min(wanted, torch.cuda.mem_get_info(device)[0] // 2)
    limits = [limit for limit in (_machine_bytes(), cgroup_bytes()) if limit is not None]
    return min(wanted, *(limit // 2 for limit in limits)) if limits else _LEAST_CACHE


def cgroup_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The least memory that this process's cgroup (version 1 or 2) and those above it allow; None where none does."""
    limits: list[int] = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        folder = top / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(top) and (each / name).is_file():
                text = (each / name).read_text().strip()
                limits += [int(text)] if text.isdigit() else []
    return min(limits, default=None)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that no memory could be taken."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _machine_bytes() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
