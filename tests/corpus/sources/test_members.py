"""Archives made here, well and badly; tarfile and zipfile are the oracles of what they hold."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import string
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.corpus.sources import members as tested
from codecria.corpus.sources.members import Member, Problem, members
from codecria.corpus.sources.source import UnreadableError

MTIME = 1_600_000_000


def everything(_: str) -> bool:
    return True


def pack_with_arrow(codec: str, data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS = {
    "tar": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zst": lambda data: pack_with_arrow("zstd", data),
    "lz4": lambda data: pack_with_arrow("lz4", data),
}


def tar(*entries: tuple[str, bytes | bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """Files by name and content; of another type where the content is one letter's type and a link."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=format, encoding="utf-8", errors="surrogateescape") as archive:
        for name, data in entries:
            add(archive, name, data)
    return written.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", type: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mtime = len(data), type, link, MTIME
    archive.addfile(info, io.BytesIO(data))


def ar(**parts: bytes) -> bytes:
    written = b"!<arch>\n"
    for name, data in parts.items():
        name = name.replace("__", ".").replace("_", "-")
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
        written += header.encode() + data + b"\n" * (len(data) % 2)
    return written


@pytest.fixture
def of(tmp_path):
    """Members and problems of an archive with these bytes."""

    def read(data: bytes, wants=everything) -> tuple[dict[str, bytes], list[Problem]]:
        (tmp_path / "archive").write_bytes(data)
        got = list(members(str(tmp_path / "archive"), wants))
        files = [one for one in got if isinstance(one, Member)]
        assert len({one.path for one in files}) == len(files)
        return {one.path: one.data for one in files}, [one for one in got if isinstance(one, Problem)]

    return read


def reasons(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(one.path, one.reason) for one in problems]


SOME = {"p-1/a.py": b"a = 1\n" * 999, "p-1/b/long.c": b"int b;\n" * 20_000, "p-1/empty": b"", "p-1/z.md": b"# z\n"}


@pytest.mark.parametrize("packer", PACKERS)
def test_tar_however_compressed(of, packer):
    data = PACKERS[packer](tar(*SOME.items()))
    assert of(data) == (SOME, [])
    assert of(data, lambda path: path.endswith(".md")) == ({"p-1/z.md": b"# z\n"}, [])


@pytest.mark.parametrize("packer", [one for one in PACKERS if one not in ("tar", "lzma")])
def test_several_compressed_streams_one_after_the_other(of, packer):
    data = tar(*SOME.items())
    assert of(b"".join(PACKERS[packer](data[at : at + 50_000]) for at in range(0, len(data), 50_000))) == (SOME, [])


def test_zeros_behind_a_compressed_stream_do_not_matter(of):
    for packer in ("gz", "bz2", "xz"):
        assert of(PACKERS[packer](tar(*SOME.items())) + bytes(512)) == (SOME, [])


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300)
odd_names = names | st.binary(min_size=1, max_size=120).map(
    lambda raw: raw.replace(b"\0", b"x").decode("utf-8", "surrogateescape")
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(odd_names, st.binary(max_size=1_500)), max_size=6),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_names_and_contents_are_those_that_tarfile_writes(tmp_path_factory, entries, format):
    written = io.BytesIO()
    expected: dict[str, bytes] = {}
    with tarfile.open(fileobj=written, mode="w", format=format, encoding="utf-8", errors="surrogateescape") as archive:
        for name, data in entries:
            path = "/".join(part for part in name.split("/") if part not in ("", "."))
            path = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            if (
                name.startswith(("/", "PK\3\4", "PK\5\6", "!<arch>", "data.tar.gz"))
                or name.endswith("/")
                or ".." in name.split("/")
                or not path
                or path in expected
            ):
                continue
            try:
                add(archive, name, data)
            except ValueError:  # too long for the format
                continue
            expected[path] = data
    file = tmp_path_factory.mktemp("tar") / "archive"
    file.write_bytes(written.getvalue())
    got = list(members(str(file), everything))
    assert got == [Member(path, MTIME, data) for path, data in expected.items()]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text(string.printable + "äλ語", min_size=1, max_size=40), st.binary(max_size=3_000), max_size=5)
)
def test_names_and_contents_are_those_that_zipfile_writes(tmp_path_factory, entries):
    file = tmp_path_factory.mktemp("zip") / "archive"
    expected: dict[str, bytes] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            parts = name.replace("\\", "/").split("/")
            path = "/".join(part for part in parts if part not in ("", "."))
            if not parts[0] or not parts[-1] or ".." in parts or not path or path in expected:
                continue
            archive.writestr(zipfile.ZipInfo(name, (2020, 9, 13, 12, 26, 40)), data)
            expected[path] = data
    assert list(members(str(file), everything)) == [Member(path, MTIME, data) for path, data in expected.items()]


