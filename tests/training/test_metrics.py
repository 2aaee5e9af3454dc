import json
import os
import subprocess
import sys

import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.model.config import PRESETS
from codecria.training.loop import train
from codecria.training.metrics import Efficiency, MetricsFile, known_peak_tflops, memory_gb, read_metrics
from codecria.training.parallel import World
from codecria.training.recipe import TrainRecipe
from tests.training.small import small_stage

FIGURES = {"loss": 2.5, "loss_by_source": {"code/Python": 2.0}, "mfu": None, "skipped": "no", "tokens": 7}
NUMBERS = {"loss": 2.5, "loss_by_source/code/Python": 2.0, "tokens": 7}


def test_opening_at_a_step_drops_what_came_later_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.5}\n{"step": 3, "lo')
    metrics = MetricsFile(path, step=1)
    metrics.write(step=2, loss=2.5)
    metrics.close()
    assert read_metrics(path) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}]


def test_no_file_is_no_figures(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_a_run_writes_every_figure_to_the_file_and_to_tensorboard(tmp_path_factory, tmp_path, capfd):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watch = {"trackers": ["tensorboard"], "peak_tflops": 0.5}
    values = small_stage(tmp_path_factory) | {"steps": 3, "watch": watch}
    train(TrainRecipe.model_validate(values), tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert set(line) == {
            *("step", "tokens", "loss", "loss_by_kind", "loss_by_source", "gradient_norm", "learning_rate"),
            *("target_weight", "tokens_per_s", "data_wait_s", "step_s", "mfu", "memory_gb", "forms", "epochs"),
        }
        assert 0 <= line["data_wait_s"] < line["step_s"]
        assert 0.05 < line["memory_gb"] < 20
        flops = line["mfu"] * 0.5e12 / line["tokens_per_s"]
        assert flops == pytest.approx(6 * 38_304 + 12 * 2 * 32 * 256, rel=1e-3)
    assert sorted(lines[-1]["epochs"]) == ["code", "code-related"]
    said = capfd.readouterr().err
    assert said.count("MFU = ") == 1
    assert "0.5 TFLOP/s dense bf16 peak of cpu" in said
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    for name in ("loss", "mfu", "tokens"):
        assert [(each.step, each.value) for each in events.Scalars(name)] == [
            (line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines
        ]
    assert events.Scalars("loss_by_source/code")[-1].step <= 3


def test_a_tracker_that_is_not_installed_is_named_with_the_command(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.setattr("codecria.training.trackers.find_spec", lambda name: None if name == "wandb" else name)
    recipe = TrainRecipe.model_validate(small_stage(tmp_path_factory) | {"watch": {"trackers": ["wandb", "trackio"]}})
    with pytest.raises(CodecriaError, match=r"^watch\.trackers: not installed: wandb; pip install wandb$"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


OFFLINE = """
import json, sys
from pathlib import Path
from codecria.training.trackers import open_trackers
for step in (1, 2):
    (tracker,) = open_trackers([sys.argv[1]], Path(sys.argv[2]), step - 1, {"seed": 0})
    tracker.write(step=step, **json.loads(sys.argv[3]))
    tracker.close()
"""


def offline(name, folder, **environment):
    command = [sys.executable, "-c", OFFLINE, name, str(folder), json.dumps(FIGURES)]
    result = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def test_wandb_offline_goes_on_in_the_same_run(tmp_path):
    pytest.importorskip("wandb")
    offline("wandb", tmp_path, WANDB_MODE="offline")
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    for step, path in enumerate(files, start=1):
        written = path.read_bytes()
        assert (tmp_path / "wandb-id").read_bytes() in written
        for name, value in {**NUMBERS, "_step": step}.items():
            # A record's protocol buffer: the name (field 16), the value as JSON (field 17).
            key, text = name.encode(), f"{value:g}".encode()
            assert bytes([len(key)]) + key + b"\x82\x01" + bytes([len(text)]) + text in written


def test_trackio_keeps_the_figures_in_its_own_folder(tmp_path):
    pytest.importorskip("trackio")
    offline("trackio", tmp_path / "run", TRACKIO_DIR=str(tmp_path / "trackio"))
    import sqlite3

    (database,) = (tmp_path / "trackio").glob("*.db")
    rows = sqlite3.connect(database).execute("select step, metrics from metrics order by step").fetchall()
    assert [(step, json.loads(text)) for step, text in rows] == [(1, NUMBERS), (2, NUMBERS)]


def test_mfu_is_that_of_the_published_figure():
    """fms-fsdp: Llama 2 7B at 4,096 tokens, 9,600 tokens/s on each of 96 H100, 46 % by its own count of FLOPs."""
    flops = PRESETS["llama-2-7b"].flops_per_token(4096)
    assert flops == pytest.approx(46.1e9, rel=0.01)
    assert Efficiency(flops, 96, 989.4, "H100").mfu(96 * 9600.0) == pytest.approx(0.447, abs=0.002)
    assert Efficiency(flops, 96, None, "cpu").mfu(1.0) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", 835.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA B200", 2250.0),
        ("NVIDIA GB200", None),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40", None),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 D", 147.1),
        ("NVIDIA GeForce RTX 3090 Ti", 80.0),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA RTX A4000", None),
        ("cpu", None),
    ],
)
def test_peaks_are_the_dense_ones(name, peak):
    assert known_peak_tflops(name) == peak


def test_no_mfu_on_a_cpu_nor_under_adapters():
    recipe = TrainRecipe(model="", corpus="", steps=1, sequences_per_step=1)
    config, world = PRESETS["smollm2-135m"], World(torch.device("cpu"))
    assert Efficiency.of(config, recipe, world).note is None
    adapters = TrainRecipe.model_validate(
        {"model": "", "corpus": "", "steps": 1, "sequences_per_step": 1, "lora": {}, "watch": {"peak_tflops": 1.0}}
    )
    assert Efficiency.of(config, adapters, world).mfu(1.0) is None


def test_a_device_that_emulates_bfloat16_is_told_of(monkeypatch):
    config, world = PRESETS["smollm2-135m"], World(torch.device("cpu"))

    def note(precision):
        recipe = TrainRecipe(model="", corpus="", steps=1, sequences_per_step=1, precision=precision)
        return Efficiency.of(config, recipe, world).note

    monkeypatch.setattr("codecria.training.metrics.native_bfloat16", lambda _: False)
    assert "emulated on this cpu" in note("bf16")
    assert "precision: auto takes float32" in note("bf16")
    assert note("auto") is note("fp32") is None
    monkeypatch.setattr("codecria.training.metrics.native_bfloat16", lambda _: True)
    assert note("bf16") is None


def test_memory_is_the_most_the_process_held():
    block = torch.ones(100_000_000)
    held = memory_gb(torch.device("cpu"))
    del block
    # The kernel counts pages in batches.
    assert 0.4 < held == pytest.approx(memory_gb(torch.device("cpu")), rel=1e-2)
