"""Every bad input gives one clear line (what, where, the mend) and status 1; nothing already made is lost."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file, save_file

from codecria.checkpoint.convert import convert
from tests.tiny import write_tiny_corpus


def one_line(result, *fragments):
    status, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in lines[0]
    return lines[0]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_tiny_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.fixture
def stage(tmp_path, plain_model, corpus):
    """A recipe file for one training step."""

    def write(**changes):
        values = {"model": str(plain_model), "corpus": str(corpus), "steps": 1, "sequences_per_step": 1}
        path = tmp_path / "stage.yaml"
        path.write_text(yaml.safe_dump(values | changes))
        return path

    return write


def test_missing_file(run, infill_model, tmp_path):
    one_line(
        run("infill", f"{tmp_path}/none.py:1:1", "--model", infill_model), "none.py", "no such file", "check the path"
    )


def test_missing_model(run):
    one_line(run("complete", "x", "--model", "smollm2-135n"), "smollm2-135n", "smollm2-135m")


def test_truncated_gguf(run, plain_model, tmp_path):
    whole, cut = tmp_path / "whole.gguf", tmp_path / "cut.gguf"
    convert(plain_model, whole, "gguf-f16")
    cut.write_bytes(whole.read_bytes()[:-1000])
    one_line(run("complete", "x", "--model", cut), "cut.gguf")


def test_wrong_vocabulary_size(run, plain_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(plain_model, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:-7].clone()
    save_file(tensors, folder / "model.safetensors")
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    one_line(run("complete", "x", "--model", folder), str(rows), str(rows - 7))


def test_unknown_recipe_key(run, stage, tmp_path):
    path = stage(optimizer={"peak_rate": 1e-4})
    line = one_line(run("train", path, "--out", tmp_path / "run"), "stage.yaml:", "unknown key 'optimizer'")
    assert "did you mean 'optimiser'?" in line
    assert not (tmp_path / "run").exists()


def test_rotary_base_missing(run, plain_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(plain_model, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_theta"]
    (folder / "config.json").write_text(json.dumps(config))
    one_line(run("convert", folder, tmp_path / "out"), "config.json", "rope_theta")
    assert not (tmp_path / "out").exists()


def test_empty_corpus(run, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "blob.py").write_bytes(b"\x00\x01" * 100)
    one_line(run("corpus", "build", tmp_path / "code", "--out", tmp_path / "corpus"), "corpus")
    assert not (tmp_path / "corpus").exists()


def test_training_on_no_corpus(run, stage, tmp_path):
    short = {"sequence_tokens": 256}
    recipe = stage(corpus=str(tmp_path), batches=short)
    one_line(run("train", recipe, "--out", tmp_path / "run"), "no corpus", "codecria corpus build")


def test_unreadable_file(run, infill_model, tmp_path):
    (tmp_path / "latin.py").write_bytes("naïve".encode("latin-1"))
    one_line(run("infill", f"{tmp_path}/latin.py:1:1", "--model", infill_model), "latin.py", "not UTF-8 at byte 2")
    one_line(run("infill", f"{tmp_path}:1:1", "--model", infill_model), str(tmp_path), "is a folder")
    if os.geteuid():
        (tmp_path / "latin.py").chmod(0)
        one_line(run("infill", f"{tmp_path}/latin.py:1:1", "--model", infill_model), "permission denied")


@pytest.mark.parametrize("command", ["complete", "infill"])
def test_standard_input_that_is_not_utf_8(run, infill_model, command):
    stdin = "naïve <FILL>".encode("latin-1")
    result = run(command, "-", "--model", infill_model, stdin=stdin)
    one_line(result, "standard input: not UTF-8 at byte 2", "convert it first")


def test_disk_full(plain_model, tmp_path):
    """A tmpfs of 64 kB; the checkpoint is larger. What was there before stays."""
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=64k none {small} && echo kept > {small}/before && "
        f"{sys.executable} -m codecria.cli.main convert {plain_model} {small}/out; status=$?; "
        f"cat {small}/before; ls -A {small}; exit $status"
    )
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    one_line((done.returncode, done.stdout, done.stderr), "no space left on the disk", str(small))
    assert done.stdout.split() == ["kept", "before"]


@pytest.mark.parametrize(
    ("place", "fragment"),
    [
        ("9:1", "line 9 of 3"),
        ("0:1", "line 0 of 3"),
        ("1:8", "column 8 of a line with 5 characters; COL is 1 to 6"),
        ("1:0", "column 0"),
        ("x:1", "FILE:LINE:COL"),
    ],
)
def test_cursor_outside_the_file(run, infill_model, tmp_path, place, fragment):
    (tmp_path / "code.py").write_text("a = 1\nb = 2\n")
    one_line(run("infill", f"{tmp_path}/code.py:{place}", "--model", infill_model), "code.py", fragment)


def test_model_without_infill_tokens(run, plain_model, tmp_path):
    (tmp_path / "code.py").write_text("a = 1\n")
    one_line(run("infill", f"{tmp_path}/code.py:1:1", "--model", plain_model), "infill", "codecria models")
    assert (tmp_path / "code.py").read_text() == "a = 1\n"


def test_mark_missing_from_standard_input(run, infill_model):
    one_line(run("infill", "-", "--model", infill_model, stdin="no mark"), "standard input", "0 times")


@pytest.mark.parametrize("command", ["complete", "chat"])
def test_standard_input_that_is_no_text(run, plain_model, command):
    one_line(run(command, "--model", plain_model, stdin=b"x = 'caf\xe9'\n"), "standard input", "not UTF-8 at byte 8")


def test_unknown_task(run, plain_model):
    one_line(run("evaluate", "--model", plain_model, "--tasks", "human_evil"), "did you mean 'human_eval'?")


def test_another_recipe_in_a_pipeline_s_folder(run, tmp_path):
    (tmp_path / "recipe.yaml").write_text("title: x\n")
    one_line(run("demo", "--out", tmp_path), "recipe.yaml")
