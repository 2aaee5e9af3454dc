"""What the server is told when it starts."""

from __future__ import annotations

from typing import NamedTuple


class Settings(NamedTuple):
    """What the server is told when it starts; every field crosses as JSON.

    `account`: the user number to become, None to stay. `counted`: whether the kernel counts that user's processes
    apart from everyone else's. `landlock`: whether the server must refuse to start without it. `readable`: what
    programs may read. `work`: the one folder they may write. `toolchains`: whether commands are run, of which memory is
    watched and not bounded: V8, the JVM and .NET reserve far more addresses than they use. `preload`: modules imported
    before the first program.
    """

    work: str
    toolchains: bool
    account: int | None
    counted: bool
    landlock: bool
    readable: list[str]
    import_paths: list[str]
    preload: list[str]
    wall_s: float
    cpu_s: float
    memory_bytes: int
    processes: int
    threads: int
    file_bytes: int
    output_bytes: int
    recycle_after: int
