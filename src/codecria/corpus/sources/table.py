"""Tables of files: Parquet and JSON Lines, as The Stack, The Stack v2 and StarCoder's data set are laid out.

A row is a file, or a repository with a list of its files. The tables of The Stack v2 only name the contents; these are
fetched by their hash while rows are read.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from pydantic import Field, field_validator

from codecria.corpus.document import Kind  # noqa: TC001 (pydantic reads it)
from codecria.corpus.languages import PROSE_LANGUAGES
from codecria.corpus.licence import UNKNOWN
from codecria.corpus.sources.files import FilesRecipe, Wanted, wanted
from codecria.corpus.sources.source import Refused, RefusedUnit, SourceFile, UnreadableError
from codecria.corpus.sources.table_layouts import (
    ColumnName,
    Layout,
    columns_of,
    language_named,
    licence_of,
    printed,
    said,
    seconds_of,
)
from codecria.corpus.sources.table_rows import (
    BROKEN,
    Row,
    Table,
    fetch,
    in_order,
    is_damage,
    list_tables,
    look_into,
    open_filesystem,
    open_table,
    rows,
)
from codecria.corpus.sources.walk import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_STARCODER_HEAD = re.compile(
    rb"\A(?=<(?:reponame|filename|gh_stars)>)"
    rb"(?:<reponame>[^<\n]*)?(?:<filename>[^<\n]*)?(?:<gh_stars>[\d+-]*)?\n?"
)
"""What StarCoder was told of a file stands before the text of some."""


class TableRecipe(FilesRecipe):
    """Tables to take documents from."""

    type: Literal["table"] = "table"
    path: str
    """A file, a folder or a pattern, here or at an address of fsspec (`s3://`, `gs://`, `hf://datasets/...`)."""
    layout: Layout = "auto"
    """How columns are called; `auto` tells by those there are."""
    columns: dict[ColumnName, str] = Field(default_factory=dict[ColumnName, str])
    """Columns that are called otherwise."""
    content: str | None = None
    """Where contents are that the table only names: `s3://softwareheritage/content/{blob_id}`; plain or gzip."""
    options: dict[str, str] = Field(default_factory=dict[str, str])
    """For fsspec, such as `anon: "true"`; credentials are better left in the environment."""
    kind: Kind | None = None
    """What all rows are; None goes by their language."""

    @field_validator("content")
    @classmethod
    def _names_a_blob(cls, content: str | None) -> str | None:
        if content is not None and "{blob_id}" not in content:
            raise ValueError("{blob_id} must stand in it, for the hash of a content")
        return content

    def open(self) -> TableSource:
        """The source this recipe describes."""
        return TableSource(self)


class TableSource:
    """Rows of tables as files, in the order of the tables' names.

    A row's licence is all that were found for it, joined by AND: a list names what the licence files that cover a file
    hold, and nothing says that one may choose. `no_license` and no list are unknown.

    Raises:
        CodecriaError: fsspec, or its part for an address, is not installed; of `units`: no tables there.
    """

    def __init__(self, recipe: TableRecipe) -> None:
        self._recipe = recipe
        for address in (recipe.path, recipe.content or ""):
            if "://" in address:
                open_filesystem(address, recipe.options)

    def describe(self) -> str:
        """One line: what and where."""
        return f"table {printable(self._recipe.path)}"

    def units(self) -> Iterator[TableUnit | RefusedUnit]:
        """Row groups of about 64 MB together, ranges of 64 MB of lines, or a packed file."""
        recipe = self._recipe
        for table in list_tables(recipe.path, recipe.options):
            try:
                with open_table(recipe.path, recipe.options, table.file) as file:
                    names, parts = look_into(file, table)
            except BROKEN as error:
                wrong = UnreadableError("damaged" if is_damage(error) else "unreadable", said(error))
                yield RefusedUnit(table.path, table.size_bytes, f"{table.stamp} {wrong.detail}", wrong)
                continue
            fields, missing = columns_of(recipe.layout, recipe.columns, names, recipe.content is not None)
            if missing:
                refused = Refused(table.path, table.path, table.path, table.size_bytes, "missing-column", missing)
                yield RefusedUnit(table.path, table.size_bytes, f"{table.stamp} {missing}", refused)
                continue
            for begin, end, size_bytes in parts:
                yield TableUnit(recipe, table, fields, begin, end, size_bytes)


@dataclass(frozen=True)
class TableUnit:
    """A part of a table: from `begin` to `end`, row groups or bytes."""

    recipe: TableRecipe
    table: Table
    fields: dict[str, tuple[str, ...]]
    begin: int
    end: int
    size_bytes: int

    @property
    def name(self) -> str:
        """The table's path, and where in it."""
        return f"{self.table.path} from {self.begin}"

    @property
    def state(self) -> str:
        """Of the table, and of how it is read."""
        recipe = self.recipe.model_dump_json(exclude={"path", "options"})
        facts = (self.table.stamp, self.table.size_bytes, self.begin, self.end, sorted(self.fields.items()), recipe)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def files(self) -> Iterator[SourceFile | Refused]:
        """A file for each row, or for each in a row's list."""
        return self._files() if self.recipe.content is None else in_order(_fetched, self._files())

    def _files(self) -> Iterator[SourceFile | Refused]:
        columns = {column for columns in self.fields.values() for column in columns}
        try:
            with open_table(self.recipe.path, self.recipe.options, self.table.file) as file:
                for number, row in rows(file, self.table.path, self.begin, self.end, columns):
                    place = f"{self.table.path}:{number}"
                    if isinstance(row, str):
                        yield Refused(place, self.table.path, self.table.path, 0, "not-json", row)
                        continue
                    inside = self._value(row, "files")
                    for one in cast("list[Any]", inside if isinstance(inside, list) else [{}]):
                        found = self._file({**row, **one} if isinstance(one, dict) else {}, place)
                        if found is not None:
                            yield found
        except BROKEN as error:
            if is_damage(error):
                raise UnreadableError("damaged", said(error)) from error
            raise

    def _value(self, row: Row, field: str) -> Any:
        values = (row.get(column) for column in self.fields.get(field, ()))
        return next((value for value in values if value is not None), None)

    def _file(self, row: Row, place: str) -> SourceFile | Refused | None:
        """What a row says of one file; None where the recipe does not ask for such."""
        value = partial(self._value, row)
        blob, extension = printed(value("id")), printed(value("extension"))
        path = printed(value("path")).lstrip("/") or (f"{blob}.{extension}".rstrip(".") if blob else "")
        taken = self._taken(path, printed(value("language")))
        path = path or place
        if taken is None:
            return None
        package, revision = printed(value("package")) or place, printed(value("revision"))
        origin = f"{package} @ {revision[:12]}" if revision else package
        stated_bytes = value("size")
        size_bytes = stated_bytes if isinstance(stated_bytes, int) else 0
        for mark in ("vendored", "generated"):
            if value(mark) is True:
                return Refused(path, package, origin, size_bytes, mark, "the table says so")
        text = value("text")
        text = text.encode("utf-8", "replace") if isinstance(text, str) else text
        if isinstance(text, bytes) and text:
            text = _STARCODER_HEAD.sub(b"", text, count=1)
            read, size_bytes = partial(bytes, text), len(text)
        elif self.recipe.content is not None and blob:
            encoding = printed(value("encoding"))
            read = partial(fetch, self.recipe.content, self.recipe.options, blob, encoding)
        else:
            return Refused(path, package, origin, size_bytes, "empty", "the row holds no text")
        licence = "" if value("licence_type") == "no_license" else licence_of(value("licence"))
        return SourceFile(
            path=path,
            package=package,
            origin=origin,
            size_bytes=size_bytes,
            read=read,
            licence=licence or self.recipe.licence or UNKNOWN,
            kind=taken[0],
            language=taken[1],
            docstrings=self.recipe.docstrings,
            modified_s=seconds_of(value("modified")),
        )

    def _taken(self, path: str, stated: str) -> tuple[Kind | None, str | None] | None:
        """Kind and language: as stated, also a language we do not know; else by the name, else by what it holds."""
        recipe = self.recipe
        by_name = wanted(path, recipe.model_copy(update={"languages": None})) if path else Wanted(None, None)
        language = (language_named(stated) or stated) if stated else by_name.language if by_name else None
        if recipe.languages is not None and language not in recipe.languages:
            return None
        if recipe.kind is not None:
            return recipe.kind, language
        if language in PROSE_LANGUAGES:
            return None if recipe.prose == "none" else (recipe.prose, language)
        return ("code", language) if language else by_name


def _fetched(file: SourceFile | Refused) -> SourceFile | Refused:
    """The same file, read."""
    if isinstance(file, Refused):
        return file
    try:
        return replace(file, read=partial(bytes, file.read()))
    except UnreadableError as error:
        return replace(file, read=partial(_raise, error))


def _raise(error: UnreadableError) -> NoReturn:
    raise error
