import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codecria.model.transformer import Transformer
from tests.model import variants


def transformers_twin(config, model):
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        scaling = config.rope_scaling
        rope = {"rope_type": scaling.kind, "rope_theta": config.rope_theta, "factor": scaling.factor}
        if scaling.kind == "llama3":
            rope |= {
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_max_positions,
            }
    twin = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.norm_eps,
            max_position_embeddings=config.max_positions,
            tie_word_embeddings=config.tied_embeddings,
            rope_parameters=rope,
        )
    ).eval()
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
