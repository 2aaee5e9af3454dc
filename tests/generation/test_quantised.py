import pytest
import torch

import codecria
from codecria.checkpoint.adapter import AdaptedTensors
from codecria.checkpoint.gguf.blocks import four_bit_groups
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.generation.matrices import Adapted, Int4, Int8, Plain
from codecria.generation.quantised import load_quantised

CPU = torch.device("cpu")
TEXT = "import json\n\n\ndef read_config(path):\n    with open(path) as file:\n        return json.load(file)\n"


@torch.inference_mode()
def divergence(model, other, ids):
    """Mean KL divergence of the next token, nats, of `other` from `model`."""
    one, two = (
        torch.nn.functional.linear(each(ids), each.head_weight).float().log_softmax(-1) for each in (model, other)
    )
    return (one.exp() * (one - two)).sum(-1).mean().item()


@pytest.fixture(scope="module")
def shipped():
    return open_checkpoint("codecria-135m-infill")


def test_blocks_of_a_gguf_file_are_kept_and_memory_stays_near_the_files(smollm2_checkpoint, smollm2_gguf):
    model = load_quantised(smollm2_checkpoint, "int4", CPU)
    assert model.nbytes < 1.0 * smollm2_gguf.stat().st_size
    name = "model.layers.3.mlp.down_proj.weight"
    codes, scales, minima = four_bit_groups(*smollm2_checkpoint.source.blocks(name))
    exact = smollm2_checkpoint.source.read(name, torch.float32)
    torch.testing.assert_close((codes.unflatten(1, (-1, 32)) * scales[..., None] + minima[..., None]).flatten(1), exact)
    product = model.model.layers[3].fused.products[3]
    assert isinstance(product, Int4)
    # Only scales and zeros are rounded, to 8 bits of mantissa.
    held = product(torch.eye(exact.shape[1], dtype=torch.bfloat16)).float().T
    assert (held - exact).norm() / exact.norm() < 4e-3


@pytest.mark.parametrize(("form", "most"), [("int8", 0.02), ("int4", 0.01)])
def test_predictions_stay_those_of_the_floats(smollm2_checkpoint, form, most):
    ids = torch.tensor([smollm2_checkpoint.tokenizer.encode(TEXT)])
    plain = load_model(smollm2_checkpoint).eval()
    assert divergence(plain, load_quantised(smollm2_checkpoint, form, CPU), ids) < most


def test_an_adapter_is_merged_to_eight_bits_and_lies_beside_four(shipped):
    assert isinstance(shipped.source, AdaptedTensors)
    ids = torch.tensor([shipped.tokenizer.encode(TEXT)])
    plain = load_model(shipped).eval()
    base = load_quantised(open_checkpoint(shipped.source.base_name), "int4", CPU)
    for form, kind in (("int8", Int8), ("int4", Adapted)):
        model = load_quantised(shipped, form, CPU)
        assert {type(each) for layer in model.model.layers for each in layer.fused.products} == {kind}
        assert divergence(plain, model, ids) < 0.02
        if form == "int4":
            found, kept = (each.model.layers[0].fused.products[0] for each in (model, base))
            # Either may be in the kernel's order by now, which is made wide in bfloat16.
            torch.testing.assert_close(found.base.wide(torch.float32), kept.wide(torch.float32), atol=0, rtol=2**-8)


def test_shapes_the_kernels_do_not_take_have_a_wider_form(tmp_path):
    from tests.tiny import write_tiny_checkpoint

    checkpoint = open_checkpoint(write_tiny_checkpoint(tmp_path / "model"))
    ids = torch.tensor([checkpoint.tokenizer.encode(TEXT)])
    plain = load_model(checkpoint).eval()
    kinds = {}
    for form in ("int8", "int4"):
        model = load_quantised(checkpoint, form, CPU)
        assert divergence(plain, model, ids) < 1e-3
        kinds[form] = [type(each) for each in model.model.layers[0].fused.products]
        state_D = torch.randn(plain.config.hidden_size, dtype=torch.bfloat16)
        torch.testing.assert_close(model.logits(state_D), model.logits(state_D[None])[0])  # as a healed line is scored
    assert kinds == {"int8": [Int8] * 4, "int4": [Int4, Int8, Int4, Int8]}
    assert Plain not in kinds["int8"]


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_loaded_model_infills_and_streams(dtype):
    model = codecria.load("codecria-135m-infill", dtype=dtype)
    result = model.infill("def add(a, b):\n    return ", "\n", max_tokens=8, stop_at="line")
    assert result.text.replace(" ", "") == "a+b"
    prompts = ["def add(a, b):\n    return", "import os\n"]
    alone = [model.complete(prompt, max_tokens=12).ids for prompt in prompts]
    together = [samples[0].ids for samples in model.complete_many(prompts, max_tokens=12)]
    assert together == alone
