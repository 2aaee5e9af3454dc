"""What a process gives up: the server its rights, each program everything it does not need."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
from typing import TYPE_CHECKING, NamedTuple

from . import landlock, seccomp, syscalls
from .libc import libc

if TYPE_CHECKING:
    from .settings import Settings

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_OPEN_FILES = 64
_OPEN_FILES_OF_TOOLS = 256
_RESERVED_BYTES = 1 << 46
"""Addresses a process of a toolchain may have."""
_MAPPED = 4
"""How many times its memory a process may have mapped to be written: a toolchain never touches most of that."""
_LAST_CAPABILITY = 63


class RefusedError(Exception):
    """The kernel or the processor lacks what the settings ask for."""


class Walls(NamedTuple):
    """What every program is put behind, made once."""

    settings: Settings
    nothing: int
    """A descriptor of /dev/null."""
    rules: int | None
    bounds: list[tuple[int, int, int]]
    filter: seccomp.Filter
    inherited: seccomp.Filter | None
    """What the server goes under itself, for its forks to have; see `seccomp.split`."""


def build_walls(settings: Settings) -> Walls:
    """Make the Landlock rules and the seccomp filter.

    Raises:
        RefusedError: Landlock is required and absent, or the processor's system calls are not known.
    """
    column = syscalls.column()
    if column is None:
        raise RefusedError(f"no table of system calls for the processor {os.uname().machine}")
    if settings.toolchains or settings.processes > 1:
        shared, own = None, seccomp.Filter(seccomp.build(column, settings.processes, toolchains=settings.toolchains))
    else:
        shared, own = map(seccomp.Filter, seccomp.split(column))
    if not landlock.abi() and settings.landlock:
        raise RefusedError("Landlock is not in this kernel, or is switched off")
    rules = None
    if landlock.abi():
        rules = landlock.ruleset(settings.readable, [settings.work, "/dev/null"], executable=settings.processes > 1)
    return Walls(settings, os.open(os.devnull, os.O_RDWR), rules, bounds(settings), own, shared)


def enter_server(settings: Settings) -> None:
    """Give up, in the server, all that no program may inherit: other accounts, capabilities, being looked into."""
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if settings.account is not None:
        os.setgroups([])
        os.setresgid(settings.account, settings.account, settings.account)
        os.setresuid(settings.account, settings.account, settings.account)
    _drop_capabilities()
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0), (_PR_SET_PDEATHSIG, signal.SIGKILL)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")


def enter_group() -> None:
    """Give the calling process, a fresh fork of the server, a group of its own and the server's death."""
    os.setsid()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def enter_program(walls: Walls) -> None:
    """Put the calling process, a fork of the server, behind the walls; nothing undoes this."""
    for kind, soft, hard in walls.bounds:
        resource.setrlimit(kind, (soft, hard))
    if walls.rules is not None:
        landlock.restrict(walls.rules)
        os.close(walls.rules)
    os.close(walls.nothing)
    walls.filter.install()


def bounds(settings: Settings) -> list[tuple[int, int, int]]:
    """Resource limits: kind, soft, hard. A hard limit that is already lower stays; it could not be raised."""
    cpu_s = math.ceil(settings.cpu_s)
    files = _OPEN_FILES_OF_TOOLS if settings.toolchains else _OPEN_FILES
    reserved = _RESERVED_BYTES if settings.toolchains else settings.memory_bytes
    mapped = settings.memory_bytes * _MAPPED
    wanted = {
        resource.RLIMIT_AS: (reserved, reserved),
        resource.RLIMIT_DATA: (mapped, mapped),
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 1),
        resource.RLIMIT_FSIZE: (settings.file_bytes, settings.file_bytes),
        resource.RLIMIT_NOFILE: (files, files),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_SIGPENDING: (_OPEN_FILES, _OPEN_FILES),
    }
    if settings.counted:
        # The server, the other half of the program and the namespace's first process count too.
        most = settings.processes + settings.threads + 3
        wanted[resource.RLIMIT_NPROC] = (most, most)
    found: list[tuple[int, int, int]] = []
    for kind, (soft, hard) in wanted.items():
        given = resource.getrlimit(kind)[1]
        most = hard if given == resource.RLIM_INFINITY else min(hard, given)
        found.append((kind, min(soft, most), most))
    return found


def _drop_capabilities() -> None:
    """Empty the three sets (`capset`, version 3 of its header)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")
