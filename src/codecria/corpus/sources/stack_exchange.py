"""Questions and answers from the dumps of Stack Exchange: a question with its best answers is one document.

Answers lie anywhere behind their question. So a pass over the dump first spills the posts into buckets by question,
each small enough to be joined in memory. The dumps come as 7z: unpack Posts.xml, and compress it if you like.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast
from xml.parsers import expat

import pyarrow as pa
from pydantic import Field

from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder, cache_folder
from codecria.common.lock import alone
from codecria.common.recipe import Recipe
from codecria.corpus.licence import UNKNOWN, canonical
from codecria.corpus.markup import html_to_markdown
from codecria.corpus.sources.source import Refused, SourceFile, UnreadableError
from codecria.corpus.sources.walk import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUCKET_BYTES = 64_000_000
_MOST_BUCKETS = 500  # files open at a time; the system allows 1,024
_MOST_BUCKET_BYTES = 1_000_000_000  # 100 GB of posts in 500 buckets come to 200 MB each
_UNPACKED = {".gz": 6, ".zst": 6}  # about what posts unpack to, against their size
_ROW_BYTES = 2_000_000  # a post has at most 30,000 characters; as HTML inside XML some ten times as many bytes
_TYPE, _ID, _PARENT = (re.compile(rf'\s{name}="(\d{{1,18}})"'.encode()) for name in ("PostTypeId", "Id", "ParentId"))


class StackExchangeRecipe(Recipe):
    """A site's posts to take documents from. Their licences are no permissive ones: see `accepted_licences`."""

    type: Literal["stack-exchange"] = "stack-exchange"
    path: str
    """A site's Posts.xml, Posts.xml.gz or Posts.xml.zst, or the folder that holds it."""
    site: str | None = Field(default=None, description="the site's name; None takes the folder's")
    min_score: int = Field(default=1, description="least score of a question")
    max_answers: int = Field(default=5, ge=1, description="answers in a document: the accepted one, then by score")
    tags: tuple[str, ...] | None = Field(default=None, description="take questions with one of these; None takes all")

    def open(self) -> StackExchangeSource:
        """The source this recipe describes."""
        return StackExchangeSource(self)