def test_names_that_are_not_utf8(of):
    assert of(tar(("caf\udce9.py", b"x"), format=tarfile.GNU_FORMAT)) == ({"caf\\xe9.py": b"x"}, [])
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("cafX.py", "x")
        archive.writestr("caféé.py", "y")
    data = written.getvalue().replace(b"cafX", b"caf\xe9")
    assert of(data) == ({"caf\\xe9.py": b"x", "caféé.py": b"y"}, [])
    # Most programs write UTF-8 and forget to say so.
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("cafXX.py", "x")
    assert of(plain.getvalue().replace(b"cafXX", "café".encode())) == ({"café.py": b"x"}, [])


def test_dates(tmp_path):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for number, mtime in enumerate((0, 499_162_500, 631_152_000, MTIME + 0.5, 1 << 60, -(1 << 40))):
            info = tarfile.TarInfo(str(number))
            info.mtime = mtime
            archive.addfile(info)
    (tmp_path / "t").write_bytes(written.getvalue())
    assert [one.modified_s for one in members(str(tmp_path / "t"), everything)] == [0, 0, 631_152_000, MTIME, 0, 0]
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        for number, date in enumerate(((1980, 1, 1, 0, 0, 0), (2020, 9, 13, 12, 26, 40), (2020, 15, 0, 0, 0, 0))):
            archive.writestr(zipfile.ZipInfo(str(number), date), "")
    assert [one.modified_s for one in members(str(tmp_path / "z"), everything)] == [0, MTIME, 0]


