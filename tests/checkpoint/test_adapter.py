import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from codecria.checkpoint.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, save_adapter
from codecria.checkpoint.convert import convert
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.tokenizer.sentinels import find_sentinels
from tests.tiny import write_tiny_checkpoint

LAYER = "model.layers.1.mlp.up_proj"
PEFT = "base_model.model."


@pytest.fixture
def base(tmp_path):
    return write_tiny_checkpoint(tmp_path / "base")


def save(folder, base, **values):
    torch.manual_seed(0)
    down, up = torch.randn(4, 32), torch.randn(64, 4)
    rows = torch.randn(16, 32)
    layers = [(LAYER, down, up)]
    save_adapter(folder, layers, {"model.embed_tokens.weight": rows}, base=base, alpha=8.0, **values)
    return down.bfloat16().float(), up.bfloat16().float(), rows.bfloat16().float()


def test_an_adapter_opens_as_its_base_with_products_and_rows_added(base, tmp_path):
    down, up, rows = save(tmp_path / "adapter", str(base))
    plain, adapted = open_checkpoint(base), open_checkpoint(tmp_path / "adapter")
    before, after = load_model(plain).state_dict(), load_model(adapted).state_dict()
    torch.testing.assert_close(after[f"{LAYER}.weight"], before[f"{LAYER}.weight"] + 2.0 * up @ down)
    known = plain.tokenizer.vocab_size
    assert torch.equal(after["model.embed_tokens.weight"], torch.cat([before["model.embed_tokens.weight"], rows]))
    others = set(after) - {f"{LAYER}.weight", "model.embed_tokens.weight"}
    assert all(torch.equal(after[name], before[name]) for name in others)
    sentinels = find_sentinels(adapted.tokenizer)
    assert sentinels is not None
    assert sentinels.prefix == known
    assert adapted.config.vocab_size == adapted.tokenizer.vocab_size == known + 16


@pytest.mark.usefixtures("base")
def test_the_base_is_found_beside_the_adapter_and_converted_with_it(tmp_path):
    save(tmp_path / "adapter", "../base", changed={"rope_theta": 1e6, "max_positions": None})
    convert(tmp_path / "adapter", tmp_path / "merged", "huggingface")
    merged = open_checkpoint(tmp_path / "merged")
    assert merged.config.rope_theta == 1e6
    one, other = load_model(merged).state_dict(), load_model(open_checkpoint(tmp_path / "adapter")).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_peft_knows_the_names(base, tmp_path):
    """PEFT's keys: `base_model.model.` + the module's name + `.lora_A.weight` [rank, in]."""
    from safetensors import safe_open

    save(tmp_path / "adapter", str(base))
    config = json.loads((tmp_path / "adapter" / ADAPTER_CONFIG).read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8.0)
    assert config["target_modules"] == ["up_proj"]
    with safe_open(tmp_path / "adapter" / ADAPTER_WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == {
            f"base_model.model.{LAYER}.lora_A.weight",
            f"base_model.model.{LAYER}.lora_B.weight",
            "new_rows.model.embed_tokens.weight",
        }


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"peft_type": "IA3"}, "is no plain LoRA adapter: 'peft_type' = 'IA3'"),
        ({"bias": "all"}, "is no plain LoRA adapter: 'bias' = 'all'"),
        ({"use_rslora": True}, "is no plain LoRA adapter: 'use_rslora' = True; merge it"),
        ({"use_dora": True}, "is no plain LoRA adapter: 'use_dora' = True"),
        ({"fan_in_fan_out": True}, "is no plain LoRA adapter: 'fan_in_fan_out' = True"),
        ({"rank_pattern": {"up_proj": 4}}, "is no plain LoRA adapter: 'rank_pattern'"),
        ({"alpha_pattern": {"up_proj": 16}}, "is no plain LoRA adapter: 'alpha_pattern'"),
        ({"modules_to_save": ["lm_head"]}, "is no plain LoRA adapter: 'modules_to_save'"),
        ({"layer_replication": [[0, 2], [0, 2]]}, "is no plain LoRA adapter: 'layer_replication'"),
        ({"init_lora_weights": "pissa_niter_16"}, "is no plain LoRA adapter: 'init_lora_weights'"),
        ({"r": None}, "the key 'r' is missing"),
        ({"lora_alpha": "8"}, "'lora_alpha' = '8' is not a positive number"),
        ({"r": 8}, r"lora_A.weight' has the shape \[4, 32\], expected \[8, 32\]"),
        ({"base_model_name_or_path": ""}, "names no base model"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(base, tmp_path, changes, what):
    folder = tmp_path / "adapter"
    save(folder, str(base))
    path = folder / ADAPTER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CodecriaError, match=what):
        open_checkpoint(folder)


def test_what_peft_writes_for_plain_lora_is_taken(base, tmp_path):
    folder = tmp_path / "adapter"
    save(folder, str(base))
    path = folder / ADAPTER_CONFIG
    plain = {"use_rslora": False, "use_dora": False, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None}
    further = {"init_lora_weights": True, "layers_to_transform": [1], "layer_replication": None, "lora_bias": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | plain | further))
    assert open_checkpoint(folder).source.layers == {LAYER}


@pytest.mark.parametrize(
    ("name", "shape", "what"),
    [
        (f"{PEFT}model.embed_tokens.lora_embedding_A", (4, 600), "lora_embedding_A' is no plain LoRA adapter's"),
        (f"{PEFT}{LAYER}.lora_magnitude_vector", (64,), "lora_magnitude_vector' is no plain LoRA adapter's"),
        (f"{PEFT}lm_head.weight", (600, 32), "lm_head.weight' is no plain LoRA adapter's"),
        (f"{PEFT}model.layers.9.mlp.up_proj.lora_A.weight", (4, 32), "the base has no layer 'model.layers.9"),
        (f"{PEFT}model.layers.0.mlp.up_proj.lora_A.weight", (4, 32), "up_proj.lora_B.weight' is missing"),
        (f"{PEFT}{LAYER}.lora_A.weight", (4, 48), r"has the shape \[4, 48\], expected \[4, 32\]"),
        (f"{PEFT}{LAYER}.lora_B.weight", (32, 4), r"has the shape \[32, 4\], expected \[64, 4\]"),
    ],
)
def test_a_tensor_that_nothing_reads_is_one_clear_line(base, tmp_path, name, shape, what):
    folder = tmp_path / "adapter"
    save(folder, str(base))
    path = folder / ADAPTER_WEIGHTS
    save_file(load_file(path) | {name: torch.ones(shape)}, path)
    with pytest.raises(CodecriaError, match=what):
        open_checkpoint(folder)


def test_a_damaged_file_is_one_clear_line(base, tmp_path):
    folder = tmp_path / "adapter"
    save(folder, str(base))
    (folder / ADAPTER_WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(CodecriaError, match="cannot be read"):
        open_checkpoint(folder)


def test_an_adapters_chat_template_takes_the_place_of_its_bases(base, tmp_path):
    save(tmp_path / "adapter", str(base), chat_template="{{ messages }}\r\n")
    assert open_checkpoint(tmp_path / "adapter").tokenizer.chat_template == "{{ messages }}\r\n"
    save(tmp_path / "adapter", str(base))
    plain = open_checkpoint(base).tokenizer.chat_template
    assert open_checkpoint(tmp_path / "adapter").tokenizer.chat_template == plain