class StackExchangeSource:
    """Each bucket of questions a unit. Buckets stay in the cache folder, as large as the posts, until one removes them.

    Raises:
        CodecriaError: there is no such dump.
    """

    def __init__(self, recipe: StackExchangeRecipe) -> None:
        self._recipe = recipe
        path = Path(recipe.path).expanduser().absolute()
        found = [*filter(Path.is_file, (path, *(path / f"Posts.xml{ending}" for ending in ("", *_UNPACKED))))]
        if not found:
            raise CodecriaError("no Posts.xml", where=recipe.path, mend="unpack the site's dump, and name its folder")
        self._dump, self._site = found[0], recipe.site or printable(found[0].parent.name)

    def describe(self) -> str:
        """One line: what and where."""
        return f"stack exchange {self._site} ({printable(self._recipe.path)})"

    def units(self) -> Iterator[StackExchangeUnit]:
        """In the order of the buckets; they are spilled first, once for a dump."""
        now = self._dump.stat()
        count = min(_MOST_BUCKETS, now.st_size * _UNPACKED.get(self._dump.suffix, 1) // _BUCKET_BYTES + 1)
        facts = (now.st_size, now.st_mtime_ns, count)
        folder = cache_folder() / "stack-exchange" / _digest(bytes(self._dump), facts)
        with alone(folder):
            for left in folder.parent.glob(f".{folder.name}.*.part"):
                shutil.rmtree(left, ignore_errors=True)  # by a pass that was killed
            if not folder.is_dir():
                with atomic_folder(folder) as aside, ExitStack() as stack:
                    files = [stack.enter_context((aside / f"{each:03}").open("wb", 65_536)) for each in range(count)]
                    for question, line, row in _posts(self._dump):
                        # Sorted, the lines of a bucket come by question and by their place in the dump.
                        files[(question or line) % count].write(b"%020d %020d %s\n" % (question, line, row))
        settings = self._recipe.model_dump_json(exclude={"path", "site"})
        for bucket in sorted(folder.iterdir()):
            state = _digest(facts, bucket.name, self._site, settings)
            name = f"{self._site}: bucket {bucket.name} of its questions"
            yield StackExchangeUnit(name, str(bucket), bucket.stat().st_size, state, self._site, self._recipe)


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _posts(dump: Path) -> Iterator[tuple[int, int, bytes]]:
    """Question, line and row of each post; for a line that is refused, 0, line, and reason and detail as the row."""
    number, row = 0, b""
    with io.BufferedReader(cast("io.RawIOBase", pa.input_stream(str(dump))), 65_536) as opened:
        try:
            while row != b"</posts>" and (line := opened.readline(_ROW_BYTES)):
                number, row, is_long = number + 1, line.strip(), len(line) == _ROW_BYTES
                while line and not line.endswith(b"\n"):
                    line = opened.readline(_ROW_BYTES)
                if is_long:
                    yield 0, number, f"too-long\ta line of over {_ROW_BYTES:,} bytes".encode()
                elif row.startswith(b"<row ") and row.endswith(b"/>") and (kind := _TYPE.search(row)):
                    if pattern := {b"1": _ID, b"2": _PARENT}.get(kind[1]):
                        found = pattern.search(row)
                        yield (int(found[1]), number, row) if found else (0, number, b"damaged\tnames no question")
                elif line and row not in (b"", b"<posts>", b"</posts>") and b"<?xml" not in row[:8]:
                    yield 0, number, b"damaged\tno row of a post"  # the last, without a line end, was cut: see below
        except OSError as error:
            if error.errno:
                raise  # of the disk; what is packed badly has none
    if row != b"</posts>":
        yield 0, number, b"cut-short\tends without </posts>"


@dataclass(frozen=True)
class StackExchangeUnit:
    """The posts of some questions."""

    name: str
    file: str
    size_bytes: int
    state: str
    site: str
    recipe: StackExchangeRecipe

    def files(self) -> Iterator[SourceFile | Refused]:
        """By question."""
        if self.size_bytes > _MOST_BUCKET_BYTES:
            raise UnreadableError("too-long", f"{self.size_bytes:,} bytes of posts; at most {_MOST_BUCKET_BYTES:,}")
        with Path(self.file).open("rb") as opened:
            lines = sorted(opened)
        for _, group in groupby(lines, lambda line: line[:20]):
            posts: list[dict[str, str]] = []
            for line in group:
                try:
                    posts.append(_post(line[42:-1]))
                except UnreadableError as error:
                    path = f"Posts.xml:{int(line[21:41])}"
                    yield Refused(path, self.site, self.site, len(line) - 43, error.reason, error.detail)
            yield from self._joined(posts)

    def _joined(self, posts: list[dict[str, str]]) -> Iterator[SourceFile]:
        """A question with its best answers, if it has any and is wanted."""
        question = next((post for post in posts if post["PostTypeId"] == "1"), {"Score": "-inf"})
        accepted, tags = question.get("AcceptedAnswerId"), re.findall(r"[^<>|]+", question.get("Tags", ""))
        answers = [post for post in posts if post["PostTypeId"] == "2"]
        answers.sort(key=lambda post: (post["Id"] != accepted, -int(post["Score"]), int(post["Id"])))
        is_tagged = self.recipe.tags is None or not set(tags).isdisjoint(self.recipe.tags)
        if not answers or not is_tagged or float(question["Score"]) < self.recipe.min_score:
            return
        used = [question, *answers[: self.recipe.max_answers]]
        parts = [f"# {' '.join(question.get('Title', '').split())}", html_to_markdown(question["Body"])]
        parts += [f"Tags: {', '.join(tags)}"] if tags else []
        for post in used[1:]:
            parts.append(f"## Answer ({'accepted, ' if post['Id'] == accepted else ''}score {post['Score']})")
            parts.append(html_to_markdown(post["Body"]))
        data = "".join(f"{part.strip()}\n\n" for part in parts)[:-1].encode()
        path, licence = f"questions/{question['Id']}", " AND ".join(sorted({_licence(post) for post in used}))
        known = (licence, True, "code-related", "English", "file", False, max(map(_modified_s, used)))
        yield SourceFile(path, self.site, self.site, len(data), lambda: data, *known)


def _post(row: bytes) -> dict[str, str]:
    """The attributes of a row. Without a declaration, expat knows no entities but XML's own five."""
    if not row.startswith(b"<row"):
        raise UnreadableError(*row.decode().split("\t"))
    found: dict[str, str] = {}
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda _, attributes: found.update(attributes)
    try:
        if b"<!" in row:
            raise ValueError("a declaration")
        parser.Parse(row, True)
        _ = int(found["Id"]), int(found["Score"]), found["PostTypeId"], found["Body"], _modified_s(found)
    except (expat.ExpatError, KeyError, ValueError) as error:
        raise UnreadableError("damaged", f"no row of a post: {error}".lower()) from error
    return found


def _modified_s(post: dict[str, str]) -> int:
    changed = datetime.fromisoformat(post.get("LastEditDate", post["CreationDate"]))
    return int(changed.replace(tzinfo=UTC).timestamp())


def _licence(post: dict[str, str]) -> str:
    """What the post states, else what the site's terms said when it was written."""
    if stated := post.get("ContentLicense"):
        return canonical(stated.replace(" ", "-")) or UNKNOWN
    created = post["CreationDate"]
    return "CC-BY-SA-" + ("2.5" if created < "2011-04-08" else "3.0" if created < "2018-05-02" else "4.0")
