"""What a source of a tokenizer yields: its definition, and what some of its ids are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codecria.tokenizer.definition import Definition


@dataclass(frozen=True)
class Roles:
    """What some ids are for, and the chat template.

    Attributes:
        bos_id, unk_id, pad_id: ids, None where there is none.
        eos_ids: ids that end a document or an answer, the document's first.
        add_bos: whether a sequence begins with `bos_id`.
        chat_template: Jinja source.
        infill_ids: ids of prefix, suffix and middle marker that a GGUF file names.
    """

    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    unk_id: int | None = None
    pad_id: int | None = None
    add_bos: bool = False
    chat_template: str | None = None
    infill_ids: tuple[int, int, int] | None = None

    @property
    def eos_id(self) -> int | None:
        """The id that ends a document."""
        return self.eos_ids[0] if self.eos_ids else None

    def by_name(self) -> dict[str, int | None]:
        """Ids under the names they have in Hugging Face's files."""
        ids = (self.bos_id, self.eos_id, self.unk_id, self.pad_id)
        return dict(zip(("bos_token", "eos_token", "unk_token", "pad_token"), ids, strict=True))


class Source(NamedTuple):
    """A tokenizer as it was read.

    Attributes:
        definition: the content of its tokenizer.json.
        roles: BOS, ends, padding and chat template.
        files: a folder's own bytes by file name; empty where the tokenizer came from no folder.
        where: its place, for errors.
    """

    definition: Definition
    roles: Roles
    files: Mapping[str, bytes]
    where: str
