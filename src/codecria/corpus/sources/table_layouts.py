"""What tables of files call their columns, and what stands in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from codecria.corpus.languages import CODE_LANGUAGES, PROSE_LANGUAGES
from codecria.corpus.licence import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

Layout = Literal["auto", "stack-v1", "stack-v2", "starcoder", "plain"]
ColumnName = Literal["text", "path", "package", "licence", "language"]
_STACK_V1 = """text:content path:max_stars_repo_path package:max_stars_repo_name licence:max_stars_repo_licenses
language:lang extension:ext id:hexsha,id"""
_LAYOUTS = {
    "stack-v1": _STACK_V1,
    "starcoder": _STACK_V1,
    "stack-v2": """text:content,text path:path package:repo_name licence:detected_licenses language:language
        extension:extension id:blob_id revision:revision_id modified:revision_date,committer_date size:length_bytes
        encoding:src_encoding licence_type:license_type vendored:is_vendor generated:is_generated files:files""",
    "plain": """text:text,content path:path package:package,repo_name licence:licence,license,licenses
        language:language,lang extension:ext,extension id:id""",
}
_ALIASES = """
c-sharp:C#|csharp:C#|f-sharp:F#|cpp:C++|fortran free form:Fortran|less:CSS|objective-c++:Objective-C|plain text:Text|
protocol buffer:Protobuf|protocol buffers:Protobuf|sass:CSS|scss:CSS|tsx:TypeScript|unix assembly:Assembly|
viml:Vim Script|visual basic .net:Visual Basic
"""
_NAMES = {name.lower(): name for name in (*CODE_LANGUAGES, *PROSE_LANGUAGES)} | {
    alias.strip(): name for alias, _, name in (pair.partition(":") for pair in _ALIASES.strip().split("|"))
}


def columns_of(
    asked: Layout, renamed: Mapping[ColumnName, str], names: frozenset[str], fetches: bool
) -> tuple[dict[str, tuple[str, ...]], str]:
    """The columns of each field, of which the first with a value counts; and what is missing, if anything is.

    Args:
        asked: how columns are called.
        renamed: those that are called otherwise.
        names: the columns there are.
        fetches: contents may lie elsewhere, named by blob_id.
    """
    layout = asked
    if asked == "auto":
        is_v1 = not names.isdisjoint(("max_stars_repo_name", "max_stars_repo_path"))
        layout = "stack-v1" if is_v1 else "stack-v2" if "blob_id" in names else "plain"
    pairs = (pair.split(":") for pair in _LAYOUTS[layout].split())
    fields = {field: tuple(columns.split(",")) for field, columns in pairs}
    fields |= {str(field): (column,) for field, column in renamed.items()}
    needed = ["text", *renamed] if layout == "plain" else ["text", "package", *renamed]
    for field in needed:
        is_fetched = field == "text" and fetches and "blob_id" in names
        if names.isdisjoint(fields[field]) and not is_fetched:
            hint = " (or blob_id, and `content` in the recipe)" if (layout, field) == ("stack-v2", "text") else ""
            told = f"{layout}, told by the columns there are" if asked == "auto" else layout
            there = ", ".join(map(printed, sorted(names)[:20]))
            columns = " or ".join(fields[field])
            return fields, f"no column {columns}{hint} for the {field}; layout {told}: {there}"
    return fields, ""


def printed(value: Any) -> str:
    """Valid UTF-8, whatever it was."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value).encode("utf-8", "replace").decode()


def said(error: Exception) -> str:
    """An error in one line."""
    line = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return printed(line).strip().partition("\n")[0][:200].lower()


def language_named(written: str) -> str | None:
    """Our name for a language, or None: "c-sharp", "Vim script"."""
    name = written.lower()
    return _NAMES.get(name) or _NAMES.get(name.replace("-", " "))


def licence_of(stated: Any) -> str:
    """Every licence that was found holds: The Stack calls a file permissive where all of them are."""
    names = dict.fromkeys(map(printed, stated if isinstance(stated, list) else [stated]))
    parts = [f"({name})" if " OR " in name and len(names) > 1 else name for name in names if name.strip()]
    expression = " AND ".join(parts)
    return canonical(expression) or expression


def seconds_of(stated: Any) -> int:
    """Seconds since 1970 of a time in whatever form; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(stated) if isinstance(stated, str) else stated
        if isinstance(moment, datetime):
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return 0
    return moment if isinstance(moment, int) else 0
