"""The ways to isolate a program, how each server is started, and what neither protects from.

bubblewrap
    Namespaces of its own for mounts, processes, network, IPC and host name; only the system's and the interpreter's
    folders are visible, read-only; one folder in memory of limited size can be written. Inside, Landlock where the
    kernel has it, seccomp and resource limits.
landlock
    Where bubblewrap is absent or may not make namespaces: Landlock (Linux 5.13 and later), seccomp and resource limits.
    Programs may write their current folder (`$TMPDIR`); `/tmp` itself only under bubblewrap.

Toolchains of other languages (`languages`) run in servers of their own, which may start processes, see the folders
their language names, and under bubblewrap `/proc` of their own namespace. Their memory is watched every 20 ms, so more
than `memory_bytes` may be held for that long; a process never has more than four times as much mapped to be written.

Neither protects from a fault in the kernel or the processor, nor from the use of a whole core and of `memory_bytes` for
`wall_s` seconds, twice (program and tests). Everything in `/usr` can be read. Modes and times of files cannot be set:
the calls do nothing and succeed. The tests' memory is out of the program's reach, but both share the processor and
timings can be seen.

landlock, besides, does not hide that a file exists, its size, times and owner, nor what a symbolic link points to; what
a program writes lies on the disk under the temporary folder and is measured every 20 ms, so more than `file_bytes` may
be written for that long, and threads likewise; and, run as root with an interpreter that only root can read, programs
keep account 0, without its capabilities.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codecria.sandbox.interpreter import base_interpreter
from codecria.sandbox.server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.sandbox.limits import Limits

BackendName = Literal["bubblewrap", "landlock"]
BACKENDS: tuple[BackendName, ...] = ("bubblewrap", "landlock")

_SERVER = Path(__file__).parent / "server"
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_ACCOUNTS = range(60578, 61184)  # no distribution and no service manager gives these numbers to anyone
_RECYCLE_AFTER = 1000
_BOX = "/box"


@dataclass(frozen=True)
class Flavour:
    """One way to start a server on this machine.

    Attributes:
        backend: its name.
        own_account: whether root gives the server an account number of its own.
        counted: whether the kernel counts the processes of the server's account apart from all others.
    """

    backend: BackendName
    own_account: bool
    counted: bool


@dataclass(frozen=True)
class Launch:
    """A server about to be started: its command and environment, what to tell it, a folder to remove afterwards."""

    command: list[str]
    environment: dict[str, str]
    settings: Settings
    folder: Path | None


def flavours(backend: BackendName) -> list[Flavour]:
    """The ways to start a backend, best first. As root the first gives up root's account: Linux does not limit the
    number of processes of account 0, and an account that owns nothing can write nothing.
    """
    root = os.geteuid() == 0
    readable = backend != "landlock" or base_interpreter().open_to_all
    own_account = [Flavour(backend, True, True)] if root and _may_take(_ACCOUNTS[0]) and readable else []
    # Since Linux 5.14 processes are counted for each user namespace, before for each account.
    counted = backend == "bubblewrap" and not root and _kernel() >= (5, 14)
    return [*own_account, Flavour(backend, own_account=False, counted=counted)]


def missing(backend: BackendName) -> str | None:
    """Why a backend cannot be tried at all, with the mend; None where it can."""
    if sys.platform != "linux":
        return f"needs Linux, this is {platform.system()}"
    if backend == "bubblewrap" and shutil.which("bwrap") is None:
        return "the command bwrap is not installed (apt install bubblewrap, dnf install bubblewrap)"
    return None


def prepare(
    flavour: Flavour,
    limits: Limits,
    import_paths: Sequence[Path],
    index: int,
    toolchains: Sequence[Path] | None = None,
    *,
    preload: Sequence[str] = (),
) -> Launch:
    """Everything needed to start server number `index`; makes its folder where the backend needs one.

    `toolchains`: what commands of other languages need to see; None for a server that runs Python alone.
    """
    interpreter = base_interpreter()
    account = _ACCOUNTS[(os.getpid() + index) % len(_ACCOUNTS)] if flavour.own_account else None
    folder = None
    work = _BOX
    if flavour.backend == "landlock":
        folder = Path(tempfile.mkdtemp(prefix="codecria-sandbox-"))
        if account is not None:
            os.chown(folder, account, account)
        work = str(folder)
    environment = {"LANG": "C.UTF-8", "HOME": work, "TMPDIR": work, "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}
    # Else every fork looks up the same symbols of shared objects again.
    environment["LD_BIND_NOW"] = "1"
    shown = [*interpreter.readable, *import_paths, *(toolchains or ())]
    proc = ["/proc"] if toolchains is not None and flavour.backend == "bubblewrap" else []
    settings = Settings(
        work=work,
        toolchains=toolchains is not None,
        account=account,
        counted=flavour.counted,
        landlock=flavour.backend == "landlock",
        readable=[*_SYSTEM, *_DEVICES, *map(str, shown), *proc],
        import_paths=[str(path) for path in import_paths],
        preload=list(preload),
        recycle_after=_RECYCLE_AFTER,
        **{name: value for name, value in asdict(limits).items() if name != "build_wall_s"},
    )
    if flavour.backend == "landlock":
        return Launch(interpreter.command(_start(_SERVER.parent)), environment, settings, folder)
    command = _bubblewrap(flavour, limits, shown, environment, proc=bool(proc) or not flavour.counted)
    return Launch([*command, *interpreter.command(_start(Path("/codecria")))], {}, settings, None)


def _start(folder: Path) -> str:
    """The first lines a server runs: the package `server` out of `folder`, which programs shall not import from."""
    return f"import sys; sys.path.insert(0, {str(folder)!r}); from server.main import main; del sys.path[0]; main()"


def _bubblewrap(
    flavour: Flavour, limits: Limits, shown: list[Path], environment: dict[str, str], *, proc: bool
) -> list[str]:
    """The bwrap command up to the interpreter's. `shown` is what can be seen besides the system.

    Root keeps its capabilities inside a new user namespace, so all are dropped; for an account of its own the server
    needs two, and real ones, hence no user namespace. The root folder is a tmpfs of bwrap's and would be writable.
    """
    command = [shutil.which("bwrap") or "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--hostname", "sandbox"]
    command += ["--cap-drop", "ALL"]
    own = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    command += [*(own if flavour.own_account else ["--unshare-user"]), "--clearenv"]
    for name, value in environment.items():
        command += ["--setenv", name, value]
    # The parents that bwrap would make are closed to the server's account.
    made = [Path("/dev"), Path("/etc"), Path("/codecria"), *(up for path in shown for up in reversed(path.parents))]
    for folder in dict.fromkeys(folder for folder in made if folder != Path("/")):
        command += ["--dir", str(folder)]
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            command += ["--ro-bind", str(path), str(path)]
    for device in _DEVICES:
        command += ["--dev-bind", device, device]
    command += ["--perms", "1777", "--size", str(limits.file_bytes), "--tmpfs", _BOX]
    if not any(path.is_relative_to("/tmp") for path in shown):
        command += ["--symlink", _BOX, "/tmp"]
    for path in shown:
        command += ["--ro-bind", str(path), str(path)]
    command += ["--ro-bind", str(_SERVER), "/codecria/server"]
    if proc:
        # The server counts threads and memory there; Landlock lets toolchains alone read it.
        command += ["--proc", "/proc", "--symlink", "/proc/self/fd", "/dev/fd"]
    return [*command, "--remount-ro", "/", "--chdir", _BOX, "--"]


def _may_take(account: int) -> bool:
    """Whether this process's user namespace knows the account number."""
    rows = (map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines())
    return any(first <= account < first + count for first, _, count in rows)


def _kernel() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdigit()) or 0)
