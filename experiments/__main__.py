"""`python -m experiments NAME [--small]`: trains what is missing under `runs/`, measures, writes results and plot.

Started again, it goes on where it was. One thread, so that figures repeat to the bit on one machine.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "spm_encoding",
    "rope_theta",
    "infill_rate",
    "infill_longer",
    "infill_order",
    "infill_units",
    "learning_rate",
    "foundation",
    "self_instruct",
)


def main(arguments: list[str] | None = None) -> None:
    """Run the experiments that are named."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("names", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--small", action="store_true", help="a tiny model for seconds: does it run?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the stages")
    parser.add_argument("--runs", type=Path, default=None, help="folder of corpus and checkpoints; runs/experiments")
    parser.add_argument("--out", type=Path, default=None, help="folder of results.json and plot.png; the experiment's")
    options = parser.parse_args(arguments)
    os.environ.setdefault("CODECRIA_KERNEL", "off")  # built in the background: when it is ready is chance

    import torch

    from experiments.shared.setting import Setting

    torch.set_num_threads(1)
    runs = options.runs or Path("runs/experiments-small" if options.small else "runs/experiments")
    for name in options.names:
        out = options.out or (runs / "results" / name if options.small else HERE / name)
        module = importlib.import_module(f"experiments.{name}.run")
        module.run(Setting(options.small, runs, out, tuple(options.seeds)))


if __name__ == "__main__":
    main()
