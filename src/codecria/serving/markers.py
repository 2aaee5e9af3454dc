r"""Infill markers that a client has pasted into a raw prompt: taken apart again, so that the ids are the same as ever.

Continue, twinny, llm-ls, Tabby and Ollama's templates know their model's spellings and send one text. Whatever family
they were set up for, the served model gets its own markers, as ids. Routes with fields for prefix and suffix never
come here: text that spells a marker is only text there.

    <PRE> {prefix} <SUF>{suffix} <MID>                           Continue, llm-ls, Tabby, Ollama
    <PRE>{context} \n{header}{prefix} <SUF> {suffix} <MID>       twinny
    {context}<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>    llama.vscode before OpenAI's interface
    <PRE> <SUF>{suffix} <MID> {prefix}                           suffix first
    <|file_sep|>{path}\n{text}<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>
    [SUFFIX]{suffix}[PREFIX]{prefix}
"""

from __future__ import annotations

import re
from typing import NamedTuple

from codecria.serving.requests import Infill

_SEPARATORS = re.compile(r"<\|file_sep\|>|<\|file_separator\|>|<file_sep>|<filename>")
_REPOSITORY = re.compile(r"<\|repo_name\|>|<repo_name>|<reponame>")
_TWINNY = re.compile(r"Language: .*\n.*File uri: ")
_BEGINNING = re.compile(r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>)?\s*")


class _Marks(NamedTuple):
    """Spellings; `spaced` where a marker has a space of its own, as Code Llama's `▁<PRE>`."""

    prefix: str
    suffix: str
    middle: str
    spaced: bool = False


_LAYOUTS = (
    _Marks("<PRE>", "<SUF>", "<MID>", spaced=True),
    _Marks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    _Marks("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    _Marks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
)


def parse_markers(prompt: str) -> Infill | None:
    """What a prompt with markers asks for; None for a prompt that is no such layout from its first to its last mark."""
    begun = _BEGINNING.match(prompt)
    text = prompt[begun.end() :] if begun else prompt
    if text.startswith("[SUFFIX]") and "[PREFIX]" in text:
        suffix, _, prefix = text.removeprefix("[SUFFIX]").partition("[PREFIX]")
        return Infill(prefix, suffix)
    for marks in _LAYOUTS:
        found = _parse(text, marks)
        if found is not None:
            return found
    return None


def _parse(text: str, marks: _Marks) -> Infill | None:
    start = text.find(marks.prefix)
    if start < 0:
        return None
    # llama.vscode's chunks: only before markers that nobody writes by chance, and where nothing follows them.
    chunks = not marks.spaced and text.endswith(marks.middle)
    if start and not (chunks or _SEPARATORS.match(text) or _REPOSITORY.match(text)):
        return None
    behind = text[start + len(marks.prefix) :]
    prefix, has_suffix, rest = behind.partition(marks.suffix)
    suffix, has_middle, tail = rest.rpartition(marks.middle)
    if not has_suffix or not has_middle:
        return None
    if tail.strip() and prefix.strip():
        return None  # a middle that has begun, which no client sends: rather text that speaks of markers
    if marks.spaced:
        prefix, suffix, tail = _without_spaces(prefix, suffix, tail)
    files, path = _files(text[:start])
    return Infill(tail if tail.strip() else prefix, suffix, files=files, path=path)


def _without_spaces(prefix: str, suffix: str, tail: str) -> tuple[str, str, str]:
    """Take off exactly the spaces that the layout has, as SentencePiece does where `▁<PRE>` is a piece.

    The space behind `<PRE>` is the implicit one of a text that begins. twinny, whose header tells it, puts one behind
    `<SUF>` too, where it would be the suffix's own.
    """
    twinny = (not prefix.startswith(" ") and bool(prefix)) or _TWINNY.search(prefix) is not None
    if suffix.startswith((" \n", " \r")) or twinny:
        suffix = suffix.removeprefix(" ")
    return prefix.removeprefix(" ").removesuffix(" "), suffix.removesuffix(" "), tail.removeprefix(" ")


def _files(context: str) -> tuple[tuple[tuple[str, str], ...], str | None]:
    """Files before the document, and the document's own path where the last separator has nothing but one behind it."""
    first, *chunks = _SEPARATORS.split(context)
    files: list[tuple[str, str]] = []
    if first.strip() and not _REPOSITORY.match(first):
        files.append(("context", first))
    path = None
    for number, chunk in enumerate(chunks):
        name, _, body = chunk.partition("\n")
        if body.strip():
            files.append((name.strip() or "untitled", body))
        elif number == len(chunks) - 1 and name.strip():
            path = name.strip()
    return tuple(files), path
