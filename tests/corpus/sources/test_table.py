"""Real Parquet and JSONL in every layout, on the disk and behind fsspec's addresses."""

import gzip
import io
import json
import pickle
import tracemalloc
from datetime import UTC, datetime

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe
from codecria.corpus.recipe import CorpusRecipe
from codecria.corpus.sources import table_rows
from codecria.corpus.sources.source import Refused, SourceFile, UnreadableError
from codecria.corpus.sources.table import TableRecipe
from codecria.corpus.sources.table_rows import fetch, in_order, lines

BLOB = "0123456789abcdef" * 2 + "0123456"
V1 = {
    "hexsha": "ab" * 20,
    "size": 5,
    "ext": "py",
    "lang": "Python",
    "max_stars_repo_path": "src/a.py",
    "max_stars_repo_name": "owner/name",
    "max_stars_repo_licenses": ["MIT", "Apache-2.0"],
    "content": "a = 1\n",
}
V2_FILE = {
    "blob_id": BLOB + "a",
    "path": "/src/a.cs",
    "detected_licenses": ["MIT"],
    "license_type": "permissive",
    "src_encoding": "UTF-8",
    "language": "C-Sharp",
    "is_vendor": False,
    "is_generated": False,
    "length_bytes": 6,
    "extension": "cs",
}
V2_REPOSITORY = {
    "repo_name": "owner/name",
    "revision_id": "9" * 40,
    "revision_date": datetime(2020, 1, 2, 3, 4, 5, 678_901),
    "committer_date": datetime(2019, 1, 1),
}


def entries(path, **fields):
    return [entry for unit in TableRecipe(path=str(path), **fields).open().units() for entry in unit.files()]


def only(path, **fields):
    [entry] = entries(path, **fields)
    return entry


