from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from codecria.common.errors import CodecriaError
from codecria.tokenizer.sentinels import add_sentinels, find_sentinels
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

transformers = pytest.importorskip("transformers")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_an_unchanged_folder_is_saved_byte_for_byte(llama_tokenizer_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(llama_tokenizer_folder, tmp_path / "source")
    (tmp_path / "source" / "chat_template.jinja").write_bytes(b"{{ messages[0].content }}\r\n")
    (tmp_path / "source" / "special_tokens_map.json").write_bytes(b'{ "eos_token":"</s>" }')
    (tmp_path / "source" / "model.safetensors").write_bytes(b"not the tokenizer's")
    loaded = Tokenizer.from_folder(tmp_path / "source")
    loaded.save(tmp_path / "saved")
    expected = files_of(tmp_path / "source")
    del expected["model.safetensors"]
    assert files_of(tmp_path / "saved") == expected
    assert loaded.chat_template == "{{ messages[0].content }}\r\n"


def test_tokenizer_json_and_tokenizer_model_agree(
    llama: Tokenizer, llama_tokenizer_folder: Path, tmp_path: Path, texts: list[str]
) -> None:
    from_json = Tokenizer.from_folder(llama_tokenizer_folder)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(llama_tokenizer_folder / name, tmp_path)
    from_model = Tokenizer.from_folder(tmp_path)
    assert from_json.roles == from_model.roles == llama.roles
    for text in texts:
        ids = llama.encode(text)
        assert from_json.encode(text) == from_model.encode(text) == ids
        assert from_json.encode_infilling(text) == llama.encode_infilling(text)
        assert from_json.decode(ids) == text


ORDINARY = ["def f(x):\n    return x**2 + 1234  # naïve 🚀\t\r\n", "x", "日本語", "a" * 500, "if a<b: pass"]


def same_as_transformers(ours: Tokenizer, folder: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == ours.vocab_size
    for text in ORDINARY:
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
        assert theirs(text)["input_ids"] == [*ours.bos_ids, *ours.encode(text)]
        assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text))
    for id in ours.special_ids:
        assert theirs.convert_tokens_to_ids(ours.token_text(id)) == id
        assert theirs.decode([id], skip_special_tokens=True) == ""
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_ids[0])


