"""Git repositories, bare or not: the files of a revision, of its whole history, or of the working tree.

The git program reads them, and nothing is checked out.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import stat
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from codecria.common.errors import CodecriaError
from codecria.corpus.licence import UNKNOWN
from codecria.corpus.licence_files import is_licence_file, licence_of_bytes
from codecria.corpus.sources.files import FilesRecipe, nearest_licence, wanted
from codecria.corpus.sources.folder import LICENCE_BYTES, DiskUnit, Listed, ListedFile, Places, runs
from codecria.corpus.sources.git_program import Objects, ask, ask_lines, repositories
from codecria.corpus.sources.source import Refused, UnreadableError
from codecria.corpus.sources.walk import existing_folder, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

_WORKING_TREE = "working-tree"
_CHANGES = ("diff-tree", "--stdin", "-r", "-c", "--root", "-z", "--always", "--raw", "--no-renames", "--no-abbrev")
_REGULAR = "100"
"""A regular file's mode begins so; links are 120000, submodules 160000."""
_AT_ONCE = 5_000


class GitRecipe(FilesRecipe):
    """Git repositories to take documents from."""

    type: Literal["git"] = "git"
    path: str
    """A repository, bare or not, or a folder with repositories somewhere below."""
    revision: str = "HEAD"
    """A branch, tag or commit; `working-tree` takes the files that git knows as they are on the disk."""
    history: bool = False
    """Every distinct file that the history of the revision holds, newest first."""

    def open(self) -> GitSource:
        """The source this recipe describes."""
        return GitSource(self)


@dataclass(frozen=True)
class GitUnit(DiskUnit):
    """Some files of one repository, by the names of their objects."""

    git_folder: str

    @contextmanager
    def _reader(self) -> Generator[Callable[[str, int], bytes]]:
        with closing(Objects(self.git_folder)) as objects:
            yield objects.read


class GitSource:
    """Every repository at or below a folder; those inside another's working tree belong to it and are passed by.

    A package is named after the remote `origin` (`owner/name`), else after its folder.

    Raises:
        CodecriaError: git is not installed, or the folder does not exist; of `units`: no repository, or none that
            has a revision that was named.
    """

    def __init__(self, recipe: GitRecipe) -> None:
        self._recipe, self._root = recipe, existing_folder(recipe.path)
        if shutil.which("git") is None:
            raise CodecriaError("the git program is not installed", where=recipe.path, mend="install git")

    def describe(self) -> str:
        """One line: what and where."""
        history = " and its history" if self._recipe.history else ""
        return f"git {printable(self._recipe.path)} @ {self._recipe.revision}{history}"

    def units(self) -> Iterator[DiskUnit]:
        """Runs of each repository's files, repositories in name order."""
        known: list[bool] = []
        for folder, git_folder in repositories(self._root):
            repository = _Repository(folder, git_folder, self._root, self._recipe)
            yield from repository.units()
            known.append(repository.has_revision)
        if not any(known):
            what = f"no repository here has the revision {self._recipe.revision}" if known else "no repository here"
            mend = "name a branch, a tag or a commit" if known else "name a repository, or a folder that holds some"
            raise CodecriaError(what, where=self._recipe.path, mend=mend)


class _Commit(NamedTuple):
    name: str
    time_s: int


class _Entry(NamedTuple):
    """A regular file of a commit."""

    object_name: str
    path: str
    commit: _Commit