def parquet(path, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def jsonl(path, rows):
    data = "".join(json.dumps(row, default=str) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = pa.compress(data, "zstd", asbytes=True)
    path.write_bytes(data)
    return path


FORMS = [(parquet, "t.parquet"), *((jsonl, name) for name in ("t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.json.gz"))]


@pytest.mark.parametrize("layout", ["auto", "stack-v1"])
@pytest.mark.parametrize(("write", "name"), FORMS)
def test_the_stack(tmp_path, write, name, layout):
    file = only(write(tmp_path / name, [V1]), layout=layout)
    assert isinstance(file, SourceFile)
    assert (file.path, file.package, file.origin) == ("src/a.py", "owner/name", "owner/name")
    assert (file.kind, file.language, file.licence) == ("code", "Python", "MIT AND Apache-2.0")
    assert (file.read(), file.size_bytes, file.licence_is_for_file) == (b"a = 1\n", 6, False)


def test_starcoder_data(tmp_path):
    rows = [
        {"max_stars_repo_path": "README.md", "max_stars_repo_name": "o/n", "id": "7", "content": "# Why\n"},
        {"max_stars_repo_path": "a.py", "max_stars_repo_name": "o/n", "id": "8", "content": None},
    ]
    path = parquet(tmp_path / "t.parquet", rows)
    for layout in ("auto", "starcoder"):
        file, empty = entries(path, layout=layout, licence="MIT")
        assert (file.kind, file.language, file.licence) == ("code-related", "Markdown", "MIT")
        assert isinstance(empty, Refused) and empty.reason == "empty"
    assert entries(path, languages=("Python",))[0].path == "a.py"


@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize(("write", "name"), FORMS[:2])
def test_the_stack_v2_with_contents(tmp_path, write, name, is_grouped):
    changes = [
        {},
        {"is_vendor": True},
        {"is_generated": True},
        {"license_type": "no_license", "detected_licenses": []},
        {"path": None},
        {"detected_licenses": ["GPL-2.0-only OR MIT", "ISC"]},
    ]
    files = [V2_FILE | {"content": "x = 1;"} | change for change in changes]
    rows = [V2_REPOSITORY | {"files": files}] if is_grouped else [V2_REPOSITORY | file for file in files]
    for layout in ("auto", "stack-v2"):
        found = entries(write(tmp_path / name, rows), layout=layout)
        file, vendored, generated, unstated, unnamed, several = found
        assert (file.path, file.origin, file.package) == ("src/a.cs", "owner/name @ 999999999999", "owner/name")
        assert (file.language, file.licence, file.read()) == ("C#", "MIT", b"x = 1;")
        assert file.modified_s == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
        assert [vendored.reason, generated.reason] == ["vendored", "generated"]
        assert (unstated.licence, unnamed.path) == ("unknown", f"{BLOB}a.cs")
        assert several.licence == "(GPL-2.0-only OR MIT) AND ISC"
        assert entries(tmp_path / name, layout=layout, licence="ISC")[3].licence == "ISC"


def test_plain_tables_and_what_columns_are_called(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", [{"text": "Once upon a time"}, {"text": "\ud800x", "path": "a/b.txt"}])
    first, second = entries(path, kind="natural", licence="CC0-1.0")
    assert (first.path, first.package, first.kind, first.licence) == ("t.jsonl:0", "t.jsonl:0", "natural", "CC0-1.0")
    assert (second.path, second.read(), second.language) == ("a/b.txt", b"?x", "Text")
    rows = [{"body": b"\xff\xfea\0", "name": "a.py", "project": "p", "terms": "mit", "tongue": "python"}]
    columns = {"text": "body", "path": "name", "package": "project", "licence": "terms", "language": "tongue"}
    file = only(parquet(tmp_path / "t.parquet", rows), columns=columns)
    assert (file.path, file.package, file.licence, file.language) == ("a.py", "p", "MIT", "Python")
    assert file.read() == b"\xff\xfea\0"


def test_text_that_is_no_utf8_is_the_examiners_to_judge(tmp_path):
    bad = pa.array([b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"text": bad, "path": bad}), tmp_path / "t.parquet")
    file = only(tmp_path / "t.parquet")
    assert (file.path, file.read()) == ("caf\ufffd", b"caf\xe9")


def test_times_with_nanoseconds(tmp_path):
    times = pa.array([1_600_000_000_123_456_789], pa.timestamp("ns"))
    columns = {"text": ["x"], "repo_name": ["o/n"], "blob_id": [BLOB], "revision_date": times}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert only(tmp_path / "t.parquet").modified_s == 1_600_000_000


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/", recursive=True)


def test_addresses(memory, tmp_path):
    memory.pipe("/tables/b/t.jsonl", json.dumps(V1).encode())
    memory.pipe("/tables/a.parquet", parquet(tmp_path / "a.parquet", [V1] * 3).read_bytes())
    memory.pipe("/tables/README.md", b"no table")
    assert len(entries("memory://tables")) == 4
    assert len(entries("memory://tables/*.parquet")) == len(entries("memory://tables/a.parquet")) == 3
    assert len(entries(f"file://{tmp_path}")) == len(entries(tmp_path / "*.parquet")) == len(entries(tmp_path)) == 3
    [unit] = TableRecipe(path="memory://tables/a.parquet").open().units()
    memory.pipe("/tables/a.parquet", memory.cat("/tables/a.parquet") + b"")
    [again] = TableRecipe(path="memory://tables/a.parquet").open().units()
    assert unit.state != again.state


def test_contents_are_fetched_by_hash_in_order(memory, tmp_path):
    rows = [V2_REPOSITORY | V2_FILE | {"blob_id": f"{n:040x}"} for n in range(30)]
    rows[3]["src_encoding"] = "ISO-8859-1"
    rows[4]["blob_id"] = "../../etc/passwd"
    for n in range(30):
        memory.pipe(f"/content/{n:040x}", gzip.compress(b"caf\xe9 %d" % n))
    memory.rm(f"/content/{5:040x}")
    memory.pipe(f"/content/{6:040x}", gzip.compress(b"abc" * 99)[:-9])
    path = parquet(tmp_path / "t.parquet", rows)
    found = entries(path, content="memory://content/{blob_id}", languages=("C#",))
    assert [file.read() for file in found[7:]] == [b"caf\xe9 %d" % n for n in range(7, 30)]
    assert found[3].read() == "café 3".encode()
    for n, reason in ((4, "unreachable"), (5, "unreachable"), (6, "damaged")):
        with pytest.raises(UnreadableError) as raised:
            found[n].read()
        assert raised.value.reason == reason
    (tmp_path / f"{0:040x}").write_bytes(b"unpacked")
    assert entries(path, content=f"{tmp_path}/{{blob_id}}")[0].read() == b"unpacked"


def test_a_network_that_is_gone_stops_the_build(monkeypatch):
    def gone(*_):
        raise ConnectionError("network is unreachable")

    waited = []
    monkeypatch.setattr("codecria.corpus.sources.table_rows.open_table", gone)
    monkeypatch.setattr("codecria.corpus.sources.table_rows.time.sleep", waited.append)
    with pytest.raises(CodecriaError, match=r"cannot be fetched: .*unreachable; when the network is back"):
        fetch("memory://content/{blob_id}", {}, "ab", "")
    assert waited == [1.0, 4.0]


def test_what_came_before_a_failure_is_kept():
    def items():
        yield from range(5)
        raise UnreadableError("damaged", "there")

    results = in_order(str, items())
    assert [next(results) for _ in range(5)] == list("01234")
    with pytest.raises(UnreadableError):
        next(results)


@pytest.mark.parametrize("layout", ["auto", "stack-v1", "stack-v2", "plain"])
def test_a_missing_column_is_one_line_for_the_file(tmp_path, layout):
    row = {key: value for key, value in V1.items() if key != "content"}
    parquet(tmp_path / "a.parquet", [row] * 10, row_group_size=1)
    jsonl(tmp_path / "b.jsonl", [row] * 10)
    parquet(tmp_path / "c.parquet", [V1 | {"repo_name": "o/n"}])
    refused = entries(tmp_path, layout=layout)
    assert refused.pop().path == ("src/a.py" if layout in ("auto", "stack-v1") else "c.parquet:0")
    assert [(each.path, each.reason) for each in refused] == [
        ("a.parquet", "missing-column"),
        ("b.jsonl", "missing-column"),
    ]
    assert all("content" in each.detail and "max_stars_repo_name" in each.detail for each in refused)


def test_damage_is_one_line_for_the_unit_and_the_rest_goes_on(tmp_path):
    rows = [V1 | {"content": f"{n:08d}" * 5_000} for n in range(200)]
    whole = parquet(tmp_path / "a.parquet", rows, compression="none", use_dictionary=False).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-20])
    middle = len(whole) // 2
    (tmp_path / "c.parquet").write_bytes(whole[:middle] + b"\xff" * 3_000_000 + whole[middle + 3_000_000 :])
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-20])
    (tmp_path / "e.parquet").write_bytes(b"")
    (tmp_path / "f.jsonl.zst").write_bytes(b"no zstd at all")
    failed = {}
    for unit in TableRecipe(path=str(tmp_path), layout="auto").open().units():
        try:
            list(unit.files())
        except UnreadableError as error:
            failed[unit.name.partition(" from ")[0]] = error.reason
    assert failed == dict.fromkeys(["b.parquet", "c.parquet", "d.jsonl.gz", "e.parquet", "f.jsonl.zst"], "damaged")


