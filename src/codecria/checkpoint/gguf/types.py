"""The tensor types of GGUF that are read here: how many numbers a block holds and how many bytes it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlockType:
    """One GGML tensor type. A row of `n` numbers takes `n / numbers * size` bytes; blocks never cross rows."""

    code: int
    name: str
    numbers: int
    size: int

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row of `columns` numbers; `columns` is a multiple of `numbers`."""
        return columns // self.numbers * self.size


F32 = BlockType(0, "F32", 1, 4)
F16 = BlockType(1, "F16", 1, 2)
Q4_0 = BlockType(2, "Q4_0", 32, 18)
Q4_1 = BlockType(3, "Q4_1", 32, 20)
Q5_0 = BlockType(6, "Q5_0", 32, 22)
Q5_1 = BlockType(7, "Q5_1", 32, 24)
Q8_0 = BlockType(8, "Q8_0", 32, 34)
Q4_K = BlockType(12, "Q4_K", 256, 144)
Q5_K = BlockType(13, "Q5_K", 256, 176)
Q6_K = BlockType(14, "Q6_K", 256, 210)
BF16 = BlockType(30, "BF16", 1, 2)

BLOCK_TYPES: dict[int, BlockType] = {
    kind.code: kind for kind in (F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16)
}
"""Every type that is read here, by its code in the file."""


def type_name(code: int) -> str:
    """The name of a type code for an error line, also of the types that are not read here."""
    from gguf import GGMLQuantizationType

    try:
        return GGMLQuantizationType(code).name
    except ValueError:
        return f"number {code}"