@pytest.mark.parametrize("inside", ["tar", "gz", "xz", "zst"])
def test_deb_by_hand(of, inside):
    data = PACKERS[inside](tar(("./usr/share/a.py", b"a"), ("./usr/b.c", b"b")))
    deb = ar(debian_binary=b"2.0\n", control__tar__gz=gzip.compress(b"odd" * 3), data__tar__x=data)
    assert of(deb) == ({"usr/share/a.py": b"a", "usr/b.c": b"b"}, [])
    assert reasons(of(deb[: len(deb) - len(data) // 2])[1]) in ([(".", "cut-short")], [("usr/b.c", "cut-short")])
    assert reasons(of(ar(debian_binary=b"2.0\n"))[1]) == [(".", "cut-short")]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on this machine")
@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
def test_deb_of_dpkg(tmp_path, of, compression):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: a\nVersion: 1\nMaintainer: A B <a@b>\nArchitecture: all\nDescription: x\n y\n"
    )
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/a.py").write_text("a = 1\n")
    command = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", str(root), str(tmp_path / "a.deb")]
    done = subprocess.run(command, capture_output=True, text=True)
    if "unknown compression" in done.stderr:
        pytest.skip(done.stderr)
    assert of((tmp_path / "a.deb").read_bytes()) == ({"usr/lib/a.py": b"a = 1\n"}, [])


def test_gem(of):
    data = gzip.compress(tar(("lib/a.rb", b"a"), ("a.gemspec", b"b")))
    gem = tar(("metadata.gz", gzip.compress(b"--- x")), ("data.tar.gz", data), ("checksums.yaml.gz", b"odd"))
    found, problems = of(gem, lambda path: path.endswith((".rb", ".gemspec")))
    assert (found, problems) == ({"lib/a.rb": b"a", "a.gemspec": b"b"}, [])


def test_an_archive_inside_an_archive_is_only_a_file(of):
    inner = gzip.compress(tar(("a.py", b"a")))
    assert of(gzip.compress(tar(("data.tar.gz", inner)))) == ({"data.tar.gz": inner}, [])


def test_hostile_members_of_a_tar(of):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as archive:
        add(archive, "../up.py", b"1")
        add(archive, "/etc/passwd", b"2")
        add(archive, "a/../../b.py", b"3")
        add(archive, "null", type=tarfile.CHRTYPE)
        add(archive, "sda", type=tarfile.BLKTYPE)
        add(archive, "pipe", type=tarfile.FIFOTYPE)
        add(archive, "loop/a", type=tarfile.SYMTYPE, link="../loop/a")
        add(archive, "b", type=tarfile.SYMTYPE, link="c")
        add(archive, "c", type=tarfile.SYMTYPE, link="b")
        add(archive, "hard.py", type=tarfile.LNKTYPE, link="good.py")
        add(archive, "folder", type=tarfile.DIRTYPE)
        add(archive, "unknown", b"data" * 200, type=b"Q")
        add(archive, "a" * 5_000, b"4")
        add(archive, ".", b"5")
        add(archive, "good.py", b"first")
        add(archive, "./good.py", b"second")
    found, problems = of(written.getvalue())
    assert found == {"good.py": b"first"}
    assert reasons(problems) == [
        ("../up.py", "unsafe-path"),
        ("etc/passwd", "unsafe-path"),
        ("a/../../b.py", "unsafe-path"),
        ("null", "not-a-file"),
        ("sda", "not-a-file"),
        ("pipe", "not-a-file"),
        ("unknown", "not-a-file"),
        ("a" * 4_096, "unsafe-path"),
        ("", "unsafe-path"),
        ("good.py", "duplicate-member"),
    ]
    assert problems[3].detail == "a character device"


def test_hostile_members_of_a_zip(of):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:

        def put(name: str, data: bytes, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> None:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, data)

        put("../up.py", b"1")
        put("/etc/passwd", b"2")
        put("..\\up.py", b"3")
        put("pipe", b"", mode=0o010644)
        put("null", b"", mode=0o020644)
        put("link", b"link", mode=0o120777)
        put("folder/", b"", mode=0o040755)
        put("bomb.py", bytes(1_000), method=zipfile.ZIP_BZIP2)
        put("good.py", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            put("good.py", b"second")
        put("secret.py", b"x")
        put("wrong.py", b"wrong sum" * 9)
        put("last.py", b"last")
        infos = {info.filename: info for info in archive.infolist()}
        infos["secret.py"].flag_bits |= 1
        infos["wrong.py"].CRC ^= 1
    found, problems = of(written.getvalue())
    assert found == {"good.py": b"first", "last.py": b"last"}
    assert reasons(problems) == [
        ("../up.py", "unsafe-path"),
        ("etc/passwd", "unsafe-path"),
        ("../up.py", "unsafe-path"),
        ("pipe", "not-a-file"),
        ("null", "not-a-file"),
        ("bomb.py", "unknown-compression"),
        ("good.py", "duplicate-member"),
        ("secret.py", "encrypted"),
        ("wrong.py", "damaged"),
    ]


def test_links_of_gnu_tar_in_a_loop(tmp_path, of):
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/up").symlink_to("../..")
    (tmp_path / "tree/self").symlink_to("self")
    (tmp_path / "tree/a.py").write_text("a = 1\n")
    (tmp_path / "tree/b.py").hardlink_to(tmp_path / "tree/a.py")
    os.mkfifo(tmp_path / "tree/pipe")
    with (tmp_path / "tree/sparse").open("wb") as sparse:
        for at in range(40):  # more holes than the first header has room for
            sparse.seek(at * 1_000_000)
            sparse.write(b"x")
    for format in ("gnu", "posix", "ustar"):
        command = ["tar", "--sort=name", f"--format={format}", *(["-S"] if format == "gnu" else []), "-cf", "t.tar"]
        subprocess.run([*command, "tree"], cwd=tmp_path, check=True)
        found, problems = of((tmp_path / "t.tar").read_bytes())
        assert found == {"tree/a.py": b"a = 1\n"}
        last = "not-a-file" if format == "gnu" else "too-long"
        assert reasons(problems) == [("tree/pipe", "not-a-file"), ("tree/sparse", last)]


@pytest.mark.parametrize("packer", [*PACKERS, "zip"])
def test_cut_short_anywhere(of, packer):
    """What came before is given, one line says that something is missing, and nothing is raised."""
    if packer == "zip":
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in SOME.items():
                archive.writestr(name, data)
        data = written.getvalue()
    else:
        data = PACKERS[packer](tar(*SOME.items()))
    whole = len(data) - 9_216 if packer == "tar" else len(data) - 1  # tar ends in zeros, which need not be there
    draw = random.Random(0)
    for cut in [0, 1, 5, 10, 100, whole - 512, whole - 4, *(draw.randrange(whole) for _ in range(60))]:
        found, problems = of(data[:cut])
        assert found.items() <= SOME.items()
        at_a_border = packer == "tar" and cut % 512 == 0 and cut
        assert len(problems) == 1 or (at_a_border and not problems), (cut, problems)
        assert [one for one in problems if one.reason not in ("cut-short", "not-an-archive")] == [], cut


def test_what_came_before_the_cut_is_given(of):
    data = gzip.compress(tar(("a.py", b"a"), ("noise", random.Random(0).randbytes(100_000)), ("c.py", b"c")))
    found, problems = of(data[:50_000])
    assert (found, reasons(problems)) == ({"a.py": b"a"}, [(".", "cut-short")])
    assert problems[0].detail == "compressed file ended before the end-of-stream marker was reached, after 1 members"


@settings(max_examples=250, deadline=None)
@given(st.sampled_from([*PACKERS, "zip", "deb"]), st.data())
def test_damage_is_named_whatever_it_is(tmp_path_factory, packer, data):
    packed = bytearray(DAMAGED[packer])
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(packed)
    got = list(members(str(file), everything))
    found = {one.path: one.data for one in got if isinstance(one, Member)}
    if packer in ("gz", "bz2", "xz") and found != FEW:  # a check sum covers all
        assert any(isinstance(one, Problem) for one in got)


FEW = {"p-1/a.py": b"a = 1\n" * 9, "p-1/" + "long" * 60: b"x", "p-1/z.md": b"# z\n"}


def few_zipped() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FEW.items():
            archive.writestr(name, data)
    return written.getvalue()


DAMAGED = {name: pack(tar(*FEW.items())) for name, pack in PACKERS.items()} | {
    "zip": few_zipped(),
    "deb": ar(debian_binary=b"2.0\n", data__tar__gz=gzip.compress(tar(*FEW.items()))),
}


def test_wrong_check_sum_of_gzip(of):
    data = bytearray(gzip.compress(tar(*SOME.items())))
    data[-8] ^= 1
    found, problems = of(bytes(data))
    assert (found, reasons(problems)) == (SOME, [(".", "damaged")])
    assert problems[0].detail.startswith("crc check failed")


def test_a_damaged_header_is_no_end(of):
    """tarfile takes it for the end, and says nothing."""
    data = bytearray(tar(("a.py", b"a"), ("b.py", b"b"), ("c.py", b"c")))
    data[1_024] ^= 1
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as archive:
        assert archive.getnames() == ["a.py"]
    found, problems = of(bytes(data))
    assert (found, reasons(problems)) == ({"a.py": b"a"}, [(".", "damaged")])


def test_a_tar_whose_first_name_looks_compressed(of):
    assert of(tar(("BZh91AY&SY.py", b"a"))) == ({"BZh91AY&SY.py": b"a"}, [])


def test_no_archive_at_all(of):
    for data in (b"", b"\0", b"print(1)\n" * 100, gzip.compress(b"text\n" * 200), b"PK", b"\x1f\x8b"):
        found, problems = of(data)
        assert found == {}
        assert [one.reason for one in problems] in (["not-an-archive"], ["cut-short"])
    quine = gzip.compress(gzip.compress(tar(*SOME.items())))  # one layer is taken off, not any number
    assert reasons(of(quine)[1]) == [(".", "not-an-archive")]


def pax(records: bytes, type: bytes = b"x") -> bytes:
    info = tarfile.TarInfo("header")
    info.size, info.type = len(records), type
    return info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)


@pytest.mark.parametrize(
    "headers",
    [
        pax(b"1" * 900_000),  # tarfile would search this for half an hour: CVE-2024-6232
        pax(b"0 path=a\n"),
        pax(b"0"),
        pax(b"9999999999999999999999 path=a\n"),
        pax(b"-5 path=a\n"),
        pax(b"16 size=" + b"-1" * 4 + b"\n"),
        pax(b"5004 size=" + b"9" * 4_993 + b"\n"),
        pax(bytes(2_000_000)),
        pax(b"a" * 2_000_000, b"L"),
        pax(b"", b"S")[:482] + b"\1" + bytes(29),
    ],
)
def test_hostile_headers_of_a_tar(of, headers):
    found, problems = of(headers + tar(("a.py", b"a")))
    assert found == {}
    assert [one.reason for one in problems] == ["damaged"] or headers[156:157] == b"S"


def test_chains_of_headers_end(of, monkeypatch):
    """tarfile goes one call deeper for each."""
    monkeypatch.setattr(tested, "MEMBERS", 5_000)
    record = b"12 path=abc\n"
    data = gzip.compress(pax(record) * 6_000 + tar(("a.py", b"a")))
    assert reasons(of(data)[1]) == [(".", "archive-bomb")]
    assert of(pax(record) * 3_000 + tar(("a.py", b"a")))[0] == {"abc": b"a"}


def test_too_many_members_and_too_long_ones(of, monkeypatch):
    monkeypatch.setattr(tested, "MEMBERS", 3)
    monkeypatch.setattr(tested, "MEMBER_BYTES", 5)
    found, problems = of(tar(("a", b"a"), ("long", b"123456"), ("c", b"c"), ("d", b"d"), ("e", b"e")))
    assert found == {"a": b"a", "c": b"c"}
    assert reasons(problems) == [("long", "too-long"), (".", "archive-bomb")]
    assert problems[0].detail == "6 bytes; at most 5"


def deflated_zeros(blocks: int) -> tuple[bytes, int, int]:
    """A raw deflate stream of so many times 16 MB, its check sum, its length."""
    block, packer, crc = bytes(1 << 24), zlib.compressobj(9, zlib.DEFLATED, -15), 0
    repeated = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(blocks):
        crc = zlib.crc32(block, crc)
    return repeated * blocks + packer.flush(), crc, blocks << 24


def zip_bomb(names: int, blocks: int, stated: int | None = None) -> bytes:
    """Many names for the same bytes, as David Fifield's; `stated` is what the headers say of the length."""
    packed, crc, size = deflated_zeros(blocks)
    size = size if stated is None else stated
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, crc, len(packed), size, 4, 0) + b"x.py"
    table = b""
    for _ in range(names):
        table += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 33, crc, len(packed), size, 4, *[0] * 6)
        table += b"x.py"
    place = len(local) + len(packed)
    return local + packed + table + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, names, names, len(table), place, 0)


