import json
import shutil

import gguf
import pytest

from codecria.checkpoint.gguf.reader import read_gguf
from codecria.checkpoint.gguf.vocabulary import LAST_SCORE, add_tokenizer, pre_tokenizer_name, scores
from codecria.checkpoint.gguf.writer import export_gguf
from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.checkpoint.source import Description
from codecria.common.errors import CodecriaError
from codecria.model.transformer import Transformer
from codecria.tokenizer.sentencepiece import read_model
from codecria.tokenizer.sentinels import add_sentinels, find_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.checkpoint.folders import tiny, write_folder

TEXTS = [
    "def f(x):\n    return x  # 12 345\n",
    "  naïve ▁ łódź 漢字 🦙\t\r\n",
    "",
    " ",
    "        a",
    "<|im_end|><0x0A>",
]

# Code Llama's rows 32000 to 32015, as its tokenizer.model spells them.
CODE_LLAMA_ROWS = [
    *("▁<SU", "▁<SUF", "▁<PRE", "▁<M", "▁<MID", "▁<E", "▁<EOT", "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),
    *("▁" + "<EOT>" * count for count in range(2, 7)),
]


def export(folder, path):
    export_gguf(open_checkpoint(folder), path, "f16")
    return read_gguf(path).metadata


def assert_same_ids(one: Tokenizer, other: Tokenizer) -> None:
    for text in TEXTS:
        assert one.encode(text) == other.encode(text)
        assert one.encode_infilling(text) == other.encode_infilling(text)
    assert one.bos_ids == other.bos_ids
    assert one.chat_template == other.chat_template


def test_byte_level_with_infill_markers(tmp_path):
    """What llama.cpp needs to infill and to stop: pre-tokenizer, types, marker ids, both ends."""
    write_folder(tmp_path / "base", tiny())
    base = open_checkpoint(tmp_path / "base")
    marked, sentinels = add_sentinels(base.tokenizer)
    config = tiny(vocab_size=marked.vocab_size)
    model = Transformer(config)
    model.initialise(0)
    like = Description(config, marked, base.hf_config, base.generation_config)
    save_huggingface(tmp_path / "hf", model, like)
    keys = export(tmp_path / "hf", tmp_path / "model.gguf")
    wanted = {
        "model": "gpt2",
        "pre": "smollm",
        "add_bos_token": False,
        "add_eos_token": False,
        "add_space_prefix": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "eot_token_id": sentinels.end[0],
        "fim_pre_token_id": sentinels.prefix,
        "fim_suf_token_id": sentinels.suffix,
        "fim_mid_token_id": sentinels.middle,
    }
    assert {name: keys[f"tokenizer.ggml.{name}"] for name in wanted} == wanted
    assert keys["tokenizer.chat_template"] == base.tokenizer.chat_template
    tokens, kinds = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == marked.vocab_size == 396
    assert tokens[sentinels.prefix] == "<|fim_prefix|>"
    assert [kinds[id] for id in (0, 1, 2, sentinels.prefix, sentinels.end[0])] == [3] * 5
    assert set(kinds[3:380]) == {1}
    back = open_checkpoint(tmp_path / "model.gguf")
    assert_same_ids(back.tokenizer, marked)
    found = find_sentinels(back.tokenizer)
    assert found is not None
    assert (found.prefix, found.suffix, found.middle, found.end[0], found.family) == (
        *(sentinels.prefix, sentinels.suffix, sentinels.middle, sentinels.end[0]),
        "codecria",
    )
    assert back.ending_ids == [2, sentinels.end[0]]
    assert back.generation_config["eos_token_id"] == [2, sentinels.end[0]]


def test_a_separator_of_files_is_named_and_an_end_that_is_eos_stands_once(tmp_path):
    """llama.cpp puts `input_extra` behind `fim_sep`; Qwen2.5-Coder's marker must not stay an ordinary token."""
    write_folder(tmp_path / "base", tiny())
    names = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]
    base = open_checkpoint(tmp_path / "base")
    marked = base.tokenizer.with_added_tokens(names)
    config = tiny(vocab_size=marked.vocab_size)
    model = Transformer(config)
    model.initialise(0)
    save_huggingface(tmp_path / "hf", model, Description(config, marked, base.hf_config, base.generation_config))
    keys = export(tmp_path / "hf", tmp_path / "model.gguf")
    assert keys["tokenizer.ggml.fim_sep_token_id"] == marked.token_id("<|file_sep|>")
    ends = [keys.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    assert len({end for end in ends if end is not None}) == len([end for end in ends if end is not None])


def test_rows_without_a_token_become_unused_ones(tmp_path):
    write_folder(tmp_path / "hf", tiny())
    keys = export(tmp_path / "hf", tmp_path / "model.gguf")
    assert keys["tokenizer.ggml.tokens"][380:] == [f"[PAD{id}]" for id in range(380, 400)]
    assert set(keys["tokenizer.ggml.token_type"][380:]) == {5}
    back = open_checkpoint(tmp_path / "model.gguf")
    assert_same_ids(back.tokenizer, open_checkpoint(tmp_path / "hf").tokenizer)
    assert find_sentinels(back.tokenizer) is None
    assert "tokenizer.ggml.fim_pre_token_id" not in keys
    assert "tokenizer.ggml.eot_token_id" not in keys


def write_llama_folder(folder, llama_tokenizer_folder, rows):
    write_folder(folder, tiny(vocab_size=rows, hidden_size=32, num_layers=1, rope_theta=1e6))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(llama_tokenizer_folder / name, folder / name)
    (folder / "special_tokens_map.json").unlink()


def test_sentencepiece_scores_come_back_exactly(tmp_path, llama_tokenizer_folder):
    """tokenizer.json has no scores; those of tokenizer.model, with which llama.cpp merges, are its golden vector."""
    write_llama_folder(tmp_path / "hf", llama_tokenizer_folder, 32_000)
    keys = export(tmp_path / "hf", tmp_path / "model.gguf")
    pieces = read_model(llama_tokenizer_folder / "tokenizer.model").pieces
    assert keys["tokenizer.ggml.tokens"] == [piece.text for piece in pieces]
    assert keys["tokenizer.ggml.scores"] == [piece.score for piece in pieces]
    assert keys["tokenizer.ggml.token_type"] == [int(piece.kind) for piece in pieces]
    assert keys["tokenizer.ggml.scores"][259] == LAST_SCORE
    named = {"model": "llama", "add_bos_token": True, "add_space_prefix": True, "unknown_token_id": 0}
    named |= {"bos_token_id": 1, "eos_token_id": 2}
    assert {name: keys[f"tokenizer.ggml.{name}"] for name in named} == named
    assert_same_ids(open_checkpoint(tmp_path / "model.gguf").tokenizer, open_checkpoint(tmp_path / "hf").tokenizer)


def test_code_llamas_vocabulary_of_32016(tmp_path, llama_tokenizer_folder):
    write_llama_folder(tmp_path / "hf", llama_tokenizer_folder, 32_016)
    definition = json.loads((tmp_path / "hf" / "tokenizer.json").read_text())
    definition["model"]["vocab"] |= {text: 32_000 + place for place, text in enumerate(CODE_LLAMA_ROWS)}
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(definition))
    keys = export(tmp_path / "hf", tmp_path / "model.gguf")
    ids = {"fim_pre": 32_007, "fim_suf": 32_008, "fim_mid": 32_009, "eot": 32_010, "eos": 2}
    assert {name: keys[f"tokenizer.ggml.{name}_token_id"] for name in ids} == ids
    assert [keys["tokenizer.ggml.token_type"][id] for id in (32_007, 32_008, 32_009, 32_010)] == [3] * 4
    assert keys["llama.rope.freq_base"] == 1e6
    back, original = open_checkpoint(tmp_path / "model.gguf"), open_checkpoint(tmp_path / "hf")
    assert back.config == original.config
    assert find_sentinels(back.tokenizer) == find_sentinels(original.tokenizer)
    assert_same_ids(back.tokenizer, original.tokenizer)
    assert load_model(back).model.embed_tokens.weight.shape == (32_016, 32)


