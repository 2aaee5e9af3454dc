"""How much one program may use."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from codecria.common.errors import CodecriaError

_MEMORY_BYTES_MIN = 64 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of one program. Its tests run in a process of their own under the same limits.

    A program that computes too long meets `cpu_s`, so that a busy machine does not change a verdict; `wall_s` is for
    those that wait.

    Attributes:
        wall_s: seconds from its start to its verdict; of a program that is built first, seconds it runs.
        build_wall_s: seconds a compiler has, of processor time too (`languages`; Python is not built).
        cpu_s: seconds of processor time of each process, rounded up to whole ones. Of other languages than Python, of
            all processes of a program.
        memory_bytes: address space of each process (RLIMIT_AS); at least 64 MiB. Of other languages than Python, what
            all processes of a program hold together.
        processes: processes at once. 1 refuses fork and exec; more needs a backend that can count them.
        threads: threads at once, over all processes.
        file_bytes: size of a file, and of all files together.
        output_bytes: what it may print.
    """

    wall_s: float = 10.0
    build_wall_s: float = 60.0
    cpu_s: float = 3.0
    memory_bytes: int = 512 << 20
    processes: int = 1
    threads: int = 32
    file_bytes: int = 16 << 20
    output_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise CodecriaError(f"{value} is no limit", where=name, mend="give a number above 0")
        if self.memory_bytes < _MEMORY_BYTES_MIN:
            what, mend = f"{self.memory_bytes} bytes do not hold an interpreter", f"give at least {_MEMORY_BYTES_MIN}"
            raise CodecriaError(what, where="memory_bytes", mend=mend)
