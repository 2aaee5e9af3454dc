import pytest
import torch
from transformers import LlamaForCausalLM

from codecria.model.transformer import Transformer
from tests.model import variants
from tests.oracles.transformers import llama_config


def transformers_twin(config, model):
    twin = LlamaForCausalLM(llama_config(config)).eval()
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    twin.tie_weights()
    return twin


def random_model(config, seed=0):
    model = Transformer(config).eval()
    model.initialise(seed, std=0.2)
    return model


@pytest.mark.parametrize("name", variants.VARIANTS)
@torch.no_grad()
def test_logits_equal_transformers(name):
    config = variants.VARIANTS[name]
    model = random_model(config)
    ids = torch.randint(0, config.vocab_size, (2, 90), generator=torch.Generator().manual_seed(1))
    expected = transformers_twin(config, model)(ids).logits
    torch.testing.assert_close(model.logits(model(ids)), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_packed_documents_equal_documents_alone():
    model = random_model(variants.tiny(num_kv_heads=2))
    ids = torch.randint(0, 160, (2, 60), generator=torch.Generator().manual_seed(2))
    lengths = [[10, 1, 49], [60]]
    packed = model(ids, documents=lengths)
    for row, parts in enumerate(lengths):
        for piece, packed_piece in zip(ids[row].split(parts), packed[row].split(parts), strict=True):
            torch.testing.assert_close(model(piece[None])[0], packed_piece, atol=1e-5, rtol=1e-5)


def test_initial_weights_depend_on_seed_and_name_alone():
    deep, shallow = random_model(variants.tiny(num_layers=3)), random_model(variants.tiny(num_layers=2))
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(deep.state_dict()[name], shallow.state_dict()[name])
    assert not torch.equal(deep.state_dict()[name], random_model(variants.tiny(), seed=1).state_dict()[name])


def test_a_tied_head_is_not_in_the_state_dict():
    assert "lm_head.weight" not in random_model(variants.tiny(tied_embeddings=True)).state_dict()


@pytest.mark.parametrize("lengths", [[7, 1, 300], [1100]])
def test_short_bfloat16_documents_equal_the_fused_kernel(lengths):
    """The plain products of short documents: gradients too, as near to float32 as the fused kernel is."""
    config = variants.tiny(num_kv_heads=2, max_positions=2048)
    model = random_model(config)
    ids = torch.randint(0, 160, (1, sum(lengths)), generator=torch.Generator().manual_seed(3))
    exact = model(ids, documents=[lengths])
    direction = torch.randn(exact.shape, generator=torch.Generator().manual_seed(4))
    (exact * direction).sum().backward()
    weight = model.model.layers[0].self_attn.k_proj.weight
    expected = weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(ids, documents=[lengths])
    (rounded * direction).sum().backward()
    assert (rounded - exact).norm() < 0.03 * exact.norm()
    assert (weight.grad - expected).norm() < 0.1 * expected.norm()
