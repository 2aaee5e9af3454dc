"""A function over many items, in this process or in several; the results come in the order of the items."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import os
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

_CHUNK = 32
_CHUNKS_AHEAD = 4

_function: Callable[[Any], Any]


def run_in_order(function: Callable[[T], R], items: Iterable[T], workers: int = 1) -> Iterator[tuple[T, R]]:
    """Yield (item, function(item)) in the order of the items, whatever the number of workers.

    With more than one worker the function, the items and the results travel between processes, so they must be
    picklable; at most a few chunks of items are ahead of what has been yielded.
    """
    if workers <= 1:
        for item in items:
            yield item, function(item)
        return
    # Spawned, not forked: a fork copies the locks of threads (NumPy's, Arrow's) in whatever state they are in.
    context = multiprocessing.get_context("spawn")
    ahead: collections.deque[tuple[list[T], Future[list[R]]]] = collections.deque()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(function,)) as pool:
        try:
            for chunk in _chunks(items):
                ahead.append((chunk, pool.submit(_run_chunk, chunk)))
                if len(ahead) >= workers * _CHUNKS_AHEAD:
                    yield from _first(ahead)
            while ahead:
                yield from _first(ahead)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    stream = iter(items)
    while chunk := list(itertools.islice(stream, _CHUNK)):
        yield chunk


def _first(ahead: collections.deque[tuple[list[T], Future[list[R]]]]) -> Iterator[tuple[T, R]]:
    chunk, future = ahead.popleft()
    yield from zip(chunk, future.result(), strict=True)


def _start(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_chunk(chunk: list[Any]) -> list[Any]:
    return [_function(item) for item in chunk]