def tar_of_zeros(pack, type: bytes = tarfile.REGTYPE) -> bytes:
    """1 GB: a header and as many equal blocks, each compressed for itself."""
    info = tarfile.TarInfo("bomb.py")
    info.size, info.type = 1 << 30, type
    return pack(info.tobuf()) + pack(bytes(1 << 24)) * 64


def xz_with_large_dictionary() -> bytes:
    data = bytearray(lzma.compress(tar(("a.py", b"a"))))
    data[16] = 40  # 4 GB, in the filter's properties
    size = (data[12] + 1) * 4
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    return bytes(data)


def bombs() -> dict[str, bytes]:
    small = tar(("bomb.py", b"x" * 100))
    return {
        "gz": tar_of_zeros(gzip.compress),
        "bz2": tar_of_zeros(bz2.compress),
        "xz": tar_of_zeros(lambda data: lzma.compress(data, preset=1)),
        "zst": tar_of_zeros(PACKERS["zst"]),
        "lz4": tar_of_zeros(PACKERS["lz4"]),
        "long-name": tar_of_zeros(gzip.compress, tarfile.GNUTYPE_LONGNAME),
        "pax": tar_of_zeros(gzip.compress, tarfile.XHDTYPE),
        "zeros-after-the-end": gzip.compress(small) + gzip.compress(bytes(1 << 24)) * 64,
        "deb": ar(debian_binary=b"2.0\n", data__tar__gz=tar_of_zeros(gzip.compress)),
        "gem": tar(("data.tar.gz", tar_of_zeros(gzip.compress))),
        "zip": zip_bomb(1, 64),
        "zip-many-names": zip_bomb(9_000, 1),
        "zip-that-lies": zip_bomb(1, 64, stated=1_000),
        "xz-dictionary": xz_with_large_dictionary(),
    }


