r"""A file among the others of its repository, as the families with file markers were trained.

    StarCoder2      <repo_name>NAME<file_sep>PATH\nTEXT<file_sep><fim_prefix>PATH\nPREFIX<fim_suffix>SUFFIX<fim_middle>
    Qwen2.5-Coder   <|repo_name|>NAME\n<|file_sep|>PATH\nTEXT\n<|file_sep|>PATH\n<|fim_prefix|>PREFIX<|fim_suffix|>…

Sources: section 5.1 of StarCoder 2's paper (2402.19173); Qwen2.5-Coder's README, "Repository level code completion".
Paths are encoded apart from the text after them, so a prompt at the cursor is what training shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from codecria.common.errors import CodecriaError
from codecria.infill.layout import Encoder, Order, Sentinels

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES = {
    "starcoder2": "<repo_name>",
    "qwen2.5-coder": "<|repo_name|>",
    "starcoder": "<reponame>",
    "codecria": "<repo_name>",
}
"""What stands before a repository's name, by family."""

_FILE = "<file_sep>"
"""Before a file's path where codecria's markers were added to a vocabulary that holds it, as SmolLM2's does."""


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
    if sentinels is not None:
        for id in (sentinels.file_separator, sentinels.file_name):
            if id is not None:
                return id
        id = vocabulary.token_id(_FILE) if sentinels.family == "codecria" else None
        if id is not None:
            return id
    raise CodecriaError(
        "the tokenizer has no marker between files, so files cannot be shown among their repository's",
        mend="leave `repository` out of the mixture, or begin with StarCoder2, Qwen2.5-Coder or SmolLM2",
    )


def repository_context(
    vocabulary: Vocabulary, sentinels: Sentinels, name: str, files: Iterable[tuple[str, str]]
) -> list[int]:
    """Ids of BOS, the repository's name and files (path, text), up to and with the marker of the file that follows.

    Raises:
        CodecriaError: the vocabulary has no marker between files.
    """
    marker = file_marker(vocabulary, sentinels)
    ids = list(vocabulary.bos_ids)
    name_id = vocabulary.token_id(_NAMES.get(sentinels.family, ""))
    lines = sentinels.family == "qwen2.5-coder"  # whose markers stand at the beginning of a line
    if name_id is not None:
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