def test_smollm2s_own_keys_come_back(smollm2_gguf, tmp_path):
    checkpoint = open_checkpoint(smollm2_gguf)
    writer = gguf.GGUFWriter(tmp_path / "keys.gguf", "llama")
    add_tokenizer(writer, checkpoint.tokenizer, checkpoint.ending_ids, checkpoint.config.vocab_size, smollm2_gguf)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    old, new = (
        {key: value for key, value in read_gguf(path).metadata.items() if key.startswith("tokenizer")}
        for path in (smollm2_gguf, tmp_path / "keys.gguf")
    )
    assert {key: new.get(key) for key in old} == old
    assert set(new) - set(old) == {"tokenizer.ggml.add_eos_token"}


def test_merge_order_decides_scores_where_ids_do_not():
    definition = {
        "added_tokens": [],
        "model": {
            "vocab": {"<0x00>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5, "▁▁": 6, "▁": 7, "abc": 8},
            "merges": ["b c", ["▁", "▁"], "a b", "a bc", "ab c"],
        },
    }
    found = scores(definition, 10)
    order = sorted(["bc", "▁▁", "ab", "abc"], key=lambda text: -found[definition["model"]["vocab"][text]])
    assert order == ["bc", "▁▁", "ab", "abc"]
    assert found[0] == found[9] == 0.0
    assert len({found[id] for id in (4, 5, 6, 8)}) == 4


def test_a_pre_tokenizer_without_a_name_is_refused(tmp_path):
    parts = [{"type": "Whitespace"}, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]
    definition = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": parts}, "model": {}}
    with pytest.raises(CodecriaError, match=r"no name for this pre-tokenizer \(Whitespace, ByteLevel\); named ones"):
        pre_tokenizer_name(definition, tmp_path)
