"""Triplets as conversations in Parquet, which a stage's `batches.conversations` reads.

A row holds `messages` (role, content). The question's words and one of its tests are the user's message; the answer is
one block of code. How a conversation becomes ids is not decided here: `tokenizer/chat.py` gives ids and loss mask, the
same for training, `codecria chat` and the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from codecria.batches.conversations import read_conversations
from codecria.common.files import atomic_file
from codecria.instruct.judging import is_example

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from codecria.instruct.question import Triplet

Messages = list[dict[str, str]]

_SCHEMA = pa.schema([("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))])
_ROWS_A_BATCH = 1024


def conversation(triplet: Triplet) -> Messages:
    """A triplet as the question and the answer."""
    question = triplet.question
    asked = [question.text]
    if question.place is not None:
        asked.append(f"It belongs into the module `{question.place.module}`, whose names it may use.")
    if question.signature:
        asked.append(f"It begins with:\n\n```python\n{question.signature}\n```")
    if len(question.tests) > 1 and not question.alone:
        kind = "Example" if is_example(question.tests[0]) else "Your code should pass tests like this"
        asked.append(f"{kind}:\n\n```python\n{question.tests[0].rstrip()}\n```")
    answer = f"```python\n{triplet.solution.strip()}\n```"
    return [{"role": "user", "content": "\n\n".join(asked)}, {"role": "assistant", "content": answer}]


def write_conversations(conversations: Iterable[Messages], path: Path) -> int:
    """Write conversations as one Parquet file, atomically; returns how many."""
    count = 0
    with atomic_file(path) as file, pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        for batch in _batches(conversations):
            writer.write_table(pa.Table.from_pylist(batch, schema=_SCHEMA))
            count += len(batch)
    return count


def joined(triplets: Sequence[Triplet], others: Sequence[Path]) -> Iterator[Messages]:
    """The triplets' conversations, then those of other files, each row checked.

    Raises:
        CodecriaError: a row of another file is of no known shape; its file and line are named.
    """
    for triplet in triplets:
        yield conversation(triplet)
    for path in others:
        for _, messages in read_conversations(path):
            yield messages


def _batches(conversations: Iterable[Messages]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for messages in conversations:
        batch.append({"messages": messages})
        if len(batch) == _ROWS_A_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
