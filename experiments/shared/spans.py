"""Short spans of held-out code to fill, and what a model makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from codecria.common.random import digest, draw_integer
from codecria.evaluation.asking import Asking
from codecria.evaluation.scoring import Continuation, score
from codecria.evaluation.tasks.lines import Line
from codecria.generation.code_model import CodeModel
from codecria.infill.layout import common_length, infill_prompt
from codecria.infill.split import Draws, split_lines
from codecria.tokenizer.sentinels import find_sentinels
from experiments.shared.pieces import piece_cutter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from codecria.corpus.document import Document
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

Way = Literal["psm", "spm", "spm healed"]
"""How a middle is asked for: behind enc(prefix), or healed, with the prefix's last token taken back."""
WAYS: tuple[Way, ...] = ("psm", "spm", "spm healed")
Stratum = Literal["mid-token", "between tokens", "line"]
LONGEST = 8
_LONGEST_LINE = 60


@dataclass(frozen=True)
class Span:
    """A span to fill.

    `stratum`: `line` for a line as an editor asks for it; else whether a token of enc(prefix + middle) crosses the
    cursor.
    """

    id: str
    prefix: str
    middle: str
    suffix: str
    stratum: Stratum


def random_spans(
    documents: Iterable[Document], tokenizer: Tokenizer, seed: int, items: int, longest: int
) -> list[Span]:
    """One span of each of `items` pieces, drawn by key: a uniform cursor, 1 to 8 characters, not blank.

    Pieces are cut as in training, at most `longest` tokens; the same whatever the order of the documents.
    """
    found: list[Span] = []
    for name, text in _pieces(documents, tokenizer, seed, items, longest):
        start = draw_integer(max(1, len(text) - LONGEST), "cursor", seed, name)
        middle = text[start : start + 1 + draw_integer(LONGEST, "length", seed, name)]
        prefix = text[:start]
        if middle.strip() and prefix:
            alone = tokenizer.encode(prefix)
            crossed = common_length(alone, tokenizer.encode(prefix + middle)) < len(alone)
            stratum: Stratum = "mid-token" if crossed else "between tokens"
            found.append(Span(name, prefix, middle, text[start + len(middle) :], stratum))
    return found[:items]


def line_spans(documents: Iterable[Document], tokenizer: Tokenizer, seed: int, items: int, longest: int) -> list[Span]:
    """One middle of `units: line` of each of `items` pieces, of one line and at most 60 characters, not blank."""
    found: list[Span] = []
    for name, text in _pieces(documents, tokenizer, seed, items, longest):
        prefix, middle, suffix = split_lines(text, Draws("lines", seed, name))
        if middle.strip() and prefix and "\n" not in middle and len(middle) <= _LONGEST_LINE:
            found.append(Span(name, prefix, middle, suffix, "line"))
    return found[:items]


def _pieces(
    documents: Iterable[Document], tokenizer: Tokenizer, seed: int, items: int, longest: int
) -> Iterator[tuple[str, str]]:
    cut = piece_cutter(tokenizer, longest)
    ordered = sorted(documents, key=lambda each: digest("spans", seed, each.content_hash))
    pieces = [
        (f"{each.content_hash[:16]}/{place.start}", each.text[place.start : place.stop])
        for each in ordered[: items // 4 + 1]
        for place in cut(each.text)
    ]
    yield from sorted(pieces, key=lambda each: digest("spans", seed, each[0]))


def bits_per_character(model: Transformer, tokenizer: Tokenizer, spans: list[Span], way: Way) -> NDArray[np.float64]:
    """Bits a character of each true middle, without its end: [N]."""
    sentinels = find_sentinels(tokenizer)
    assert sentinels is not None
    truths = [_truth(tokenizer, sentinels, span, way) for span in spans]
    scores = score(model, truths)
    return np.array([-bits[:-1].sum() / len(span.middle) for bits, span in zip(scores, spans, strict=True)])


def _truth(tokenizer: Tokenizer, sentinels: Sentinels, span: Span, way: Way) -> Continuation:
    if way == "spm healed":
        line = Line(span.id, span.prefix, span.middle, span.suffix)
        return Asking(tokenizer, sentinels).truth(line, "spm")
    context = infill_prompt(tokenizer, sentinels, span.prefix, span.suffix, way)
    return Continuation(context, tokenizer.encode_infilling(span.middle), None, list(sentinels.end))


def written(model: Transformer, tokenizer: Tokenizer, spans: list[Span], way: Way) -> dict[str, NDArray[np.float64]]:
    """What a greedy middle is, 0 or 1 a span: [N] each.

    `exact_match`: it is the true one to the character, ended by the model itself. `begins_right`: it begins with the
    true one, however it goes on.
    """
    texts = CodeModel(model, tokenizer).infill_many(
        [(span.prefix, span.suffix) for span in spans],
        order="psm" if way == "psm" else "spm",
        heal=way == "spm healed",
        trim=False,
        max_tokens=2 + max(len(span.middle) for span in spans),
    )
    pairs = [(found[0].text, span.middle) for found, span in zip(texts, spans, strict=True)]
    return {
        "exact_match": np.array([float(text == middle) for text, middle in pairs]),
        "begins_right": np.array([float(text.startswith(middle)) for text, middle in pairs]),
    }
