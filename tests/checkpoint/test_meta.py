import json
import pickle
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from codecria.checkpoint.convert import convert
from codecria.checkpoint.meta import feed_forward_size, open_meta
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.model.config import PRESETS
from tests.checkpoint.folders import assert_same_logits, tiny, transformers_model, write_meta

ROWS = 32_000
GROUPED = tiny(vocab_size=ROWS, hidden_size=64, max_positions=4096)


@pytest.fixture(scope="module")
def theirs():
    model = transformers_model(GROUPED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


@pytest.fixture
def release(tmp_path, llama_tokenizer_folder):
    """Meta's release has one tokenizer.model above the models' folders."""
    shutil.copyfile(llama_tokenizer_folder / "tokenizer.model", tmp_path / "tokenizer.model")
    return tmp_path / "model"


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_parts_are_joined(release, theirs, parts):
    write_meta(release, theirs, GROUPED, parts)
    checkpoint = open_checkpoint(release)
    assert checkpoint.kind == "meta"
    assert checkpoint.config == GROUPED
    assert checkpoint.tokenizer.bos_ids == [1]
    weights = theirs.state_dict()
    assert set(checkpoint.tensor_names()) == set(weights)
    for name, tensor in checkpoint.tensors():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor.float(), weights[name]), name
    assert_same_logits(load_model(checkpoint), theirs, GROUPED)


def test_grouped_queries_in_parts_become_a_hugging_face_folder(release):
    config = tiny(vocab_size=ROWS, num_kv_heads=4, rope_theta=1e6, max_positions=16_384)
    theirs = transformers_model(config)
    write_meta(release, theirs, config, 2, {"rope_theta": 1e6})
    convert(release, release.parent / "hf", "huggingface")
    checkpoint = open_checkpoint(release.parent / "hf")
    assert checkpoint.config == config
    assert checkpoint.hf_config["torch_dtype"] == "bfloat16"
    again = LlamaForCausalLM.from_pretrained(release.parent / "hf", dtype=torch.float32).eval()
    assert_same_logits(load_model(checkpoint), again, config)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name].bfloat16().float())


def test_a_licence_beside_the_tokenizer_counts(release, theirs):
    write_meta(release, theirs, GROUPED, 1)
    (release.parent / "LICENSE").write_text("LLAMA 2 COMMUNITY LICENSE AGREEMENT")
    assert open_checkpoint(release).licence == "llama2"


def params_of(release) -> dict:
    return json.loads((release / "params.json").read_text())


def test_code_llamas_vocabulary_must_state_its_base_period(release):
    config = tiny(vocab_size=32_016, hidden_size=32)
    write_meta(release, transformers_model(config), config, 1, {"ffn_dim_multiplier": 1.0})
    mend = r"'rope_theta' is missing and the vocabulary of 32016 is Code Llama's; add it to params.json .*--rope-theta"
    with pytest.raises(CodecriaError, match=mend):
        open_meta(release, params_of(release), None)
    opened, _ = open_meta(release, params_of(release), 1e6)
    assert (opened.rope_theta, opened.max_positions) == (1e6, 16_384)
    opened, _ = open_meta(release, {**params_of(release), "rope_theta": 1e4}, 1e6)
    assert (opened.rope_theta, opened.max_positions) == (1e4, 4096)


