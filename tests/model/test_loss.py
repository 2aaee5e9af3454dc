import pytest
import torch
from torch.nn import functional as F

from codecria.model.loss import token_log_probabilities, weighted_cross_entropy


def inputs(dtype=torch.float64, n=37, d=8, v=50):
    source = torch.Generator().manual_seed(0)
    hidden = torch.randn(n, d, generator=source, dtype=dtype).requires_grad_()
    head = torch.randn(v, d, generator=source, dtype=dtype).requires_grad_()
    targets = torch.randint(0, v, (n,), generator=source)
    return hidden, head, targets, torch.rand(n, generator=source)


@pytest.mark.parametrize("chunk", [1, 5, 37, 1024])
def test_loss_and_gradients_equal_the_plain_computation(chunk):
    hidden, head, targets, weights = inputs()
    total, losses = weighted_cross_entropy(hidden, head, targets, weights, chunk)
    (3 * total).backward()
    got = hidden.grad.clone(), head.grad.clone()
    hidden.grad = head.grad = None
    plain = F.cross_entropy(hidden @ head.T, targets, reduction="none")
    (3 * (plain * weights).sum()).backward()
    torch.testing.assert_close(losses, plain.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[0], hidden.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[1], head.grad, atol=1e-5, rtol=1e-5)


def test_only_the_wanted_gradients_are_made():
    hidden, head, targets, weights = inputs(torch.float32)
    total, _ = weighted_cross_entropy(hidden, head.detach(), targets, weights)
    total.backward()
    assert hidden.grad is not None
    hidden.grad = None
    total, _ = weighted_cross_entropy(hidden.detach(), head, targets, weights)
    total.backward()
    assert hidden.grad is None
    assert head.grad is not None


def test_log_probabilities_sum_to_one_over_the_vocabulary():
    hidden, head, _, _ = inputs(torch.float32, n=1)
    everything = token_log_probabilities(hidden.expand(50, 8), head, torch.arange(50), chunk_tokens=7)
    assert abs(everything.exp().sum().item() - 1) < 1e-5


def test_the_logits_of_all_tokens_never_exist():
    # 4,096 tokens of 32,016 rows would be 524 MB in float32; a chunk of 64 is 8 MB.
    hidden, head = torch.randn(4096, 8, requires_grad=True), torch.randn(32_016, 8, requires_grad=True)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(
                each.numel() for each in (out if isinstance(out, tuple) else (out,)) if isinstance(each, torch.Tensor)
            )
            return out

    with Watch():
        total, _ = weighted_cross_entropy(hidden, head, torch.randint(0, 32_016, (4096,)), torch.ones(4096), 64)
        total.backward()
    assert max(sizes) <= 64 * 32_016
