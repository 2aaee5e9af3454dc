import itertools

import pytest
import torch
from torch.nn import functional as F

from codecria.generation.partial_attention import attend_own, attend_part, attend_plainly, fold, merge


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_kernel_and_plain_products_agree(dtype, tolerance, masked):
    q, k, v = (random(2, 3, n, 16, seed=n, dtype=dtype) for n in (5, 40, 41))
    v = v[:, :, :40]
    mask = None
    if masked:
        mask = torch.zeros(2, 1, 1, 40, dtype=dtype)
        mask[0, ..., 7:] = mask[1, ..., 1:] = -torch.inf
    for one, other in zip(attend_part(q, k, v, mask), attend_plainly(q, k, v, mask), strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=tolerance, rtol=tolerance)
    for one, other in zip(
        attend_part(q, k[:, :, :5], v[:, :, :5], causal=True),
        attend_plainly(q, k[:, :, :5], v[:, :, :5], causal=True),
        strict=True,
    ):
        torch.testing.assert_close(one.float(), other.float(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("cuts", [[0, 40], [0, 1, 40], [0, 13, 14, 39, 40]])
def test_parts_merged_are_the_whole(cuts):
    q, k, v = random(1, 2, 6, 16, seed=1), random(1, 2, 40, 16, seed=2) * 4, random(1, 2, 40, 16, seed=3)
    found = None
    for start, stop in itertools.pairwise(cuts):
        part = attend_part(q, k[:, :, start:stop], v[:, :, start:stop])
        found = part if found is None else merge(found, part)
    torch.testing.assert_close(found[0], F.scaled_dot_product_attention(q, k, v), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_new_tokens_behind_others_are_causal_attention(kv_heads):
    q, k, v = random(1, 4, 20, 16, seed=1), *(random(1, kv_heads, 20, 16, seed=n) for n in (2, 3))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)[:, :, 12:]
    past = attend_part(fold(q[:, :, 12:], kv_heads), k[:, :, :12], v[:, :, :12])
    found = merge(past, attend_own(q[:, :, 12:], k[:, :, 12:], v[:, :, 12:]))
    torch.testing.assert_close(found[0].reshape(expected.shape), expected, atol=1e-5, rtol=1e-5)
