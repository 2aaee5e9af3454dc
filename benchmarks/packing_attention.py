"""What keeping packed documents apart costs or saves: a row of 4,096 tokens through SmolLM2-135M's attention.

Forward and backward of one attention layer in the dtype of this machine's products, one thread: documents of about 400
tokens each on its own, against the same row as one document, which is what packing without a mask computes. A second
pair of the same kind has one long document beside short ones. Neither is the same work: the ratio says what the mask
gives in tokens a second; what it does to the loss is an experiment.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import TYPE_CHECKING

import torch
from paired import compare

from codecria.model.attention import Attention, AttentionPlan
from codecria.model.config import PRESETS
from codecria.model.documents import document_attention
from codecria.model.precision import compute_dtype
from codecria.model.rotary import rotary_frequencies, rotary_table
from codecria.model.transformer import default_positions

if TYPE_CHECKING:
    from collections.abc import Callable

TOKENS = 4096
CPU = torch.device("cpu")


def main() -> None:
    torch.set_num_threads(1)
    dtype = compute_dtype("auto", CPU)
    config = PRESETS["smollm2-135m"]
    torch.manual_seed(0)
    layer = Attention(config, 0)
    x_BLD = torch.randn(1, TOKENS, config.hidden_size)

    def run(lengths: list[int]) -> Callable[[], float]:
        positions_BL = default_positions(x_BLD, [lengths])
        plan = AttentionPlan(
            *rotary_table(rotary_frequencies(config), positions_BL), document_attention([lengths], CPU)
        )

        def once() -> float:
            layer.zero_grad()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                y_BLD = layer(x_BLD, plan)
            y_BLD.float().square().sum().backward()
            return TOKENS

        return once

    short = [380, 410, 290, 520, 400, 460, 340, 390, 430, 476]
    long = [3072, 300, 420, 304]
    for name, lengths in (("one of 3,072 tokens and 3 short ones", long), ("10 of about 400 tokens", short)):
        assert sum(lengths) == TOKENS
        compare(
            run(lengths),
            run([TOKENS]),
            unit="tokens_per_s",
            peer_name=f"the row as one document, {str(dtype).removeprefix('torch.')}; ours: {name}",
            packages=["codecria", "torch"],
        )


if __name__ == "__main__":
    main()
