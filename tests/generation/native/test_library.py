"""Products in C against sums in float32; skipped where the library cannot be had."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from codecria.generation.matrices import MOST_NATIVE_TOKENS, Int4, Int8, Plain, beside
from codecria.generation.native import library as room
from codecria.generation.quantise import eight_bits, group

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def built():
    found = room.build()
    if found is None:
        pytest.skip("no C compiler here, or no AVX2")
    return found


def products(seed=0):
    weight = torch.randn(192, 96, generator=torch.Generator().manual_seed(seed)) * 0.05
    return Int4(group(weight), CPU), Int8(*eight_bits(weight))


def tokens(count, inputs=96):
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(3)).bfloat16()


def distance(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


@pytest.fixture
def pairs(built):
    """Each product in the library's order, and its matrix in float32 from before it was laid out."""
    matrices = [product.wide(torch.float32).clone() for product in products()]
    made = products()
    assert all(product.native(built) for product in made)
    return list(zip(made, matrices, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, MOST_NATIVE_TOKENS, 100])
def test_products_with_what_stands_around_them(pairs, count):
    norm = SimpleNamespace(weight=tokens(1)[0].abs(), eps=1e-5)
    added = tokens(count, 192)
    for product, matrix in pairs:
        x = tokens(count)
        assert distance(product(x), x.float() @ matrix.T) < 0.015
        assert distance(product(x, added_NO=added.clone()), x.float() @ matrix.T + added.float()) < 0.015
        normed = F.rms_norm(x.float(), (96,), norm.weight.float(), norm.eps)
        assert distance(product(x, norm=norm), normed @ matrix.T) < 0.015
        gate, up = tokens(count, 192).float().chunk(2, dim=-1)
        assert distance(product(tokens(count, 192), gated=True), F.silu(gate) * up @ matrix.T) < 0.015


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 7, 17])
def test_products_with_floats(built, dtype, count):
    weight = (torch.randn(48, 104, generator=torch.Generator().manual_seed(1)) * 0.05).to(dtype)
    x = tokens(count, 104)
    found = built.product(Plain(weight).native(built), x.to(dtype))
    torch.testing.assert_close(found, x.float() @ weight.float().T, atol=1e-5, rtol=1e-5)


def test_an_adapter_beside_a_matrix(built):
    base, _ = products()
    matrix = base.wide(torch.float32).clone()
    source = torch.Generator().manual_seed(2)
    down, up = torch.randn(8, 96, generator=source), torch.randn(64, 8, generator=source)
    adapted = beside(base, [(64, down, up), (128, None, None)], scale=0.5)
    x = tokens(3)
    expected = x.float() @ matrix.T
    expected[:, :64] += 0.5 * (x.float() @ down.bfloat16().float().T) @ up.bfloat16().float().T
    assert distance(built.product(adapted.native(built), x), expected) < 0.015


def test_weights_are_the_same_after_they_are_laid_out_anew(pairs):
    for product, matrix in pairs:
        torch.testing.assert_close(product.wide(torch.float32), matrix, atol=0, rtol=2**-8)
    (_, rows), matrix = [product for product, _ in pairs], pairs[1][1]
    ids = torch.tensor([[3, 190], [17, 3]])
    torch.testing.assert_close(rows.rows(ids).float(), matrix[ids], atol=0, rtol=2**-7)


def test_a_token_alone_has_the_bits_it_has_among_others(built, pairs):
    x = tokens(16)
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(1))
    for product in (*(product for product, _ in pairs), Plain(weight), Plain(weight.bfloat16())):
        matrix = product.native(built)
        whole = built.product(matrix, x)
        for count in range(1, 16):
            assert torch.equal(built.product(matrix, x[:count]), whole[:count])
            assert torch.equal(built.product(matrix, x[count:]), whole[count:])


def test_a_token_that_is_no_number_shows(pairs):
    x = tokens(2)
    x[0, 5] = torch.nan
    for product, _ in pairs:
        found = product(x)
        assert found[0].isnan().all()
        assert found[1].isfinite().all()


@pytest.mark.usefixtures("built")
def test_nothing_waits_for_the_compiler_and_the_library_is_kept(tmp_path):
    code = (
        "import time, torch\n"
        "from codecria.generation.native import library\n"
        "assert library.loaded() is None\n"
        "began = time.monotonic()\n"
        "while library.loaded() is None: assert time.monotonic() < began + 100; time.sleep(0.05)\n"
    )
    environment = {**os.environ, "CODECRIA_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    kept = list(tmp_path.rglob("step-*.so"))
    assert len(kept) == 1
    stamp = kept[0].stat().st_mtime_ns
    subprocess.run([sys.executable, "-c", code], env={**environment, "CC": "false", "PATH": ""}, check=True)
    assert kept[0].stat().st_mtime_ns == stamp


def test_without_a_compiler_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(room, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(room, "_compiler", lambda: None)
    assert room.build() is None
    monkeypatch.setattr(room, "_compiler", lambda: "false")
    assert room.build() is None
    assert not list(tmp_path.rglob("*.so*"))
