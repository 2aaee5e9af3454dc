import os

import pytest
import torch

from codecria.generation.memory import cgroup_bytes, default_cache_bytes, out_of_memory


def cgroups(tmp_path, own, limits):
    (tmp_path / "own").write_text(own)
    for name, text in limits.items():
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return cgroup_bytes(tmp_path / "root", tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "5000\n", "a/memory.max": "max\n"}, 5000),
        ("0::/a/b\n", {"a/b/memory.max": "5000\n", "a/memory.max": "3000\n"}, 3000),
        ("0::/a/b\n", {"memory.max": "7\n", "other/memory.max": "1\n"}, 7),
        ("0::/a\n", {"a/memory.max": "max\n"}, None),
        ("5:cpu:/x\n4:cpu,memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "40\n"}, 40),
        ("4:memory:/gone\n", {"memory/memory.limit_in_bytes": "60\n"}, 60),
    ],
)
def test_the_least_limit_of_a_cgroup_and_those_above_it_counts(tmp_path, own, limits, expected):
    assert cgroups(tmp_path, own, limits) == expected


def test_no_cgroups_no_limit(tmp_path):
    assert cgroup_bytes(tmp_path, tmp_path / "missing") is None


def test_the_default_is_a_context_within_half_of_the_memory():
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    device = torch.device("cpu")
    assert default_cache_bytes(device, 1) <= 2 * 2**30
    assert default_cache_bytes(device, 10**15) <= half
    if half >= 3 * 2**30 and cgroup_bytes() is None:
        assert default_cache_bytes(device, 3 * 2**30) == 3 * 2**30


def test_what_torch_says_when_memory_ends_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**47, dtype=torch.int8)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("shapes do not match"))