def test_lines_that_are_no_objects(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(
        b'{"text": "a"}\n\n[1]\nnonsense \xff\n' + b"[" * 100_000 + b'\n{"text": 5}\n{"text": "b"}'
    )
    first, *refused, last = entries(tmp_path)
    assert (first.read(), last.read()) == (b"a", b"b")
    assert [each.reason for each in refused] == ["not-json"] * 3 + ["empty"]
    assert [each.path for each in refused[:2]] == ["t.jsonl:15", "t.jsonl:19"]
    assert refused[0].detail == "no JSON object at byte 15"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=20), st.lists(st.integers(0, 300), max_size=6), st.booleans(), st.booleans()
)
def test_ranges_give_every_line_once(lengths, cuts, ends_in_newline, is_short_limit):
    data = b"\n".join(bytes([97 + n % 26]) * length for n, length in enumerate(lengths))
    data += b"\n" if ends_in_newline and data else b""
    ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    limit, table_rows.LINE_BYTES = table_rows.LINE_BYTES, 10 if is_short_limit else 1_000
    try:
        found = [
            line for begin, end in zip([0, *ends], ends, strict=False) for line in lines(io.BytesIO(data), begin, end)
        ]
        whole = data.splitlines(keepends=True)
        places = [sum(map(len, whole[:n])) for n in range(len(whole))]
        longest = table_rows.LINE_BYTES
    finally:
        table_rows.LINE_BYTES = limit
    fits = [len(line) < longest or (len(line) == longest and line.endswith(b"\n")) for line in whole]
    assert found == [(at, line if fit else None) for at, line, fit in zip(places, whole, fits, strict=True)]


