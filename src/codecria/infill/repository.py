r"""A file among the others of its repository, as the families with file markers were trained.

    StarCoder2      <repo_name>NAME<file_sep>PATH\nTEXT<file_sep><fim_prefix>PATH\nPREFIX<fim_suffix>SUFFIX<fim_middle>
    Qwen2.5-Coder   <|repo_name|>NAME\n<|file_sep|>PATH\nTEXT\n<|file_sep|>PATH\n<|fim_prefix|>PREFIX<|fim_suffix|>…

Sources: section 5.1 of StarCoder 2's paper (2402.19173); Qwen2.5-Coder's README, "Repository level code completion".
Paths are encoded apart from the text after them, so a prompt at the cursor is what training shows.

Families without such markers are shown other files as comments, behind BOS and before the first infill marker. In
either form they come before all that a key changes, so they are read once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from codecria.common.errors import CodecriaError
from codecria.infill.layout import Encoder, Order, Sentinels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_NAMES = {
    "starcoder2": "<repo_name>",
    "qwen2.5-coder": "<|repo_name|>",
    "starcoder": "<reponame>",
    "codecria": "<repo_name>",
}
"""What stands before a repository's name, by family."""

_FILE = "<file_sep>"
"""Before a file's path where codecria's markers were added to a vocabulary that holds it, as SmolLM2's does."""


_COMMENTS: dict[tuple[str, str], str] = {
    ("// ", ""): "c cc cpp cs cu cuh dart go h hpp java js jsx kt m mjs php rs scala sol swift ts tsx v zig",
    ("-- ", ""): "adb ads elm hs lua sql vhd",
    ("% ", ""): "erl tex",
    ("; ", ""): "asm clj el lisp scm",
    ("<!-- ", " -->"): "htm html md svg vue xml",
    ("/* ", " */"): "css less scss",
    ("(* ", " *)"): "ml mli",
}
"""What stands before and after a line that is a comment, by the file's extension; elsewhere it is `# `."""

_UNNAMED = "untitled"

_FEWEST_TOKENS = 16
"""Less of a file is not worth its path."""


class Vocabulary(Encoder, Protocol):
    """An encoder that knows its tokens' spellings."""

    def token_id(self, spelling: str) -> int | None:
        """Id of a spelling, or None."""
        ...


class Placed(NamedTuple):
    """A file's ids behind its repository's. `ids[path_start:path_stop]` are the file's own path."""

    ids: list[int]
    path_start: int
    path_stop: int


def file_marker(vocabulary: Vocabulary, sentinels: Sentinels | None) -> int:
    """The id before each file's path.

    Raises:
        CodecriaError: the vocabulary has none.
    """
    marker = None if sentinels is None else _known_marker(vocabulary, sentinels)
    if marker is not None:
        return marker
    raise CodecriaError(
        "the tokenizer has no marker between files, so files cannot be shown among their repository's",
        mend="leave `repository` out of the mixture, or begin with StarCoder2, Qwen2.5-Coder or SmolLM2",
    )


def repository_context(
    vocabulary: Vocabulary, sentinels: Sentinels, name: str, files: Iterable[tuple[str, str]]
) -> list[int]:
    """Ids of BOS, the repository's name and files (path, text), up to and with the marker of the file that follows.

    A repository without a name has no marker for it.

    Raises:
        CodecriaError: the vocabulary has no marker between files.
    """
    marker = file_marker(vocabulary, sentinels)
    ids = list(vocabulary.bos_ids)
    name_id = vocabulary.token_id(_NAMES.get(sentinels.family, ""))
    lines = sentinels.family == "qwen2.5-coder"  # whose markers stand at the beginning of a line
    if name_id is not None and name:
        ids += [name_id, *vocabulary.encode_infilling(name + "\n" if lines else name)]
    for path, text in files:
        end = "\n" if lines and not text.endswith("\n") else ""
        ids += [marker, *path_ids(vocabulary, path), *vocabulary.encode_infilling(text + end)]
    return [*ids, marker]


