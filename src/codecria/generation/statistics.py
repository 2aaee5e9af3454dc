"""What an engine tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """What an engine holds and has done.

    Attributes:
        cache_bytes: what keys and values may take.
        cached_bytes: what they take.
        locked_bytes: of these, what running texts need; the rest is kept for who begins alike.
        cached_blocks: the same as `cached_bytes`, in blocks of the prefix tree.
        hit_tokens: tokens of prompts that were found in the cache.
        read_tokens: tokens of prompts that went through the model.
        written_tokens: tokens of texts.
        drafted_tokens, accepted_tokens: guesses of what comes next, and those that were right.
        evictions: runs of tokens given up for memory.
        pauses: texts that had to wait again after they had begun.
        running: texts that are read or written.
        waiting: texts that have not begun.
    """

    cache_bytes: int
    cached_bytes: int
    locked_bytes: int
    cached_blocks: int
    hit_tokens: int
    read_tokens: int
    written_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    evictions: int
    pauses: int
    running: int
    waiting: int
