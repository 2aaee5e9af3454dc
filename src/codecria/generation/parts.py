"""What the rows of a pass attend in the prefix tree: each run of slots once, whoever shares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.generation.cache import Place
    from codecria.generation.extent import Extent
    from codecria.generation.prefix_node import Node


@dataclass
class Part:
    """Slots of an extent, and the rows that attend them; `begins` where nothing was attended by these rows before."""

    extent: Extent
    start: int
    stop: int
    rows: list[int]
    begins: bool


def parts_of(places: Sequence[Place], tokens: int) -> list[Part]:
    """Each run of slots once, in the order of the tokens; the leaf of a row without a tail with `tokens` new ones."""
    rows: dict[Node, list[int]] = {}
    for row, place in enumerate(places):
        for node in place.leaf.path():
            rows.setdefault(node, []).append(row)
    parts: dict[Node, Part] = {}
    growing = {place.leaf for place in places if place.row is None}
    for node, users in sorted(rows.items(), key=lambda item: item[0].first):
        stop = node.stop + (tokens if node in growing else 0)
        above = parts.get(node.parent) if node.parent else None
        if above and above.extent is node.extent and above.stop == node.slot and above.rows == users:
            above.stop = stop
            parts[node] = above
        else:
            parts[node] = Part(node.extent, node.slot, stop, users, above is None)
    return list({id(part): part for part in parts.values()}.values())


def commit(places: Sequence[Place], ids_BL: Sequence[list[int]]) -> None:
    """Count the tokens of a pass that has ended as held."""
    for place, ids in zip(places, ids_BL, strict=True):
        (place.leaf.ids if place.row is None else place.tail).extend(ids)
