import gzip
import os
import pickle
import tracemalloc
from itertools import chain
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pyarrow as pa
import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.sources import stack_exchange
from codecria.corpus.sources.source import Refused, SourceFile, UnreadableError
from codecria.corpus.sources.stack_exchange import StackExchangeRecipe

BODY = (
    '<p>Say "<b>hi</b>" &amp; ünï 🎉 it\'s</p>\n\n<pre class="lang-py"><code>if a &lt; b:\n    x = "1"\n</code></pre>\n'
)
QUESTION = {"PostTypeId": 1, "CreationDate": "2019-01-02T03:04:05.678", "Score": 3, "Title": "How?", "Body": BODY}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CODECRIA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/stack-exchange"


def row(number, **attributes):
    if "ParentId" in attributes:
        attributes = {"PostTypeId": 2, "CreationDate": "2019-02-01T00:00:00.000", "Score": 1, **attributes}
    else:
        attributes = QUESTION | attributes
    entities = {"\n": "&#xA;", '"': "&quot;"}
    said = " ".join(f"{name}={quoteattr(str(value), entities)}" for name, value in attributes.items())
    return f'  <row Id="{number}" {said} />'


def answer(number, parent, **attributes):
    return row(number, ParentId=parent, **({"Body": f"<p>answer {number}</p>"} | attributes))


def text_of(*rows):
    return "\r\n".join(['\ufeff<?xml version="1.0" encoding="utf-8"?>', "<posts>", *rows, "</posts>"])


def dump(tmp_path, *rows):
    path = tmp_path / "site.example/Posts.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text_of(*rows))
    return path


def files(path, **settings):
    units = pickle.loads(pickle.dumps(list(StackExchangeRecipe(path=str(path), **settings).open().units())))
    return [one for unit in units for one in unit.files()]


def test_a_question_and_its_answers_are_one_document(tmp_path):
    path = dump(
        tmp_path,
        answer(2, 10, Score=50),
        row(10, AcceptedAnswerId=12, Tags="<python><c++>", Score=7),
        answer(11, 10, Score=9),
        row(20, Tags="|sql|", Title="Other"),
        answer(12, 10, Score=-1, Body=BODY),
        row(30, PostTypeId=5),
        answer(21, 20, LastEditDate="2020-01-01T00:00:00"),
    )
    first, second = files(path.parent)
    assert first.read().decode() == (
        "# How?\n\n"
        'Say "**hi**" & ünï 🎉 it\'s\n\n```py\nif a < b:\n    x = "1"\n```\n\n'
        "Tags: python, c++\n\n"
        "## Answer (accepted, score -1)\n\n"
        'Say "**hi**" & ünï 🎉 it\'s\n\n```py\nif a < b:\n    x = "1"\n```\n\n'
        "## Answer (score 50)\n\nanswer 2\n\n"
        "## Answer (score 9)\n\nanswer 11\n"
    )
    assert first.size_bytes == len(first.read())
    assert (first.path, first.package, first.origin) == ("questions/10", "site.example", "site.example")
    assert (first.kind, first.language, first.licence, first.licence_is_for_file) == (
        "code-related", "English", "CC-BY-SA-4.0", True,
    )  # fmt: skip
    assert first.modified_s == 1_548_979_200
    assert second.modified_s == 1_577_836_800
    assert second.read().decode().endswith("Tags: sql\n\n## Answer (score 1)\n\nanswer 21\n")


def test_settings(tmp_path):
    rows = [row(1, Tags="<a><b>"), answer(2, 1), answer(3, 1, Score=2), row(4, Score=0), answer(5, 4), row(6)]
    path = dump(tmp_path, *rows, answer(7, 99))
    assert [one.path for one in files(path)] == ["questions/1"], "4 has a low score, 6 no answer, 7 no question"
    assert [one.path for one in files(path, min_score=0)] == ["questions/1", "questions/4"]
    assert [one.path for one in files(path, min_score=0, tags=["b", "z"])] == ["questions/1"]
    assert files(path, tags=["z"]) == []
    (only,) = files(path, max_answers=1, site="other")
    assert b"answer 3" in only.read()
    assert b"answer 2" not in only.read()
    assert only.package == "other"


def test_licences_are_those_of_the_posts_used(tmp_path):
    def licence(question, *answers):
        rows = [answer(2 + i, 1, **each) for i, each in enumerate(answers)]
        return files(dump(tmp_path, row(1, **question), *rows))[0].licence

    def day(date):
        return {"CreationDate": date + "T00:00:00.000"}

    assert licence(day("2011-04-07"), day("2010-01-01")) == "CC-BY-SA-2.5"
    assert licence(day("2011-04-08"), day("2018-05-01")) == "CC-BY-SA-3.0"
    assert licence(day("2011-04-08"), day("2018-05-02")) == "CC-BY-SA-3.0 AND CC-BY-SA-4.0"
    assert licence({"ContentLicense": "CC BY-SA 4.0"}, {"ContentLicense": "CC BY-SA 4.0"}) == "CC-BY-SA-4.0"
    assert licence({"ContentLicense": "ask me"}, {"ContentLicense": "ask me"}) == "unknown"


