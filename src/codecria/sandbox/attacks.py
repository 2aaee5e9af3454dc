"""Programs that attack the sandbox. Each one passes its tests only if the attack works, so `passed` means a hole.

The list is that of the ways in which widely used harnesses were found to accept a wrong program or let one act on the
machine, with those that this design itself invites: the second process, the pipes, the proxies.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codecria.sandbox import attack_texts as text
from codecria.sandbox.verdict import Program, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from codecria.sandbox.runner import Sandbox

_WRONG = "assert f(1) == 2"
_FAILED: frozenset[Status] = frozenset({"failed"})
_ENDED: frozenset[Status] = frozenset({"failed", "memory", "crashed"})
_SEEN_BY_TOOLCHAINS = frozenset({"list the processes", "read its own mappings"})
"""The tools of other languages need a /proc, that of the program's own namespace."""


@dataclass(frozen=True)
class Attack:
    """A program that passes only if it gets through.

    Attributes:
        name: what it tries.
        program: the program.
        stopped_as: the verdicts that show it was stopped as it should be.
        quick: ends at once when stopped; the self-test uses these.
    """

    name: str
    program: Program
    stopped_as: frozenset[Status] = _FAILED
    quick: bool = True


@dataclass(frozen=True)
class AttackResult:
    """What became of an attack: whether it was contained, and the verdict it got."""

    name: str
    contained: bool
    verdict: Verdict


@dataclass
class Bait:
    """What the attacks go for: a file with a secret, a folder anyone may write, listening sockets.

    Attributes:
        folder: the file is in it.
        port: of IPv4.
        secret: what the file holds; the abstract Unix socket is named after it.
        port6: of IPv6; 0 where the machine has none.
        seen: see `lay_bait`.
    """

    folder: Path
    port: int
    secret: str
    port6: int
    seen: Callable[[], bool] = field(repr=False)