def place_in_repository(
    vocabulary: Vocabulary, sentinels: Sentinels, context: list[int], path: str, ids: list[int], order: Order | None
) -> Placed:
    """Put a file behind its repository.

    Args:
        vocabulary: the tokenizer.
        sentinels: the infill markers.
        context: what `repository_context` gives.
        path: the file's.
        ids: of `infill_prompt`, `infill_example`, or of the text alone; BOS before them is left out.
        order: of the infilled; None for text alone.
    """
    ids = ids[len(vocabulary.bos_ids) :]
    at = 0
    if order is not None and sentinels.family in ("starcoder2", "codecria"):
        # The path is the first line of the prefix.
        before = sentinels.middle if order == "spm" and sentinels.middle is not None else sentinels.prefix
        at = ids.index(before) + 1
    start = len(context) + at
    named = path_ids(vocabulary, path)
    return Placed([*context, *ids[:at], *named, *ids[at:]], start, start + len(named))


def path_ids(vocabulary: Vocabulary, path: str) -> list[int]:
    """A file's path and the line end after it."""
    return vocabulary.encode_infilling(path + "\n")


def files_context(
    vocabulary: Vocabulary, sentinels: Sentinels, files: Sequence[tuple[str, str]], path: str | None, room: int
) -> list[int]:
    """Ids of BOS and other files that belong to the one that is infilled, at most `room` tokens.

    Args:
        vocabulary: the tokenizer.
        sentinels: the infill markers. With a marker between files that is what separates them, else they are comments.
        files: (path, text), what helps most last. Files that do not fit are cut at a line end or left out, the
            first ones before the last.
        path: the infilled file's own; a file of this path is left out, and comments are of its language.
        room: tokens.

    Returns:
        Nothing where no file fits.
    """
    others = [(name, text) for name, text in files if name != path and text.strip()]
    if _known_marker(vocabulary, sentinels) is not None:
        bare = len(repository_context(vocabulary, sentinels, "", ()))

        def marked(name: str, text: str) -> int:
            return len(repository_context(vocabulary, sentinels, "", [(name, text)])) - bare

        room -= bare + len(path_ids(vocabulary, path or _UNNAMED))
        kept = _fit_files(others, room, marked)
        return repository_context(vocabulary, sentinels, "", kept) if kept else []
    start, stop = _comment(path)

    def commented(name: str, text: str) -> str:
        lines = [name, *text.rstrip("\n").split("\n")]
        return "".join(f"{start}{line}".rstrip() + f"{stop}\n" for line in lines) + "\n"

    kept = _fit_files(others, room - 1, lambda name, text: len(vocabulary.encode(commented(name, text))))
    text = "".join(commented(*each) for each in kept)
    return [*vocabulary.bos_ids, *vocabulary.encode(text)] if kept else []


def behind_files(
    vocabulary: Vocabulary, sentinels: Sentinels, context: list[int], path: str | None, ids: list[int], order: Order
) -> list[int]:
    """An infill prompt behind what `files_context` gives."""
    if not context:
        return ids
    if _known_marker(vocabulary, sentinels) is None:
        return [*context, *ids[len(vocabulary.bos_ids) :]]
    return place_in_repository(vocabulary, sentinels, context, path or _UNNAMED, ids, order).ids


def _known_marker(vocabulary: Vocabulary, sentinels: Sentinels) -> int | None:
    for id in (sentinels.file_separator, sentinels.file_name):
        if id is not None:
            return id
    return vocabulary.token_id(_FILE) if sentinels.family == "codecria" else None


def _comment(path: str | None) -> tuple[str, str]:
    extension = (path or "").rpartition(".")[2].lower()
    return next((marks for marks, extensions in _COMMENTS.items() if extension in extensions.split()), ("# ", ""))


def _fit_files(files: Sequence[tuple[str, str]], room: int, tokens: Callable[[str, str], int]) -> list[tuple[str, str]]:
    """Files from the last on, whole or their first lines, that need at most `room` tokens together."""
    kept: list[tuple[str, str]] = []
    for path, text in reversed(files):
        lines = text.splitlines(keepends=True)
        # No line is less than a token.
        fits, exceeds = 0, min(len(lines), max(room, 0)) + 1
        while exceeds - fits > 1:
            count = (fits + exceeds) // 2
            if tokens(path, "".join(lines[:count])) <= room:
                fits = count
            else:
                exceeds = count
        part = "".join(lines[:fits])
        if fits < len(lines) and (not fits or tokens("", part) < _FEWEST_TOKENS):
            break
        kept.append((path, part))
        room -= tokens(path, part)
    return kept[::-1]
