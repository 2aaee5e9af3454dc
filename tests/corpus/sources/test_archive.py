"""Packages as their own tools make them: setuptools, npm, dpkg-source; and such as no tool makes."""

import gzip
import hashlib
import io
import json
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.sources.archive import ArchiveRecipe, archive_units
from codecria.corpus.sources.source import Refused, SourceFile
from codecria.corpus.sources.walk import walk

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software ... " + (
    "The above copyright notice and this permission notice shall be included in all copies."
)
APACHE = "Apache License\nVersion 2.0, January 2004"
MTIME = 1_600_000_000
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-source") is None, reason="no dpkg-source on this machine")


def tarball(path: Path, files: dict[str, str], mtime: int = MTIME) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(text.encode()), mtime
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 9, 13, 12, 26, 40)), text)
    return path


def read(path: Path, **settings) -> tuple[dict[str, SourceFile], list[Refused]]:
    files: dict[str, SourceFile] = {}
    refused: list[Refused] = []
    for unit in ArchiveRecipe(path=str(path), **settings).open().units():
        for one in pickle.loads(pickle.dumps(unit)).files():
            if isinstance(one, Refused):
                refused.append(one)
            else:
                assert len(one.read()) == one.size_bytes
                files[one.path] = one
    return files, refused


def licences(files: dict[str, SourceFile]) -> dict[str, str]:
    return {path: one.licence for path, one in files.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A wheel and an sdist, by setuptools."""
    pytest.importorskip("setuptools", "77")
    root = tmp_path_factory.mktemp("project")
    files = {
        "pyproject.toml": '[project]\nname = "My.Package"\nversion = "1.2rc1"\nlicense = "BSD-3-Clause"\n'
        'readme = "README.md"\n[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[tool.setuptools.package-data]\n"*" = ["*"]\n',
        "README.md": "# My package\n\nIt is äöü.\n",
        "LICENSE": MIT,
        "src/mine/__init__.py": '"""Mine."""\n',
        "src/mine/_vendor/theirs/__init__.py": "theirs = 1\n",
        "src/mine/_vendor/theirs/LICENSE.txt": APACHE,
        "src/mine/web.js": "x = 1\n",
        "src/mine/data.bin": "\0\0",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    program = "from setuptools.build_meta import *; build_sdist('dist'); build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr[-300:])
    return root / "dist"


def test_sdist(built):
    (path,) = built.glob("*.tar.gz")
    files, refused = read(path)
    assert refused == []
    assert {"src/mine/__init__.py", "src/mine/_vendor/theirs/__init__.py", "src/mine/web.js", "README.md"} <= set(files)
    assert not any(".egg-info/" in path or "data.bin" in path or "LICENSE" in path for path in files)
    one = files["src/mine/__init__.py"]
    assert (one.package, one.origin, one.kind, one.language) == ("My.Package", "My.Package 1.2rc1", "code", "Python")
    assert (one.licence, one.licence_is_for_file, one.form, one.docstrings) == ("BSD-3-Clause", False, "file", True)
    assert one.modified_s > MTIME
    assert one.read() == b'"""Mine."""\n'
    assert files["src/mine/_vendor/theirs/__init__.py"].licence == "Apache-2.0"


def test_wheel(built):
    (path,) = built.glob("*.whl")
    files, refused = read(path)
    assert refused == []
    description = files["my_package-1.2rc1.dist-info/METADATA"]
    assert (description.form, description.kind, description.language) == ("description", "code-related", "Markdown")
    assert "äöü" in description.read().decode()
    assert {one.origin for one in files.values()} == {"My.Package 1.2rc1"}
    assert licences(files) == {
        "mine/__init__.py": "BSD-3-Clause",
        "mine/web.js": "BSD-3-Clause",
        "mine/_vendor/theirs/__init__.py": "Apache-2.0",
        "my_package-1.2rc1.dist-info/METADATA": "BSD-3-Clause",
    }
    assert "my_package-1.2rc1.dist-info/METADATA" not in read(path, prose="none")[0]


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
def test_npm(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "package.json").write_text(json.dumps({"name": "@me/it", "version": "2.0.0", "license": "ISC"}))
    (tmp_path / "lib/a.ts").write_text("let a = 1\n")
    subprocess.run(["npm", "pack", "--ignore-scripts"], cwd=tmp_path, check=True, capture_output=True)
    files, refused = read(tmp_path / "me-it-2.0.0.tgz")
    assert refused == []
    one = files["lib/a.ts"]
    assert (one.package, one.origin, one.licence, one.language) == ("@me/it", "@me/it 2.0.0", "ISC", "TypeScript")
    assert one.modified_s == 0  # npm writes 1985


@pytest.mark.parametrize(
    ("file", "top", "expected"),
    [
        ("zlib-1.3.1.tar.gz", "zlib-1.3.1/", "zlib 1.3.1"),
        ("foo-3d-v1.0-beta2.zip", "", "foo-3d 1.0-beta2"),
        ("boost_1_74_0.tar.bz2", "boost/", "boost 1_74_0"),
        ("v1.2.3.tar.gz", "thing-1.2.3/", "thing 1.2.3"),
        ("jq_1.6.orig.tar.gz", "jq/", "jq 1.6"),
        ("jackson-core-2.15.2-sources.jar", "com/", "jackson-core 2.15.2"),
        ("Newtonsoft.Json.13.0.3.nupkg", "", "Newtonsoft.Json 13.0.3"),
        ("serde-1.0.0.crate", "serde-1.0.0/", "serde 1.0.0"),
        ("code.tgz", "code/", "code"),
    ],
)
def test_names_and_versions_of_files(tmp_path, file, top, expected):
    files, _ = read(zipped(tmp_path / file, {f"{top}a/b.c": "int b;\n", f"{top}a/c.c": "int c;\n"}))
    assert {one.origin for one in files.values()} == {expected}
    assert {one.package for one in files.values()} == {expected.split(" ")[0]}


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("PKG-INFO", "Metadata-Version: 2.1\nName: it\nVersion: 3\n\nName: no\n", "it 3"),
        ("package.json", '{"author": {"name": "no"}, "version": "4", "name": "it"}', "it 4"),
        ("debian/changelog", "it (1:2.3-4) unstable; urgency=low\n\n  * x\n", "it 1:2.3-4"),
        ("package.json", '{"name": "it"}', "file 1.0"),
        ("package.json", '["name", "version"]', "file 1.0"),
        ("package.json", "[" * 90_000, "file 1.0"),
        ("package.json", '{"name": "\\ud800", "version": "1"}', "file 1.0"),
        ("package.json", '{"name": "a b\\n", "version": "1"}', "file 1.0"),
        ("PKG-INFO", "", "file 1.0"),
        ("sub/package.json", '{"name": "sub", "version": "1"}', "file 1.0"),
    ],
)
def test_names_that_packages_state(tmp_path, path, text, expected):
    entries = {f"top/{path}": text, "top/a/b.c": "int b;\n"}
    files, _ = read(tarball(tmp_path / "file-1.0.tar.gz", entries))
    assert files["a/b.c"].origin == expected


def test_which_licence_speaks(tmp_path):
    files, _ = read(
        tarball(
            tmp_path / "p-1.tar.gz",
            {
                "p-1/pyproject.toml": '[project]\nname = "p"\nlicense = "ISC"\n',
                "p-1/COPYING": MIT,
                "p-1/a.c": "a",
                "p-1/node_modules/x/x.js": "x",
                "p-1/vendor/x/LICENSE": MIT,
                "p-1/vendor/x/deep/x.c": "x",
                "p-1/crates/y/Cargo.toml": '[package]\nname = "y"\nlicense = "Apache-2.0 OR MIT"\n',
                "p-1/crates/y/LICENSE": MIT,
                "p-1/crates/y/src/y.rs": "y",
            },
        ),
        licence="0BSD",
    )
    assert licences(files) == {"a.c": "ISC", "vendor/x/deep/x.c": "MIT", "crates/y/src/y.rs": "Apache-2.0 OR MIT"}
    files, _ = read(tarball(tmp_path / "q-1.tar.gz", {"q-1/LICENSE": MIT, "q-1/a.c": "a", "q-1/b/b.c": "b"}))
    assert set(licences(files).values()) == {"MIT"}
    tarball(tmp_path / "r-1.tar.gz", {"r-1/a.c": "a", "r-1/b.c": "a"})
    assert set(licences(read(tmp_path / "r-1.tar.gz")[0]).values()) == {"unknown"}
    assert set(licences(read(tmp_path / "r-1.tar.gz", licence="0BSD")[0]).values()) == {"0BSD"}


def test_a_licence_that_cannot_be_told_is_unknown_and_not_that_above(tmp_path):
    files = {
        "p-1/LICENSE": MIT,
        "p-1/free.py": "a",
        "p-1/ee/LICENSE": "The Foo Enterprise License: it is forbidden to copy this.",
        "p-1/ee/deep/billing.py": "b",
        "p-1/both/COPYRIGHT": "Copyright Somebody",
        "p-1/both/LICENSE": APACHE,
        "p-1/both/a.py": "c",
        "p-1/said/LICENSE": "As we agreed.",
        "p-1/said/package.json": '{"license": "ISC"}',
        "p-1/said/a.js": "d",
    }
    found = licences(read(tarball(tmp_path / "p-1.tar.gz", files), languages=["Python", "JavaScript"])[0])
    assert found == {
        "free.py": "MIT",
        "ee/deep/billing.py": "unknown",
        "both/a.py": "Apache-2.0",
        "said/a.js": "ISC",
    }


def test_settings(tmp_path):
    path = tarball(tmp_path / "p-1.tar.gz", {"p/a.go": "a", "p/b.py": "b", "p/c.md": "c", "p/run": "#!/bin/sh\n"})
    assert sorted(read(path)[0]) == ["a.go", "b.py", "c.md", "run"]
    files, _ = read(path, languages=["Go"], prose="natural", docstrings=False)
    assert sorted(files) == ["a.go", "c.md"]
    assert (files["c.md"].kind, files["a.go"].docstrings) == ("natural", False)


def test_what_is_wrong_is_named_and_the_rest_goes_on(tmp_path):
    tarball(tmp_path / "p-1.tar.gz", {"p/../../evil.py": "x", "p/a.py": "a"})
    tarball(tmp_path / "q-1.tar.gz", {"q/a.py": "a\n" * 90_000, "q/b.py": "b"})
    data = (tmp_path / "q-1.tar.gz").read_bytes()
    (tmp_path / "q-1.tar.gz").write_bytes(data[: len(data) // 2])
    (tmp_path / "r-1.zip").write_bytes(b"no zip")
    files, refused = read(tmp_path)
    assert set(files) == {"a.py"}
    assert [(one.origin, one.path, one.reason) for one in refused] == [
        ("p 1", "../../evil.py", "unsafe-path"),
        ("q 1", "q-1.tar.gz", "cut-short"),
        ("r 1", "r-1.zip", "not-an-archive"),
    ]


def test_a_folder_a_file_or_a_pattern(tmp_path):
    for name in ("b/z-1.tar.gz", "b/a-1.zip", "c/y-2.tar.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (zipped if name.endswith("zip") else tarball)(tmp_path / name, {"x/x.c": "x"})
    (tmp_path / "b/notes.txt").write_text("none")
    source = ArchiveRecipe(path=str(tmp_path)).open()
    assert [unit.name for unit in source.units()] == ["b/a-1.zip", "b/z-1.tar.gz", "c/y-2.tar.gz"]
    assert source.describe() == f"archives {tmp_path}"
    assert all(unit.size_bytes == (tmp_path / unit.name).stat().st_size for unit in source.units())
    names = [unit.name for unit in ArchiveRecipe(path=f"{tmp_path}/*/*.tar.gz").open().units()]
    assert names == ["z-1.tar.gz", "y-2.tar.gz"]
    assert len(list(ArchiveRecipe(path=str(tmp_path / "b/a-1.zip")).open().units())) == 1
    with pytest.raises(CodecriaError, match=r"absent\.zip: no such archive; check the path of the source"):
        ArchiveRecipe(path=str(tmp_path / "absent.zip")).open()


def test_the_state_changes_with_what_matters(tmp_path):
    path = tarball(tmp_path / "p-1.tar.gz", {"p/a.py": "a"})

    def state(**settings) -> str:
        (unit,) = ArchiveRecipe(path=str(path), **settings).open().units()
        return unit.state

    before = state()
    assert before == state()
    assert len({before, state(docstrings=False), state(licence="MIT"), state(prose="none")}) == 4
    tarball(path, {"p/a.py": "b"})
    assert state() != before


def test_deb(tmp_path):
    inner = {
        "./usr/share/doc/libx-dev/copyright": "Format: copyright-format/1.0\n\n"
        "Files: *\nCopyright: A\nLicense: Expat\n\nFiles: debian/*\nCopyright: B\nLicense: GPL-2\n",
        "./usr/include/x.h": "int x;\n",
        "./usr/share/y/LICENSE": APACHE,
        "./usr/share/y/y.c": "int y;\n",
    }
    data = tarball(tmp_path / "data", inner).read_bytes()
    header = f"{'data.tar.gz':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
    control = f"{'debian-binary':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{4:<10}`\n2.0\n".encode()
    (tmp_path / "libx-3d-dev_1%3a2.0-3_all.deb").write_bytes(b"!<arch>\n" + control + header + data)
    files, refused = read(tmp_path / "libx-3d-dev_1%3a2.0-3_all.deb")
    assert refused == []
    assert {path: (one.licence, one.licence_is_for_file) for path, one in files.items()} == {
        "usr/include/x.h": ("MIT", False),
        "usr/share/y/y.c": ("Apache-2.0", False),
    }
    assert files["usr/include/x.h"].origin == "libx-3d-dev 1:2.0-3"


COPYRIGHT = """Format: copyright-format/1.0

Files: *
Copyright: A
License: Expat

Files: lib/other.c extra/*
Copyright: B
License: Zlib

Files: debian/*
Copyright: C
License: GPL-2+
"""


def debianise(tree: Path, name: str, version: str, format: str) -> None:
    (tree / "debian/source").mkdir(parents=True)
    (tree / "debian/source/format").write_text(f"{format}\n")
    (tree / "debian/copyright").write_text(COPYRIGHT)
    (tree / "debian/helper.py").write_text("packaging = True\n")
    (tree / "debian/changelog").write_text(
        f"{name} ({version}) unstable; urgency=low\n\n  * It is.\n\n -- A B <a@b>  Thu, 01 Jan 2026 00:00:00 +0000\n"
    )
    control = f"Source: {name}\nMaintainer: A B <a@b>\n\nPackage: {name}\nArchitecture: all\nDescription: x\n y\n"
    (tree / "debian/control").write_text(control)


def source_package(folder: Path, format: str, upstream: dict[str, str], **components: dict[str, str]) -> Path:
    """A Debian source package by dpkg-source: the folder with its .dsc."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / "it-1.0"
    is_native = "native" in format
    if not is_native:
        tarball(folder / "it_1.0.orig.tar.gz", {f"it-upstream/{name}": text for name, text in upstream.items()})
        for component, files in components.items():
            named = {f"c-2/{name}": text for name, text in files.items()}
            tarball(folder / f"it_1.0.orig-{component}.tar.gz", named)
    for name, text in upstream.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    for component, files in components.items():
        (tree / component).mkdir()
        for name, text in files.items():
            (tree / component / name).write_text(text)
    debianise(tree, "it", "1.0" if is_native else "1:1.0-2", format)
    subprocess.run(["dpkg-source", "-b", "it-1.0"], cwd=folder, check=True, capture_output=True)
    shutil.rmtree(tree)
    return folder


UPSTREAM = {"lib/it.c": "int it;\n", "lib/other.c": "int other;\n", "LICENSE": APACHE, "README": "It is.\n" * 20}
LICENCES = {"lib/it.c": ("MIT", True), "lib/other.c": ("Zlib", True), "README": ("MIT", True)}


@needs_dpkg
@pytest.mark.parametrize("format", ["3.0 (quilt)", "3.0 (native)", "1.0"])
def test_debian_source_packages(tmp_path, format):
    folder = source_package(tmp_path / "all", format, UPSTREAM)
    (unit,) = ArchiveRecipe(path=str(folder)).open().units()
    assert unit.name.endswith(".dsc")
    assert unit.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    files, refused = read(folder)
    assert refused == []
    assert {path: (one.licence, one.licence_is_for_file) for path, one in files.items()} == LICENCES
    one = files["lib/it.c"]
    version = "1.0" if "native" in format else "1:1.0-2"
    assert (one.package, one.origin, one.read()) == ("it", f"it {version}", b"int it;\n")


@needs_dpkg
def test_debian_source_packages_with_components_and_damage(tmp_path):
    folder = source_package(tmp_path / "all", "3.0 (quilt)", UPSTREAM, extra={"e.js": "e\n"})
    expected = LICENCES | {"extra/e.js": ("Zlib", True)}
    tarball(folder / "alone-1.0.tar.gz", {"alone/a.py": "a"})
    (dsc,) = folder.glob("*.dsc")
    names = [unit.name for unit in archive_units(walk(str(folder)), ArchiveRecipe(path="x"))]
    assert "alone-1.0.tar.gz" in names
    assert "it_1.0.orig.tar.gz" not in names

    def found() -> tuple[dict[str, tuple[str, bool]], list[Refused]]:
        files, refused = read(dsc)
        return {path: (one.licence, one.licence_is_for_file) for path, one in files.items()}, refused

    assert found() == (expected, [])
    signed = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{dsc.read_text()}\n-----BEGIN PGP SIGNATURE-----\n"
    dsc.write_text(signed + "Version: GnuPG v2\n\niQ==\n-----END PGP SIGNATURE-----\n")
    assert found() == (expected, [])

    component = folder / "it_1.0.orig-extra.tar.gz"
    data = component.read_bytes()
    component.write_bytes(data[:-1] + b"\xff")
    files, refused = found()
    assert files == LICENCES
    assert [(one.path, one.origin, one.reason) for one in refused] == [(component.name, "it 1:1.0-2", "wrong-hash")]
    component.unlink()
    (folder / "it_1.0-2.debian.tar.xz").unlink()
    files, refused = found()
    assert files == dict.fromkeys(LICENCES, ("Apache-2.0", False))  # the licence file, for want of a better
    assert [one.reason for one in refused] == ["missing-file", "missing-file"]
    dsc.write_text("no description")
    assert [(one.path, one.reason) for one in found()[1]] == [(dsc.name, "damaged")]


def test_a_debian_package_by_hand(tmp_path):
    """The first format, where a compressed diff holds what Debian adds; without dpkg."""
    tarball(tmp_path / "it_1.0.orig.tar.gz", {"it-1.0/a.c": "int a;\n", "it-1.0/lib/other.c": "int b;\n"})
    diff = "--- it-1.0.orig/debian/rules\n+++ it-1.0/debian/rules\n@@ -0,0 +1,1 @@\n+x\n"
    diff += "--- it-1.0.orig/debian/copyright\n+++ it-1.0/debian/copyright\n@@ -0,0 +1,15 @@\n"
    diff += "".join(f"+{line}\n" for line in COPYRIGHT.splitlines()) + "--- it-1.0.orig/a\n"
    (tmp_path / "it_1.0-1.diff.gz").write_bytes(gzip.compress(diff.encode()))
    lines = [
        f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.name}\n"
        for path in sorted(tmp_path.iterdir(), reverse=True)
    ]
    (tmp_path / "it_1.0-1.dsc").write_text(
        "Format: 1.0\nSource: it\nVersion: 1.0-1\nChecksums-Sha256:\n" + "".join(lines) + "Files:\n"
    )
    files, refused = read(tmp_path)
    assert refused == []
    assert licences(files) == {"a.c": "MIT", "lib/other.c": "Zlib"}
    (tmp_path / "it_1.0-1.diff.gz").write_bytes(b"\x1f\x8b broken")
    files, refused = read(tmp_path)
    assert licences(files) == {"a.c": "unknown", "lib/other.c": "unknown"}
    assert [one.reason for one in refused] == ["wrong-hash"]