def test_bombs_go_off_in_little_memory(tmp_path):
    for name, data in bombs().items():
        (tmp_path / name).write_bytes(data)
        assert len(data) < 5_000_000
    program = """if True:
        import json, sys
        from pathlib import Path
        from codecria.corpus.sources.members import Member, members
        seen = {}
        for file in sorted(Path(sys.argv[1]).iterdir()):
            got = list(members(str(file), lambda path: True))
            seen[file.name] = [len(one.data) if isinstance(one, Member) else one.reason for one in got]
        # Not ru_maxrss: that begins at what the process held which this one was forked from.
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
        print(json.dumps([int(peak.split()[1]) // 1024, seen]))
    """
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    peak_mb, seen = json.loads(done.stdout)
    assert peak_mb < 300
    bomb = ["too-long", "archive-bomb"]
    assert seen == {
        **dict.fromkeys(("gz", "bz2", "xz", "zst", "lz4", "deb", "gem"), bomb),
        "long-name": ["damaged"],
        "pax": ["damaged"],
        "zeros-after-the-end": [100, "archive-bomb"],
        "zip": ["archive-bomb"],
        "zip-many-names": [1 << 24, *["duplicate-member"] * 4, "archive-bomb"],
        "zip-that-lies": ["damaged"],
        "xz-dictionary": ["damaged"],
    }


def test_a_table_of_contents_without_end(of, monkeypatch):
    monkeypatch.setattr(tested, "TABLE_BYTES", 100_000)
    assert reasons(of(zip_bomb(9_000, 1))[1]) == [(".", "archive-bomb")]


def test_the_disk_is_not_the_archive(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(members(str(tmp_path / "absent"), everything))
    os.mkfifo(tmp_path / "pipe")
    assert reasons(list(members(str(tmp_path / "pipe"), everything))) == [(".", "not-a-file")]
    assert UnreadableError("a", "b").reason == "a"
