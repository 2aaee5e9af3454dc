import pytest
from transformers import LlamaConfig

from codecria.checkpoint.config_json import new_config, read_config, update_config, with_dtype
from codecria.common.errors import CodecriaError
from codecria.model.config import RopeScaling
from tests.checkpoint.folders import VARIANTS, tiny

LLAMA_2 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "vocab_size": 400,
    "x_custom": {"a": [1, 2]},
}


def changed(**changes):
    values = {**LLAMA_2, **changes}
    return {key: value for key, value in values.items() if value is not ...}


def test_a_plain_config_is_read():
    assert read_config(LLAMA_2) == tiny()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_new_config_is_read_back_and_means_the_same_to_transformers(name):
    config = VARIANTS[name]
    values = new_config(config, 1, 2, "bfloat16")
    assert read_config(values) == config
    theirs = LlamaConfig.from_dict(values)
    assert theirs.rope_parameters["rope_theta"] == config.rope_theta
    kind = "default" if config.rope_scaling is None else config.rope_scaling.kind
    assert theirs.rope_parameters["rope_type"] == kind
    # What transformers 5 writes for it is read alike.
    assert read_config(theirs.to_dict()) == config


@pytest.mark.parametrize("name", VARIANTS)
def test_an_updated_config_means_the_new_model_and_keeps_the_rest(name):
    config = VARIANTS[name]
    for base in (LLAMA_2, {**LlamaConfig.from_dict(LLAMA_2).to_dict(), "x_custom": 1}):
        values = update_config(base, config)
        assert read_config(values) == config
        assert list(values)[: len(base)] == list(base)
        assert values["x_custom"] == base["x_custom"]
        assert LlamaConfig.from_dict(values).rope_parameters["rope_theta"] == config.rope_theta


def test_an_update_that_changes_nothing_changes_nothing():
    assert update_config(LLAMA_2, tiny()) == LLAMA_2
    assert update_config(changed(num_key_value_heads=...), tiny()) == changed(num_key_value_heads=...)
    nested = changed(rope_theta=..., rope_scaling=..., rope_parameters={"rope_theta": 1e4, "rope_type": "default"})
    assert update_config(nested, tiny()) == nested


def test_an_update_changes_only_what_differs():
    values = update_config(LLAMA_2, tiny(vocab_size=416, rope_theta=1e6))
    assert {key for key in values if values[key] != LLAMA_2.get(key)} == {"vocab_size", "rope_theta"}


def test_scaling_goes_away_with_an_update():
    scaled = changed(rope_scaling={"type": "linear", "factor": 4.0})
    assert update_config(scaled, tiny())["rope_scaling"] is None
    nested = changed(rope_theta=..., rope_scaling=..., rope_parameters={"rope_theta": 1e4, "rope_type": "linear"})
    nested["rope_parameters"]["factor"] = 2.0
    assert update_config(nested, tiny())["rope_parameters"] == {"rope_theta": 1e4, "rope_type": "default"}


def test_a_missing_base_period_is_asked_for_and_then_written_down():
    absent = changed(rope_theta=...)
    with pytest.raises(CodecriaError, match=r"'rope_theta' is missing; add it to config.json .*--rope-theta"):
        read_config(absent)
    assert read_config(absent, rope_theta=1e6).rope_theta == 1e6
    assert update_config(absent, tiny(rope_theta=1e6))["rope_theta"] == 1e6
    assert read_config(LLAMA_2, rope_theta=1e6).rope_theta == 1e4


def test_rope_parameters_of_transformers_5():
    values = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}
    values |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = read_config(changed(rope_theta=..., rope_scaling=..., rope_parameters=values))
    assert config.rope_theta == 5e5
    assert config.rope_scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)


def test_absent_optional_keys_have_transformers_defaults():
    values = changed(num_key_value_heads=..., tie_word_embeddings=..., hidden_act=...)
    assert read_config(values) == tiny()
    assert read_config(changed(head_dim=16)).head_dim == 16


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model_type": "mistral"}, "a model of the type 'mistral'; Llama models are read ('llama')"),
        ({"model_type": ...}, "a model of the type 'None'"),
        ({"attention_bias": True}, "'attention_bias' = True is not a plain Llama model's"),
        ({"mlp_bias": True}, "'mlp_bias' = True"),
        ({"hidden_act": "gelu"}, "'hidden_act' = 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config' is not a plain Llama model's"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rotary scaling 'dynamic'; 'linear' and 'llama3'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'factor' is missing"),
        ({"rope_scaling": "linear"}, "'rope_scaling' is a mapping, not 'linear'"),
        ({"rope_parameters": [1]}, "'rope_parameters' is a mapping, not [1]"),
        ({"vocab_size": ...}, "'vocab_size' is missing"),
        ({"vocab_size": "400"}, "'vocab_size' = '400' is not a positive whole number"),
        ({"num_hidden_layers": True}, "'num_hidden_layers' = True"),
        ({"rms_norm_eps": float("nan")}, "'rms_norm_eps' = nan is not a positive number"),
        ({"rope_theta": -1}, "'rope_theta' = -1"),
        ({"num_key_value_heads": 3}, "8 query heads do not divide over 3 key-value heads"),
        ({"hidden_size": 60}, "8 heads of 7 do not fit a width of 60"),
    ],
)
def test_what_is_no_plain_llama_is_named(changes, line):
    with pytest.raises(CodecriaError) as caught:
        read_config(changed(**changes), "folder/config.json")
    assert str(caught.value).startswith("folder/config.json: ")
    assert line in str(caught.value)


def test_the_dtype_keeps_its_key():
    assert with_dtype({"torch_dtype": "float16"}, "bfloat16") == {"torch_dtype": "bfloat16"}
    assert with_dtype({"dtype": "float16"}, "bfloat16") == {"dtype": "bfloat16"}
    assert with_dtype({}, "float32") == {"torch_dtype": "float32"}
