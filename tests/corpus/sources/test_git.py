import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.sources import folder, git_program
from codecria.corpus.sources.git import GitRecipe
from codecria.corpus.sources.source import Refused, SourceFile, UnreadableError

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software ... " + (
    "The above copyright notice and this permission notice shall be included in all copies."
)
TIME_S = 1_600_000_000

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


class Repository:
    """A repository that is written by git itself."""

    def __init__(self, path: Path, *settings: str) -> None:
        self.path = path
        self.commits = 0
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", *settings)

    def git(self, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        time = f"{TIME_S + 100 * self.commits} +0000"
        who = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        when = {"GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time, "GIT_CONFIG_GLOBAL": os.devnull}
        command = ["git", "-C", str(self.path), "-c", "protocol.file.allow=always", *arguments]
        return subprocess.run(
            command, check=True, env=environment | who | when, text=True, capture_output=True
        ).stdout.strip()

    def commit(self, **files: str | None) -> str:
        """Write (None: remove) files, `__` for `/` in their names and `_` for `.`, and commit them all."""
        for name, text in files.items():
            file = self.path / name.replace("__", "/").replace("_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        self.git("add", "-A")
        self.commits += 1
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")

    def damage(self, revision: str, keep_bytes: int | None = None) -> str:
        """Overwrite a loose object with rubbish, or cut it short; return its name."""
        name = self.git("rev-parse", revision)
        file = self.path / ".git/objects" / name[:2] / name[2:]
        file.chmod(0o600)
        if keep_bytes is None:
            file.write_bytes(b"rubbish")
        else:
            os.truncate(file, keep_bytes)
        return name


@pytest.fixture
def repository(tmp_path):
    one = Repository(tmp_path / "tool")
    one.commit(a_py="a\n", src__b_py="b\n", src__LICENSE=MIT, src__in__c_js="c\n", logo_png="x", README_md="# tool\n")
    return one


def entries(path, **settings):
    units = list(GitRecipe(path=str(path), **settings).open().units())
    assert pickle.loads(pickle.dumps(units)) == units
    return [one for unit in units for one in unit.files()]


def read(path, **settings):
    """Text by path, or the reason why there is none."""
    found = {}
    for unit in GitRecipe(path=str(path), **settings).open().units():
        for one in unit.files():
            try:
                found[one.path] = one.reason if isinstance(one, Refused) else one.read().decode()
            except UnreadableError as error:
                found[one.path] = error.reason
    return found


def test_the_files_of_a_revision(repository):
    first = repository.git("rev-parse", "HEAD")
    repository.commit(a_py="new\n", later_py="x\n")
    (repository.path / "a.py").unlink()
    found = {one.path: one for one in entries(repository.path, revision=first)}
    assert {path: (one.kind, one.language, one.licence) for path, one in found.items()} == {
        "README.md": ("code-related", "Markdown", "unknown"),
        "a.py": ("code", "Python", "unknown"),
        "src/b.py": ("code", "Python", "MIT"),
        "src/in/c.js": ("code", "JavaScript", "MIT"),
    }
    facts = {(one.package, one.origin, one.modified_s, one.size_bytes > 0) for one in found.values()}
    assert facts == {("tool", f"tool @ {first[:12]}", TIME_S + 100, True)}
    assert found["a.py"].docstrings
    assert read(repository.path)["a.py"] == "new\n"
    assert read(repository.path, revision=first, languages=["JavaScript"], prose="none") == {"src/in/c.js": "c\n"}
    assert read(repository.path, revision=f"{first[:9]}") == read(repository.path, revision="HEAD~1")
    assert {one.licence for one in entries(repository.path, licence="ISC")} == {"MIT", "ISC"}


def test_a_licence_that_cannot_be_told_is_unknown_and_not_that_above(repository):
    repository.commit(
        LICENSE=MIT,
        ee__LICENSE="The Foo Enterprise License: it is forbidden to copy this.",
        ee__deep__billing_py="x\n",
        both__COPYRIGHT="Copyright Somebody",
        both__LICENSE=MIT,
        both__d_py="d\n",
    )
    for settings in ({}, {"revision": "working-tree"}):
        found = {one.path: one.licence for one in entries(repository.path, **settings)}
        assert (found["ee/deep/billing.py"], found["a.py"], found["both/d.py"]) == ("unknown", "MIT", "MIT")


def test_a_bare_repository_needs_no_checkout(repository, tmp_path):
    repository.git("clone", "-q", "--bare", str(repository.path), str(tmp_path / "bare/copy.git"))
    repository.git("-C", str(tmp_path / "bare/copy.git"), "config", "remote.origin.url", "git@host:me/nice.git")
    (one, *_) = entries(tmp_path / "bare")
    assert one.package == "me/nice"
    assert one.origin.startswith("me/nice @ ")
    assert sorted(read(tmp_path / "bare/copy.git")) == ["README.md", "a.py", "src/b.py", "src/in/c.js"]


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("https://user:secret@host:8080/owner/name.git", "owner/name"),
        ("ssh://git@host/owner/name/", "owner/name"),
        ("git@host:owner/name.git", "owner/name"),
        ("/srv/git/owner/name", "owner/name"),
        ("https://host/name", "name"),
        ("https://host/group/owner/name.git/", "owner/name"),
    ],
)
def test_the_remote_names_the_package(repository, url, package):
    repository.git("remote", "add", "origin", url)
    assert {one.package for one in entries(repository.path)} == {package}


def test_every_repository_of_a_folder(repository, tmp_path):
    Repository(tmp_path / "group/other").commit(b_py="b\n")
    Repository(tmp_path / "tool/inner").commit(c_py="c\n")  # belongs to `tool`, which does not know it
    Repository(tmp_path / "empty")
    (tmp_path / "loose.py").write_text("x")
    (tmp_path / "loop").symlink_to(".")
    repository.git("worktree", "add", "-q", str(tmp_path / "tree"))
    found = entries(tmp_path)
    assert sorted({one.package for one in found}) == ["empty", "group/other", "tool", "tree"]
    assert [one.reason for one in found if isinstance(one, Refused)] == ["no-such-revision"]


def test_the_history_gives_each_text_once_newest_first(repository):
    first = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "-q", "-b", "side")
    side = repository.commit(a_py="side\n")
    repository.git("checkout", "-q", "main")
    repository.commit(a_py="main\n", copy_py="b\n")
    repository.git("merge", "-q", "-s", "ours", "--no-commit", "side")
    repository.commit(a_py="merged\n")
    repository.commit(a_py="side\n", src__b_py=None)
    last = repository.commit(a_py="last\n", README_md=None)
    found = [(one.path, one.read(), one.origin[-12:]) for one in history_of(repository.path, ["Python"])]
    expected = [("a.py", b"last\n", last), ("copy.py", b"b\n", last), ("a.py", b"side\n", "HEAD~1")]
    expected += [("a.py", b"merged\n", "HEAD~2"), ("a.py", b"main\n", "HEAD~3"), ("a.py", b"a\n", first)]
    names = [(path, text, repository.git("rev-parse", commit)[:12]) for path, text, commit in expected]
    assert found == names
    assert side[:12] not in {origin for _, _, origin in found}, "what came back later is newer"
    times = [one.modified_s for one in history_of(repository.path, ["Python"])]
    assert times == sorted(times, reverse=True)
    assert "# tool\n" in {one.read().decode() for one in history_of(repository.path, None)}


