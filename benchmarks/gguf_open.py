"""Opening SmolLM2's GGUF (header and vocabulary, no weights): our reader against the gguf package's."""

from __future__ import annotations

import gguf
from paired import compare

from codecria.checkpoint.catalogue import fetch
from codecria.checkpoint.gguf.reader import read_gguf


def main() -> None:
    path = fetch("smollm2-135m")

    def run_ours() -> int:
        return len(read_gguf(path).metadata) and 1

    def run_peer() -> int:
        return len(gguf.GGUFReader(path).fields) and 1

    compare(run_ours, run_peer, unit="files_per_s", peer_name="gguf.GGUFReader", packages=["codecria", "gguf"])


if __name__ == "__main__":
    main()
