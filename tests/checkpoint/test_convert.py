import json
import shutil

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from codecria.checkpoint.convert import convert
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.model.config import PRESETS
from tests.checkpoint.folders import assert_same_logits, tiny, write_folder


@pytest.fixture
def folder(tmp_path):
    """A folder with keys, files, dtypes and a tensor that nothing here knows."""
    path = tmp_path / "hf"
    write_folder(path, tiny(num_kv_heads=2))
    config = json.loads((path / "config.json").read_text())
    config |= {"x_custom": {"b": 1e-7, "a": [None, "é"]}, "pretraining_tp": 1, "_name_or_path": "elsewhere"}
    (path / "config.json").write_text(json.dumps(config, indent=7))
    (path / "generation_config.json").write_text('{ "temperature": 0.60, "eos_token_id": 2}')
    (path / "LICENSE").write_text("MIT License\r\n")
    (path / "README.md").write_text("---\nlicense: mit\n---\n")
    (path / "added_tokens.json").write_text("{}")
    tensors = load_file(path / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].half()
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].bfloat16()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.tensor([1.0, 0.1, 0.01, 0.001])
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def files_of(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.suffix != ".safetensors"}


@pytest.mark.parametrize("shard_bytes", [5e9, 60_000])
def test_a_copy_keeps_every_byte(folder, tmp_path, shard_bytes):
    """Law 1: each tensor's name, dtype and bytes, every config key, tokenizer files byte for byte."""
    convert(folder, tmp_path / "copy", "huggingface", shard_bytes=shard_bytes)
    files = files_of(tmp_path / "copy")
    index = files.pop("model.safetensors.index.json", None)
    assert (index is None) == (shard_bytes == 5e9)
    assert files == files_of(folder)
    old, new = (
        {name: tensor for path in place.glob("*.safetensors") for name, tensor in load_file(path).items()}
        for place in (folder, tmp_path / "copy")
    )
    assert set(old) == set(new)
    for name, tensor in old.items():
        assert new[name].dtype == tensor.dtype
        assert torch.equal(new[name].view(torch.uint8), tensor.view(torch.uint8))


def test_a_copy_with_another_dtype_changes_that_key_alone(folder, tmp_path):
    convert(folder, tmp_path / "copy", "huggingface", torch.bfloat16)
    old, new = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "copy"))
    assert {key for key in new if new[key] != old.get(key)} == {"dtype"}
    assert list(new) == list(old)
    assert {tensor.dtype for _, tensor in open_checkpoint(tmp_path / "copy").tensors()} == {torch.bfloat16}


def test_a_base_period_given_for_a_folder_without_one_is_written(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CodecriaError, match="'rope_theta' is missing"):
        convert(folder, tmp_path / "copy", "huggingface")
    assert not (tmp_path / "copy").exists()
    convert(folder, tmp_path / "copy", "huggingface", rope_theta=1e6)
    assert open_checkpoint(tmp_path / "copy").config.rope_theta == 1e6


def test_all_routes_give_one_model(folder, tmp_path):
    """Hugging Face to GGUF to Hugging Face to GGUF: same numbers, same file."""
    convert(folder, tmp_path / "one.gguf", "gguf-f16")
    convert(tmp_path / "one.gguf", tmp_path / "back", "huggingface")
    config = tiny(num_kv_heads=2)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "back").eval()
    assert theirs.dtype == torch.float32
    assert_same_logits(load_model(open_checkpoint(folder)), theirs, config)
    (tmp_path / "two").mkdir()
    shutil.move(tmp_path / "back", tmp_path / "two" / "hf")
    convert(tmp_path / "two" / "hf", tmp_path / "two.gguf", "gguf-f16")
    one, two = (
        {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(tmp_path / name).tensors}
        for name in ("one.gguf", "two.gguf")
    )
    assert one == two


@pytest.mark.parametrize("kind", ["gguf-f16", "gguf-q8_0"])
def test_an_older_file_is_replaced(folder, tmp_path, kind):
    (tmp_path / "model.gguf").write_bytes(b"old")
    convert(folder, tmp_path / "model.gguf", kind)
    assert open_checkpoint(tmp_path / "model.gguf").config == tiny(num_kv_heads=2)


def test_what_cannot_be_meant_is_refused(folder, tmp_path):
    with pytest.raises(CodecriaError, match="source and target are the same"):
        convert(folder, folder, "huggingface")
    with pytest.raises(CodecriaError, match="GGUF files have no dtype to choose"):
        convert(folder, tmp_path / "model.gguf", "gguf-f16", torch.float32)
    with pytest.raises(CodecriaError, match="is a folder, not a file"):
        convert(folder, tmp_path, "gguf-f16")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(CodecriaError, match="holds something else than a checkpoint"):
        convert(folder, tmp_path / "other", "huggingface")


@pytest.mark.slow
def test_smollm2_in_transformers(smollm2_gguf, tmp_path):
    """The real model, dequantised, written and loaded by transformers: equal logits, equal ids, equal continuation."""
    from transformers import AutoTokenizer

    convert(smollm2_gguf, tmp_path / "hf", "huggingface")
    checkpoint = open_checkpoint(tmp_path / "hf")
    assert checkpoint.config == PRESETS["smollm2-135m"]
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "hf").eval()
    ours = load_model(checkpoint)
    text = "def fibonacci(n):\n    if n < 2:\n"
    ids = checkpoint.tokenizer.encode(text)
    assert AutoTokenizer.from_pretrained(tmp_path / "hf")(text)["input_ids"] == ids
    with torch.no_grad():
        batch = torch.tensor([ids])
        torch.testing.assert_close(ours.logits(ours(batch)), theirs(batch).logits, atol=1e-3, rtol=1e-4)
