"""Text to learn looking back from: pieces of the corpus in which passages stand a second time.

A small model trained on little code hardly uses what stands far before. Where a passage may have stood before, looking
back pays at once, at every distance within a piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codecria.common.files import atomic_folder
from codecria.common.random import digest, draw_integer
from codecria.corpus.build import build_corpus
from codecria.corpus.decontaminate import DecontaminationRecipe
from codecria.corpus.recipe import CorpusRecipe
from codecria.corpus.selection import HeldOutRecipe
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.store import iterate_documents
from experiments.shared.pieces import piece_cutter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codecria.tokenizer.tokenizer import Tokenizer

PASSAGES, SHARE = 3, 1 / 8
"""Passages of a piece that come again, and the least size of each as a share of the piece (about 45 tokens of 350)."""


def copies_corpus(corpus: Path, tokenizer: Tokenizer, pieces: int, longest: int, folder: Path) -> Path:
    """A corpus of pieces of at most about `longest` tokens with `PASSAGES` passages of each read again further on.

    Args:
        corpus: whose training code is taken.
        tokenizer: the base's.
        pieces: how many.
        longest: tokens.
        folder: of the corpus; the files lie beside it. Once built it stays.
    """
    if not (folder / "manifest.json").exists():
        files = folder.with_name(f"{folder.name}-files")
        if not files.exists():
            with atomic_folder(files) as aside:
                for number, text in enumerate(_texts(corpus, tokenizer, pieces, longest)):
                    (aside / f"{number:05}.py").write_text(text)
        recipe = CorpusRecipe(
            sources=(FolderRecipe(path=str(files), licence="BSD-3-Clause"),),
            decontamination=DecontaminationRecipe(human_eval=False),
            held_out=HeldOutRecipe(share=0),
        )
        build_corpus(recipe, folder)
    return folder


def _texts(corpus: Path, tokenizer: Tokenizer, pieces: int, longest: int) -> Iterator[str]:
    cut = piece_cutter(tokenizer, longest * 2 // 3)
    documents = sorted(iterate_documents(corpus), key=lambda each: digest("copies", each.content_hash))
    left = pieces
    for document in documents:
        taken = cut(document.text)[:left]
        for piece in taken:
            yield with_passages_again(document.text[piece.start : piece.stop])
        left -= len(taken)


def with_passages_again(text: str) -> str:
    """`PASSAGES` runs of whole lines of `text`, each put once more at the start of a later line, drawn by the text."""
    least = len(text) * SHARE
    for turn in range(PASSAGES):
        lines = text.splitlines(keepends=True)
        start = draw_integer(len(lines), "passage", turn, text)
        stop, size = start, 0
        while stop < len(lines) and size < least:
            size += len(lines[stop])
            stop += 1
        place = stop + draw_integer(len(lines) - stop + 1, "place", turn, text)
        text = "".join([*lines[:place], *lines[start:stop], *lines[place:]])
    return text