def history_of(path, languages):
    """Its files, each good to be read until the next."""
    for unit in GitRecipe(path=str(path), history=True, languages=languages).open().units():
        for one in unit.files():
            if languages is None or isinstance(one, Refused) or one.language in languages:
                yield one


def test_the_working_tree(repository, monkeypatch):
    monkeypatch.chdir(repository.path / "src")  # git would list what lies below
    repository.commit(gone_py="x\n", sub__d_py="d\n")
    (repository.path / "gone.py").unlink()
    (repository.path / "a.py").write_text("changed\n")
    (repository.path / "unknown.py").write_text("x\n")
    (repository.path / "staged.py").write_text("staged\n")
    repository.git("add", "staged.py")
    shutil.rmtree(repository.path / "sub")
    (repository.path / "sub").symlink_to("src")
    (repository.path / "src/d.py").write_text("not what git knows as sub/d.py\n")
    found = entries(repository.path, revision="working-tree")
    assert {one.path: one.read() for one in found if isinstance(one, SourceFile)} == {
        "README.md": b"# tool\n",
        "a.py": b"changed\n",
        "staged.py": b"staged\n",
        "src/b.py": b"b\n",
        "src/in/c.js": b"c\n",
    }
    assert {one.path: one.licence for one in found if isinstance(one, SourceFile)}["src/in/c.js"] == "MIT"
    assert {one.origin for one in found if isinstance(one, SourceFile)} == {"tool @ working-tree"}
    assert [(one.path, one.reason) for one in found if isinstance(one, Refused)] == [("sub/d.py", "unsafe-path")]


