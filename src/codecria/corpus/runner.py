"""A function over many items: in this process, in several, or on a Ray cluster; results in the order of the items.

The functions are the same everywhere. Each writes its result to a file under a name that says what it was made
from, and returns at once when that file is there: so a build that was killed goes on where it was, and a task that
Ray runs twice does no harm. Nothing here schedules; that is left to the operating system or to Ray.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from codecria.common.errors import CodecriaError
from codecria.common.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 2
"""Tasks in the queue for each worker: enough that none waits, few enough that memory stays flat."""

_TRIES_ON_RAY = 4

_function: Callable[[Any], Any]


class RunnerRecipe(Recipe):
    """Where the work is done. It changes nothing in the result."""

    type: Literal["local", "ray"] = "local"
    workers: int | None = Field(default=None, ge=1, description="processes; None: 1 here, every core of a Ray cluster")
    address: str | None = None
    """Of a running Ray cluster ("auto" finds the one this machine belongs to); None starts one on this machine."""


def run_in_order(function: Callable[[T], R], items: Iterable[T], recipe: RunnerRecipe) -> Iterator[R]:
    """Yield function(item) in the order of the items.

    With more than one worker the function, the items and the results travel between processes, so they must be
    picklable; a few items a worker are ahead of what has been yielded. An exception of the function is raised here.

    Raises:
        CodecriaError: a worker died, or Ray is asked for and is not installed.
    """
    if recipe.type == "ray":
        return _on_ray(function, items, recipe)
    if recipe.workers is None or recipe.workers == 1:
        return map(function, items)
    return _in_processes(function, items, recipe.workers)


def _in_processes(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    # Spawned, not forked: a fork copies the locks of threads (NumPy's, Arrow's) in whatever state they are in.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(function,)) as pool:
        try:
            yield from _first_come(items, lambda item: pool.submit(_run, item), lambda task: task.result(), workers)
        except BrokenProcessPool as error:
            mend = "it may have had too little memory: use fewer workers; run again, and it goes on from here"
            raise CodecriaError("a worker process was killed", mend=mend) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _first_come(
    items: Iterable[T], submit: Callable[[T], Any], result: Callable[[Any], R], workers: int
) -> Iterator[R]:
    """Keep a bounded queue of tasks full, and give their results in order."""
    ahead: collections.deque[Any] = collections.deque()
    for item in items:
        ahead.append(submit(item))
        if len(ahead) >= workers * _AHEAD:
            yield result(ahead.popleft())
    while ahead:
        yield result(ahead.popleft())


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


def _run(item: Any) -> Any:
    return _function(item)


def _on_ray(function: Callable[[T], R], items: Iterable[T], recipe: RunnerRecipe) -> Iterator[R]:
    """Ray runs a task again, up to four times, when its worker or its machine is lost."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what is built here
    try:
        import ray
        from ray.exceptions import WorkerCrashedError
    except ImportError as error:
        what, mend = "the recipe asks for Ray, which is not installed", "pip install 'codecria[cluster]'"
        raise CodecriaError(what, where="runner.type", mend=mend) from error
    if not ray.is_initialized():
        cores = recipe.workers if recipe.address is None else None
        ray.init(address=recipe.address, num_cpus=cores, include_dashboard=False, log_to_driver=False)
    workers = recipe.workers or int(ray.cluster_resources().get("CPU", 1))
    shared = ray.put(function)
    task: Any = ray.remote(max_retries=_TRIES_ON_RAY - 1)(_call)
    try:
        get: Any = ray.get
        yield from _first_come(items, lambda item: task.remote(shared, item), get, workers)
    except WorkerCrashedError as error:
        mend = "it may need more memory: give each worker more, or fewer workers a machine; a second run goes on"
        raise CodecriaError(f"a task lost its worker {_TRIES_ON_RAY} times", mend=mend) from error


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)
