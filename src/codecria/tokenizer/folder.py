"""A tokenizer's files in a Hugging Face folder: reading, making and writing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import tokenizers

from codecria.common.errors import CodecriaError
from codecria.common.files import read_bytes, write_atomic
from codecria.tokenizer.definition import AddedToken, Definition, added_tokens, check, vocabulary
from codecria.tokenizer.roles import Roles, Source
from codecria.tokenizer.sentencepiece import read_model, sentencepiece_definition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_DEFINITION = "tokenizer.json"
_MODEL = "tokenizer.model"
_CONFIG = "tokenizer_config.json"
_SPECIAL = "special_tokens_map.json"
_ADDED = "added_tokens.json"
TEMPLATE = "chat_template.jinja"
_FILES = (_DEFINITION, _MODEL, _CONFIG, _SPECIAL, _ADDED, TEMPLATE, "vocab.json", "merges.txt")

# Classes of transformers that put BOS before a text unless told not to.
_CLASSES_WITH_BOS = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")


def read_folder(path: str | Path) -> Source:
    """Read tokenizer.json, else tokenizer.model, and what stands beside it.

    BOS is added where tokenizer_config.json says so (`add_bos_token`), else where tokenizer.json's post-processor
    does, else where the class does by itself. The ends that generation_config.json lists are the checkpoint's.

    Raises:
        CodecriaError: neither is there, or one cannot be read or is of an unsupported kind.
    """
    folder = Path(path)
    files = {name: read_bytes(folder / name) for name in _FILES if (folder / name).is_file()}
    config, special = (_json(folder, files, name) for name in (_CONFIG, _SPECIAL))
    if _DEFINITION in files:
        definition, roles = _json(folder, files, _DEFINITION), Roles()
        add_bos = _template_adds_bos(definition)
    elif _MODEL in files:
        definition, roles = _from_model(folder / _MODEL)
        add_bos = roles.add_bos
    else:
        mend = "name a folder with a tokenizer in it"
        raise CodecriaError(f"no {_DEFINITION} and no {_MODEL}", where=folder, mend=mend)
    check(definition, folder / _DEFINITION)
    definition = _with_declared_tokens(definition, config, _json(folder, files, _ADDED))
    if config.get("add_bos_token") is not None:
        add_bos = bool(config["add_bos_token"])
    elif add_bos is None:
        add_bos = str(config.get("tokenizer_class", "")).removesuffix("Fast") in _CLASSES_WITH_BOS
    ids = _role_ids(definition, config, special, roles)
    roles = Roles(**ids, add_bos=add_bos, chat_template=_chat_template(config, files))
    return Source(definition, roles, files, str(folder))


def read_sentencepiece(path: str | Path) -> Source:
    """Read a bare tokenizer.model: its own BOS, end and padding; BOS is added, as Meta's code does."""
    path = Path(path)
    definition, roles = _from_model(path)
    return Source(definition, roles, {_MODEL: read_bytes(path)}, str(path))


def files_with_added_tokens(
    files: Mapping[str, bytes], definition: Definition, new: Sequence[AddedToken]
) -> dict[str, bytes]:
    """The files after new special tokens: what does not name tokens stays byte for byte."""
    changed = dict(files)
    if _DEFINITION in files:
        changed[_DEFINITION] = _dump_definition(definition)
    if _CONFIG in files:
        config = json.loads(files[_CONFIG])
        declared = config.get("added_tokens_decoder", {}) | {str(token.id): _declared(token) for token in new}
        changed[_CONFIG] = _dump(config | {"added_tokens_decoder": declared})
    if _ADDED in files:
        changed[_ADDED] = _dump(json.loads(files[_ADDED]) | {token.content: token.id for token in new})
    if _SPECIAL in files:
        special = json.loads(files[_SPECIAL])
        further = [*special.get("additional_special_tokens", []), *(token.content for token in new)]
        changed[_SPECIAL] = _dump(special | {"additional_special_tokens": further})
    return changed


def files_with_chat_template(files: Mapping[str, bytes], template: str) -> dict[str, bytes]:
    """The files after a new chat template, which goes into its own file."""
    changed = dict(files)
    if _CONFIG in files:
        config = json.loads(files[_CONFIG])
        if config.pop("chat_template", None) is not None:
            changed[_CONFIG] = _dump(config)
    if _DEFINITION in files:
        changed[TEMPLATE] = template.encode()
    return changed


def write_folder(definition: Definition, roles: Roles, files: Mapping[str, bytes], folder: str | Path) -> None:
    """Write a tokenizer into a folder, made where it is not there: its files, and new ones if none is a definition."""
    whole = files if _DEFINITION in files else _new_files(definition, roles) | dict(files)
    for name, data in whole.items():
        write_atomic(Path(folder) / name, data)


