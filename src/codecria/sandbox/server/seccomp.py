"""The seccomp filter of one program, written out in the kernel's packet-filter language (no libseccomp).

An allow list: a call in no group of `syscalls` is answered with ENOSYS. Arguments are looked at where a call is
harmless for some and not for others (threads yes, processes no; its own signals yes, others' no).
"""

from __future__ import annotations

import ctypes
import os
import struct

from . import syscalls
from .libc import libc

_LOAD, _JUMP, _EQUAL, _AT_LEAST, _BITS, _AND, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000
_TRUNCATE, _ACCESS_MODE = 0o1000, 0o3
_FCNTL_SIGNALS = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_PRCTLS = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_UNIX, _STREAM = 1, 1

_OWN_PID = 0x7FEDC0DE
"""Stands in the filter for the number of the process it will confine; above any real one."""

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _MODE_FILTER = 1, 22, 2

_Code = list[tuple[int, int, int, int]]


def build(column: int, processes: int, *, toolchains: bool = False) -> bytes:
    """The filter's instructions, 8 bytes each; `Filter` writes the process's own number into them.

    Args:
        column: the processor's column in `syscalls`.
        processes: how many processes the program may have; 1 refuses fork and exec, and signals to other processes.
        toolchains: refuses those signals whatever the number: what compilers start they only wait for.
    """
    return _packed(_whole(column, _answers(processes, toolchains=toolchains)))


def split(column: int) -> tuple[bytes, bytes]:
    """The filter of programs of one process in two, which together answer as `build`'s: a long one that the server
    itself goes under, and a short one for each fork, against the calls the server needs and programs must not have. A
    filter is compiled and tried on every call there is when it is put on: 0.3 ms for the long one.
    """
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | _EPERM)
    answers = _answers(1)
    servers: dict[str, _Code] = {
        **{name: [allow] for name in ("kill", "tgkill", "prlimit64", "setsid", "memfd_create")},
        "landlock_restrict_self": [allow],
        "prctl": _one_of(0, (*_PRCTLS, _PR_SET_PDEATHSIG, _PR_SET_SECCOMP)),
        "clone": [_argument(0), (_BITS, 0, 1, _CLONE_NAMESPACES), refuse, allow],
    }
    forks = _decide(column, {name: answers[name] for name in servers}, allow)
    return _packed(_whole(column, answers | servers)), _packed(forks)


def _answers(processes: int, *, toolchains: bool = False) -> dict[str, _Code]:
    allow, refuse, pretend = ((_RETURN, 0, 0, answer) for answer in (_ALLOW, _ERRNO | _EPERM, _ERRNO))
    spawning = [] if processes == 1 else syscalls.SPAWNING
    return {
        **{name: [refuse] for name in (*syscalls.REFUSED, *syscalls.SPAWNING)},
        **{name: [allow] for name in (*syscalls.ALLOWED, *spawning)},
        **{name: [pretend] for name in syscalls.PRETENDED},
        **_rules(processes, signals=processes > 1 and not toolchains),
        # Mono complains on every thread's start if it is refused.
        **({"sched_setscheduler": [pretend]} if toolchains else {}),
    }


def _whole(column: int, answers: dict[str, _Code]) -> _Code:
    """A filter that stands alone: of this processor's calls, and what is not listed is not there."""
    return [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, syscalls.AUDIT_ARCH[column]),
        (_RETURN, 0, 0, _KILL),
        *_decide(column, answers, (_RETURN, 0, 0, _ERRNO | _ENOSYS)),
    ]


def _decide(column: int, answers: dict[str, _Code], otherwise: tuple[int, int, int, int]) -> _Code:
    numbers = syscalls.numbers(column)
    listed = sorted((numbers[name], answer) for name, answer in answers.items() if name in numbers)
    return [(_LOAD, 0, 0, _NUMBER_AT), *_search(listed, otherwise)]


def _search(answers: list[tuple[int, _Code]], otherwise: tuple[int, int, int, int]) -> _Code:
    """Find a call's answer by halving: the kernel runs a new filter once for every call there is."""
    if len(answers) > 3:
        middle = len(answers) // 2
        below, above = _search(answers[:middle], otherwise), _search(answers[middle:], otherwise)
        return [(_AT_LEAST, 0, 1, answers[middle][0]), (_JUMP, 0, 0, len(below)), *below, *above]
    code: _Code = []
    for number, answer in answers:
        code += [(_EQUAL, 0, len(answer), number), *answer]
    return [*code, otherwise]


def _packed(code: _Code) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class Filter:
    """A filter that is ready to be put on.

    Args:
        program: what `build` gave.
    """

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    def __init__(self, program: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(program, len(program))
        self._program = self._Program(len(program) // 8, ctypes.addressof(self._buffer))
        self._reference = ctypes.byref(self._program)
        own_pid = struct.pack("=I", _OWN_PID)
        self._holes = [at + 4 for at in range(0, len(program), 8) if program[at + 4 : at + 8] == own_pid]

    def install(self) -> None:
        """Put the calling process under the filter for good; it must have given up new privileges before."""
        own_pid = struct.pack("=I", os.getpid())
        for hole in self._holes:
            self._buffer[hole : hole + 4] = own_pid
        if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, self._reference, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")


def _rules(processes: int, *, signals: bool) -> dict[str, _Code]:
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | _EPERM)
    # O_TRUNC without write access empties a file that old Landlock only guards against writing.
    truncating = [(_AND, 0, 0, _TRUNCATE | _ACCESS_MODE), (_EQUAL, 0, 1, _TRUNCATE), refuse, allow]
    own = [allow] if signals else _one_of(0, (_OWN_PID,))
    threads = [(_BITS, 1, 0, _CLONE_THREAD), refuse] if processes == 1 else []
    return {
        "open": [_argument(1), *truncating],
        "openat": [_argument(2), *truncating],
        "fcntl": _one_of(1, _FCNTL_SIGNALS, found=refuse, otherwise=allow),
        "ioctl": _one_of(1, _IOCTLS),
        "prctl": _one_of(0, _PRCTLS),
        "prlimit64": _one_of(0, (0, _OWN_PID)),
        # Streams only: a datagram socket may be told to send to any other.
        "socketpair": [
            _argument(0),
            (_EQUAL, 1, 0, _UNIX),
            refuse,
            _argument(1),
            (_AND, 0, 0, 0xF),
            (_EQUAL, 0, 1, _STREAM),
            allow,
            refuse,
        ],
        "kill": own,
        "tgkill": own,
        "clone": [_argument(0), (_BITS, 0, 1, _CLONE_NAMESPACES), refuse, *threads, allow],
    }


def _argument(index: int) -> tuple[int, int, int, int]:
    """Load the low half of an argument: both processors are little-endian, and these arguments are 32 bits wide."""
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)


def _one_of(
    index: int,
    values: tuple[int, ...],
    found: tuple[int, int, int, int] = (_RETURN, 0, 0, _ALLOW),
    otherwise: tuple[int, int, int, int] = (_RETURN, 0, 0, _ERRNO | _EPERM),
) -> _Code:
    code: _Code = [_argument(index)]
    for value in values:
        code += [(_EQUAL, 0, 1, value), found]
    return [*code, otherwise]
