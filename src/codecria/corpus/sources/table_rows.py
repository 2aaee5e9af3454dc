"""What a row of a table says of a file, and the bytes of files that a row only names."""

from __future__ import annotations

import re
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Literal

from codecria.common.errors import CodecriaError
from codecria.corpus.languages import CODE_LANGUAGES, PROSE_LANGUAGES
from codecria.corpus.licence import UNKNOWN, named
from codecria.corpus.sources.addresses import open_bytes
from codecria.corpus.sources.files import wanted
from codecria.corpus.sources.source import Refused, SourceFile, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codecria.corpus.document import Kind
    from codecria.corpus.sources.table import TableRecipe

Column = Literal[
    "content", "path", "package", "revision", "licences", "licence_type", "language", "size", "modified", "encoding",
    "vendored", "generated", "files",
]  # fmt: skip
COLUMNS: dict[Column, tuple[str, ...]] = {
    "content": ("content", "text"),
    "path": ("max_stars_repo_path", "path"),
    "package": ("max_stars_repo_name", "repo_name", "repo_path"),
    "revision": ("max_stars_repo_head_hexsha", "revision_id", "commit_id"),
    "licences": ("max_stars_repo_licenses", "detected_licenses", "license"),
    "licence_type": ("license_type",),
    "language": ("lang", "language"),
    "size": ("size", "length_bytes"),
    "modified": ("revision_date", "committer_date"),
    "encoding": ("src_encoding",),
    "vendored": ("is_vendor",),
    "generated": ("is_generated",),
    "files": ("files",),
}
"""What each column is called: in The Stack and StarCoder's data set, in The Stack v2, elsewhere."""

_LANGUAGES = {name.lower().replace(" ", "-"): name for name in (*CODE_LANGUAGES, *PROSE_LANGUAGES)} | {
    "c-sharp": "C#",
    "cpp": "C++",
    "f-sharp": "F#",
    "protocol-buffer": "Protobuf",
    "protocol-buffers": "Protobuf",
    "viml": "Vim Script",
}
_NOT_A_LICENCE = re.compile(r"LicenseRef-scancode-(?:unknown|generic|warranty-disclaimer|dco|free-unknown).*")
_STARCODER_HEAD = re.compile(
    rb"\A(?=<(?:reponame|filename|gh_stars)>)(?:<reponame>[^<\n]*)?(?:<filename>[^<\n]*)?(?:<gh_stars>[\d+-]*)?\n?"
)
_MARKS: tuple[Literal["vendored", "generated"], ...] = ("vendored", "generated")
_MOST_AHEAD_BYTES, _FETCHED_AT_ONCE, _FETCHED_AHEAD = 4_000_000, 16, 64


def columns_of(column: Column, recipe: TableRecipe) -> tuple[str, ...]:
    """What a column may be called: as the recipe says, else as elsewhere."""
    return (recipe.columns[column],) if column in recipe.columns else COLUMNS[column]


def in_braces(template: str) -> set[str]:
    """The columns an address is made of."""
    return set(re.findall(r"\{(\w+)\}", template))


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].lower()


