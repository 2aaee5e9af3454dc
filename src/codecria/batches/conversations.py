"""Conversations to learn from: read from Parquet or JSON lines, rendered by the chat template, loss on the answers.

Three shapes of a row are known: `messages` (a list of {role, content}), ShareGPT's `conversations` ({from, value}) and
Alpaca's `instruction`, `input`, `output`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from codecria.batches.infilling import Rendered
from codecria.common.errors import CodecriaError
from codecria.tokenizer.chat import ROLES, encode_chat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codecria.tokenizer.tokenizer import Tokenizer

_SHARE_GPT = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}
_ENDINGS = (".parquet", ".jsonl")
_HALVES = re.compile("[\ud800-\udfff]")
_MEND = "a row holds messages, or conversations (ShareGPT), or instruction, input and output (Alpaca)"


def conversation_files(path: Path) -> list[Path]:
    """The Parquet and JSON lines files of a path: itself, or those in the folder, by name.

    Raises:
        CodecriaError: there is none.
    """
    files = sorted(each for each in path.iterdir() if each.suffix in _ENDINGS) if path.is_dir() else [path]
    if not files or not all(each.is_file() and each.suffix in _ENDINGS for each in files):
        mend = "name a .parquet or .jsonl file, or a folder of them, such as `codecria self-instruct` makes"
        raise CodecriaError("no conversations", where=path, mend=mend)
    return files


def read_conversations(path: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Every conversation with its place, `FILE:row`, rows from 1: messages with `role` and `content`.

    Raises:
        CodecriaError: a file cannot be read, or a row is of no known shape; the row is named.
    """
    for file in conversation_files(path):
        for number, row in _rows(file):
            where = f"{file}:{number}"
            yield where, _messages(row, where)


def render(tokenizer: Tokenizer, text_json: str, slot: int) -> Rendered:
    """The first `slot` ids of a conversation (JSON of its messages) as chat sends them; weight 1 on answers.

    An answer's weight includes the token that ends it; all else has 0.

    Raises:
        CodecriaError: the template refuses it.
    """
    encoding = encode_chat(tokenizer, json.loads(text_json), add_generation_prompt=False)
    ids, weights = encoding.ids[:slot], np.array(encoding.loss_mask[:slot], dtype=np.float32)
    weights[:1] = 0.0
    return Rendered(ids, weights, len(ids), "plain")


def _rows(file: Path) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers from 1; blank lines are counted and passed over."""
    if file.suffix == ".parquet":
        try:
            with pq.ParquetFile(file) as parquet:
                batches = parquet.iter_batches(batch_size=256)
                yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise CodecriaError(f"cannot be read as Parquet: {error}", where=file) from error
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    yield number, json.loads(line.decode())
            except ValueError as error:
                raise CodecriaError(f"no JSON in UTF-8: {error}", where=f"{file}:{number}") from error


def _messages(row: Any, where: str) -> list[dict[str, str]]:
    fields = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
    if fields.get("messages"):
        rows = _of(fields, "messages", where, list)
        turns = [(_of(each, "role", where), _of(each, "content", where)) for each in rows]
    elif fields.get("conversations"):
        rows = _of(fields, "conversations", where, list)
        turns = [(_of(each, "from", where), _of(each, "value", where)) for each in rows]
    elif fields.get("instruction") is not None:
        asked = [_of(fields, name, where) for name in ("instruction", "input") if fields.get(name)]
        turns = [("user", "\n\n".join(asked)), ("assistant", _of(fields, "output", where))]
        turns = [("system", _of(fields, "system", where)), *turns] if fields.get("system") else turns
    else:
        raise CodecriaError(f"a row with {', '.join(fields) or type(row).__name__}", where=where, mend=_MEND)
    messages = [{"role": _SHARE_GPT.get(role, role), "content": content} for role, content in turns]
    if unknown := [message["role"] for message in messages if message["role"] not in ROLES]:
        raise CodecriaError(f"the role '{unknown[0]}'", where=where, mend=f"use {', '.join(ROLES)}")
    if not any(message["role"] == "assistant" and message["content"].strip() for message in messages):
        raise CodecriaError("no answer to learn: no message of the assistant has text", where=where)
    return messages


def _of(message: Any, field: str, where: str, kind: type[str | list[Any]] = str) -> Any:
    value = cast("dict[str, Any]", message).get(field) if isinstance(message, dict) else None
    if not isinstance(value, kind):
        what = f"'{field}' is {json.dumps(value, default=str)[:60]}, not {'text' if kind is str else 'a list'}"
        raise CodecriaError(what, where=where, mend=_MEND)
    if kind is str and _HALVES.search(cast("str", value)):
        raise CodecriaError(f"'{field}' holds half of a character (a surrogate alone)", where=where)
    return value
