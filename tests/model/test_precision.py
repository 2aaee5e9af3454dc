from pathlib import Path

import torch

from codecria.model.precision import compute_dtype, native_bfloat16, pick_device


def test_auto_is_bfloat16_only_where_it_is_hardware():
    cpu = torch.device("cpu")
    native = native_bfloat16(cpu)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert native == ("avx512_bf16" in flags or "amx_bf16" in flags)
    assert compute_dtype("auto", cpu) is (torch.bfloat16 if native else torch.float32)
    assert compute_dtype("fp32", cpu) is torch.float32
    assert compute_dtype("bf16", cpu) is torch.bfloat16


def test_devices_by_name():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
