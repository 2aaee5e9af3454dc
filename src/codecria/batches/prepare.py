"""Preparing a corpus for training: its text laid out for random access, pieces cut, counted and packed.

A prepared folder holds `texts.arrow` (memory-mapped: text, content hash), `SOURCE.npz` for each source (pieces and
packing; the `/` of `code/Python` is written `%2F`) and `prepared.json`. Text stays text: encoding happens when a
sequence is asked for, so infilling splits characters and nothing is decoded (law 4).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa

from codecria.batches.packing import pack
from codecria.batches.pieces import cut_document
from codecria.batches.recipe import SLOT_MARGIN, BatchRecipe
from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder
from codecria.common.progress import progress_bar
from codecria.common.random import digest
from codecria.corpus.store import iterate_documents, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.corpus.document import Document
    from codecria.tokenizer.tokenizer import Tokenizer

_SCHEMA = pa.schema([("text", pa.large_string()), ("content_hash", pa.string())])
_ROWS_A_BATCH = 256


@dataclass(frozen=True)
class Source:
    """Documents of one kind, or of one kind in one language, packed.

    Attributes:
        name: the kind (`code`), or kind and language (`code/Python`).
        pieces: int64 [P, 5]: row of the text, first and last character offset, plain tokens, and 1 where the piece
            is a whole document, 2 where it ends one, 0 else.
        members: int64, piece numbers sequence after sequence.
        bounds: int64 [S + 1]: sequence s holds `members[bounds[s]:bounds[s + 1]]`.
    """

    name: str
    pieces: np.ndarray
    members: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds) - 1


WHOLE, ENDS, INNER = 1, 2, 0


def prepare(corpus: Path, tokenizer: Tokenizer, recipe: BatchRecipe, folder: Path, seed: int) -> dict[str, Any]:
    """Write the prepared folder, or leave it when it was made from the same corpus, tokenizer, recipe and seed.

    Returns the facts also written to `prepared.json`: pieces, tokens and sequences of each source, and the share of
    the sequences' room that holds no token.
    """
    identity = digest(
        read_manifest(corpus).fingerprint,
        json.dumps(tokenizer.definition, sort_keys=True),
        json.dumps([recipe.longest_piece, recipe.sequence_tokens, sorted(recipe.mixture)]),
        seed,
    ).hex()
    facts_path = folder / "prepared.json"
    if facts_path.exists():
        facts: dict[str, Any] = json.loads(facts_path.read_text())
        if facts["identity"] == identity:
            return facts
    with atomic_folder(folder) as aside:
        pieces = _write_texts(corpus, tokenizer, recipe, aside)
        facts = {"identity": identity, "sources": {}}
        for name, rows in pieces.items():
            table = np.array(rows, dtype=np.int64).reshape(-1, 5)
            slots: list[int] = (table[:, 3] + SLOT_MARGIN).tolist()
            sequences = pack(slots, recipe.sequence_tokens, "pack", seed, name)
            members = np.array([piece for sequence in sequences for piece in sequence], dtype=np.int64)
            bounds = np.cumsum([0] + [len(sequence) for sequence in sequences]).astype(np.int64)
            np.savez(aside / f"{quote(name, safe='')}.npz", pieces=table, members=members, bounds=bounds)
            facts["sources"][name] = _facts(table, len(sequences), recipe)
        (aside / "prepared.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def open_sources(folder: Path) -> list[Source]:
    """The packed sources of a prepared folder, by name."""
    sources: list[Source] = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            sources.append(Source(unquote(path.stem), arrays["pieces"], arrays["members"], arrays["bounds"]))
    return sources


def _write_texts(
    corpus: Path, tokenizer: Tokenizer, recipe: BatchRecipe, aside: Path
) -> dict[str, list[tuple[int, int, int, int, int]]]:
    def count(text: str) -> int:
        return len(tokenizer.encode(text))

    pieces: dict[str, list[tuple[int, int, int, int, int]]] = {}
    waiting: list[Document] = []
    manifest = read_manifest(corpus)
    row = 0
    with (
        pa.OSFile(str(aside / "texts.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as writer,
        progress_bar("count tokens", total=manifest.splits["train"].total.size_bytes, unit="bytes") as bar,
    ):

        def flush() -> None:
            texts, hashes = [each.text for each in waiting], [each.content_hash for each in waiting]
            columns = [pa.array(texts, pa.large_string()), pa.array(hashes, pa.string())]
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
            waiting.clear()

        for document in iterate_documents(corpus, "train"):
            bar.advance(len(document.text.encode()))
            fits = (document.kind, f"{document.kind}/{document.language}")
            sources = [name for name in fits if name in recipe.mixture]
            if not sources:
                continue
            cuts = cut_document(document.text, recipe.longest_piece, count)
            for number, piece in enumerate(cuts):
                place = WHOLE if len(cuts) == 1 else ENDS if number == len(cuts) - 1 else INNER
                for name in sources:
                    pieces.setdefault(name, []).append((row, piece.start, piece.stop, piece.tokens, place))
            waiting.append(document)
            row += 1
            if len(waiting) == _ROWS_A_BATCH:
                flush()
        if waiting:
            flush()
    missing = [name for name in recipe.mixture if "/" in name and name not in pieces]
    if missing or not pieces:
        kinds = ", ".join(missing or recipe.mixture)
        raise CodecriaError(f"no document of the kinds {kinds} to train on", where=corpus, mend="build a larger corpus")
    return pieces


def _facts(table: np.ndarray, sequences: int, recipe: BatchRecipe) -> dict[str, Any]:
    tokens = int(table[:, 3].sum())
    return {
        "pieces": len(table),
        "whole_documents": int((table[:, 4] == WHOLE).sum()),
        "tokens": tokens,
        "sequences": sequences,
        "empty_share": round(1 - tokens / (sequences * recipe.sequence_tokens), 4),
    }