def test_an_index_cannot_lead_out_of_the_working_tree(repository):
    (repository.path.parent / "outside.py").write_text("secret\n")
    blob = repository.git("rev-parse", "HEAD:a.py")
    repository.git("update-index", "--add", "--cacheinfo", f"100644,{blob},xx/outside.py")
    index = repository.path / ".git/index"
    index.write_bytes(index.read_bytes().replace(b"xx/outside.py", b"../outside.py"))
    repository.git("config", "index.skipHash", "true")
    assert "secret\n" not in read(repository.path, revision="working-tree").values()


def test_a_bare_repository_has_no_working_tree(repository, tmp_path):
    repository.git("clone", "-q", "--bare", str(repository.path), str(tmp_path / "b/copy.git"))
    assert read(tmp_path / "b/copy.git", revision="working-tree") == {".": "no-working-tree"}


@pytest.mark.parametrize("history", [False, True])
def test_damaged_objects_are_lines_and_the_rest_goes_on(repository, history):
    repository.commit(
        cut_py="cut " * 9_000, rubbish_py="1\n", gone_py="2\n", sub__deep__x_py="3\n", sub__y_py="4\n", z_py="5\n"
    )
    cut = repository.damage("HEAD:cut.py", keep_bytes=60)
    repository.damage("HEAD:rubbish.py")
    tree = repository.damage("HEAD:sub/deep")
    gone = repository.git("rev-parse", "HEAD:gone.py")
    (repository.path / ".git/objects" / gone[:2] / gone[2:]).unlink()
    found = read(repository.path, history=history)
    texts = {"README.md": "# tool\n", "a.py": "a\n", "src/b.py": "b\n", "src/in/c.js": "c\n"}
    texts |= {"sub/y.py": "4\n", "z.py": "5\n"}
    damaged = dict.fromkeys(("cut.py", "rubbish.py", "gone.py", "sub/deep/"), "corrupt-object")
    assert found == texts | damaged
    details = {one.path: one.detail for one in entries(repository.path) if isinstance(one, Refused)}
    assert details["sub/deep/"] == f"{tree} is damaged or missing"
    (file,) = [one for one in entries(repository.path) if one.path == "cut.py"]
    with pytest.raises(UnreadableError, match=cut):
        file.read()


def test_an_object_that_is_not_what_its_name_says(repository):
    name = repository.git("rev-parse", "HEAD:a.py")
    other = repository.git("rev-parse", "HEAD:src/b.py")
    objects = repository.path / ".git/objects"
    (objects / name[:2] / name[2:]).unlink()
    shutil.copy(objects / other[:2] / other[2:], objects / name[:2] / name[2:])
    assert read(repository.path)["a.py"] == "corrupt-object"


