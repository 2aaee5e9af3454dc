"""Preparing a corpus for training: its text laid out for random access, pieces cut, counted and packed.

A prepared folder holds `texts.arrow` (memory-mapped: text, content hash, language, path), for each source
`SOURCE.pieces.npy`, `.members.npy`, `.bounds.npy`, `.tokens.npy` (memory-mapped; the `/` of `code/Python` is written
`%2F`) and `prepared.json`. Text stays text: encoding happens when a sequence is asked for, so infilling splits
characters and nothing is decoded (law 4).

While it is planned a piece costs 20 bytes, and some 40 more while its source is packed; texts pass through. Half a
billion pieces (500 billion tokens in files of 1,000) so want 30 GB.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa

from codecria.batches.conversations import conversation_files, read_conversations
from codecria.batches.conversations import render as render_conversation
from codecria.batches.packing import pack
from codecria.batches.pieces import cut_documents
from codecria.batches.recipe import SLOT_MARGIN, STYLES, BatchRecipe
from codecria.batches.repository import packages
from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder, sha256_of_file
from codecria.common.progress import progress_bar
from codecria.common.random import digest, draw_uniform
from codecria.corpus.document import content_hash
from codecria.corpus.store import iterate_documents, read_manifest
from codecria.tokenizer.sentinels import find_sentinels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.corpus.document import Document
    from codecria.corpus.manifest import Split
    from codecria.tokenizer.tokenizer import Tokenizer

_FORMAT = 2
_COLUMNS = ("text", "content_hash", "language", "path")
_SCHEMA = pa.schema([(name, pa.large_string() if name == "text" else pa.string()) for name in _COLUMNS])
_ROWS_A_BATCH = 256
_BATCH_BYTES = 4_000_000
_ARRAYS = ("pieces", "members", "bounds", "tokens")
_HELD_OUT_SHARE = 0.01
"""Of the conversations, by content; a corpus holds out documents itself."""


@dataclass(frozen=True)
class Source:
    """Documents of one kind, or of one kind in one language, or of another style, packed.

    Attributes:
        name: the kind (`code`), kind and language (`code/Python`), or the style.
        pieces: int32 [P, 5]: row of the text, first and last character offset, plain tokens, and 1 where the piece
            is a whole document, 2 where it ends one, 0 else.
        members: int32, piece numbers sequence after sequence.
        bounds: int64 [S + 1]: sequence s holds `members[bounds[s]:bounds[s + 1]]`.
        tokens: int32 [S], plain tokens of each sequence.
    """

    name: str
    pieces: np.ndarray
    members: np.ndarray
    bounds: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def style(self) -> str:
        """How its pieces are rendered: `documents`, `conversations` or `repository`."""
        return self.name if self.name in STYLES else "documents"


WHOLE, ENDS, INNER = 1, 2, 0


def prepare(
    corpus: Path, tokenizer: Tokenizer, recipe: BatchRecipe, folder: Path, seed: int, split: Split = "train"
) -> dict[str, Any]:
    """Write the prepared folder, or leave it when it was made from the same corpus, tokenizer, recipe and seed.

    Args:
        corpus: a finished corpus.
        tokenizer: what the stage trains with, infill markers and chat template included.
        recipe: the stage's batches.
        folder: where to; whole or as it was, also after a kill.
        seed: the run's.
        split: documents to train on, or those that were held out.

    Returns:
        The facts also written to `prepared.json`: pieces, tokens and sequences of each source, the share of the
        sequences' room that holds no token, and how many conversations are too long.

    Raises:
        CodecriaError: a source of the mixture has no documents, or a conversation is malformed.
    """
    identity = _identity(corpus, tokenizer, recipe, seed, split)
    facts_path = folder / "prepared.json"
    if facts_path.exists():
        facts: dict[str, Any] = json.loads(facts_path.read_text())
        if facts["identity"] == identity:
            return facts
    with atomic_folder(folder) as aside:
        with _Plan(recipe, aside) as plan:
            _add_documents(plan, corpus, tokenizer, split)
            _add_packages(plan, corpus, tokenizer, split)
            _add_conversations(plan, tokenizer, split)
        plan.require_sources(corpus, split)
        facts = {"identity": identity, "split": split, "sources": {}}
        for name in sorted(plan.tables):
            facts["sources"][name] = _pack_source(name, plan.tables.pop(name), recipe, aside, seed)
        if plan.too_long and "conversations" in facts["sources"]:
            facts["sources"]["conversations"]["too_long"] = plan.too_long
        (aside / "prepared.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def open_sources(folder: Path) -> list[Source]:
    """The packed sources of a prepared folder, by name, memory-mapped."""
    stems = [path.name.removesuffix(".pieces.npy") for path in sorted(folder.glob("*.pieces.npy"))]
    return [
        Source(unquote(stem), *(np.load(folder / f"{stem}.{each}.npy", mmap_mode="r") for each in _ARRAYS))
        for stem in stems
    ]


def check_size(facts: dict[str, Any], needed: int) -> None:
    """Raise CodecriaError unless the sources together hold the `needed` sequences of one step."""
    counts = {name: source["sequences"] for name, source in facts["sources"].items()}
    if sum(counts.values()) < needed:
        held = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise CodecriaError(
            f"the corpus fills {sum(counts.values())} sequences ({held}), and one step takes {needed}",
            where="batches",
            mend="lower sequences_per_step or batches.sequence_tokens, or build a larger corpus",
        )


@dataclass
class _Plan:
    """Texts as they are written and pieces as they are found. A piece is five numbers of four bytes."""

    recipe: BatchRecipe
    aside: Path
    tables: dict[str, array[int]] = field(default_factory=dict[str, "array[int]"])
    too_long: int = 0
    _waiting: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    _rows: int = 0

    def __enter__(self) -> _Plan:
        self._sink = pa.OSFile(str(self.aside / "texts.arrow"), "wb")
        self._writer = pa.ipc.new_file(self._sink, _SCHEMA)
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()
        self._sink.close()

    def add_text(self, *columns: str) -> int:
        """Write a text with its hash, language and path; returns its row."""
        self._waiting.append(columns)
        self._rows += 1
        if len(self._waiting) == _ROWS_A_BATCH:
            self._flush()
        return self._rows - 1

    def add_piece(self, name: str, *piece: int) -> None:
        """Note a piece of a source: a row of `Source.pieces`."""
        self.tables.setdefault(name, array("i")).extend(piece)

    def require_sources(self, corpus: Path, split: Split) -> None:
        """Raise unless every source is there that must be, and one of each mixture; of what is held out, any one."""
        must = [name for name in self.recipe.sources if "/" in name or name in STYLES]
        mixtures = [self.recipe.mixture, *(change.mixture for change in self.recipe.mixture_changes)]
        if split == "held_out":
            must, mixtures = [], [dict.fromkeys(self.recipe.sources, 1.0)]
        missing = [name for name in must if name not in self.tables]
        for mixture in mixtures:
            if not missing and not any(name in self.tables for name in mixture):
                missing = list(mixture)
        if missing:
            use = "hold out" if split == "held_out" else "train on"
            if missing == ["conversations"]:
                long = f": {self.too_long} are longer than batches.sequence_tokens" if self.too_long else ""
                mend = "raise it, or give shorter ones" if long else "give more of them"
                raise CodecriaError(f"no conversation to {use}{long}", where=self.recipe.conversations, mend=mend)
            mend = "build one with packages of several files" if missing == ["repository"] else "build a larger corpus"
            raise CodecriaError(f"no document of the kinds {', '.join(missing)} to {use}", where=corpus, mend=mend)

    def _flush(self) -> None:
        if self._waiting:
            columns = zip(zip(*self._waiting, strict=True), _SCHEMA, strict=True)
            arrays = [pa.array(values, column.type) for values, column in columns]
            self._writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        self._waiting.clear()


def _identity(corpus: Path, tokenizer: Tokenizer, recipe: BatchRecipe, seed: int, split: Split) -> str:
    files = [] if recipe.conversations is None else conversation_files(Path(recipe.conversations))
    return digest(
        _FORMAT,
        read_manifest(corpus).fingerprint,
        json.dumps(tokenizer.definition, sort_keys=True),
        tokenizer.chat_template or "",
        json.dumps([recipe.longest_piece, recipe.sequence_tokens, recipe.sources, [sha256_of_file(f) for f in files]]),
        split,
        seed,
    ).hex()


def _add_documents(plan: _Plan, corpus: Path, tokenizer: Tokenizer, split: Split) -> None:
    recipe, known = plan.recipe, set(plan.recipe.sources)
    token_bytes = np.array([len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)])
    # Pieces that fill a sequence are filled; where several share one, like sizes leave no scraps.
    even = 2 * recipe.longest_piece <= recipe.sequence_tokens
    total = read_manifest(corpus).splits[split].total.size_bytes
    with progress_bar("count tokens", total=total, unit="bytes") as bar:
        for documents in _batches(iterate_documents(corpus, split)):
            fits = [
                (document, {document.kind, f"{document.kind}/{document.language}"} & known) for document in documents
            ]
            chosen = [(document, names) for document, names in fits if names]
            texts = [document.text for document, _ in chosen]
            found = cut_documents(texts, recipe.longest_piece, tokenizer.encode_batch, token_bytes, even=even)
            for (document, names), pieces in zip(chosen, found, strict=True):
                row = plan.add_text(document.text, document.content_hash, document.language, document.path)
                for number, (start, stop, tokens) in enumerate(pieces):
                    place = WHOLE if len(pieces) == 1 else ENDS if number == len(pieces) - 1 else INNER
                    for name in names:
                        plan.add_piece(name, row, start, stop, tokens, place)
            bar.advance(sum(document.size_bytes for document in documents))


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if len(batch) == _ROWS_A_BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _add_packages(plan: _Plan, corpus: Path, tokenizer: Tokenizer, split: Split) -> None:
    if "repository" not in plan.recipe.sources:
        return
    longest = plan.recipe.sequence_tokens - SLOT_MARGIN
    documents = iterate_documents(corpus, split)
    with progress_bar("join files of packages", unit="pieces") as bar:
        for text, tokens, last in packages(documents, tokenizer, find_sentinels(tokenizer), longest):
            row = plan.add_text(text, content_hash(text), last.language, last.path)
            plan.add_piece("repository", row, 0, len(text), tokens, WHOLE)
            bar.advance()


def _add_conversations(plan: _Plan, tokenizer: Tokenizer, split: Split) -> None:
    if plan.recipe.conversations is None:
        return
    longest = plan.recipe.sequence_tokens
    with progress_bar("count conversations", unit="conversations") as bar:
        for where, messages in read_conversations(Path(plan.recipe.conversations)):
            bar.advance()
            text = json.dumps(messages, ensure_ascii=False)
            key = content_hash(text)
            if (draw_uniform("conversations", key) < _HELD_OUT_SHARE) != (split == "held_out"):
                continue
            try:
                tokens = len(render_conversation(tokenizer, text, longest + 1).ids)
            except CodecriaError as error:
                raise CodecriaError(error.what, where=where, mend=error.mend) from error
            if tokens > longest:
                plan.too_long += 1
            else:
                told = where.encode(errors="backslashreplace").decode()  # a file's name may be any bytes
                plan.add_piece("conversations", plan.add_text(text, key, "", told), 0, len(text), tokens, WHOLE)


def _pack_source(name: str, rows: array[int], recipe: BatchRecipe, aside: Path, seed: int) -> dict[str, Any]:
    pieces = np.frombuffer(rows, dtype=np.int32).reshape(-1, 5)
    slots = pieces[:, 3] + (0 if name == "conversations" else SLOT_MARGIN)  # nothing in them is split
    members, bounds = pack(slots, recipe.sequence_tokens, "pack", seed, name)
    tokens = np.add.reduceat(pieces[members, 3], bounds[:-1]).astype(np.int32)
    for each, values in zip(_ARRAYS, (pieces, members.astype(np.int32), bounds, tokens), strict=True):
        np.save(aside / f"{quote(name, safe='')}.{each}.npy", values)
    total = int(tokens.sum())
    return {
        "pieces": len(pieces),
        "whole_documents": int((pieces[:, 4] == WHOLE).sum()),
        "tokens": total,
        "sequences": len(tokens),
        "empty_share": round(1 - total / (len(tokens) * recipe.sequence_tokens), 4),
    }
