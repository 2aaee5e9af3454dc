import pytest
import torch

from codecria.generation.extent import Extent, Layout

CPU = torch.device("cpu")


def layout(**changes):
    return Layout(**{"layers": 2, "kv_heads": 3, "head_dim": 16, "dtype": torch.float32, "device": CPU} | changes)


def keys(tokens, seed=0):
    return torch.randn(2, 3, tokens, 16, generator=torch.Generator().manual_seed(seed))


def filled(plan, tokens, capacity):
    extent = Extent(plan)
    extent.resize(capacity, 0)
    for layer in range(2):
        extent.write(layer, 0, *keys(tokens, seed=layer).to(plan.dtype))
    return extent


def test_what_is_written_is_read_also_after_a_resize():
    extent = filled(layout(), 10, 64)
    for capacity in (128, 64):
        extent.resize(capacity, 10)
        for layer in range(2):
            for part, x in zip(extent.read(layer, 3, 9), keys(10, seed=layer), strict=True):
                assert torch.equal(part[0], x[:, 3:9])
    assert extent.nbytes == 64 * 2 * 2 * 3 * 16 * 4


def test_reading_copies_nothing():
    extent = filled(layout(), 10, 64)
    assert extent.read(0, 0, 5)[0].data_ptr() == extent.read(0, 0, 9)[0].data_ptr()


def test_int8_is_near_and_takes_about_half_of_bfloat16():
    plan = layout(int8=True, dtype=torch.bfloat16, head_dim=64)
    assert plan.slot_bytes / layout(dtype=torch.bfloat16, head_dim=64).slot_bytes == pytest.approx(0.516, abs=1e-3)
    extent = filled(layout(int8=True), 10, 64)
    for layer in range(2):
        for part, x in zip(extent.read(layer, 0, 10), keys(10, seed=layer), strict=True):
            step = x.abs().amax(dim=-1, keepdim=True) / 127
            assert ((part[0] - x).abs() <= 0.6 * step).all()


def test_int8_keeps_zeros_and_large_numbers_finite():
    extent = Extent(layout(int8=True))
    extent.resize(64, 0)
    x = torch.zeros(3, 2, 16)
    x[:, 1] = 1e5
    extent.write(0, 0, x, x)
    torch.testing.assert_close(extent.read(0, 0, 2)[0][0], x, atol=0, rtol=1e-2)


def test_slots_can_be_copied_from_another_extent():
    for int8 in (False, True):
        source, target = filled(layout(int8=int8), 10, 64), Extent(layout(int8=int8))
        target.resize(64, 0)
        target.copy_from(source, 4, 5, 2)
        for mine, theirs in zip(target.read(1, 2, 7), source.read(1, 4, 9), strict=True):
            assert torch.equal(mine, theirs)


def test_a_token_is_written_where_a_tensor_says():
    extent = filled(layout(), 10, 64)
    for layer in range(2):
        extent.write_at(layer, torch.tensor([4]), *keys(1, seed=7))
        for part, old, new in zip(extent.read(layer, 0, 10), keys(10, seed=layer), keys(1, seed=7), strict=True):
            assert torch.equal(part[0], torch.cat([old[:, :4], new, old[:, 5:]], dim=1))


@pytest.mark.parametrize("int8", [False, True])
def test_clearing_zeroes_what_lies_behind(int8):
    extent = filled(layout(int8=int8), 10, 64)
    before = [each.clone() for each in extent.read(0, 0, 6)]
    extent.clear(6)
    for part, old in zip(extent.read(0, 0, 64), before, strict=True):
        assert torch.equal(part[:, :, :6], old)
        assert not part[:, :, 6:].any()


def test_moves_count_every_time_the_memory_is_taken_anew():
    extent = filled(layout(), 10, 64)
    moves = extent.moves
    extent.resize(128, 10)
    extent.resize(64, 10)
    assert extent.moves == moves + 2
