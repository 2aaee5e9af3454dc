"""From code wherever it lies to a corpus: sources, licences, filters, near-duplicates, decontamination, Parquet shards.

from pathlib import Path
from codecria.corpus.build import CorpusRecipe, build_corpus
from codecria.corpus.store import iterate_documents

manifest = build_corpus(CorpusRecipe(max_bytes={"code": 8_000_000}), Path("corpus"))
for document in iterate_documents(Path("corpus"), "train"):
    print(document.licence, document.origin, document.path)
"""