@pytest.mark.parametrize("marked", [False, True])
def test_transformers_reads_what_came_from_gguf(smollm2: Tokenizer, tmp_path: Path, marked: bool) -> None:
    ours = add_sentinels(smollm2)[0] if marked else smollm2
    ours.save(tmp_path)
    same_as_transformers(ours, tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert (again.roles, again.special_ids, again.vocab_size) == (ours.roles, ours.special_ids, ours.vocab_size)
    assert find_sentinels(again) == find_sentinels(ours)
    assert [again.encode(text) for text in ORDINARY] == [ours.encode(text) for text in ORDINARY]


@pytest.mark.parametrize("marked", [False, True])
def test_transformers_reads_what_came_from_sentencepiece(llama: Tokenizer, tmp_path: Path, marked: bool) -> None:
    ours = add_sentinels(llama)[0] if marked else llama
    ours.save(tmp_path)
    assert (tmp_path / "tokenizer.model").is_file()
    same_as_transformers(ours, tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert (again.roles, again.special_ids, again.vocab_size) == (ours.roles, ours.special_ids, ours.vocab_size)


def test_tokens_added_to_a_folder(llama_tokenizer_folder: Path, tmp_path: Path) -> None:
    loaded = Tokenizer.from_folder(llama_tokenizer_folder)
    marked, sentinels = add_sentinels(loaded)
    marked.save(tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == (llama_tokenizer_folder / "tokenizer.model").read_bytes()
    before, after = (read(folder, "tokenizer_config.json") for folder in (llama_tokenizer_folder, tmp_path))
    added = after.pop("added_tokens_decoder")
    assert added.items() >= before.pop("added_tokens_decoder").items()
    assert (after, len(added)) == (before, 19)
    assert added[str(sentinels.prefix)]["content"] == "<|fim_prefix|>"
    same_as_transformers(marked, tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.vocab_size == 32_016
    assert find_sentinels(again) == sentinels
    again.save(tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(tmp_path)


def test_tokens_beside_a_bare_model(llama_tokenizer_folder: Path, tmp_path: Path) -> None:
    shutil.copy(llama_tokenizer_folder / "tokenizer.model", tmp_path)
    declared = {"32001": {"content": "<|im_end|>", "special": True}, "32002": {"content": "\t\t", "special": False}}
    (tmp_path / "added_tokens.json").write_text('{"<|im_start|>": 32000}')
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": declared, "eos_token": {"content": "<|im_end|>"}, "add_bos_token": False})
    )
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.vocab_size == 32_003
    assert (ours.eos_ids, ours.bos_ids, ours.bos_id) == ((32_001,), [], 1)
    assert ours.special_ids == {0, 1, 2, 32_000, 32_001}
    assert 32_002 in ours.encode("a\t\tb")
    assert ours.decode(ours.encode("a\t\tb<|im_start|>")) == "a\t\tb<|im_start|>"
    marked = ours.with_added_tokens(["<x>"])
    marked.save(tmp_path / "saved")
    assert read(tmp_path / "saved", "added_tokens.json") == {"<|im_start|>": 32_000, "<x>": 32_003}
    assert Tokenizer.from_folder(tmp_path / "saved").special_ids == marked.special_ids


NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
START: dict[str, Any] = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
}


@pytest.mark.parametrize(
    ("config", "post_processor", "adds"),
    [
        (NAMES, START, True),
        (NAMES, {"type": "Sequence", "processors": [{"type": "ByteLevel"}, START]}, True),
        (NAMES, START | {"single": START["single"][1:]}, False),
        (NAMES, None, False),
        (NAMES | {"tokenizer_class": "LlamaTokenizerFast"}, None, True),
        (NAMES | {"tokenizer_class": "CodeLlamaTokenizer"}, None, True),
        (NAMES | {"tokenizer_class": "GPT2Tokenizer"}, None, False),
        (NAMES | {"add_bos_token": False}, START, False),
        (NAMES | {"add_bos_token": True}, None, True),
        ({"add_bos_token": True}, START, False),  # there is no BOS to add
    ],
)
def test_whether_bos_is_added(
    plain: Tokenizer, tmp_path: Path, config: dict[str, Any], post_processor: dict[str, Any] | None, adds: bool
) -> None:
    definition = plain.with_added_tokens(["<s>", "</s>"]).definition | {"post_processor": post_processor}
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer.from_folder(tmp_path).bos_ids == ([256] if adds else [])


def with_changes(folder: Path, target: Path, config: dict[str, Any], **definition: Any) -> Tokenizer:
    target.mkdir()
    whole = read(folder, "tokenizer.json") | definition
    (target / "tokenizer.json").write_text(json.dumps(whole))
    (target / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.from_folder(target)


METASPACE = {"type": "Metaspace", "replacement": "▁", "split": False}


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_metaspace_equals_transformers(llama_tokenizer_folder: Path, tmp_path: Path, scheme: str) -> None:
    """Newer files put the implicit space with a pre-tokenizer, and only before text without a space of its own."""
    pipeline = {"normalizer": None, "pre_tokenizer": METASPACE | {"prepend_scheme": scheme}}
    config = NAMES | {"tokenizer_class": "PreTrainedTokenizerFast"}
    ours = with_changes(llama_tokenizer_folder, tmp_path / "changed", config, **pipeline)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "changed")
    for text in [*ORDINARY, " a", "  a", " ", "", "\n a"]:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], repr(text)
    assert ours.has_dummy_space == (scheme != "never")
    for text in ORDINARY:
        assert ours.decode(ours.encode(text)) == ours.decode_infilling(ours.encode_infilling(text)) == text


def test_chat_templates(plain: Tokenizer, tmp_path: Path) -> None:
    """Its own file before tokenizer_config.json; of several named ones the default."""
    config = tmp_path / "tokenizer_config.json"
    plain.save(tmp_path)
    assert Tokenizer.from_folder(tmp_path).chat_template is None
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert Tokenizer.from_folder(tmp_path).chat_template == "D"
    config.write_text(json.dumps({"chat_template": "inside", "kept": 1}))
    loaded = Tokenizer.from_folder(tmp_path)
    assert loaded.chat_template == "inside"
    (tmp_path / "chat_template.jinja").write_text("beside")
    assert Tokenizer.from_folder(tmp_path).chat_template == "beside"
    for tokenizer, name in ((loaded, "loaded"), (plain, "plain")):
        changed = tokenizer.with_chat_template("new\n")
        assert changed.chat_template == "new\n"
        changed.save(tmp_path / name)
        assert Tokenizer.from_folder(tmp_path / name).chat_template == "new\n"
    assert read(tmp_path / "loaded", "tokenizer_config.json") == {"kept": 1}
    assert plain.chat_template is None


def test_ids_with_gaps_cannot_be_written(llama_tokenizer_folder: Path, tmp_path: Path) -> None:
    """The tokenizers library numbers added tokens itself: what it would renumber is refused, not written wrong."""
    shutil.copy(llama_tokenizer_folder / "tokenizer.model", tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"<far>": 40000}')
    with pytest.raises(CodecriaError, match="the token '<far>' cannot have the id 40000"):
        Tokenizer.from_folder(tmp_path).save(tmp_path / "saved")


def test_markers_in_the_vocabulary_itself(tmp_path: Path, code_llama: Tokenizer) -> None:
    """Hugging Face's CodeLlama folder: the markers stand in the vocabulary, with merges, and as special tokens."""
    code_llama.save(tmp_path)
    definition = read(tmp_path, "tokenizer.json")
    markers = {text: code_llama.token_id(text) for text in ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")}
    definition["added_tokens"] += [
        {"id": id, "content": text, "special": True, "normalized": False, "lstrip": False, "rstrip": False}
        for text, id in markers.items()
    ]
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.special_ids == code_llama.special_ids
    text = "<PRE> x <SUF>y <MID> <EOT><EOT>"
    assert ours.encode(text) == code_llama.encode(text)
    assert max(ours.encode(text)) < 32_000


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no tokenizer.json and no tokenizer.model; name a folder with a tokenizer in it"),
        ({"tokenizer.json": "{"}, "tokenizer.json: not valid JSON"),
        ({"tokenizer.json": "[]"}, "tokenizer.json: not a JSON object"),
        ({"tokenizer.json": "{}"}, "the tokenizer's model is missing, not BPE"),
        ({"tokenizer.json": '{"model": {"type": "WordPiece", "vocab": {}}}'}, "is WordPiece, not BPE"),
        (
            {"tokenizer.json": '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}'},
            "neither byte-level pieces nor byte fallback",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(CodecriaError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
