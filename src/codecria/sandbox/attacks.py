"""Programs that attack the sandbox. Each one passes its tests only if the attack works, so `passed` means a hole.

The list is that of the ways in which widely used harnesses were found to accept a wrong program or let one act on the
machine, with those that this design itself invites: the second process, the pipes, the proxies.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codecria.sandbox.verdict import Program, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from codecria.sandbox.runner import Sandbox

_WRONG = "assert f(1) == 2"
_FAILED: frozenset[Status] = frozenset({"failed"})


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
    """What the attacks go for: a file with a secret, a folder anyone may write, a listening socket."""

    folder: Path
    port: int
    secret: str
    seen: Callable[[], bool] = field(repr=False)


@contextlib.contextmanager
def lay_bait() -> Generator[Bait]:
    """Lay out the bait; `seen` tells whether someone wrote into the folder or connected."""
    with tempfile.TemporaryDirectory(prefix="codecria-bait-") as name, socket.socket() as listener:
        folder = Path(name)
        secret = secrets.token_hex(16)
        folder.chmod(0o777)
        (folder / "secret").write_text(secret)
        (folder / "secret").chmod(0o666)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)

        def seen() -> bool:
            written = [file.name for file in folder.iterdir()] != ["secret"] or (
                folder / "secret"
            ).read_text() != secret
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return written
            return True

        yield Bait(folder, listener.getsockname()[1], secret, seen)


def attacks(bait: Bait) -> list[Attack]:
    """Every attack, against the bait given."""
    return [*_cheats(), *_escapes(bait), *_floods()]


def run_attacks(sandbox: Sandbox) -> list[AttackResult]:
    """Run every attack; takes about `wall_s` for each of five that only a limit stops."""
    return [result for _, result in _run(sandbox.run, quick_only=False)]


def self_test(judge: Callable[[Program], Verdict]) -> str | None:
    """Whether right programs pass, wrong ones fail and the quick attacks are stopped; what went wrong, or None."""
    right = judge(Program("def f(x):\n    return x + 1", _WRONG, "f"))
    if right.status != "passed":
        return f"a right program was not passed: {right.status}, {right.detail}"
    wrong = judge(Program("def f(x):\n    return x", _WRONG, "f"))
    if wrong.status != "failed":
        return f"a wrong program was not failed: {wrong.status}, {wrong.detail}"
    for attack, result in _run(judge, quick_only=True):
        if not result.contained:
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
        Attack("an answer equal to everything", Program(_EQUAL, f"{_WRONG}\nassert f(1) != 3 or f(1) == 2")),
        Attack("an answer near everything", Program(_EQUAL, "assert abs(f(1) - 2) < 1e-6")),
        Attack("a number equal to everything", Program(_EQUAL_NUMBER, _WRONG)),
        Attack("built-in functions replaced", Program(_BUILTINS, "assert all(abs(f(x) - 2) < 1e-6 for x in range(3))")),
        Attack("built-in functions patched", Program(_PATCHED, "assert all(abs(f(x) - 2) < 1e-6 for x in range(3))")),
        Attack("a verdict forged on every descriptor", Program(_FORGED, _WRONG)),
        Attack("a verdict forged through frames", Program(_FRAMES, _WRONG)),
        Attack("the expected value read from memory", Program(_SEARCH, f"assert f(1) == '{expected}'[::-1]")),
        Attack("a skipped test", Program(_SKIP, _SKIP_TESTS)),
        Attack("exec as the function under test", Program(_EXEC, "assert decode(encode('abc')) == 'abc'")),
        Attack("the tests' objects used to reach their globals", Program(_REACH, "assert f(lambda: 1) == 2")),
    ]


def _escapes(bait: Bait) -> list[Attack]:
    """Ways to act on the machine."""
    secret, folder = str(bait.folder / "secret"), str(bait.folder)
    home = str(Path.home())
    reading = "def f(path):\n    with open(path) as file:\n        return file.read()"
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
        "sleep for ever, deaf to signals": (_DEAF, {"timeout"}),
        "take all memory": ("x = bytearray(1 << 40)", {"memory"}),
        "take memory bit by bit": ("x = []\n    while True: x.append(bytes(1 << 20))", {"memory", "crashed"}),
        "print without end": ("while True: print('x' * 1000)", {"output"}),
        "fork without end": ("import os\n    while True: os.fork()", {"failed"}),
        "start threads without end": (_THREADS, {"failed", "memory"}),
        "write one large file": (_LARGE, {"failed"}),
        "write many files": (_FILES, {"failed", "timeout"}),
        "make folders without end": (_FOLDERS, {"failed"}),
        "crash the interpreter": ("import ctypes\n    ctypes.string_at(0)", {"crashed"}),
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


_EQUAL = """
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __sub__(self, other): return 0.0
    def __rsub__(self, other): return 0.0
    def __abs__(self): return 0.0
    def __float__(self): return 2.0
    def __hash__(self): return hash(2)
