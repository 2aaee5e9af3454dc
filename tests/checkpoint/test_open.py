import json
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from codecria.checkpoint.gguf.reader import read_gguf
from codecria.checkpoint.gguf.writer import export_gguf
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.checkpoint.tensors import expected_shapes
from codecria.common.errors import CodecriaError
from codecria.model.config import PRESETS
from tests.checkpoint.folders import tiny, write_folder


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "hf", tiny(tied_embeddings=True))
    return tmp_path / "hf"


def edit(path, **changes):
    values = json.loads(path.read_text())
    values |= changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def test_the_default_model_by_name(smollm2_gguf, tmp_path, monkeypatch):
    monkeypatch.setenv("CODECRIA_CACHE", str(tmp_path))
    place = tmp_path / "models" / "smollm2-135m"
    place.mkdir(parents=True)
    (place / smollm2_gguf.name).symlink_to(smollm2_gguf)
    for name in ("smollm2-135m", "SmolLM2-135M", place):
        checkpoint = open_checkpoint(name)
        assert checkpoint.config == PRESETS["smollm2-135m"]
    assert checkpoint.ending_ids == [2]
    assert len(checkpoint.tensor_names()) == 272


def test_the_model_has_the_dtype_asked_for(folder):
    model = load_model(open_checkpoint(folder), torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    assert load_model(open_checkpoint(folder)).lm_head is None
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CodecriaError, match=r"'lm_head.weight' differs from 'model.embed_tokens.weight'; set it to"):
        load_model(open_checkpoint(folder))
    edit(folder / "config.json", tie_word_embeddings=False)
    assert load_model(open_checkpoint(folder)).lm_head is not None


def test_a_vocabulary_that_does_not_fit_is_named(folder):
    edit(folder / "config.json", vocab_size=416)
    with pytest.raises(
        CodecriaError, match=r"'vocab_size' is 416, but tensor 'model.embed_tokens.weight' has 400 rows"
    ):
        open_checkpoint(folder)


def test_a_tokenizer_with_more_ids_than_rows_is_named(folder):
    """Code Llama 34B's defect: a tokenizer of 32004 ids beside 32000 rows."""
    tokens = [{"id": 380 + place, "content": f"<extra_{place}>", "special": True} for place in range(21)]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    definition = json.loads((folder / "tokenizer.json").read_text())
    added = definition["added_tokens"]
    added += [token | flags for token in tokens[:20]]
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    open_checkpoint(folder)
    added.append(tokens[20] | flags)
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(CodecriaError, match="the tokenizer has ids up to 400, but the embedding has 400 rows"):
        open_checkpoint(folder)


def test_paths_that_are_no_checkpoint_are_named(folder, tmp_path):
    with pytest.raises(CodecriaError, match="no such checkpoint and no such name; did you mean 'codellama-7b'"):
        open_checkpoint("code-llama-7b")
    with pytest.raises(CodecriaError, match="no such checkpoint and no such name; `codecria models` lists"):
        open_checkpoint("./nowhere")
    with pytest.raises(CodecriaError, match="is no checkpoint's folder and no GGUF file; name the checkpoint's folder"):
        open_checkpoint(folder / "model.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CodecriaError, match=r"no config.json, no params.json and no .gguf files"):
        open_checkpoint(tmp_path / "empty")
    (tmp_path / "a.gguf").write_bytes(b"")
    (tmp_path / "b.gguf").write_bytes(b"")
    with pytest.raises(CodecriaError, match=r"and 2 .gguf files; name one of the files"):
        open_checkpoint(tmp_path)


def test_a_gguf_file_needs_no_suffix(folder, tmp_path):
    export_gguf(open_checkpoint(folder), tmp_path / "model", "f16")
    assert open_checkpoint(tmp_path / "model").kind == "gguf"


def test_a_device_without_room_is_one_line(folder):
    checkpoint = open_checkpoint(folder)
    device = "cuda:9" if torch.cuda.is_available() else "cuda"
    with pytest.raises(
        CodecriaError, match=r"0.0 GB of weights do not go to cuda.*; use a smaller model, a 16-bit dtype"
    ):
        load_model(checkpoint, device=device)


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    write_folder(folder / "hf", tiny())
    export_gguf(open_checkpoint(folder / "hf"), folder / "model.gguf", "q8_0")
    return folder / "model.gguf"


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_gguf_never_loads(gguf_file, tmp_path, share):
    file = read_gguf(gguf_file)
    end = max(info.offset + info.size for info in file.tensors.values())
    (tmp_path / "cut.gguf").write_bytes(gguf_file.read_bytes()[: int(share * end)])
    with pytest.raises(CodecriaError):
        open_checkpoint(tmp_path / "cut.gguf")


@given(place=st.floats(0, 1), data=st.binary(min_size=1, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_gguf_is_opened_or_refused_never_a_crash(gguf_file, tmp_path, place, data):
    content = bytearray(gguf_file.read_bytes())
    header = min(info.offset for info in read_gguf(gguf_file).tensors.values())
    start = int(place * (header - len(data)))
    content[start : start + len(data)] = data
    (tmp_path / "damaged.gguf").write_bytes(content)
    try:
        checkpoint = open_checkpoint(tmp_path / "damaged.gguf")
    except CodecriaError as error:
        assert "\n" not in str(error)
        return
    load_model(checkpoint)


_MEASURE = """
import sys, torch
torch.set_num_threads(1)
from codecria.checkpoint.open import load_model, open_checkpoint

def kilobytes(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

checkpoint = open_checkpoint(sys.argv[1])
checkpoint.tokenizer.encode("warm")
torch.ones(10).add_(1)
open("/proc/self/clear_refs", "w").write("5")
before = kilobytes("VmRSS")
model = load_model(checkpoint, getattr(torch, sys.argv[2]))
held = sum(parameter.nbytes for parameter in model.parameters())
print(held, (kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        ("float32", "float32"),
        pytest.param("bfloat16", "float32", marks=pytest.mark.slow),
        pytest.param("float32", "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_loading_takes_the_memory_of_one_copy(tmp_path, stored, dtype):
    """300 MB in float32: the peak of resident memory, mapped pages of the file included, stays below 1.2 copies."""
    config = tiny(hidden_size=1024, intermediate_size=2816, num_layers=5, head_dim=128, vocab_size=4000)
    write_folder(tmp_path / "hf", tiny())
    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 5, "head_dim": 128}
    edit(tmp_path / "hf" / "config.json", vocab_size=4000, **sizes)
    tensors = {name: torch.full(shape, 0.5, dtype=getattr(torch, stored)) for name, shape in expected_shapes(config)}
    save_file(tensors, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    del tensors
    command = [sys.executable, "-c", _MEASURE, str(tmp_path / "hf"), dtype]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    held, peak = map(int, result.stdout.split())
    assert held == config.parameter_count() * (4 if dtype == "float32" else 2)
    assert held > (280e6 if dtype == "float32" else 140e6)
    assert peak < 1.2 * held


def test_bfloat16_weights_are_the_float32_ones_rounded(folder):
    checkpoint = open_checkpoint(folder)
    exact, rounded = load_model(checkpoint), load_model(checkpoint, torch.bfloat16)
    for (name, one), (_, other) in zip(exact.named_parameters(), rounded.named_parameters(), strict=True):
        assert torch.equal(one.bfloat16(), other), name
