"""Packed, infilled sequences of the standard library's source with SmolLM2's vocabulary, on one core.

Ours against plain tokenising of the same text, and against infilling the way Megatron-LM's `fim_dataset.py` does it:
behind the packing, on token windows that are decoded, cut at random characters, encoded again and cut to length. That
way loses the end of the last document and begins windows inside characters; the figure is about speed alone. Its
tokenizer is transformers', as there; with ours in its place the two are about as fast.
"""

from __future__ import annotations

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import transformers
from paired import compare

from codecria.batches.loader import Sequences, document_end_ids
from codecria.batches.prepare import prepare
from codecria.batches.recipe import BatchRecipe, InfillRecipe
from codecria.checkpoint.open import open_checkpoint
from codecria.corpus.build import CorpusRecipe, DecontaminationRecipe, build_corpus
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.store import iterate_documents
from codecria.tokenizer.sentinels import add_sentinels

if TYPE_CHECKING:
    from codecria.infill.layout import Sentinels

LENGTH = 4096
FILES = 70


def infill_window(
    twin: transformers.PreTrainedTokenizerFast,
    sentinels: Sentinels,
    window: np.ndarray,
    end: int,
    draws: np.random.RandomState,
) -> np.ndarray:
    """A window of packed tokens with 0.9 of its documents infilled, half of them suffix first, cut or padded."""

    def encode(text: str) -> np.ndarray:
        return np.array(twin(text, add_special_tokens=False).input_ids, dtype=np.int64)

    made: list[np.ndarray] = []
    for document in np.split(window, np.flatnonzero(window == end) + 1):
        body = document[document != end]
        if len(body) and draws.binomial(1, 0.9):
            text = twin.decode(body)
            first, last = np.sort(draws.randint(0, len(text) + 1, 2))
            prefix, middle, suffix = map(encode, (text[:first], text[first:last], text[last:]))
            if draws.binomial(1, 0.5):
                parts = [[sentinels.prefix, sentinels.suffix], suffix, [sentinels.middle], prefix, middle]
            else:
                parts = [[sentinels.prefix], prefix, [sentinels.suffix], suffix, [sentinels.middle], middle]
            body = np.concatenate(parts)
        made += [body, document[document == end]]
    row = np.concatenate(made)[: len(window)]
    return np.pad(row, (0, len(window) - len(row)))


def main() -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    tokenizer, sentinels = add_sentinels(open_checkpoint("smollm2-135m").tokenizer)
    recipe = BatchRecipe(mixture={"code": 1.0}, sequence_tokens=LENGTH, infill=InfillRecipe(level="context"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "source").mkdir()
        for path in sorted(library.glob("*.py"))[:FILES]:
            shutil.copy(path, folder / "source")
        source = FolderRecipe(path=str(folder / "source"), licence="PSF-2.0")
        build_corpus(
            CorpusRecipe(sources=(source,), decontamination=DecontaminationRecipe(human_eval=False)), folder / "corpus"
        )
        texts = [each.text for each in iterate_documents(folder / "corpus", "train") if each.kind == "code"]
        facts = prepare(folder / "corpus", tokenizer, recipe, folder / "prepared", seed=0)
        tokenizer.save(folder / "tokenizer")
        twin = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer" / "tokenizer.json"))
        sequences = Sequences(folder / "prepared", tokenizer, sentinels, recipe, seed=0)
    count = facts["sources"]["code"]["sequences"]
    (end,) = document_end_ids(tokenizer)
    stream = np.array([id for ids in tokenizer.encode_batch(texts) for id in (*ids, end)])
    windows = [stream[first : first + LENGTH] for first in range(0, len(stream), LENGTH)]
    epochs = iter(range(10**9))

    def run_ours() -> int:
        first = next(epochs) * count
        return sum(len(sequences.sequence(n).ids) for n in range(first, first + count))

    def run_plain() -> int:
        return sum(map(len, tokenizer.encode_batch(texts)))

    def run_megatron() -> int:
        draws = np.random.RandomState(0)
        return sum(len(infill_window(twin, sentinels, window, end, draws)) for window in windows)

    transformers.utils.logging.set_verbosity_error()
    packages = ["codecria", "tokenizers", "transformers", "numpy"]
    plain = compare(run_ours, run_plain, unit="tokens_per_s", peer_name="plain encode_batch_fast", packages=packages)
    peer = "packed token windows infilled as Megatron-LM's fim_dataset.py does, transformers' fast tokenizer"
    result = compare(run_ours, run_megatron, unit="tokens_per_s", peer_name=peer, packages=packages)
    print(json.dumps(result | {"tokens_per_s": result["ours"], "of_plain_tokenising": plain["ratio"]}))


if __name__ == "__main__":
    main()
