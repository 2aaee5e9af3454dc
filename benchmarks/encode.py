"""Encoding the standard library's source with SmolLM2's vocabulary: our tokenizer against transformers' fast one."""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path

import transformers
from paired import compare

from codecria.checkpoint.open import open_checkpoint


def main() -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text(errors="ignore") for path in sorted(library.glob("*.py"))][:60]
    size = sum(len(text.encode()) for text in texts)
    ours = open_checkpoint("smollm2-135m").tokenizer
    with tempfile.TemporaryDirectory() as folder:
        ours.save(folder)
        twin = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")

        def run_ours() -> int:
            for text in texts:
                ours.encode(text)
            return size

        def run_peer() -> int:
            for text in texts:
                twin.encode(text, add_special_tokens=False)
            return size

        compare(
            run_ours,
            run_peer,
            unit="bytes_per_s",
            peer_name="transformers PreTrainedTokenizerFast, one text at a time",
            packages=["codecria", "tokenizers", "transformers"],
        )


if __name__ == "__main__":
    main()
