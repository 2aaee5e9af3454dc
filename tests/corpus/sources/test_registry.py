"""Real pip, npm and apt against registries served from a folder by a server of this machine."""

import base64
import hashlib
import http.server
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from codecria.common.errors import CodecriaError
from codecria.common.recipe import Recipe, load_recipe, shipped_recipes
from codecria.corpus.fetch_packages import LOCK_NAME, PackageLock, fetch_packages, read_lock
from codecria.corpus.registries.clients import with_sources
from codecria.corpus.sources.registry import RegistryRecipe
from codecria.corpus.sources.source import Refused

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software ... " + (
    "The above copyright notice and this permission notice shall be included in all copies."
)
NOBODY = "http://127.0.0.1:9"  # the port where whatever is sent is discarded, and nothing listens
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
needs_apt = pytest.mark.skipif(
    not all(map(shutil.which, ("apt-get", "dpkg-source", "dpkg-deb", "dpkg-scansources"))),
    reason="no apt and dpkg-dev on this machine",
)


class OneSource(Recipe):
    sources: tuple[RegistryRecipe, ...]


class Registry:
    """A folder served over HTTP, every request noted; a path in `slow` is answered by half, then waited for."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked, self.slow, self.release = root, [], set(), threading.Event()
        registry = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments) -> None:
                super().__init__(*arguments, directory=str(root))

            def do_GET(self) -> None:
                registry.asked.append(self.path)
                if self.path.partition("?")[0] in registry.slow:
                    data = (root / self.path.lstrip("/")).read_bytes()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    registry.release.wait(20)
                    return
                super().do_GET()

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


def tar(files: dict[str, str], padding: int = 0) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return written.getvalue() + bytes(padding)


def sdist(name: str, version: str, padding: int = 0) -> bytes:
    root = f"{name}-{version}"
    return tar(
        {
            f"{root}/setup.py": "raise SystemExit('code of a package was run')",
            f"{root}/LICENSE": MIT,
            f"{root}/{name}/__init__.py": f"version = '{version}'\n",
            f"{root}/tests/test_{name}.py": "def test(): ...\n",
        },
        padding,
    )


def wheel(name: str, version: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{name}-{version}.dist-info/METADATA", f"Name: {name}\nVersion: {version}\nLicense: MIT\n")
    return written.getvalue()


def publish_python(root: Path, name: str, files: dict[str, bytes]) -> None:
    page = root / "simple" / name
    page.mkdir(parents=True)
    links: list[str] = []
    for file, data in files.items():
        (page / file).write_bytes(data)
        links.append(f'<a href="{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>')
    (page / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")


def publish_npm(root: Path, url: str, name: str, versions: dict[str, bytes]) -> None:
    entries = {}
    for version, data in versions.items():
        file = f"{name.rpartition('/')[2]}-{version}.tgz"
        (root / file).write_bytes(data)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        entries[version] = {
            "name": name,
            "version": version,
            "dist": {"tarball": f"{url}/{file}", "integrity": integrity},
            "scripts": {"prepare": "exit 1", "preinstall": "exit 1"},
        }
    newest = max(versions)
    # npm asks for `@scope%2fname`, which the server reads as a path.
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps({"name": name, "dist-tags": {"latest": newest}, "versions": entries}))


def publish_debian(root: Path, suite: str, name: str, version: str) -> None:
    """A source package and the .deb of it, in a flat repository."""
    folder = root / suite
    tree = folder / name
    (tree / "debian" / "source").mkdir(parents=True)
    (tree / "hello.c").write_text("int main(void) { return 0; }\n")
    (tree / "debian/source/format").write_text("3.0 (native)\n")
    (tree / "debian/changelog").write_text(
        f"{name} ({version}) unstable; urgency=low\n\n  * It is.\n\n -- A B <a@b>  Thu, 01 Jan 2026 00:00:00 +0000\n"
    )
    control = f"Source: {name}\nMaintainer: A B <a@b>\n\nPackage: {name}-data\nArchitecture: all\nDescription: x\n y\n"
    (tree / "debian/control").write_text(control)
    quiet = {"cwd": folder, "check": True, "capture_output": True}
    subprocess.run(["dpkg-source", "-b", name], **quiet)
    shutil.rmtree(tree)
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}-data\nVersion: {version}\nMaintainer: A B <a@b>\nArchitecture: all\nDescription: x\n y\n"
    )
    (tree / "run.sh").write_text("echo hello\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", name, "."], **quiet)
    shutil.rmtree(tree)
    for tool, index in (("dpkg-scansources", "Sources"), ("dpkg-scanpackages", "Packages")):
        (folder / index).write_bytes(subprocess.run([tool, "."], **quiet).stdout)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    (tmp_path / "served").mkdir()
    served = Registry(tmp_path / "served")
    for name in [name for name in os.environ if name.startswith(("PIP_", "npm_config_", "NPM_CONFIG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{served.url}/simple")
    monkeypatch.setenv("npm_config_registry", served.url)
    monkeypatch.setenv("npm_config_userconfig", os.devnull)
    yield served
    served.close()


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_source(registry, tmp_path):
    publish_python(registry.root, "alpha", {"alpha-1.tar.gz": sdist("alpha", "1")})
    publish_python(registry.root, "beta", {"beta-3-py3-none-any.whl": wheel("beta", "3")})
    recipe = RegistryRecipe(pypi=("beta", "alpha", "absent", "alpha"), folder=str(tmp_path / "cache"))
    units = list(recipe.open().units())
    assert [unit.name for unit in units] == [
        "pypi/beta/beta-3-py3-none-any.whl",
        "pypi/alpha/alpha-1.tar.gz",
        "pypi/absent",
    ]
    assert pickle.loads(pickle.dumps(units)) == units == list(recipe.open().units())
    found = {one.path: (one.package, one.origin, one.language, one.licence) for one in units[1].files()}
    paths = ("setup.py", "alpha/__init__.py", "tests/test_alpha.py")
    assert found == dict.fromkeys(paths, ("alpha", "alpha 1", "Python", "MIT"))
    reason = "pip finds no absent"
    assert list(units[2].files()) == [Refused("pypi/absent", "absent", "absent", 0, "not-in-registry", reason)]
    # A unit's state is told by bytes and settings, not by when it was downloaded.
    later = recipe.model_copy(update={"folder": str(tmp_path / "later")})
    assert [unit.state for unit in later.open().units()] == [unit.state for unit in units]
    other = recipe.model_copy(update={"languages": ("C",)})
    assert all(one.state != two.state for one, two in zip(other.open().units(), units[:2], strict=False))


def test_lock_that_ships_and_lock_that_is_none(tmp_path):
    recipe = load_recipe(OneSource, "corpus-registry").sources[0]
    lock = read_lock(shipped_recipes()["corpus-registry"].parent / recipe.lock)
    source = recipe.open()
    assert source.describe() == "packages by name: 15 of pypi, 16 of npm, 69 of debian, 2 of debian-binary"
    assert len(lock.packages) + len(lock.missing) == 102
    (tmp_path / "lock.json").write_text('{"packages": {"pypi/a": {"version": "1"}}}')
    with pytest.raises(CodecriaError, match=r"is no lock of packages: packages\.pypi/a\.files field required"):
        RegistryRecipe(lock=str(tmp_path / "lock.json")).open()
    with pytest.raises(CodecriaError, match="no such file or folder; check the path"):
        RegistryRecipe(lock="absent.json").open()


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("pypi", ["../x", "x @ https://a/b", "-r", "x;y"]),
        ("npm", ["a/b", "file:x", "a@b:c", "@../a", "--x"]),
        ("debian", ["a/b", "-o", ".."]),
        ("debian_binary", ["a b", "./a.deb"]),
    ],
)
def test_addresses_folders_and_options_are_no_names(field, names):
    for name in names:
        with pytest.raises(ValidationError):
            RegistryRecipe(**{field: (name,)})


def test_pypi_takes_the_newest_sdist_else_a_wheel_and_runs_no_code(registry, tmp_path):
    old, new = sdist("alpha", "1.9"), sdist("alpha", "1.10")
    files = {"alpha-1.9.tar.gz": old, "alpha-1.10.tar.gz": new, "alpha-1.10-py3-none-any.whl": wheel("alpha", "1.10")}
    publish_python(registry.root, "alpha", files | {"alpha-2.0b1.tar.gz": sdist("alpha", "2.0b1")})
    publish_python(registry.root, "beta", {"beta-3-py3-none-any.whl": wheel("beta", "3")})
    cache = tmp_path / "cache"
    lock = fetch_packages(["pypi/alpha", "pypi/alpha==1.9", "pypi/beta"], cache, PackageLock())
    assert {name: (one.version, one.files[0].name) for name, one in lock.packages.items()} == {
        "pypi/alpha": ("1.10", "alpha-1.10.tar.gz"),
        "pypi/alpha==1.9": ("1.9", "alpha-1.9.tar.gz"),
        "pypi/beta": ("3", "beta-3-py3-none-any.whl"),
    }
    assert (cache / "pypi/alpha/alpha-1.10.tar.gz").read_bytes() == new
    assert (cache / "pypi/alpha==1.9/alpha-1.9.tar.gz").read_bytes() == old
    assert read_lock(cache / LOCK_NAME) == lock


def test_second_run_needs_no_network_and_has_the_same_bytes(registry, tmp_path, monkeypatch):
    publish_python(registry.root, "alpha", {"alpha-1.tar.gz": sdist("alpha", "1")})
    cache = tmp_path / "cache"
    names = ["pypi/alpha", "pypi/absent"]
    first = fetch_packages(names, cache, PackageLock())
    before = files_under(cache)
    shutil.rmtree(registry.root / "simple/alpha")
    publish_python(registry.root, "alpha", {"alpha-2.tar.gz": sdist("alpha", "2")})
    registry.asked.clear()
    assert fetch_packages(names, cache, PackageLock()) == first
    monkeypatch.setenv("PIP_INDEX_URL", NOBODY)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch_packages(names, cache, PackageLock()) == first
    assert files_under(cache) == before
    assert registry.asked == []


def test_missing_package_is_recorded_and_passed_over(registry, tmp_path, capsys):
    publish_python(registry.root, "alpha", {"alpha-1.tar.gz": sdist("alpha", "1")})
    publish_python(registry.root, "gone", {"gone-1.tar.gz": sdist("gone", "1")})
    (registry.root / "simple/gone/gone-1.tar.gz").unlink()
    names = ["pypi/alpha", "pypi/alpha==7", "pypi/absent", "pypi/gone"]
    lock = fetch_packages(names, tmp_path / "cache", PackageLock())
    assert list(lock.packages) == ["pypi/alpha"]
    assert lock.missing == {
        "pypi/alpha==7": "pip finds no alpha==7",
        "pypi/absent": "pip finds no absent",
        "pypi/gone": "404 Not Found: gone-1.tar.gz",
    }
    assert read_lock(tmp_path / "cache" / LOCK_NAME).missing == lock.missing
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("passed over")]
    assert told == [f"passed over {name}: {lock.missing[name]}" for name in names[1:]]


def test_registry_that_does_not_answer_is_an_error_and_nothing_is_recorded(registry, tmp_path, monkeypatch):
    publish_python(registry.root, "alpha", {"alpha-1.tar.gz": sdist("alpha", "1")})
    fetch_packages(["pypi/alpha"], tmp_path / "cache", PackageLock())
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOBODY}/simple")
    with pytest.raises(
        CodecriaError, match="1 of 1 packages did not arrive, the first: pip: no network, or: "
    ) as caught:
        fetch_packages(["pypi/alpha", "pypi/beta"], tmp_path / "cache", PackageLock())
    assert "\n" not in str(caught.value)
    lock = read_lock(tmp_path / "cache" / LOCK_NAME)
    assert (list(lock.packages), lock.missing) == (["pypi/alpha"], {})


def test_lock_names_version_and_bytes(registry, tmp_path):
    versions = {f"alpha-{version}.tar.gz": sdist("alpha", version) for version in ("1", "2", "3")}
    publish_python(registry.root, "alpha", versions)
    lock = fetch_packages(["pypi/alpha==2"], tmp_path / "first", PackageLock())
    given = PackageLock(packages={"pypi/alpha": lock.packages["pypi/alpha==2"]})
    cache = tmp_path / "second"
    assert fetch_packages(["pypi/alpha"], cache, given) == given
    assert (cache / "pypi/alpha/alpha-2.tar.gz").read_bytes() == versions["alpha-2.tar.gz"]
    # A damaged file is fetched again.
    (cache / "pypi/alpha/alpha-2.tar.gz").write_bytes(b"damaged")
    assert fetch_packages(["pypi/alpha"], cache, given) == given
    assert (cache / "pypi/alpha/alpha-2.tar.gz").read_bytes() == versions["alpha-2.tar.gz"]


def test_other_bytes_than_locked_are_refused(registry, tmp_path):
    publish_python(registry.root, "alpha", {"alpha-1.tar.gz": sdist("alpha", "1")})
    lock = fetch_packages(["pypi/alpha"], tmp_path / "first", PackageLock())
    shutil.rmtree(registry.root / "simple")
    publish_python(registry.root, "alpha", {"alpha-1.tar.gz": sdist("alpha", "1", padding=1)})
    with pytest.raises(CodecriaError, match=r"pypi/alpha: got alpha-1.tar.gz \(.*, the lock says alpha-1") as caught:
        fetch_packages(["pypi/alpha"], tmp_path / "second", lock)
    assert "\n" not in str(caught.value)
    assert lock.packages["pypi/alpha"].files[0].sha256 in str(caught.value)
    assert not list((tmp_path / "second").rglob("*.tar.gz"))


def test_other_bytes_than_the_index_names_are_refused(registry, tmp_path):
    publish_python(registry.root, "alpha", {"alpha-1.tar.gz": sdist("alpha", "1")})
    (registry.root / "simple/alpha/alpha-1.tar.gz").write_bytes(b"other")
    with pytest.raises(CodecriaError, match="not the bytes the index names: alpha-1"):
        fetch_packages(["pypi/alpha"], tmp_path / "cache", PackageLock())


def test_killed_in_the_middle_of_a_download_goes_on(registry, tmp_path):
    cache = tmp_path / "cache"
    for name in ("alpha", "beta"):
        publish_python(registry.root, name, {f"{name}-1.tar.gz": sdist(name, "1", padding=8_000_000)})
    registry.slow.add("/simple/beta/beta-1.tar.gz")
    program = "import sys; from pathlib import Path; from codecria.corpus.fetch_packages import *; " + (
        f"fetch_packages(['pypi/alpha', 'pypi/beta'], Path({str(cache)!r}), PackageLock())"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 15
    while not ((cache / LOCK_NAME).exists() and any(cache.glob("pypi/.beta.*.part/*.gz"))):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    registry.slow.clear()
    registry.release.set()
    registry.asked.clear()
    lock = fetch_packages(["pypi/alpha", "pypi/beta"], cache, PackageLock())
    assert list(lock.packages) == ["pypi/alpha", "pypi/beta"]
    assert "/simple/beta/beta-1.tar.gz" in registry.asked
    assert not any("alpha" in path for path in registry.asked)
    served = (registry.root / "simple/beta/beta-1.tar.gz").read_bytes()
    assert (cache / "pypi/beta/beta-1.tar.gz").read_bytes() == served
    assert sorted(files_under(cache)) == ["pypi/alpha/alpha-1.tar.gz", "pypi/beta/beta-1.tar.gz", LOCK_NAME]


@needs_npm
def test_npm(registry, tmp_path):
    newest = tar({"package/index.ts": "export {}\n", "package/LICENSE": MIT})
    publish_npm(registry.root, registry.url, "gamma", {"1.0.0": tar({"package/index.js": "1"}), "1.2.0": newest})
    publish_npm(registry.root, registry.url, "@scope/delta", {"0.1.0-rc.1": tar({"package/index.js": "2"})})
    names = ["npm/gamma", "npm/gamma@1.0.0", "npm/@scope/delta", "npm/absent", "npm/gamma@9.9.9"]
    lock = fetch_packages(names, tmp_path / "cache", PackageLock())
    assert {name: (one.version, one.files[0].name) for name, one in lock.packages.items()} == {
        "npm/gamma": ("1.2.0", "gamma-1.2.0.tgz"),
        "npm/gamma@1.0.0": ("1.0.0", "gamma-1.0.0.tgz"),
        "npm/@scope/delta": ("0.1.0-rc.1", "scope-delta-0.1.0-rc.1.tgz"),
    }
    assert lock.missing == {"npm/absent": "npm knows no such package", "npm/gamma@9.9.9": "npm knows no such version"}
    assert (tmp_path / "cache/npm/gamma/gamma-1.2.0.tgz").read_bytes() == newest
    given = PackageLock(packages={"npm/gamma": lock.packages["npm/gamma@1.0.0"]})
    assert fetch_packages(["npm/gamma"], tmp_path / "second", given) == given


@needs_apt
def test_debian(registry, tmp_path, monkeypatch):
    publish_debian(registry.root, "stable", "hello", "1:1.0")
    publish_debian(registry.root, "security", "hello", "1:1.1")
    publish_debian(registry.root, "security", "lost", "2.0")
    for file in (*registry.root.glob("security/hello*"), *registry.root.glob("security/lost*.tar.*")):
        file.unlink()  # listed, and not there: a mirror that lags
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "a.list").write_text(f"deb [trusted=yes] {registry.url}/stable ./\n")
    (lists / "b.sources").write_text(f"Types: deb\nURIs: {registry.url}/security\nSuites: ./\nTrusted: yes\n")
    (tmp_path / "apt.conf").write_text(f'Dir::Etc::SourceParts "{lists}";\nDir::Etc::SourceList "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    names = ["debian/hello", "debian-binary/hello-data", "debian/lost", "debian/absent", "debian-binary/hello-data=7"]
    lock = fetch_packages(names, tmp_path / "cache", PackageLock())
    assert {name: (one.version, [file.name for file in one.files]) for name, one in lock.packages.items()} == {
        "debian/hello": ("1:1.0", ["hello_1.0.dsc", "hello_1.0.tar.xz"]),
        "debian-binary/hello-data": ("1:1.0", ["hello-data_1%3a1.0_all.deb"]),
    }
    assert lock.missing == {
        "debian/lost": "404 Not Found: lost_2.0.tar.xz",
        "debian/absent": "apt knows no absent",
        "debian-binary/hello-data=7": "apt knows no hello-data=7",
    }
    assert fetch_packages(names[:2], tmp_path / "second", lock).packages == lock.packages
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == ["debian", "debian-binary", LOCK_NAME]
    (lists / "a.list").write_text(f"deb [trusted=yes] {NOBODY}/stable ./\n")
    with pytest.raises(CodecriaError, match="did not arrive, the first: apt: no network, or: "):
        fetch_packages(["debian/other"], tmp_path / "cache", PackageLock())


def test_client_that_is_not_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    lock = fetch_packages(["npm/gamma", "debian/hello"], tmp_path / "cache", PackageLock())
    assert lock.missing == {
        "npm/gamma": "npm is missing on this machine: install it, or take the package out",
        "debian/hello": "apt-config is missing on this machine: install it, or take the package out",
    }
    assert read_lock(tmp_path / "cache" / LOCK_NAME) == PackageLock()  # asked again once it is there


def test_lists_of_repositories_in_both_forms():
    assert with_sources("# x\ndeb [a=b] u s main\ndeb-src u s\n") == (
        "# x\ndeb [a=b] u s main\ndeb-src [a=b] u s main\ndeb-src u s\n"
    )
    assert with_sources("Types: deb\nURIs: u\n") == "Types: deb deb-src\nURIs: u\n"
    assert with_sources("Types: deb-src\nURIs: u\n") == "Types: deb deb-src\nURIs: u\n"
