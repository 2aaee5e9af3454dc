"""The filter, run by a small reading of the kernel's packet-filter language; and the numbers, against the headers."""

from __future__ import annotations

import itertools
import re
import struct
from pathlib import Path

import pytest

from codecria.sandbox.server import seccomp, syscalls

ALLOW, KILL, EPERM, ENOSYS, PRETEND = 0x7FFF0000, 0x80000000, 0x50001, 0x50026, 0x50000
OWN_PID = 0x7FEDC0DE


def answer(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would do with a call (`Documentation/networking/filter.rst`, the opcodes seccomp admits)."""
    call = struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, *[0] * (6 - len(arguments))))
    instructions = list(struct.iter_unpack("=HBBI", program))
    at = held = 0
    while True:
        code, yes, no, value = instructions[at]
        at += 1
        if code == 0x20:
            (held,) = struct.unpack_from("=I", call, value)
        elif code == 0x54:
            held &= value
        elif code == 0x05:
            at += value
        elif code in (0x15, 0x35, 0x45):
            met = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            at += yes if met else no
        elif code == 0x06:
            return value
        else:
            raise AssertionError(f"opcode {code:#x}")


@pytest.fixture(params=[0, 1], ids=["x86_64", "aarch64"])
def column(request: pytest.FixtureRequest) -> int:
    return request.param


def test_every_number_gets_the_answer_of_its_group(column: int) -> None:
    numbers = syscalls.numbers(column)
    for processes in (1, 2):
        program = seccomp.build(column, processes)
        expected = dict.fromkeys(range(600), ENOSYS)
        refused = [*syscalls.REFUSED, *(syscalls.SPAWNING if processes == 1 else [])]
        allowed = [*syscalls.ALLOWED, *(syscalls.SPAWNING if processes > 1 else [])]
        for names, what in ((allowed, ALLOW), (refused, EPERM), (syscalls.PRETENDED, PRETEND)):
            expected.update({numbers[name]: what for name in names if name in numbers})
        conditional = {numbers[name] for name in syscalls.CONDITIONAL if name in numbers}
        for number in set(expected) - conditional:
            assert answer(program, syscalls.AUDIT_ARCH[column], number) == expected[number], number


def test_other_architectures_are_killed(column: int) -> None:
    program = seccomp.build(column, 1)
    for architecture in (0x40000003, syscalls.AUDIT_ARCH[1 - column], 0):
        assert answer(program, architecture, 0) == KILL
    # x32 calls carry the 64-bit architecture and a high bit in the number.
    assert answer(program, syscalls.AUDIT_ARCH[column], 0x40000000 | syscalls.numbers(column)["read"]) == ENOSYS


@pytest.mark.parametrize(
    ("name", "arguments", "processes", "expected"),
    [
        ("clone", (0x3D0F00,), 1, ALLOW),  # what glibc makes a thread with
        ("clone", (0x1200011,), 1, EPERM),  # what it forks with
        ("clone", (0x1200011,), 2, ALLOW),
        ("clone", (0x10000011,), 2, EPERM),  # a new user namespace
        ("clone", (0x3D0F00 | 0x10000000,), 1, EPERM),
        ("kill", (OWN_PID,), 1, ALLOW),
        ("kill", (1,), 1, EPERM),
        ("kill", (0xFFFFFFFF,), 1, EPERM),
        ("kill", (1,), 2, ALLOW),
        ("tgkill", (OWN_PID, 5), 1, ALLOW),
        ("openat", (0, 0, 0o1000), 1, EPERM),
        ("openat", (0, 0, 0o1001), 1, ALLOW),
        ("openat", (0, 0, 0o1002), 1, ALLOW),
        ("openat", (0, 0, 0), 1, ALLOW),
        ("fcntl", (3, 8), 1, EPERM),
        ("fcntl", (3, 10), 1, EPERM),
        ("fcntl", (3, 1), 1, ALLOW),
        ("ioctl", (0, 0x5401), 1, ALLOW),
        ("ioctl", (0, 0x5412), 1, EPERM),  # TIOCSTI
        ("prctl", (15,), 1, ALLOW),
        ("prctl", (4, 1), 1, EPERM),
        ("prlimit64", (0,), 1, ALLOW),
        ("prlimit64", (1,), 1, EPERM),
        ("socketpair", (1, 1), 1, ALLOW),
        ("socketpair", (1, 0x80801), 1, ALLOW),  # close on exec, not blocking
        ("socketpair", (1, 2), 1, EPERM),
        ("socketpair", (2, 1), 1, EPERM),
    ],
)
def test_arguments_decide(column: int, name: str, arguments: tuple[int, ...], processes: int, expected: int) -> None:
    program = seccomp.build(column, processes)
    number = syscalls.numbers(column)[name]
    assert answer(program, syscalls.AUDIT_ARCH[column], number, *arguments) == expected


def strictest(*answers: int) -> int:
    """What the kernel does under filters, newest first: the action of the highest precedence (`kernel/seccomp.c`)."""
    return min(answers, key=lambda each: (each - 0x80000000) % (1 << 32) & 0xFFFF0000)


def test_the_two_halves_of_the_filter_answer_as_the_whole(column: int) -> None:
    whole, (server, own), numbers = seccomp.build(column, 1), seccomp.split(column), syscalls.numbers(column)
    architecture = syscalls.AUDIT_ARCH[column]
    flags = (0, 1, 2, 3, 4, 8, 10, 15, 16, 22, 23, 0x5401, 0x5412, 0o1000, 0o1001, 0x3D0F00, 0x1200011, 0x10000011)
    values = (*flags, OWN_PID, 0x53564D41, 0xFFFFFFFF)
    looked_into = {numbers[name] for name in (*syscalls.CONDITIONAL, "setsid", "memfd_create") if name in numbers}
    for number in {*range(600), *numbers.values(), 0x40000000 | numbers["read"]}:
        pairs = itertools.product(values, values) if number in looked_into else [(0, 0)]
        for first, second in pairs:
            call = (architecture, number, first, second, second)
            assert strictest(answer(own, *call), answer(server, *call)) == answer(whole, *call), call
    assert answer(server, 0x40000003, numbers["read"]) == KILL
    assert len(own) < len(server) / 8


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("execve", (), ALLOW),
        ("clone", (0x1200011,), ALLOW),
        ("kill", (1,), EPERM),  # where more processes are allowed a program may signal them, a toolchain's may not
        ("kill", (0xFFFFFFFF,), EPERM),
        ("kill", (OWN_PID,), ALLOW),
        ("tgkill", (OWN_PID, 5), ALLOW),
        ("sched_setscheduler", (), PRETEND),
        ("socket", (), EPERM),
        ("setsid", (), EPERM),
        ("setpgid", (), EPERM),
    ],
)
def test_what_toolchains_may(column: int, name: str, arguments: tuple[int, ...], expected: int) -> None:
    program = seccomp.build(column, 32, toolchains=True)
    number = syscalls.numbers(column)[name]
    assert answer(program, syscalls.AUDIT_ARCH[column], number, *arguments) == expected


HEADERS = {
    0: Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    1: Path("/usr/include/asm-generic/unistd.h"),
}


def test_numbers_are_the_kernel_headers(column: int) -> None:
    header = HEADERS[column]
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    known = {
        name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    }
    if column == 1:
        known["newfstatat"] = known["fstatat"]
    for name, number in syscalls.numbers(column).items():
        assert known.get(name, number) == number, name
    missing = set(syscalls.numbers(column)) - set(known)
    assert missing <= {"fchmodat2"}  # newer than some headers


def test_no_call_is_in_two_groups() -> None:
    groups = [syscalls.ALLOWED, syscalls.CONDITIONAL, syscalls.PRETENDED, syscalls.SPAWNING, syscalls.REFUSED]
    names = [name for group in groups for name in group]
    assert len(names) == len(set(names))
    assert set(names) == set(syscalls.numbers(0)) | set(syscalls.numbers(1))
