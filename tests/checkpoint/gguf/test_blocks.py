import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.checkpoint.gguf.blocks import dequantise, quantise
from codecria.checkpoint.gguf.types import BF16, BLOCK_TYPES, F16, F32, Q4_K, Q8_0

KINDS = list(BLOCK_TYPES.values())


def assert_equal_bits(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype == np.float32
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    kept = ~np.isnan(ours)
    assert np.array_equal(ours[kept].view(np.uint32), theirs[kept].view(np.uint32))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_sizes_are_the_librarys(kind):
    assert (kind.numbers, kind.size) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.name]]
    assert kind.code == gguf.GGMLQuantizationType[kind.name]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), blocks=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_dequantised_random_bytes_equal_the_librarys_to_the_bit(kind, seed, rows, blocks):
    columns = blocks * max(kind.numbers, 32)
    data = np.random.default_rng(seed).integers(0, 256, (rows, kind.row_bytes(columns)), dtype=np.uint8)
    with np.errstate(all="ignore"):
        theirs = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind.name])
    ours = dequantise(torch.from_numpy(data.copy()), kind)
    assert ours.shape == (rows, columns)
    assert_equal_bits(ours.numpy(), theirs.reshape(rows, columns))


def test_chunks_join_without_a_seam():
    blocks = 3 * (1 << 18) // Q4_K.numbers + 7
    data = torch.randint(0, 256, (blocks, Q4_K.size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = dequantise(data, Q4_K)
    for start in (0, 1023, 1024, 2049, blocks - 1):
        assert_equal_bits(whole[start].numpy(), dequantise(data[start], Q4_K).numpy())


def test_the_result_is_rounded_once_to_the_dtype_asked_for():
    data = quantise(torch.randn(4, 256, generator=torch.Generator().manual_seed(0)), Q8_0)
    assert torch.equal(dequantise(data, Q8_0, torch.bfloat16), dequantise(data, Q8_0).bfloat16())


def test_a_dequantised_tensor_is_not_the_file():
    data = torch.zeros(4, 128, dtype=torch.uint8)
    dequantise(data, F32).fill_(1.0)
    assert not data.any()


@pytest.mark.parametrize("kind", [F32, F16, Q8_0], ids=lambda kind: kind.name)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40), exponent=st.integers(-12, 4))
@settings(max_examples=30, deadline=None)
def test_quantised_equals_the_librarys_byte_for_byte(kind, seed, rows, exponent):
    numbers = np.random.default_rng(seed).standard_normal((rows, 96)).astype(np.float32) * np.float32(10.0**exponent)
    numbers[0, :32] = 0.0
    theirs = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType[kind.name]).view(np.uint8)
    assert np.array_equal(quantise(torch.from_numpy(numbers), kind).numpy(), theirs)


def test_halves_are_rounded_away_from_zero():
    numbers = torch.zeros(1, 32)
    numbers[0, :5] = torch.tensor([127.0, 0.5, -0.5, 1.5, 2.5])
    data = quantise(numbers, Q8_0)
    assert data[0, 2:7].view(torch.int8).tolist() == [127, 1, -1, 2, 3]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_q8_0_is_within_half_a_step(seed):
    numbers = torch.randn(8, 64, generator=torch.Generator().manual_seed(seed))
    step = numbers.view(8, 2, 32).abs().amax(-1, keepdim=True) / 127
    error = (dequantise(quantise(numbers, Q8_0), Q8_0) - numbers).view(8, 2, 32).abs()
    assert (error <= step * 0.5 + 127 * step * 2**-11).all()


def test_bfloat16_is_the_upper_half_of_float32():
    numbers = torch.tensor([[1.0, -2.5, 3e38, 0.0]])
    assert torch.equal(dequantise(numbers.bfloat16().view(torch.uint8), BF16), numbers.bfloat16().float())
