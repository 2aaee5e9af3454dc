import itertools
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch

from codecria.checkpoint.gguf.blocks import dequantise
from codecria.checkpoint.gguf.model import GgufTensors, gguf_names, read_gguf_config, rope_factors
from codecria.checkpoint.gguf.reader import GgufFile, read_gguf
from codecria.checkpoint.gguf.types import BLOCK_TYPES, F32
from codecria.checkpoint.gguf.vocabulary import add_tokenizer
from codecria.checkpoint.gguf.writer import add_hyperparameters, export_gguf
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.checkpoint.rotary_order import halves_from_neighbours, neighbours_from_halves
from codecria.checkpoint.tensors import expected_shapes
from codecria.common.errors import CodecriaError
from codecria.model.config import PRESETS
from codecria.tokenizer.tokenizer import Tokenizer
from tests.checkpoint.folders import VARIANTS, assert_same_logits, tiny, write_folder, write_tokenizer


@pytest.mark.parametrize("name", VARIANTS)
def test_hugging_face_to_gguf_and_back_loses_nothing(name, tmp_path):
    config = VARIANTS[name]
    theirs = write_folder(tmp_path / "hf", config)
    export_gguf(open_checkpoint(tmp_path / "hf"), tmp_path / "model.gguf", "f16")
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    assert checkpoint.kind == "gguf"
    assert checkpoint.config == config
    weights = theirs.state_dict()
    names = set(weights) - ({"lm_head.weight"} if config.tied_embeddings else set())
    assert set(checkpoint.tensor_names()) == names
    for tensor_name, tensor in checkpoint.tensors():
        assert torch.equal(tensor.float(), weights[tensor_name])
    assert_same_logits(load_model(checkpoint), theirs, config)


def test_smollm2_equals_the_library_to_the_bit(smollm2_gguf, smollm2_library):
    file = read_gguf(smollm2_gguf)
    reader = {tensor.name: tensor for tensor in smollm2_library[0].tensors}
    for name, info in file.tensors.items():
        theirs = gguf.quants.dequantize(reader[name].data, reader[name].tensor_type)
        ours = dequantise(torch.from_numpy(file.blocks(name)), info.kind).numpy()
        assert np.array_equal(ours.view(np.uint32), theirs.reshape(ours.shape).view(np.uint32)), name


def test_smollm2_has_the_shape_and_the_rotary_order_of_hugging_face(smollm2_gguf):
    checkpoint = open_checkpoint(smollm2_gguf)
    assert checkpoint.config == PRESETS["smollm2-135m"]
    assert checkpoint.licence == "apache-2.0"
    stored = torch.from_numpy(
        gguf.quants.dequantize(read_gguf(smollm2_gguf).blocks("blk.3.attn_k.weight"), gguf.GGMLQuantizationType.Q4_1)
    )
    ours = checkpoint.source.read("model.layers.3.self_attn.k_proj.weight", None)
    assert not torch.equal(ours, stored)
    assert torch.equal(neighbours_from_halves(ours, 3), stored)
    # One head, first rows: Hugging Face's row 1 is the file's row 2, its row 32 the file's row 1.
    assert torch.equal(ours[1], stored[2])
    assert torch.equal(ours[32], stored[1])