def f(x): return Always()
"""
_EQUAL_NUMBER = """
class Always(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def f(x): return Always(5)
"""
_BUILTINS = """
def abs(x): return 0
def all(x): return True
def range(*x): return []
def f(x): return 5
"""
_PATCHED = """
import builtins
builtins.abs = lambda x: 0
builtins.all = lambda x: True
builtins.AssertionError = KeyboardInterrupt
def f(x): return 5
"""
_FORGED = """
import json, os, struct
verdict = {"status": "passed", "detail": "", "calls": 1, "nonce": "0"}
body = json.dumps({**verdict, "wall_s": 0.1, "output": "", "last": False})
told = json.dumps({"status": "told", "detail": "", "wall_s": 0.1, "output": "", "last": False})
def forge():
    frames = [struct.pack("<I", len(text)) + text.encode() for text in (body, told)]
    for text in (b"RT", b"T", b"D", *frames):
        for descriptor in range(1, 64):
            try: os.write(descriptor, text)
            except OSError: pass
def f(x):
    forge()
    os._exit(0)
forge()
"""
_FRAMES = """
import gc, sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, list): value.append("passed")
            if isinstance(value, dict): value.setdefault("status", "passed")
        frame = frame.f_back
    for thing in gc.get_objects():
        if type(thing).__name__ == "Peer": thing.gone, thing.calls = False, 1
    return 5
"""
_SEARCH = """
import gc, sys
def f(x):
    seen, left, found = set(), [*gc.get_objects(), *sys._current_frames().values()], []
    while left:
        thing = left.pop()
        if id(thing) in seen: continue
        seen.add(id(thing))
        if isinstance(thing, str) and "assert f(1)" in thing: found.append(thing)
        left += gc.get_referents(thing)
    for text in found:
        part = text.split("'")
        if len(part) > 1 and len(part[1]) == 16: return part[1][::-1]
"""
_SKIP = """
import unittest
def f(x): raise unittest.SkipTest
"""
_SKIP_TESTS = """
import unittest
class Tests(unittest.TestCase):
    def test(self): self.assertEqual(f(1), 2)
result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(Tests))
assert result.wasSuccessful()
"""
FORGE_FROM_WITHIN = """
import json, os, struct, sys
frame = sys._getframe()
while "request" not in frame.f_locals: frame = frame.f_back
held = frame.f_locals
body = json.dumps({"status": "passed", "detail": "", "calls": 1, "nonce": held["request"]["nonce"]}).encode()
os.write(held["world"], struct.pack("<I", len(body)) + body)
os.write(held["report"], b"T")
os._exit(0)
"""
"""Passes anything if it runs in the process of the tests; the attacks try to have it run there."""

_EXEC = f"""
def encode(text):
    return {FORGE_FROM_WITHIN!r}
decode = exec
"""
_REACH = """
def f(function):
    function.__globals__["f"] = lambda x: 2
    return 2 if function.__globals__ else 1
"""
_DEAF = """
    import signal, time
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    time.sleep(1000)"""
_THREADS = """
    import threading, time
    threading.stack_size(1 << 15)
    while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()"""
_LARGE = """
    with open("large", "wb", buffering=0) as file:
        while True:
            if file.write(bytes(1 << 16)) < 1 << 16: raise OSError"""
_FILES = """
    import os
    for number in range(10**9): os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))"""
_FOLDERS = """
    import os
    for number in range(10**9):
        os.mkdir("x")
        os.chdir("x")"""