def _new_files(definition: Definition, roles: Roles) -> dict[str, bytes]:
    """The files of a tokenizer that came without a tokenizer.json.

    The class is transformers' plain wrapper of tokenizer.json: the classes named after models rebuild the pipeline
    and give other ids for some texts.
    """
    spellings = {id: spelling for spelling, id in vocabulary(definition).items()}
    special = {name: spellings[id] for name, id in roles.by_name().items() if id in spellings}
    post_processor = _adds_bos(special["bos_token"], roles) if roles.add_bos and "bos_token" in special else None
    config = {
        "add_bos_token": roles.add_bos,
        "add_eos_token": False,
        "added_tokens_decoder": {str(token.id): _declared(token) for token in added_tokens(definition)},
        **special,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    files = {
        _DEFINITION: _dump_definition(definition | {"post_processor": post_processor}),
        _CONFIG: _dump(config),
        _SPECIAL: _dump(special),
    }
    if roles.chat_template is not None:
        files[TEMPLATE] = roles.chat_template.encode()
    return files


def _from_model(path: Path) -> tuple[Definition, Roles]:
    pieces, dummy_prefix, roles = read_model(path)
    return sentencepiece_definition(pieces, dummy_prefix), roles


def _with_declared_tokens(definition: Definition, config: Mapping[str, Any], extra: Mapping[str, Any]) -> Definition:
    """Add what only tokenizer_config.json or added_tokens.json names: tokens beside a bare tokenizer.model."""
    taken = set(vocabulary(definition).values())
    declared = {int(id): entry for id, entry in (config.get("added_tokens_decoder") or {}).items()}
    declared = {int(id): {"content": content, "special": True} for content, id in extra.items()} | declared
    further = [AddedToken.of(id, entry, special=True) for id, entry in sorted(declared.items()) if id not in taken]
    new = [token.to_json() for token in further]
    return definition | {"added_tokens": [*(definition.get("added_tokens") or []), *new]} if new else definition


def _role_ids(
    definition: Definition, config: Mapping[str, Any], special: Mapping[str, Any], found: Roles
) -> dict[str, Any]:
    """Ids of the named tokens: tokenizer_config.json before special_tokens_map.json before the model's own."""
    ids = vocabulary(definition)

    def id_of(name: str, default: int | None) -> int | None:
        for source in (config, special):
            value = source.get(name)
            spelling = cast("dict[str, Any]", value).get("content") if isinstance(value, dict) else value
            if isinstance(spelling, str):
                return ids.get(spelling)
        return default

    bos_id, eos_id, unk_id, pad_id = (id_of(*pair) for pair in found.by_name().items())
    return {"bos_id": bos_id, "eos_ids": () if eos_id is None else (eos_id,), "unk_id": unk_id, "pad_id": pad_id}


def _chat_template(config: Mapping[str, Any], files: Mapping[str, bytes]) -> str | None:
    """The template of its own file, else the one in tokenizer_config.json; of several named ones the default."""
    if TEMPLATE in files:
        return files[TEMPLATE].decode()
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in cast("list[dict[str, str]]", template)}
        return named.get("default")
    return template if isinstance(template, str) else None


def _template_adds_bos(definition: Definition) -> bool | None:
    """Whether the post-processor begins a single text with a special token; None where it does not say."""
    processor: dict[str, Any] = definition.get("post_processor") or {}
    for part in processor.get("processors", [processor]):
        if part.get("type") == "TemplateProcessing":
            return bool(part.get("single")) and "SpecialToken" in part["single"][0]
    return None


def _adds_bos(bos: str, roles: Roles) -> dict[str, Any]:
    token = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [token, first],
        "pair": [token, first, token, second],
        "special_tokens": {bos: {"id": bos, "ids": [roles.bos_id], "tokens": [bos]}},
    }


def _declared(token: AddedToken) -> dict[str, Any]:
    return {key: value for key, value in token.to_json().items() if key != "id"}


def _json(folder: Path, files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in files:
        return {}
    try:
        content = json.loads(files[name])
    except ValueError as error:
        raise CodecriaError(f"not valid JSON: {error}", where=folder / name, mend="fetch the file again") from error
    if not isinstance(content, dict):
        raise CodecriaError("not a JSON object", where=folder / name, mend="fetch the file again")
    return cast("dict[str, Any]", content)


def _dump_definition(definition: Definition) -> bytes:
    """A tokenizer.json as the tokenizers library writes it, checked to give every added token its id."""
    library = tokenizers.Tokenizer.from_str(json.dumps(definition))
    for token in added_tokens(definition):
        if library.token_to_id(token.content) != token.id:
            what = f"the token '{token.content}' cannot have the id {token.id}: the ids before it have gaps"
            raise CodecriaError(what)
    return library.to_str(pretty=True).encode()


def _dump(content: object) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()