@contextlib.contextmanager
def lay_bait() -> Generator[Bait]:
    """Lay out the bait; `seen` tells whether someone wrote into the folder or connected."""
    with tempfile.TemporaryDirectory(prefix="codecria-bait-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        secret = secrets.token_hex(16)
        folder.chmod(0o777)
        (folder / "secret").write_text(secret)
        (folder / "secret").chmod(0o666)
        listeners = [
            _listener(stack, socket.AF_INET, ("127.0.0.1", 0)),
            _listener(stack, socket.AF_UNIX, f"\0{secret}"),
        ]
        port6 = 0
        with contextlib.suppress(OSError):
            listeners.append(_listener(stack, socket.AF_INET6, ("::1", 0)))
            port6 = listeners[-1].getsockname()[1]

        def seen() -> bool:
            connected = False
            for listener in listeners:
                with contextlib.suppress(BlockingIOError):
                    listener.accept()[0].close()
                    connected = True
            written = [file.name for file in folder.iterdir()] != ["secret"]
            return connected or written or (folder / "secret").read_text() != secret

        yield Bait(folder, listeners[0].getsockname()[1], secret, port6, seen)


def _listener(stack: contextlib.ExitStack, family: int, address: tuple[str, int] | str) -> socket.socket:
    listener = stack.enter_context(socket.socket(family))
    listener.bind(address)
    listener.listen()
    listener.setblocking(False)
    return listener


def attacks(bait: Bait) -> list[Attack]:
    """Every attack, against the bait given."""
    return [*_cheats(), *_escapes(bait), *_floods(), *_leavings()]


def run_attacks(sandbox: Sandbox) -> list[AttackResult]:
    """Run every attack; takes about `wall_s` for each of five that only a limit stops."""
    return [result for _, result in _run(sandbox.run, quick_only=False)]


def self_test(judge: Callable[[Program], Verdict], *, toolchains: bool = False) -> str | None:
    """Whether right programs pass, wrong ones fail and the quick attacks are stopped; what went wrong, or None.

    `toolchains`: whether its server runs other languages too, which see `/proc` of their own namespace.
    """
    right = judge(Program("def f(x):\n    return x + 1", _WRONG, "f"))
    if right.status != "passed":
        return f"a right program was not passed: {right.status}, {right.detail}"
    wrong = judge(Program("def f(x):\n    return x", _WRONG, "f"))
    if wrong.status != "failed":
        return f"a wrong program was not failed: {wrong.status}, {wrong.detail}"
    for attack, result in _run(judge, quick_only=True):
        if not result.contained and not (toolchains and attack.name in _SEEN_BY_TOOLCHAINS):
            found = f"{result.verdict.status} {result.verdict.detail}".strip()
            return f"an attack was not stopped as it should be: {attack.name} ({found})"
    return None


def _run(judge: Callable[[Program], Verdict], *, quick_only: bool) -> Iterator[tuple[Attack, AttackResult]]:
    with lay_bait() as bait:
        for attack in attacks(bait):
            if quick_only and not attack.quick:
                continue
            verdict = judge(attack.program)
            contained = verdict.status in attack.stopped_as and not bait.seen()
            yield attack, AttackResult(attack.name, contained, verdict)


def _cheats() -> list[Attack]:
    """Ways to be passed with a wrong answer."""
    expected = secrets.token_hex(8)
    return [
        Attack("exit before the tests", Program("import sys\nsys.exit(0)", _WRONG)),
        Attack("exit inside the tests", Program("import sys\ndef f(x):\n    sys.exit(0)", _WRONG)),
        Attack("os._exit before the tests", Program("import os\nos._exit(0)", _WRONG)),
        Attack("os._exit inside the tests", Program("import os\ndef f(x):\n    os._exit(0)", _WRONG)),
        Attack("an answer equal to everything", Program(text.EQUAL, f"{_WRONG}\nassert f(1) != 3 or f(1) == 2")),
        Attack("an answer near everything", Program(text.EQUAL, "assert abs(f(1) - 2) < 1e-6")),
        Attack("a number equal to everything", Program(text.EQUAL_NUMBER, _WRONG)),
        Attack(
            "built-in functions replaced", Program(text.BUILTINS, "assert all(abs(f(x) - 2) < 1e-6 for x in range(3))")
        ),
        Attack(
            "built-in functions patched", Program(text.PATCHED, "assert all(abs(f(x) - 2) < 1e-6 for x in range(3))")
        ),
        Attack("a verdict forged on every descriptor", Program(text.FORGED, _WRONG)),
        Attack("a verdict forged through frames", Program(text.FRAMES, _WRONG)),
        Attack("the expected value read from memory", Program(text.SEARCH, f"assert f(1) == '{expected}'[::-1]")),
        Attack("a skipped test", Program(text.SKIP, text.SKIP_TESTS)),
        Attack("exec as the function under test", Program(text.EXEC, "assert decode(encode('abc')) == 'abc'")),
        Attack("the tests' objects used to reach their globals", Program(text.REACH, "assert f(lambda: 1) == 2")),
        Attack("sys.exit and os._exit replaced", Program(text.EXITS, _WRONG)),
        Attack("an exit handler that ends the program", Program(text.AT_EXIT, _WRONG)),
        Attack("an exception that nobody catches", Program(text.UNCAUGHT, _WRONG)),
        Attack("an exception that cannot be told", Program(text.UNTOLD, _WRONG)),
        Attack("half a character in the source", Program("def f(x): return '\ud800'", _WRONG)),
        Attack("half a character in the answer", Program("def f(x): return chr(0xD800)", _WRONG)),
        Attack("half a character printed", Program("def f(x):\n    print(chr(0xD800))\n    return 2", _WRONG)),
        Attack("a null character in the source", Program("def f(x): return 2\n\0", _WRONG)),
        Attack("a source too deep to parse", Program(f"def f(x): return {'(' * 10**5}", _WRONG), _ENDED),
    ]


def _escapes(bait: Bait) -> list[Attack]:
    """Ways to act on the machine."""
    secret, folder = str(bait.folder / "secret"), str(bait.folder)
    home = str(Path.home())
    daemon = f"if os.fork() == 0: os.setsid(), time.sleep(0.2), open({folder + '/daemon'!r}, 'w'), os._exit(0)"
    reading = "def f(path):\n    with open(path) as file:\n        return file.read()"
    # Its start, in ticks since the machine's: another process by that number has another.
    born = f" {Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19]} "
    calls = {
        "write a file outside": f"open({folder + '/written'!r}, 'w').write('x')",
        "write over a file outside": f"open({secret!r}, 'w').write('x')",
        "empty a file outside": f"__import__('os').truncate({secret!r}, 0)",
        "empty a file by opening it": f"__import__('os').open({secret!r}, 0o1000)",
        "remove a file outside": f"__import__('os').unlink({secret!r})",
        "link a file from outside": f"open(__import__('os').link({secret!r}, 'here') or 'here').read()",
        "list the files of the home folder": f"next(x for x in __import__('os').scandir({home!r}) if x.is_file())",
        "read the user data base": "open('/etc/passwd').read()",
        "write to the root folder": "open('/written', 'w').write('x')",
        "run a command": f"__import__('subprocess').check_call(['/bin/sh', '-c', 'echo > {folder}/new'])",
        "run a command through the shell": f"1 / (__import__('os').system('echo > {folder}/new') == 0)",
        "signal a process that is not there": "__import__('os').kill(2**22 - 1, 9)",
        "connect by TCP": f"__import__('socket').create_connection(('127.0.0.1', {bait.port}), 1)",
        "send by UDP": f"__import__('socket').socket(2, 2).sendto(b'x', ('127.0.0.1', {bait.port}))",
        "connect to the host by a Unix socket": "__import__('socket').socket(1, 1)",
        "signal the server": "__import__('os').kill(__import__('os').getppid(), 9)",
        "signal everything": "__import__('os').kill(-1, 9)\n    raise PermissionError('nothing was killed')",
        "leave the process group": "__import__('os').setpgid(0, 0)",
        "read the memory of the server": "open(f\"/proc/{__import__('os').getppid()}/mem\", 'rb').read(1)",
        "read the environment of the server": "open(f\"/proc/{__import__('os').getppid()}/environ\", 'rb').read(1)",
        "raise a limit": "__import__('resource').setrlimit(9, (-1, -1))",
        "trace the server": _libc("ptrace(16, os.getppid(), 0, 0)"),
        "make a user namespace": _libc("unshare(0x10000000)"),
        "mount": _libc("mount(b'none', b'/box', b'tmpfs', 0, 0)"),
        "open an io_uring": _libc("syscall(425, 1, bytes(120))"),
        "write to the home folder": f"open({home + '/codecria-was-here'!r}, 'w').write('x')",
        "write to /etc": "open('/etc/codecria-was-here', 'w').write('x')",
        "write to /dev/shm": "open('/dev/shm/codecria-was-here', 'w').write('x')",
        "share memory": "from multiprocessing.shared_memory import SharedMemory\n    SharedMemory(None, True, 9)",
        "write through a symbolic link": f"__import__('os').symlink({secret!r}, 'to')\n    open('to', 'w').write('x')",
        "read through a symbolic link": f"__import__('os').symlink({folder!r}, 'in')\n    open('in/secret').read()",
        "list the processes": "__import__('os').listdir('/proc')",
        "find the judge among the processes": f"1 / ({born!r} in open('/proc/{os.getpid()}/stat').read())",
        "read the environment of the first process": "open('/proc/1/environ', 'rb').read(1)",
        "read its own mappings": "open('/proc/self/maps').read()",
        "read the input of the server": "1 / len(__import__('os').read(0, 1))",
        "wait for input": "input()",
        "connect by IPv6": f"__import__('socket').create_connection(('::1', {bait.port6}), 1)",
        "connect to an abstract Unix socket": f"__import__('socket').socket(1, 1).connect('\\x00{bait.secret}')",
        "look up a name": "__import__('socket').getaddrinfo('localhost', 80)",
        "ask a name server": "__import__('socket').socket(2, 2).sendto(bytes(12), ('127.0.0.53', 53))",
        "open a raw socket": "__import__('socket').socket(2, 3, 1)",
        "open a netlink socket": "__import__('socket').socket(16, 3, 0)",
        "signal the server by a descriptor": _libc(
            "syscall(424, ctypes.CDLL(None).syscall(434, os.getppid(), 0), 9, 0, 0)"
        ),
        "take a descriptor of the server": _libc("syscall(438, ctypes.CDLL(None).syscall(434, os.getppid(), 0), 1, 0)"),
        "be traced": _libc("ptrace(0, 0, 0, 0)"),
    }
    return [
        Attack("read a file outside", Program(reading, f"assert f({secret!r})")),
        Attack(
            "see the environment",
            Program(
                "import os\ndef f():\n    return set(os.environ)",
                "assert f() - {'LANG', 'HOME', 'TMPDIR', 'PATH', 'PYTHONHASHSEED', 'PWD', 'LC_CTYPE'}",
            ),
        ),
        Attack("read the memory of the server by a call", Program(text.READ_MEMORY, "assert f()")),
        # Not for the self-test: where several processes are allowed it may begin, and ends with the program.
        Attack("leave a daemon behind", Program(f"import os, time\ndef f():\n    {daemon}", "f()"), quick=False),
        *(
            Attack(name, Program(f"def f():\n    {call}\n    return 1", "assert f() == 1"))
            for name, call in calls.items()
        ),
    ]


def _libc(call: str) -> str:
    return f"import ctypes, os\n    if ctypes.CDLL(None).{call} < 0:\n        raise PermissionError"


def _floods() -> list[Attack]:
    """Ways to use too much."""
    sets: dict[str, tuple[str, set[Status]]] = {
        "loop for ever": ("while True: pass", {"timeout"}),
        "sleep for ever, deaf to signals": (text.DEAF, {"timeout"}),
        "take all memory": ("x = bytearray(1 << 40)", {"memory"}),
        "take memory bit by bit": ("x = []\n    while True: x.append(bytes(1 << 20))", {"memory", "crashed"}),
        "print without end": ("while True: print('x' * 1000)", {"output"}),
        "fork without end": ("import os\n    while True: os.fork()", {"failed"}),
        "start threads without end": (text.THREADS, {"failed", "memory"}),
        "write one large file": (text.LARGE, {"failed"}),
        "write many files": (text.FILES, {"failed", "timeout"}),
        "make folders without end": (text.FOLDERS, {"failed"}),
        "crash the interpreter": ("import ctypes\n    ctypes.string_at(0)", {"crashed"}),
        "recurse without end": ("return f()", {"failed"}),
        "recurse beyond the stack": (
            "import sys\n    sys.setrecursionlimit(10**9)\n    return f()",
            {*_ENDED, "timeout"},
        ),
        "recurse in C": ("x = ()\n    for _ in range(10**5): x = (x,)\n    repr(x)", {"failed", "crashed"}),
        "answer with an endless value": ("x = []\n    x.append(x)\n    return x", {"failed"}),
        "answer with an endless iterator": ("import itertools\n    return itertools.count()", {"timeout", "memory"}),
    }
    quick = {"take all memory", "crash the interpreter", "write one large file"}
    return [
        Attack(
            name,
            Program(f"def f():\n    {code}\n    return 1", "assert list(f()) == 1" if "iterator" in name else "f()"),
            frozenset(stopped_as),
            name in quick,
        )
        for name, (code, stopped_as) in sets.items()
    ]


def _leavings() -> list[Attack]:
    """Ways to hand something to the next program; the second of each pair runs after the first."""
    return [
        Attack("leave files and names", Program(text.LEAVE, _WRONG)),
        Attack("find what the program before left", Program(text.FIND, "assert f()")),
    ]