def test_older_texts_beside_a_damaged_folder(repository):
    repository.commit(old_py="old\n", sub__x_py="1\n")
    repository.damage("HEAD:sub")
    repository.commit(old_py="new\n", sub__x_py=None)
    found = [
        (one.path, one.reason if isinstance(one, Refused) else one.read()) for one in history_of(repository.path, None)
    ]
    assert ("old.py", b"old\n") in found
    assert found.count(("sub/", "corrupt-object")) == 1


def test_a_history_ends_at_a_damaged_commit(repository):
    for text in "12345":
        repository.commit(a_py=text)
    repository.damage("HEAD~3")
    lost = {".": "corrupt-object"}
    assert read(repository.path)["a.py"] == "5"
    found = [one if isinstance(one, Refused) else one.read() for one in history_of(repository.path, ["Python"])]
    texts = [text for text in found if text in (b"5", b"4", b"3", b"2", b"1")]
    assert texts == [b"5", b"4"], "git does not show a commit whose parent it cannot read"
    assert read(repository.path, history=True).items() >= lost.items()
    repository.damage("HEAD")
    assert read(repository.path) == lost


def test_a_pack_cut_short(repository):
    repository.git("gc", "-q")
    pack = next((repository.path / ".git/objects/pack").glob("*.pack"))
    pack.chmod(0o600)
    repository.commit(later_py="later\n")  # what it names lies outside the pack
    os.truncate(pack, pack.stat().st_size // 2)
    found = read(repository.path)
    assert found.pop("later.py") == "later\n"
    assert set(found.values()) == {"corrupt-object"}


def test_pointers_links_and_submodules(repository, tmp_path):
    (repository.path / "link.py").symlink_to("a.py")
    Repository(tmp_path / "other").commit(x_py="x\n")
    repository.git("submodule", "add", "-q", str(tmp_path / "other"), "sub.py")
    repository.commit(big_py="version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", empty_py="")
    for settings in ({}, {"revision": "working-tree"}, {"history": True}):
        found = read(repository.path, **settings)
        assert found["big.py"] == "lfs-pointer"
        assert found["empty.py"] == ""
        assert "link.py" not in found
        assert not any(path.startswith("sub.py") for path in found)


def test_names_that_hold_anything(repository):
    names = [b"caf\xe9.py", "中文.py".encode(), b"new\nline.py", b"tab\t.py", b"quote'\".py", b"-x.py"]
    for number, name in enumerate(names):
        (repository.path / os.fsdecode(name)).write_text(f"{number}\n")
    repository.commit()
    expected = {name.decode("utf-8", "backslashreplace"): f"{number}\n" for number, name in enumerate(names)}
    for settings in ({}, {"revision": "working-tree"}, {"history": True}):
        assert read(repository.path, **settings).items() >= expected.items()


def test_nothing_in_a_repository_acts(repository, tmp_path, monkeypatch):
    done = tmp_path / "done"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {done}\n")
    script.chmod(0o700)
    blob, other = repository.git("rev-parse", "HEAD:a.py"), repository.git("rev-parse", "HEAD:src/b.py")
    repository.git("replace", blob, other)
    (repository.path / ".git/hooks").mkdir(exist_ok=True)
    for hook in ("fsmonitor-watchman", "post-index-change", "post-checkout", "reference-transaction"):
        shutil.copy(script, repository.path / ".git/hooks" / hook)
    settings = {
        "core.fsmonitor": script,
        "core.pager": script,
        "core.sshCommand": script,
        "core.repositoryFormatVersion": 1,
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::{script} owner/name",
        "protocol.ext.allow": "always",
        "log.showSignature": "true",
        "gpg.program": script,
        "diff.external": script,
        "core.worktree": "/etc",
    }
    missing = repository.git("rev-parse", "HEAD:src/in/c.js")
    (repository.path / ".git/objects" / missing[:2] / missing[2:]).unlink()
    config = tmp_path / "config"
    config.write_text("[core]\n\tfsmonitor = " + str(script) + "\n[broken")
    for variable in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(variable, str(config))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nowhere")
    for name, value in settings.items():
        repository.git("config", name, str(value))
    for recipe in ({}, {"history": True}, {"revision": "working-tree"}):
        found = read(repository.path, **recipe)
        assert found["a.py"] == "a\n", "not what replaces it"
    assert read(repository.path)["src/in/c.js"] == "corrupt-object"
    assert not done.exists()


def test_whose_the_repository_is_does_not_matter(repository):
    if os.getuid() != 0:
        pytest.skip("only root may give files away")
    expected = read(repository.path)
    for file in [repository.path, *repository.path.rglob("*")]:
        os.chown(file, 12_345, 12_345)
    assert read(repository.path) == expected


def test_a_repository_that_is_wholly_damaged_is_a_line(repository):
    (repository.path / ".git/config").write_text("[core\n")
    assert read(repository.path) == {".": "no-such-revision"}
    assert read(repository.path, revision="working-tree") == {".": "no-working-tree"}


def test_names_of_64_digits(tmp_path):
    repository = Repository(tmp_path / "new", "--object-format=sha256")
    repository.commit(a_py="a\n", LICENSE=MIT, b_py="b\n")
    repository.damage("HEAD:b.py")
    assert read(repository.path, history=True) == {"a.py": "a\n", "b.py": "corrupt-object"}


def test_a_tree_that_lists_without_end(repository, monkeypatch):
    tree = repository.git("rev-parse", "HEAD^{tree}")
    for _ in range(6):
        lines = "".join(f"040000 tree {tree}\td{number}\n" for number in range(10))
        command = ["git", "-C", repository.path, "mktree"]
        tree = subprocess.run(command, input=lines, text=True, capture_output=True, check=True).stdout.strip()
    commit = repository.git("commit-tree", "-m", "x", tree)
    monkeypatch.setattr(git_program, "_MOST_LISTED_BYTES", 10_000_000)
    assert read(repository.path, revision=commit) == {".": "archive-bomb"}


def test_units_are_small_and_what_is_not_read_costs_nothing(repository, monkeypatch):
    monkeypatch.setattr(folder, "_UNIT_BYTES", 20_000)
    repository.commit(**{f"f{number:02}_py": f"{number} " * 2_000 for number in range(10)})
    units = list(GitRecipe(path=str(repository.path)).open().units())
    assert len(units) > 2
    assert max(unit.size_bytes for unit in units) < 30_000
    assert len({unit.state for unit in units}) == len(units)
    started = []
    monkeypatch.setattr(git_program.subprocess, "Popen", lambda *_, **__: started.append(1))
    assert sum(1 for unit in units for _ in unit.files()) == 14
    assert not started


def test_the_state_changes_with_what_is_held(repository, tmp_path):
    def states(path, **settings):
        return [unit.state for unit in GitRecipe(path=str(path), **settings).open().units()]

    first = states(repository.path)
    assert states(repository.path) == first
    shutil.copytree(repository.path, tmp_path / "moved/tool", symlinks=True)
    assert states(tmp_path / "moved/tool") == first
    assert states(repository.path, licence="MIT") != first
    repository.commit(src__LICENSE="Apache License\nVersion 2.0, January 2004")
    assert states(repository.path) != first


def test_bad_recipes(repository, tmp_path, monkeypatch):
    (tmp_path / "none").mkdir()
    with pytest.raises(CodecriaError, match="absent: no such folder"):
        GitRecipe(path=str(tmp_path / "absent")).open()
    with pytest.raises(CodecriaError, match="no repository here; name a repository"):
        entries(tmp_path / "none")
    for revision in ("nonsense", "--help", "HEAD:absent"):
        with pytest.raises(CodecriaError, match=f"has the revision {revision}; name a branch"):
            entries(repository.path, revision=revision)
    described = GitRecipe(path=str(repository.path), history=True).open().describe()
    assert described == f"git {repository.path} @ HEAD and its history"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CodecriaError, match="the git program is not installed; install git"):
        GitRecipe(path=str(repository.path)).open()