def test_a_file_of_all_block_types(tmp_path):
    """Q4_K_M and the like mix types; widths of 256 hold their super-blocks. Random blocks with small scales."""
    config = tiny(hidden_size=256, intermediate_size=512, head_dim=32, num_kv_heads=2, num_layers=4)
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    add_hyperparameters(writer, config)
    add_tokenizer(writer, tokenizer, [2], config.vocab_size, tmp_path)
    rng = np.random.default_rng(0)
    theirs = {}
    kinds = itertools.cycle(kind for kind in BLOCK_TYPES.values() if kind.numbers > 1)
    names = gguf_names(config.num_layers)
    for name, shape in expected_shapes(config):
        kind = F32 if len(shape) == 1 else next(kinds)
        code = gguf.GGMLQuantizationType(kind.code)
        if kind is F32:
            data = rng.standard_normal(shape).astype(np.float32)
        else:
            data = rng.integers(0, 256, (shape[0], shape[1] // kind.numbers, kind.size), dtype=np.uint8)
            scales = {"Q6_K": [208], "Q4_0": [0], "Q5_0": [0], "Q8_0": [0]}.get(kind.name, [0, 2])
            for start in scales:
                data[..., start : start + 2] = np.full(1, 0.01, np.float16).view(np.uint8)
            data = data.reshape(shape[0], -1)
        writer.add_tensor(names[name], data, raw_dtype=code)
        theirs[name] = torch.from_numpy(gguf.quants.dequantize(data, code).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert len({info.kind for info in read_gguf(tmp_path / "model.gguf").tensors.values()}) == 9
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    assert checkpoint.config == config
    for name, parameter in load_model(checkpoint).named_parameters():
        heads = {"q_proj": 8, "k_proj": 2}.get(name.split(".")[-2])
        wanted = theirs[name] if heads is None else halves_from_neighbours(theirs[name], heads)
        assert torch.equal(parameter.detach(), wanted), name


def with_keys(path, *without, tensors=None, **keys) -> GgufFile:
    file = read_gguf(path)
    metadata = {key: value for key, value in file.metadata.items() if key not in without}
    metadata |= {key.replace("__", "."): value for key, value in keys.items()}
    return replace(file, metadata=metadata, tensors=file.tensors if tensors is None else tensors)


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_folder(folder / "hf", tiny(num_kv_heads=2))
    export_gguf(open_checkpoint(folder / "hf"), folder / "model.gguf", "q8_0")
    return folder / "model.gguf"


@pytest.mark.parametrize(
    ("without", "keys", "line"),
    [
        ((), {"general__architecture": "qwen2"}, "a model of the architecture 'qwen2'; 'llama' is read"),
        (("llama.block_count",), {}, "the key 'llama.block_count' is missing"),
        ((), {"llama__block_count": "two"}, "'llama.block_count' = 'two' is not a positive whole number"),
        ((), {"llama__block_count": 2**31}, "'llama.block_count' = 2147483648, but the file has 21 tensors"),
        ((), {"llama__attention__head_count": 0}, "'llama.attention.head_count' = 0 is not a positive"),
        ((), {"llama__attention__head_count_kv": 3}, "attention that cannot be: 8 heads, 3 key-value heads"),
        ((), {"llama__attention__value_length": 4}, "'llama.attention.value_length' = 4, but the heads are 8 wide"),
        ((), {"llama__rope__freq_base": float("nan")}, "'llama.rope.freq_base' = nan is not a positive number"),
        ((), {"llama__rope__scaling__type": "yarn"}, "rotary scaling 'yarn'; 'linear' and 'llama3' are read"),
        ((), {"llama__expert_count": 8}, "a mixture of experts"),
    ],
)
def test_metadata_that_describes_no_llama_model_is_named(tiny_gguf, without, keys, line):
    with pytest.raises(CodecriaError) as caught:
        read_gguf_config(with_keys(tiny_gguf, *without, **keys))
    assert line in str(caught.value)
    assert str(tiny_gguf) in str(caught.value)


def test_a_missing_base_period_is_llama_2s_but_never_code_llamas(tiny_gguf):
    absent = with_keys(tiny_gguf, "llama.rope.freq_base")
    assert read_gguf_config(absent).rope_theta == 1e4
    assert read_gguf_config(absent, rope_theta=1e6).rope_theta == 1e6
    code_llama = with_keys(tiny_gguf, "llama.rope.freq_base", llama__vocab_size=32_016)
    with pytest.raises(CodecriaError, match=r"the vocabulary is Code Llama's; .*--rope-theta"):
        read_gguf_config(code_llama)
    assert read_gguf_config(code_llama, rope_theta=1e6).rope_theta == 1e6
    python = with_keys(tiny_gguf, "llama.rope.freq_base", llama__context_length=16_384)
    with pytest.raises(CodecriaError, match=r"16384 positions without a scaling are Code Llama's; .*--rope-theta"):
        read_gguf_config(python)
    assert read_gguf_config(python, rope_theta=1e6).rope_theta == 1e6
    keys = {"llama__context_length": 16_384, "llama__rope__scale_linear": 8.0}
    assert read_gguf_config(with_keys(tiny_gguf, "llama.rope.freq_base", **keys)).rope_theta == 1e4


def test_the_old_key_for_linear_scaling_is_read(tiny_gguf):
    scaled = read_gguf_config(with_keys(tiny_gguf, llama__rope__scale_linear=4.0))
    assert scaled.rope_scaling is not None
    assert (scaled.rope_scaling.kind, scaled.rope_scaling.factor) == ("linear", 4.0)


def test_a_foreign_tensor_is_named(tiny_gguf):
    file = read_gguf(tiny_gguf)
    info = file.tensors["blk.0.attn_q.weight"]
    foreign = with_keys(tiny_gguf, tensors={**file.tensors, "blk.0.attn_q.bias": info})
    with pytest.raises(CodecriaError, match=r"tensor 'blk.0.attn_q.bias' has no place in a Llama model"):
        GgufTensors(foreign, read_gguf_config(foreign))


def test_other_rotary_divisors_than_llama_3s_are_refused(tmp_path):
    config = VARIANTS["llama3 scaling"]
    write_folder(tmp_path / "hf", config)
    export_gguf(open_checkpoint(tmp_path / "hf"), tmp_path / "model.gguf", "f16")
    file = read_gguf(tmp_path / "model.gguf")
    factors = torch.from_numpy(file.blocks("rope_freqs.weight")).view(torch.float32)
    torch.testing.assert_close(factors, rope_factors(config))
    factors[1] *= 1.5
    with pytest.raises(CodecriaError, match="is not the 'llama3' scaling"):
        read_gguf_config(file)


def test_names_are_those_of_the_library():
    tensor_map = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 3)
    for ours, theirs in gguf_names(3).items():
        assert tensor_map.get_name(ours, try_suffixes=(".weight",)) == theirs
