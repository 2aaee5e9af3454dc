"""Landlock by system call: which files a process may read and write, whom it may signal, no TCP.

What Landlock leaves open and this package closes or names elsewhere: modes, owners and times of files, truncation
before ABI 3, UDP and Unix sockets (`seccomp`); `stat`, `readlink` and the existence of files (nothing closes these
where there is no mount namespace). Source: the kernel's `Documentation/userspace-api/landlock.rst`.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from .libc import libc

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every processor
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_ALL_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_FILES_NOW = (1 << 16) - 1
_MAKE_DEVICES = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11  # character devices, sockets, pipes, block devices
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_ALL_TCP = 0b11
_SCOPES = 0b11  # abstract Unix sockets, signals


def abi() -> int:
    """The version of Landlock in this kernel; 0 where there is none or it is switched off."""
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), 1)
    return max(version, 0)


def ruleset(readable: list[str], writable: list[str], executable: bool) -> int:
    """A file descriptor of the rules: everything is forbidden except what lies beneath the paths given.

    Args:
        readable: files and folders that may be read; those that do not exist are passed over.
        writable: folders in which files may be made, and files that may be written.
        executable: whether what may be read may also be executed.

    Raises:
        OSError: the kernel refuses.
    """
    version = abi()
    handled = _ALL_FILES.get(version, _ALL_FILES_NOW)
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", _ALL_TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPES)
    rules = _checked(libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    reading = _READ_FILE | _READ_FOLDER | (_EXECUTE if executable else 0)
    writing = handled & ~_MAKE_DEVICES & ~(0 if executable else _EXECUTE)
    for paths, rights in ((readable, reading), (writable, writing)):
        for path in paths:
            _allow(rules, path, rights & handled)
    return rules


def allow_reading(rules: int, path: str) -> None:
    """Add a folder that may be read to rules that no process is under yet."""
    _allow(rules, path, _READ_FILE | _READ_FOLDER)


def restrict(rules: int) -> None:
    """Put the calling process under the rules for good."""
    _checked(libc.syscall(_RESTRICT, rules, 0))


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= _FILE_RIGHTS
    _checked(libc.syscall(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0))
    os.close(place)


def _checked(answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return answer
