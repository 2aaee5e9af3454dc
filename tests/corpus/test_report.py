import pytest

from codecria.corpus.build import CorpusRecipe, build_corpus
from codecria.corpus.report import corpus_summary
from codecria.corpus.sources.folder import FolderRecipe


@pytest.fixture(scope="module")
def manifest(projects, tmp_path_factory):
    return build_corpus(
        CorpusRecipe(sources=[FolderRecipe(path=str(projects))]), tmp_path_factory.mktemp("report") / "corpus"
    )


def test_every_section_adds_up(manifest):
    rows = corpus_summary(manifest)
    sections: dict[str, list] = {}
    for row in rows:
        sections.setdefault(row.section, []).append(row)
    assert list(sections) == ["outcome", "dropped", "redacted", "kind", "language", "licence", "package"]
    for section in sections.values():
        assert sum(row.share for row in section) == pytest.approx(1)
        assert len(section) <= 12
    for section in ("kind", "language", "licence", "package"):
        assert sum(row.documents for row in sections[section]) == manifest.total.documents
        sizes = [row.size_bytes for row in sections[section]]
        assert sizes == sorted(sizes, reverse=True)
    outcome = {row.name: row.documents for row in sections["outcome"]}
    assert outcome["train"] + outcome["held out"] + outcome["dropped"] == manifest.seen.documents
    assert {row.name for row in sections["package"]} == set(manifest.splits["train"].by_package) | set(
        manifest.splits["held_out"].by_package
    )


def test_small_rows_are_gathered(manifest):
    counts = manifest.splits["train"].by_package
    many = {f"package{number:02}": next(iter(counts.values())) for number in range(30)}
    split = manifest.splits["train"].model_copy(update={"by_package": many})
    wide = manifest.model_copy(update={"splits": {**manifest.splits, "train": split}})
    rows = [row for row in corpus_summary(wide) if row.section == "package"]
    assert len(rows) == 12
    assert rows[-1].name.startswith("others (")
    assert sum(row.share for row in rows) == pytest.approx(1)