class Row:
    """A row, or a row with one of the files in its list."""

    def __init__(self, row: dict[str, Any], place: str, table: str, recipe: TableRecipe) -> None:
        self._row, self._recipe = row, recipe
        self._path = self._text("path", place).lstrip("/")
        self._package = self._text("package", table)
        self._origin = f"{self._package} @ {self._text('revision')[:12]}".removesuffix(" @ ")
        self._size = size if isinstance(size := self._get("size"), int) else 0

    def _get(self, column: Column) -> Any:
        return next(
            (self._row[name] for name in columns_of(column, self._recipe) if self._row.get(name) is not None), None
        )

    def _text(self, column: Column, instead: str = "") -> str:
        # JSON may hold half a surrogate pair.
        return str(self._get(column) or instead).encode("utf-8", "backslashreplace").decode()

    def taken(self) -> tuple[Kind | None, str | None] | None:
        """Kind and language; None where the recipe does not ask for such."""
        recipe, stated = self._recipe, self._text("language", self._recipe.language or "")
        language = _LANGUAGES.get(stated.lower().replace(" ", "-"), stated)
        if recipe.kind not in (None, "code"):
            return recipe.kind, language or None
        if not language:
            return wanted(self._path, recipe)
        if language in PROSE_LANGUAGES:
            return None if recipe.prose == "none" else (recipe.prose, language)
        return ("code", language) if recipe.languages is None or language in recipe.languages else None

    def file(self, kind: Kind | None, language: str | None) -> SourceFile | Refused:
        """The file, or why it is none."""
        try:
            read = self._content()
        except UnreadableError as error:
            return Refused(self._path, self._package, self._origin, self._size, error.reason, error.detail)
        return SourceFile(
            path=self._path,
            package=self._package,
            origin=self._origin,
            size_bytes=read.size_bytes,
            read=read,
            licence=self._licence(),
            kind=kind,
            language=language,
            docstrings=self._recipe.docstrings,
            modified_s=seconds_of(self._get("modified")),
        )

    def _content(self) -> Content | Named:
        for mark in _MARKS:
            if self._get(mark) is True:
                raise UnreadableError(mark, "the table says so")
        content = self._get("content")
        if isinstance(content, str):
            content = content.encode("utf-8", "replace")
        if isinstance(content, bytes):
            return Content(_STARCODER_HEAD.sub(b"", content, count=1))
        if content is not None:
            raise UnreadableError("no-content", f"content is no text but {type(content).__name__}")
        values = {name: self._row.get(name) for name in in_braces(self._recipe.content)}
        for name, value in values.items():
            if value is None:
                raise UnreadableError("missing-column", f"neither content nor {name}")
            # A name may not lead elsewhere.
            if not re.fullmatch(r"[\w-][\w.-]*", str(value)):
                raise UnreadableError("unsafe-path", f"{name} is {str(value)[:80]!r}")
        return Named(self._recipe.content.format_map(values), self._size, self._text("encoding"))

    def _licence(self) -> str:
        stated = self._get("licences")
        names = [str(name) for name in (stated if isinstance(stated, list) else [stated]) if name]
        found = dict.fromkeys(_spdx(name) for name in names if not _NOT_A_LICENCE.fullmatch(name))
        if self._get("licence_type") == "no_license" or not found:
            return self._recipe.licence or UNKNOWN
        return " AND ".join(f"({name})" if " OR " in name and len(found) > 1 else name for name in found)


@lru_cache(10_000)
def _spdx(name: str) -> str:
    return named(name) or name


def seconds_of(stated: Any) -> int:
    """Seconds since 1970 of a date in a table; 0 for what is none."""
    try:
        date = datetime.fromisoformat(stated) if isinstance(stated, str) else stated
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, AttributeError, OverflowError):
        return 0


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that stand in the table."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """How many."""
        return len(self.data)

    def __call__(self) -> bytes:
        """Read them."""
        return self.data


@dataclass(frozen=True, slots=True)
class Named:
    """Bytes that a row only names.

    Attributes:
        address: where they are, packed with gzip or plain.
        size_bytes: as the row states, as UTF-8; 0 where it does not.
        encoding: of the text; empty where it is UTF-8 or not stated.
    """

    address: str
    size_bytes: int
    encoding: str

    def __call__(self) -> bytes:
        """Fetch, unpack and recode them."""
        try:
            with open_bytes(self.address) as opened:
                data = opened.read()
        except (FileNotFoundError, PermissionError) as error:
            raise UnreadableError("no-content", f"{self.address}: {first_line(error)}") from error
        if data.startswith(b"\x1f\x8b"):
            # No encoding takes four times as much as UTF-8.
            most = 4 * max(self.size_bytes, 10_000)
            unpacker = zlib.decompressobj(31)
            try:
                data = unpacker.decompress(data, most)
            except zlib.error as error:
                raise UnreadableError("damaged", first_line(error)) from error
            if not unpacker.eof:
                raise UnreadableError("damaged", f"cut short, or over {most:,} bytes; {self.size_bytes:,} stated")
        try:
            return data if self.encoding.upper() in ("", "UTF-8") else data.decode(self.encoding).encode()
        except (LookupError, UnicodeError):
            return data


def fetched(files: Iterable[SourceFile | Refused]) -> Iterator[SourceFile | Refused]:
    """The same in the same order; what is only named is fetched for some files ahead.

    Raises:
        CodecriaError: the store cannot be reached: that is no fault of the file's.
    """
    ahead: deque[tuple[SourceFile | Refused, Future[bytes] | None]] = deque()
    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        for file in chain(files, repeat(None)):
            if isinstance(file, SourceFile) and isinstance(file.read, Named) and file.size_bytes <= _MOST_AHEAD_BYTES:
                early = pool.submit(file.read)
                ahead.append((replace(file, read=early.result), early))
            elif file is not None:
                ahead.append((file, None))
            elif not ahead:
                return
            if len(ahead) > _FETCHED_AHEAD or file is None:
                first, early = ahead.popleft()
                yield first
                if early and not isinstance(error := early.exception(), UnreadableError | None):
                    mend = "check the network and the credentials; run again, and it goes on from here"
                    raise CodecriaError(f"cannot fetch: {first_line(error)}", where=first.path, mend=mend) from error