@pytest.mark.parametrize("name", ["llama-2-7b", "codellama-13b", "codellama-34b", "llama-2-70b"])
def test_feed_forward_sizes_of_the_released_models(name):
    """params.json: 256 for 7B and 13B; 34B has multiplier 1.0 and 256, 70B 1.3 and 4096 (Llama 2, Code Llama)."""
    config = PRESETS[name]
    multiple, multiplier = (4096, 1.3) if name.endswith("70b") else (256, 1.0)
    assert feed_forward_size(config.hidden_size, multiple, multiplier) == config.intermediate_size


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"n_layers": None}, "'n_layers' is missing"),
        ({"n_layers": 3}, "tensor 'model.layers.2.input_layernorm.weight' is missing"),
        ({"n_layers": 1}, "tensor 'layers.1.attention.wk.weight' has no place"),
        ({"n_heads": 7}, "7 heads and 8 key-value heads do not fit a width of 64"),
        ({"n_heads": 16, "n_kv_heads": 8}, "tensor 'model.layers.0.self_attn.k_proj.weight' has the shape [64, 64]"),
        ({"dim": 32}, "tensor 'model.embed_tokens.weight' has the shape [32000, 64], expected [32000, 32]"),
        ({"vocab_size": 32_016}, "'vocab_size' = 32016, but the output matrix has 32000 rows"),
        (
            {"multiple_of": 64},
            "tensor 'model.layers.0.mlp.gate_proj.weight' has the shape [96, 64], expected [128, 64]",
        ),
        ({"ffn_dim_multiplier": "x"}, "'ffn_dim_multiplier' = 'x' is not a positive number"),
        ({"rope_theta": 0}, "'rope_theta' = 0 is not a positive number"),
    ],
)
def test_params_that_do_not_fit_are_named(release, theirs, change, line):
    write_meta(release, theirs, GROUPED, 2)
    values = {key: value for key, value in {**params_of(release), **change}.items() if value is not None}
    (release / "params.json").write_text(json.dumps(values))
    with pytest.raises(CodecriaError) as caught:
        open_checkpoint(release)
    assert line in str(caught.value)


def test_missing_parts_and_a_missing_tokenizer_are_named(release, theirs):
    write_meta(release, theirs, GROUPED, 4)
    (release / "consolidated.01.pth").unlink()
    with pytest.raises(CodecriaError, match=r"consolidated.01.pth is missing; all parts belong in one folder"):
        open_checkpoint(release)
    (release / "consolidated.03.pth").rename(release / "consolidated.01.pth")
    with pytest.raises(CodecriaError, match="3 parts: Meta's models have 1, 2, 4 or 8"):
        open_checkpoint(release)
    for path in release.glob("*.pth"):
        path.unlink()
    with pytest.raises(CodecriaError, match=r"consolidated.00.pth is missing"):
        open_checkpoint(release)
    write_meta(release, theirs, GROUPED, 1)
    (release.parent / "tokenizer.model").unlink()
    with pytest.raises(CodecriaError, match=r"no tokenizer.model here or in the folder above"):
        open_checkpoint(release)


def test_parts_of_different_models_are_refused(release, theirs):
    write_meta(release, theirs, GROUPED, 2)
    part = torch.load(release / "consolidated.01.pth")
    part["norm.weight"] = part["norm.weight"] + 1
    torch.save(part, release / "consolidated.01.pth")
    with pytest.raises(CodecriaError, match=r"tensor 'norm.weight' differs between the parts"):
        load_model(open_checkpoint(release))
    del part["norm.weight"]
    torch.save(part, release / "consolidated.01.pth")
    with pytest.raises(CodecriaError, match=r"tensor 'norm.weight' is not in every part"):
        open_checkpoint(release)


class Harmful:
    def __reduce__(self):
        return (print, ("code of a stranger ran",))


def test_a_pickle_that_runs_code_is_not_loaded(release, theirs, capsys):
    write_meta(release, theirs, GROUPED, 1)
    torch.save({"norm.weight": Harmful()}, release / "consolidated.00.pth")
    with pytest.raises(CodecriaError, match="holds more than tensors, or is damaged: it is not loaded"):
        open_checkpoint(release)
    (release / "consolidated.00.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CodecriaError):
        open_checkpoint(release)
    torch.save([torch.ones(2)], release / "consolidated.00.pth")
    with pytest.raises(CodecriaError, match="holds no table of tensors"):
        open_checkpoint(release)
    assert "stranger" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meta")
    write_meta(folder, transformers_model(tiny()), tiny(), 1)
    return folder


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_part_never_loads(small, tmp_path, share):
    data = (small / "consolidated.00.pth").read_bytes()
    (tmp_path / "consolidated.00.pth").write_bytes(data[: int(share * len(data))])
    with pytest.raises(CodecriaError, match=r"not loaded|damaged or cut off"):
        open_meta(tmp_path, params_of(small), None)