def test_lines_that_are_no_posts_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(stack_exchange, "_ROW_BYTES", 2_000)
    bad = [
        '<!DOCTYPE posts [<!ENTITY a "aaaa">]>',
        '<row Id="5" PostTypeId="1" CreationDate="2019-01-01" Score="1" Title="&a;" Body="x" />',
        row(6, Score="many"),
        row(7, CreationDate="yesterday"),
        row(8, Body="<!").replace("&lt;", "<"),
        '<row Id="9" PostTypeId="2" Body="" />',
        '<row Id="9" PostTypeId="1" Score="1" CreationDate="2019-01-01" />',
        row(10, Body="x" * 9_000),
        row(11, Body="\x01"),
        '<row Id="12" PostTypeId="1" /><row Id="13" PostTypeId="1" />',
        """<row Id="14" a=' PostTypeId="1" ' CreationDate="2019-01-01" Score="1" Body="x" />""",
    ]
    found = files(dump(tmp_path, row(1), *bad, answer(2, 1)))
    assert [one.path for one in found if isinstance(one, SourceFile)] == ["questions/1"]
    refused = sorted((one for one in found if isinstance(one, Refused)), key=lambda one: int(one.path[10:]))
    assert [one.path for one in refused] == [f"Posts.xml:{line}" for line in range(4, 15)]
    assert [one.reason for one in refused] == ["damaged"] * 7 + ["too-long"] + ["damaged"] * 3
    assert refused[1].detail.startswith("no row of a post: undefined entity")
    assert {one.package for one in refused} == {"site.example"}


@pytest.mark.parametrize("ending", [".xml", ".xml.gz", ".xml.zst"])
def test_a_dump_that_is_cut_short_keeps_what_came_before(tmp_path, ending):
    filler = [answer(number, 1, Body=os.urandom(500).hex()) for number in range(100, 400)]
    data = text_of(row(1), answer(2, 1), *filler).encode()
    folder = tmp_path / "cut"
    folder.mkdir()
    path = folder / f"Posts{ending}"

    def write(share):
        if ending == ".xml.gz":
            packed = gzip.compress(data)
        else:
            packed = data if ending == ".xml" else pa.compress(data, "zstd", asbytes=True)
        path.write_bytes(packed[: int(len(packed) * share)])

    write(1)
    assert [type(one) for one in files(folder, site="x")] == [SourceFile]
    write(0.7)
    cut, document = files(folder)
    assert (cut.reason, cut.detail) == ("cut-short", "ends without </posts>")
    assert b"answer 2" in document.read()


def test_buckets_are_spilled_once_and_again_after_a_kill(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(stack_exchange, "_BUCKET_BYTES", 20_000)
    rows = [row(number, Title=f"Q{number}") for number in range(1, 101)]
    rows += [answer(1_000 + number, number) for number in range(100, 0, -1)]
    path = dump(tmp_path, *rows)
    source = StackExchangeRecipe(path=str(path)).open()
    whole = stack_exchange._posts

    def killed(dump):
        yield from list(whole(dump))[:50]
        os._exit(9)

    monkeypatch.setattr(stack_exchange, "_posts", killed)
    if not (child := os.fork()):
        list(source.units())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [one.name.endswith(".part") for one in cache.iterdir() if one.is_dir()] == [True]
    monkeypatch.setattr(stack_exchange, "_posts", whole)
    units = list(source.units())
    assert len(units) > 2
    assert [one.name for one in cache.iterdir()] == [Path(units[0].file).parent.name]
    found = [[int(one.path[10:]) for one in unit.files()] for unit in units]
    assert sorted(chain(*found)) == list(range(1, 101))
    assert all(numbers == sorted(numbers) for numbers in found)

    monkeypatch.setattr(stack_exchange, "_posts", None)
    assert list(source.units()) == units, "without another pass"
    others = list(StackExchangeRecipe(path=str(path), max_answers=1).open().units())
    assert [one.file for one in others] == [one.file for one in units]
    assert {one.state for one in others}.isdisjoint(one.state for one in units)
    monkeypatch.setattr(stack_exchange, "_posts", whole)
    dump(tmp_path, *rows[:-1])
    assert {one.state for one in source.units()}.isdisjoint(one.state for one in units)


def test_memory_does_not_grow_with_the_dump(tmp_path, monkeypatch):
    monkeypatch.setattr(stack_exchange, "_BUCKET_BYTES", 200_000)
    monkeypatch.setattr(stack_exchange, "_MOST_BUCKETS", 50)

    def peak(questions):
        rows = [row(number) for number in range(1, questions)]
        path = dump(tmp_path, *rows, *(answer(100_000 + number, number) for number in range(1, questions)))
        del rows
        tracemalloc.start()
        found = 0
        for unit in StackExchangeRecipe(path=str(path)).open().units():
            found += sum(1 for _ in unit.files())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == questions - 1
        return most

    small, large = peak(500), peak(4_000)
    assert large < 1.5 * small + 15 * 65_536, "but for what each file of a bucket buffers, and those are counted"


def test_a_bucket_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    path = dump(tmp_path, row(1), answer(2, 1))
    monkeypatch.setattr(stack_exchange, "_MOST_BUCKET_BYTES", 100)
    with pytest.raises(UnreadableError, match="too-long"):
        files(path)


def test_no_dump(tmp_path):
    with pytest.raises(CodecriaError, match=r"no Posts\.xml; unpack"):
        StackExchangeRecipe(path=str(tmp_path)).open()
    path = dump(tmp_path)
    assert StackExchangeRecipe(path=str(path)).open().describe() == f"stack exchange site.example ({path})"
    assert files(path) == []
