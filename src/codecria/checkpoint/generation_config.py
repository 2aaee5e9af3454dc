"""Which ids end a text, for generation_config.json and for engines that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codecria.tokenizer.sentinels import find_sentinels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codecria.tokenizer.tokenizer import Tokenizer


def ending_ids(tokenizer: Tokenizer, generation_config: Mapping[str, Any]) -> list[int]:
    """The tokenizer's own ends, the end of an infilled middle where the model has one, then those stated besides."""
    sentinels = find_sentinels(tokenizer)
    infill_end = () if sentinels is None else sentinels.end[:1]
    return list(dict.fromkeys([*tokenizer.eos_ids, *infill_end, *_stated(generation_config)]))


def list_ends(generation_config: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """`generation_config` with `eos_token_id` completed by every id that ends a text; other keys stay.

    Without the infill end in this list, transformers and vLLM run on past the end of a middle.
    """
    values = dict(generation_config)
    for key, id in (("bos_token_id", tokenizer.bos_id), ("pad_token_id", tokenizer.pad_id)):
        if id is not None:
            values.setdefault(key, id)
    ends = list(dict.fromkeys([*_stated(generation_config), *ending_ids(tokenizer, generation_config)]))
    if ends:
        values["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    return values


def _stated(generation_config: Mapping[str, Any]) -> list[int]:
    stated = generation_config.get("eos_token_id")
    ends: list[Any] = stated if isinstance(stated, list) else [stated]
    return [id for id in ends if isinstance(id, int)]
