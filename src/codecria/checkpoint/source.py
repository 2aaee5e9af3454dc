"""What an opened checkpoint is: a description, and tensors that are read one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from codecria.checkpoint.generation_config import ending_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from codecria.model.config import ModelConfig
    from codecria.tokenizer.tokenizer import Tokenizer

Kind = Literal["huggingface", "meta", "gguf", "adapter"]


class TensorSource(Protocol):
    """Tensors under Hugging Face's names, in Hugging Face's rotary order."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's name and shape, known without reading a weight."""
        ...

    def read(self, name: str, dtype: torch.dtype | None) -> Tensor:
        """One tensor on the CPU, as stored (block types as float32) or converted to `dtype`.

        It may be a view of the file's private memory map: writing to it never changes the file.
        """
        ...


@dataclass
class Description:
    """What a checkpoint says beside its weights: what `save_huggingface` writes next to the tensors.

    Attributes:
        config: the model's shape.
        tokenizer: its tokenizer.
        hf_config: config.json as read, unknown keys included; made from `config` for Meta and GGUF checkpoints.
        generation_config: generation_config.json as read; {} where there is none.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    hf_config: dict[str, Any]
    generation_config: dict[str, Any]

    @property
    def ending_ids(self) -> list[int]:
        """Ids that end a text: the tokenizer's, the infill end, then others that the generation config lists."""
        return ending_ids(self.tokenizer, self.generation_config)


@dataclass
class Checkpoint(Description):
    """An opened checkpoint.

    Attributes:
        path: the folder or file.
        kind: the format on disk.
        licence: its licence as the checkpoint states it (an SPDX-like name such as `apache-2.0` or `llama2`), or None.
        source: where the tensors come from.
    """

    path: Path
    kind: Kind
    licence: str | None
    source: TensorSource = field(repr=False)

    def tensor_names(self) -> list[str]:
        """Names as stored, Hugging Face's spelling."""
        return list(self.source.shapes)

    def tensors(self, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
        """Every tensor, one at a time, as stored or converted to `dtype`."""
        for name in self.source.shapes:
            yield name, self.source.read(name, dtype)
