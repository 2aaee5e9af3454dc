import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from codecria.generation.cache import Cache
from codecria.generation.fused import fuse
from codecria.generation.pass_attention import Pass
from tests.generation.conftest import random_ids, random_model

VARIANTS = {
    "grouped": {},
    "multi-head": {"num_kv_heads": 4},
    "one key head, tied": {"num_kv_heads": 1, "tied_embeddings": True},
    "wide heads": {"head_dim": 32},
}


def ids_of(rows, tokens):
    return torch.tensor(random_ids(rows * tokens)).view(rows, tokens)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_fused_blocks_equal_the_models_own(name, dtype, tolerance):
    model = random_model(dtype=dtype, **VARIANTS[name])
    expected = model(ids_of(3, 17))
    fused = fuse(model)
    torch.testing.assert_close(fused(ids_of(3, 17)), expected, atol=tolerance, rtol=tolerance)
    assert torch.equal(model(ids_of(3, 17)), expected)


@torch.no_grad()
def test_they_use_the_cache():
    fused = fuse(random_model())
    ids = ids_of(1, 12)
    cache = Cache(fused.config, dtype=torch.float32, device=torch.device("cpu"), budget=2**20)
    place = cache.open(ids[0].tolist())
    parts = []
    for piece in ids.split([7, 1, 4], dim=1):
        new = Pass(cache, [place], piece.tolist())
        parts.append(fused(piece, positions_BL=new.positions_BL, cache=new))
        new.commit()
    torch.testing.assert_close(torch.cat(parts, dim=1), fused(ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_no_weight_is_held_twice_and_changes_in_place_are_seen(tmp_path):
    model = random_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first, second = fuse(model), fuse(model)
    attention = model.model.layers[0].self_attn
    weights = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1
    assert weights[0].untyped_storage().nbytes() == sum(weight.nbytes for weight in weights)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for name, weight in load_file(tmp_path / "model.safetensors").items():
        assert torch.equal(weight, before[name])
    attention.k_proj.weight.mul_(2.0)
    expected = model(ids_of(1, 9))
    for fused in (first, second):
        torch.testing.assert_close(fused(ids_of(1, 9)), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_block_with_a_replaced_projection_runs_as_it_is():
    class Adapted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + x.sum(dim=-1, keepdim=True)

    model = random_model()
    replaced = Adapted(64, 64, bias=False)
    replaced.load_state_dict(model.model.layers[1].self_attn.q_proj.state_dict())
    model.model.layers[1].self_attn.q_proj = replaced
    expected = model(ids_of(2, 9))
    torch.testing.assert_close(fuse(model)(ids_of(2, 9)), expected, atol=1e-5, rtol=1e-5)


def test_a_model_fused_while_nothing_is_tracked_can_be_trained():
    model = random_model()
    with torch.inference_mode():
        fuse(model)
    model(ids_of(1, 5)).sum().backward()
    gradient = model.model.layers[0].self_attn.v_proj.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0