class _Repository:
    """One repository while it is listed."""

    def __init__(self, folder: Path, git_folder: Path, root: Path, recipe: GitRecipe) -> None:
        self._folder, self._git, self._recipe = folder, str(git_folder), recipe
        called = folder.resolve().name if folder == root else folder.relative_to(root).as_posix()
        self._package = self._remote() or printable(called).removesuffix(".git")
        self._licence = recipe.licence or UNKNOWN
        self.has_revision = True

    def units(self) -> Iterator[DiskUnit]:
        """Runs of its files, or one line that says why there are none."""
        docstrings = self._recipe.docstrings
        try:
            if self._recipe.revision == _WORKING_TREE:
                yield from (DiskUnit(run, docstrings) for run in runs(self._on_disk()))
            else:
                yield from (GitUnit(run, docstrings, self._git) for run in runs(self._in_revision()))
        except UnreadableError as error:
            yield DiskUnit((self._refused(".", error.reason, error.detail),), docstrings)

    def _remote(self) -> str | None:
        """`owner/name` of the remote `origin`."""
        for line in ask_lines(self._git, "config", "--get", "remote.origin.url"):
            path = re.sub(r"^[\w+.-]+://[^/]*|^[^/:]+:", "", _text(line)).rstrip("/").removesuffix(".git")
            return "/".join(path.strip("/").split("/")[-2:]) or None
        return None

    def _refused(self, path: str, reason: str, detail: str) -> Refused:
        return Refused(path, self._package, self._package, 0, reason, detail)

    def _on_disk(self) -> Iterator[Listed]:
        """Files of the working tree."""
        folder = str(self._folder)
        paths, whole = ask(self._git, "-C", folder, "--work-tree", folder, "ls-files", "-z", "--deduplicate")
        if folder == self._git or not whole:
            yield self._refused(".", "no-working-tree", "git lists no files here")
            return
        root = Path(os.path.realpath(folder))
        places = Places(root)
        for path in paths:
            if (taken := wanted(_text(path), self._recipe)) is None:
                continue
            file = f"{root}/{os.fsdecode(path)}"
            above = file.rpartition("/")[0]
            if os.path.realpath(above) != above:
                yield self._refused(_text(path), "unsafe-path", "lies outside the working tree or behind a link")
            elif state := _state_of_regular(file):
                origin, licence = f"{self._package} @ {_WORKING_TREE}", places.of(file).licence or self._licence
                size, modified_ns = state.st_size, state.st_mtime_ns
                yield ListedFile(file, modified_ns, _text(path), self._package, origin, licence, size, *taken)

    def _in_revision(self) -> Iterator[Listed]:
        """Files of the revision, then of its history if that is asked for."""
        revision = f"{self._recipe.revision}^{{commit}}"
        found = ask_lines(self._git, "rev-list", "--timestamp", "--no-walk", "--end-of-options", revision, "--")
        if not found:
            name = ask_lines(self._git, "rev-parse", "--verify", "--end-of-options", self._recipe.revision)
            self.has_revision = bool(name) or self._recipe.revision == "HEAD"
            reason = "corrupt-object" if name else "no-such-revision"
            yield self._refused(".", reason, f"git finds no commit {self._recipe.revision}")
            return
        newest = _commit(found[0])
        stated = self._licences(newest)
        entries = self._tree(newest)
        if self._recipe.history:
            entries = itertools.chain(entries, self._history(newest))
        for entry, size in self._measured(self._wanted(entries)):
            if isinstance(entry, Refused):
                yield entry
            elif size is None:
                yield self._refused(entry.path, "corrupt-object", f"{entry.object_name} is damaged or missing")
            elif taken := wanted(entry.path, self._recipe):
                name, path, (commit, time_s) = entry
                origin, licence = f"{self._package} @ {commit[:12]}", nearest_licence(stated, path) or self._licence
                yield ListedFile(name, name, path, self._package, origin, licence, size, *taken, modified_s=time_s)

    def _wanted(self, entries: Iterable[_Entry | Refused]) -> Iterator[_Entry | Refused]:
        """Without files that are not taken; of a history, the newest path of each object (150 bytes of memory each)."""
        seen: set[str] = set()
        for entry in entries:
            is_file = isinstance(entry, _Entry)
            key = entry.object_name if is_file else entry.detail
            if key in seen or (is_file and wanted(entry.path, self._recipe) is None):
                continue
            if self._recipe.history:
                seen.add(key)
            yield entry

    def _licences(self, commit: _Commit) -> dict[str, str]:
        """What the first licence file of each folder says that can be told; unknown where none of them can."""
        stated: dict[str, str] = {}
        entries = (one for one in self._tree(commit) if is_licence_file(one.path.rpartition("/")[2]))
        with closing(Objects(self._git)) as objects:
            read = functools.cache(functools.partial(_licence, objects))
            for entry, size in self._measured(entries):
                folder = entry.path.rpartition("/")[0]
                if isinstance(entry, _Entry) and stated.get(folder, UNKNOWN) == UNKNOWN and size is not None:
                    licence = read(entry.object_name, size) if size <= LICENCE_BYTES else UNKNOWN
                    stated |= {folder: licence} if licence else {}
        return stated

    def _tree(self, commit: _Commit, tree: str = "", above: str = "") -> Iterator[_Entry | Refused]:
        """Every regular file of a commit, in name order; a folder that is damaged is one line."""
        tree = tree or commit.name
        records, whole = ask(self._git, "ls-tree", "-r", "-z", "--full-tree", tree)
        if not whole:
            # Git stops at the damage: level by level, what lies beside it is found.
            records, whole = ask(self._git, "ls-tree", "-z", "--full-tree", tree)
            if not whole:
                yield self._refused(above or ".", "corrupt-object", f"{tree} is damaged or missing")
        for record in records:
            facts, _, name = record.partition(b"\t")
            mode, sort, object_name = facts.decode().split(" ")
            if sort == "tree":
                yield from self._tree(commit, object_name, f"{above}{_text(name)}/")
            elif mode.startswith(_REGULAR):
                yield _Entry(object_name, above + _text(name), commit)

    def _history(self, newest: _Commit) -> Iterator[_Entry | Refused]:
        """What each commit brought, newest first."""
        lines, whole = ask(self._git, "rev-list", "--timestamp", newest.name, end=b"\n")
        while commits := [_commit(line) for line in itertools.islice(lines, _AT_ONCE)]:
            yield from self._changes(commits)
        if not whole:
            yield self._refused(".", "corrupt-object", "the history ends before a commit that is damaged or missing")

    def _changes(self, commits: list[_Commit]) -> Iterator[_Entry | Refused]:
        records, whole = ask(self._git, *_CHANGES, lines=[commit.name for commit in commits])
        if not whole:
            # Git stops at a commit with a damaged folder: the halves without it are read as before, it by itself.
            if len(commits) == 1:
                yield from self._tree(commits[0])
            else:
                yield from self._changes(commits[: len(commits) // 2])
                yield from self._changes(commits[len(commits) // 2 :])
            return
        followed = iter(commits)
        commit = commits[0]
        for record in records:
            if not record.startswith(b":"):
                commit = next(followed)
                continue
            # ":old-mode new-mode old new status"; a merge has as many colons, old modes and old names as parents.
            facts = record.decode().split(" ")
            entry = _Entry(facts[-2], _text(next(records)), commit)
            if facts[len(facts) // 2 - 1].startswith(_REGULAR):
                yield entry

    def _measured(self, entries: Iterator[_Entry | Refused]) -> Iterator[tuple[_Entry | Refused, int | None]]:
        """Each with its size; None where the object is damaged or missing."""
        while some := list(itertools.islice(entries, _AT_ONCE)):
            names = [one.object_name for one in some if isinstance(one, _Entry)]
            sizes = iter(ask_lines(self._git, "cat-file", "--buffer", "--batch-check=%(objectsize)", lines=names))
            for one in some:
                size = next(sizes, b"") if isinstance(one, _Entry) else b""
                yield one, int(size) if size.isdigit() else None


def _licence(objects: Objects, name: str, size_bytes: int) -> str | None:
    with suppress(UnreadableError):
        return licence_of_bytes(objects.read(name, size_bytes))
    return UNKNOWN


def _commit(line: bytes) -> _Commit:
    """From `rev-list --timestamp`."""
    time, name = line.decode().split(" ")
    return _Commit(name, int(time))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _state_of_regular(file: str) -> os.stat_result | None:
    with suppress(OSError):
        state = os.lstat(file)
        return state if stat.S_ISREG(state.st_mode) else None
    return None
