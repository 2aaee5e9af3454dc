"""The interpreter that programs run with, and what must be readable for it to start."""

from __future__ import annotations

import functools
import json
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from codecria.common.errors import CodecriaError

_PROBE = """
import json, sys
for name in ("_ctypes", "_hashlib", "_ssl", "_decimal", "_bz2", "_lzma", "zlib", "_sqlite3", "pyexpat", "_uuid"):
    try:
        __import__(name)
    except ImportError:
        pass
mapped = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
print(json.dumps([sys.path, sorted(mapped)]))
"""
_SYSTEM_FOLDERS = (Path("/usr"), Path("/lib"), Path("/lib32"), Path("/lib64"), Path("/bin"))


@dataclass(frozen=True)
class Interpreter:
    """An interpreter without site packages.

    Attributes:
        executable: the file itself, no link.
        readable: files and folders outside the system's own that it needs: itself, its library, its shared objects.
        open_to_all: whether an account that owns nothing can read all of it.
    """

    executable: Path
    readable: tuple[Path, ...]
    open_to_all: bool

    def command(self, start: str) -> list[str]:
        """The command that runs `start`: no site packages, no user packages, no current folder on the path."""
        return [str(self.executable), "-s", "-P", "-S", "-c", start]


@functools.cache
def base_interpreter() -> Interpreter:
    """The interpreter beneath the running one: of a virtual environment, the one it was made from.

    Raises:
        CodecriaError: it does not start.
    """
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    command = [str(executable), "-I", "-S", "-c", _PROBE]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        why = found.stderr.strip().splitlines()[-1:] or ["no message"]
        raise CodecriaError(f"the interpreter does not start: {why[0]}", where=executable)
    path, mapped = json.loads(found.stdout)
    library = [Path(place) for place in path if Path(place).exists()]
    # The folder, not the file: the loader looks for a library by a name that may be a link to the mapped file.
    shared = [Path(file).parent for file in mapped if ".so" in Path(file).name]
    needed = {executable, *library, *shared}
    outside = sorted(place for place in needed if not _is_beneath(place, _SYSTEM_FOLDERS))
    kept = tuple(place for place in outside if not _is_beneath(place, [other for other in outside if other != place]))
    return Interpreter(executable, kept, all(_open_to_all(place) for place in needed))


def _is_beneath(place: Path, folders: tuple[Path, ...] | list[Path]) -> bool:
    return any(place == folder or folder in place.parents for folder in folders)


def _open_to_all(place: Path) -> bool:
    reading = place.stat().st_mode
    wanted = stat.S_IROTH | stat.S_IXOTH
    return reading & wanted == wanted and all(folder.stat().st_mode & stat.S_IXOTH for folder in place.parents)
