"""Figures of a run, one JSON object a line, cut back to the step a resumed run goes on from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from codecria.common.files import write_atomic
from codecria.model.precision import compute_dtype, native_bfloat16
from codecria.training.trackers import open_trackers

if TYPE_CHECKING:
    from codecria.model.config import ModelConfig
    from codecria.training.parallel import World
    from codecria.training.recipe import TrainRecipe

PEAK_TFLOPS = (
    ("B200", 2250.0),
    ("GH200", 989.4),
    ("H200 NVL", 835.5),
    ("H200", 989.4),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.4),
    ("A100", 312.0),
    ("A10", 125.0),
    ("L40S", 362.0),
    ("L4", 121.0),
    ("RTX 4090 D", 147.1),
    ("RTX 4090", 165.2),
    ("RTX 3090 Ti", 80.0),
    ("RTX 3090", 71.0),
    ("MI300X", 1307.4),
)
"""Part of a device's name, and its dense bfloat16 peak with float32 sums (the makers' data sheets; sheets that give
twice as much count zeros of 2:4 sparsity). The first that fits counts."""


class MetricsFile:
    """`metrics.jsonl` of a run.

    Opening it at step s drops lines of later steps and a last line that a kill cut short: the resumed run writes
    them again, to the same numbers.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = lines_up_to(path, step)
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")

    def write(self, **figures: Any) -> None:
        """Append one line and hand it to the operating system."""
        self._file.write(json.dumps(figures) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Journal:
    """Where a run's figures go: `metrics.jsonl` and the recipe's trackers on the first rank, nowhere on others."""

    def __init__(self, folder: Path, step: int, recipe: TrainRecipe, world: World) -> None:
        names = recipe.watch.trackers if world.first else ()
        self._outlets = [
            *([MetricsFile(folder / "metrics.jsonl", step)] if world.first else []),
            *open_trackers(names, folder, step, recipe.model_dump(mode="json")),
        ]

    def write(self, step: int, **figures: Any) -> None:
        """Figures by name; values are numbers, tables of numbers, text, or None."""
        for outlet in self._outlets:
            outlet.write(step=step, **figures)

    def close(self) -> None:
        """Close everything."""
        for outlet in self._outlets:
            outlet.close()


@dataclass(frozen=True)
class Efficiency:
    """Model FLOPs utilisation: FLOPs a token times tokens a second, over the peak of all devices.

    MFU = `ModelConfig.flops_per_token(sequence_tokens)` · tokens/s / (ranks · peak). FLOPs a token are 6 for each
    weight in a matrix product and 12 · layers · width · length for attention: as in published figures the whole
    square of a sequence counts, though documents packed in it see only themselves, each token counts as if its logits
    were taken, and recomputed activations do not count.

    Attributes:
        flops_per_token: of the model at the recipe's sequence length.
        ranks: devices.
        peak_tflops: of one device; None where none is known: no MFU then, nor under adapters, whose frozen weights
            have no gradient to compute.
        device: the device's name.
        emulated: the recipe asks for bfloat16 products, and the device has none.
    """

    flops_per_token: float
    ranks: int
    peak_tflops: float | None
    device: str
    emulated: bool = False

    @classmethod
    def of(cls, config: ModelConfig, recipe: TrainRecipe, world: World) -> Efficiency:
        """For a stage: the peak is the recipe's, else known for common GPUs with bfloat16 products."""
        name = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else world.device.type
        peak = recipe.watch.peak_tflops
        if peak is None and compute_dtype(recipe.precision, world.device) == torch.bfloat16:
            peak = known_peak_tflops(name)
        flops = config.flops_per_token(recipe.batches.sequence_tokens)
        emulated = recipe.precision == "bf16" and not native_bfloat16(world.device)
        return cls(flops, world.size, peak if recipe.lora is None else None, name, emulated)

    def mfu(self, tokens_per_s: float) -> float | None:
        """A share of 1, for the tokens a second of all ranks together."""
        if self.peak_tflops is None:
            return None
        return self.flops_per_token * tokens_per_s / (self.ranks * self.peak_tflops * 1e12)

    @property
    def note(self) -> str | None:
        """Lines to print when a stage begins: that bfloat16 is emulated, and what MFU is; None where none is due."""
        slow = (
            f"precision: bf16 is emulated on this {self.device}, tens of times slower than float32; "
            "precision: auto takes float32 here"
        )
        return "\n".join(filter(None, (slow if self.emulated else None, self._mfu_note))) or None

    @property
    def _mfu_note(self) -> str | None:
        """Formula and peak in one line, or why a GPU has no MFU; None where nobody expects one."""
        if self.peak_tflops is None:
            return None if self.device == "cpu" else f"no MFU: under adapters, or no bf16 peak known of {self.device}"
        return (
            f"MFU = {self.flops_per_token:.3g} FLOPs a token (6 · weights + 12 · layers · width · length) · tokens/s / "
            f"({self.ranks} ranks · {self.peak_tflops:g} TFLOP/s dense bf16 peak of {self.device})"
        )


def known_peak_tflops(name: str) -> float | None:
    """The peak of a device by its name; None for a part of one, a laptop's, or one that is not in the table."""
    if re.search(r"\b(MIG|Laptop)\b", name):
        return None
    return next((peak for part, peak in PEAK_TFLOPS if re.search(rf"\b{part}\b", name)), None)


def memory_gb(device: torch.device) -> float | None:
    """Most memory held so far, in 10⁹ bytes: tensors on a GPU, else the process (Linux only, None elsewhere)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM")), None)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file; none when there is no file."""
    if not path.exists():
        return []
    lines: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def lines_up_to(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines of a metrics file that a run resumed at this step keeps."""
    return [line for line in read_metrics(path) if line["step"] <= step]
