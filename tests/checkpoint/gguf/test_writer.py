import gguf
import numpy as np
import pytest
import torch

from codecria.checkpoint.gguf.reader import read_gguf
from codecria.checkpoint.gguf.writer import export_gguf
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.checkpoint.rotary_order import neighbours_from_halves
from codecria.common.errors import CodecriaError
from tests.checkpoint.folders import VARIANTS, sample_ids, tiny, write_folder


def library_view(path):
    reader = gguf.GGUFReader(path)
    keys = {key: field.contents() for key, field in reader.fields.items()}
    return keys, {tensor.name: tensor for tensor in reader.tensors}


def test_an_f16_file_read_by_the_library(tmp_path):
    config = tiny(num_kv_heads=2, rope_theta=1e6)
    theirs = write_folder(tmp_path / "hf", config)
    export_gguf(open_checkpoint(tmp_path / "hf"), tmp_path / "model.gguf", "f16")
    keys, tensors = library_view(tmp_path / "model.gguf")
    wanted = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "hf",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_F16),
        "llama.vocab_size": 400,
        "llama.context_length": 256,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 8,
        "llama.attention.value_length": 8,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 1e6,
    }
    assert {key: keys[key] for key in wanted} == wanted
    assert keys["llama.attention.layer_norm_rms_epsilon"] == np.float32(1e-5)
    assert len(tensors) == 3 + 2 * 9
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert all(kind == ("F32" if "norm" in name else "F16") for name, kind in kinds.items())
    weights = theirs.state_dict()
    query = neighbours_from_halves(weights["model.layers.1.self_attn.q_proj.weight"], 8)
    key = neighbours_from_halves(weights["model.layers.1.self_attn.k_proj.weight"], 2)
    assert np.array_equal(tensors["blk.1.attn_q.weight"].data, query.half().numpy())
    assert np.array_equal(tensors["blk.1.attn_k.weight"].data, key.half().numpy())
    assert np.array_equal(tensors["output_norm.weight"].data, weights["model.norm.weight"].numpy())


def test_q8_0_blocks_are_the_librarys(tmp_path):
    theirs = write_folder(tmp_path / "hf", tiny())
    export_gguf(open_checkpoint(tmp_path / "hf"), tmp_path / "model.gguf", "q8_0")
    keys, tensors = library_view(tmp_path / "model.gguf")
    assert keys["general.file_type"] == int(gguf.LlamaFileType.MOSTLY_Q8_0)
    assert keys["general.quantization_version"] == gguf.GGML_QUANT_VERSION
    for ours, name in (("mlp.down_proj", "ffn_down"), ("self_attn.v_proj", "attn_v")):
        weight = theirs.state_dict()[f"model.layers.0.{ours}.weight"].numpy()
        blocks = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
        assert tensors[f"blk.0.{name}.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
        assert np.array_equal(tensors[f"blk.0.{name}.weight"].data, blocks)


def test_q8_0_changes_the_logits_little(tmp_path):
    config = tiny(num_kv_heads=4)
    write_folder(tmp_path / "hf", config)
    checkpoint = open_checkpoint(tmp_path / "hf")
    export_gguf(checkpoint, tmp_path / "model.gguf", "q8_0")
    ids = sample_ids(config)
    with torch.no_grad():
        exact, rounded = (
            model.logits(model(ids)).log_softmax(-1)
            for model in (load_model(checkpoint), load_model(open_checkpoint(tmp_path / "model.gguf")))
        )
    divergence = (exact.exp() * (exact - rounded)).sum(-1).mean()
    assert 0 < divergence < 5e-3


def test_rows_that_fill_no_block_stay_half_precision(tmp_path):
    write_folder(tmp_path / "hf", tiny(intermediate_size=80))
    export_gguf(open_checkpoint(tmp_path / "hf"), tmp_path / "model.gguf", "q8_0")
    kinds = {name: info.kind.name for name, info in read_gguf(tmp_path / "model.gguf").tensors.items()}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"


@pytest.mark.parametrize("name", ["linear scaling", "llama3 scaling"])
def test_rotary_scaling_as_llama_cpp_reads_it(name, tmp_path):
    write_folder(tmp_path / "hf", VARIANTS[name])
    export_gguf(open_checkpoint(tmp_path / "hf"), tmp_path / "model.gguf", "f16")
    keys, tensors = library_view(tmp_path / "model.gguf")
    if name == "linear scaling":
        assert (keys["llama.rope.scaling.type"], keys["llama.rope.scaling.factor"]) == ("linear", 4.0)
        assert "rope_freqs.weight" not in tensors
        return
    # llama.cpp scales by every `rope.scaling.factor` it finds, whatever the type: only the divisors may stand here.
    assert "llama.rope.scaling.type" not in keys
    assert "llama.rope.scaling.factor" not in keys
    factors = tensors["rope_freqs.weight"].data
    assert factors.dtype == np.float32
    assert factors.shape == (4,)
    assert factors[0] == 1.0
    assert factors[-1] == 8.0


@pytest.mark.parametrize(("kind", "value"), [("f16", 1e5), ("q8_0", float("nan")), ("f16", float("inf"))])
def test_a_number_that_the_format_cannot_hold_is_named_and_nothing_is_written(tmp_path, kind, value):
    model = write_folder(tmp_path / "hf", tiny())
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = value
    model.save_pretrained(tmp_path / "hf")
    with pytest.raises(CodecriaError, match=r"'model.layers.1.mlp.up_proj.weight' holds"):
        export_gguf(open_checkpoint(tmp_path / "hf"), tmp_path / "model.gguf", kind)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
