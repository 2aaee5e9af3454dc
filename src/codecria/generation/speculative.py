"""Drafts by looking back: what followed the last tokens when they stood in the prompt or text before.

A draft is checked in one pass. Each of its places is chosen as without a draft: from the model's own distribution
there, by the number keyed by that step; the draft goes on as long as it has guessed the choice. So a draft changes
nothing but the speed: token for token the text is that of the same seed without drafts (where rounding does not move a
choice), and a guess of probability p is right with probability p, as in rejection sampling (Leviathan et al. 2023).
Code repeats itself: https://github.com/apoorvumang/prompt-lookup-decoding has the idea.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST, _SHORTEST = 4, 2


class PromptLookup:
    """Drafts for one text.

    Args:
        prompt: its ids.
        most: tokens of a draft at most.
    """

    def __init__(self, prompt: Sequence[int], most: int) -> None:
        self._ids = array("i", prompt)
        self._bytes = bytearray(self._ids.tobytes())
        self._most = most
        self._next = min(4, most)

    def extend(self, ids: Sequence[int]) -> None:
        """Note tokens written."""
        self._ids.extend(ids)
        self._bytes += array("i", ids).tobytes()

    def draft(self, limit: int) -> list[int]:
        """At most `limit` tokens that may come next; none where the last ones have not stood before."""
        count = min(self._next, limit)
        if count < 1:
            return []
        size = self._ids.itemsize
        for length in range(_LONGEST, _SHORTEST - 1, -1):
            if len(self._ids) <= length:
                continue
            pattern = self._bytes[-length * size :]
            place = self._bytes.rfind(pattern, 0, len(self._bytes) - size)
            while place > 0 and place % size:
                place = self._bytes.rfind(pattern, 0, place + len(pattern) - 1)
            if place >= 0:
                start = place // size + length
                return self._ids[start : start + count].tolist()
        return []

    def learn(self, drafted: int, right: int) -> None:
        """Guess longer after a draft that was right to the end, shorter after one that was not."""
        self._next = min(2 * self._next, self._most) if right == drafted else max(1, right + 1)