def test_units_are_ranges_and_runs_of_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(table_rows, "PART_BYTES", 3_000)
    rows = [{"text": f"{n:0500d}", "path": f"{n}.py"} for n in range(100)]
    for path in (jsonl(tmp_path / "t.jsonl", rows), parquet(tmp_path / "t.parquet", rows, row_group_size=3)):
        recipe = TableRecipe(path=str(path))
        units = list(recipe.open().units())
        assert len(units) >= 10 and len({unit.name for unit in units}) == len({unit.state for unit in units}) == len(
            units
        )
        copies = pickle.loads(pickle.dumps(units))
        assert copies == units and [unit.state for unit in copies] == [unit.state for unit in recipe.open().units()]
        files = [file for unit in copies for file in unit.files()]
        assert [file.path for file in files] == [f"{n}.py" for n in range(100)]
        assert files[7].read() == f"{7:0500d}".encode()
    [unit] = TableRecipe(path=str(parquet(tmp_path / "one.parquet", rows))).open().units()
    assert len(list(unit.files())) == 100  # a row group that is larger than a unit is one


def test_a_large_row_group_is_read_as_a_stream(tmp_path):
    text = pa.array([f"{n:x}" + f"{n * 7919:032x}" * 6_000 for n in range(400)])  # 77 MB
    pq.write_table(
        pa.table({"text": text}), tmp_path / "t.parquet", compression="none", use_dictionary=False, write_batch_size=16
    )
    del text
    [unit] = TableRecipe(path=str(tmp_path)).open().units()
    before, most = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    try:
        for file in unit.files():
            file.read()
            most = max(most, pa.total_allocated_bytes() - before)
        assert most < 30_000_000
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_bad_recipes(tmp_path, monkeypatch):
    with pytest.raises(CodecriaError, match="no tables there"):
        list(TableRecipe(path=str(tmp_path)).open().units())
    with pytest.raises(CodecriaError, match="nonsense"):
        TableRecipe(path="nonsense://a").open()
    with pytest.raises(ValueError, match="blob_id"):
        TableRecipe(path="a", content="s3://contents")
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(CodecriaError, match=r"pip install 'codecria\[remote\]'"):
        TableRecipe(path="a", content="memory://{blob_id}").open()


def test_the_shipped_recipe():
    [source] = load_recipe(CorpusRecipe, "corpus-stack").sources
    assert source.layout == "stack-v2" and source.content == "s3://softwareheritage/content/{blob_id}"
