import pytest
import torch

from codecria.model.config import PRESETS
from codecria.model.transformer import Transformer

# Sums of the tensors in the released checkpoints; Llama 2 with 32,000 rows, Code Llama 7B, 13B and 70B with 32,016.
COUNTS = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-34b": 33_743_970_304,
    "llama-2-70b": 68_976_648_192,
    "codellama-7b": 6_738_546_688,
    "codellama-13b": 13_016_028_160,
    "codellama-34b": 33_743_970_304,
    "codellama-70b": 68_976_910_336,
    "smollm2-135m": 134_515_008,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_to_the_unit(name):
    config = PRESETS[name]
    assert config.parameter_count() == COUNTS[name]
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]
    assert all(parameter.is_meta for parameter in model.parameters())


def test_code_presets_carry_the_long_context_base():
    for name, config in PRESETS.items():
        if name.startswith("codellama"):
            assert (config.rope_theta, config.max_positions) == (1e6, 16_384)


def test_flops_of_llama_2_7b():
    # 46.1 GFLOP a token at 4,096 and 65.4 at 16,384: the figures published MFU tables are computed from.
    config = PRESETS["llama-2-7b"]
    assert round(config.flops_per_token(4096) / 1e9, 1) == 46.1
    assert round(config.flops_per_token(16_384) / 1e9, 1) == 65.4
