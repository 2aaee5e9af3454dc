"""The choice of a backend: what is tried, and that nothing runs where none holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from codecria.common.errors import CodecriaError
from codecria.sandbox import Limits, available_backends, isolation, open_sandbox, runner
from codecria.sandbox.interpreter import base_interpreter
from codecria.sandbox.isolation import Flavour, flavours, prepare
from codecria.sandbox.server import confine, landlock
from tests.sandbox.flavours import EVERY, open_flavour, spell

if TYPE_CHECKING:
    from collections.abc import Callable


def test_reports_name_each_backend() -> None:
    reports = available_backends()
    assert [report.name for report in reports] == ["bubblewrap", "landlock"]
    assert all(report.reason for report in reports)


def test_without_bubblewrap_the_other_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    if not available_backends()[1].available:
        pytest.skip(available_backends()[1].reason)
    monkeypatch.setattr(isolation.shutil, "which", lambda _: None)
    with open_sandbox() as sandbox:
        assert sandbox.backend == "landlock"
    assert "apt install bubblewrap" in available_backends()[0].reason
    with (
        pytest.raises(CodecriaError, match="bubblewrap: the command bwrap is not installed"),
        open_sandbox(backend="bubblewrap"),
    ):
        pass


def test_nothing_runs_where_nothing_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "missing", lambda name: f"{name} is away")
    with pytest.raises(CodecriaError) as caught, open_sandbox():
        pass
    assert "bubblewrap: bubblewrap is away; landlock: landlock is away" in str(caught.value)
    assert "install bubblewrap" in str(caught.value)


def weakened(change: Callable[[list[str]], list[str]]) -> Callable[..., isolation.Launch]:
    def prepare_weakly(*arguments: Any, **more: Any) -> isolation.Launch:
        launch = prepare(*arguments, **more)
        return isolation.Launch(change(launch.command), launch.environment, launch.settings, launch.folder)

    return prepare_weakly


@pytest.mark.parametrize("flavour", [one for one in EVERY if one.backend == "bubblewrap"], ids=spell)
def test_a_leak_is_seen_and_refused(flavour: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    open_flavour(flavour, Limits()).close()
    monkeypatch.setattr(runner, "flavours", lambda _: [flavour])
    monkeypatch.setattr(isolation, "_SYSTEM", (*isolation._SYSTEM, "/etc"))
    with pytest.raises(CodecriaError, match="read the user data base"), open_sandbox(backend="bubblewrap"):
        pass


def test_landlock_that_grants_too_much_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    if not available_backends()[1].available:
        pytest.skip(available_backends()[1].reason)
    monkeypatch.setattr(isolation, "_SYSTEM", (*isolation._SYSTEM, tempfile.gettempdir()))
    with pytest.raises(CodecriaError, match="read a file outside"), open_sandbox(backend="landlock"):
        pass


def test_a_kernel_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with_it = prepare(Flavour("landlock", own_account=False, counted=False), Limits(), (), 0)
    assert with_it.folder is not None
    shutil.rmtree(with_it.folder)
    with pytest.raises(confine.RefusedError, match="Landlock"):
        confine.build_walls(with_it.settings)
    monkeypatch.setattr("codecria.sandbox.server.syscalls.column", lambda: None)
    with pytest.raises(confine.RefusedError, match="processor"):
        confine.build_walls(with_it.settings)


def test_the_reason_is_the_backend_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    if isolation.missing("bubblewrap") is not None:
        pytest.skip("bwrap is not installed")
    change = weakened(lambda command: [command[0], "--no-such-option", *command[1:]])
    monkeypatch.setattr("codecria.sandbox.worker.prepare", change)
    with pytest.raises(CodecriaError, match="Unknown option --no-such-option"), open_sandbox(backend="bubblewrap"):
        pass


def test_without_user_namespaces_the_other_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not available_backends()[1].available:
        pytest.skip(available_backends()[1].reason)
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert available_backends()[0].reason == "bwrap: setting up uid map: Permission denied"
    with open_sandbox() as sandbox:
        assert sandbox.backend == "landlock"


def test_arguments_are_checked() -> None:
    with pytest.raises(CodecriaError, match="no backend 'docker'"), open_sandbox(backend="docker"):  # type: ignore[arg-type]
        pass
    with pytest.raises(CodecriaError, match="0 workers"), open_sandbox(workers=0):
        pass
    with pytest.raises(CodecriaError, match="no such folder"), open_sandbox(import_paths=[Path("/nowhere/at/all")]):
        pass
    with pytest.raises(CodecriaError, match="wall_s: 0 is no limit"):
        Limits(wall_s=0)
    with pytest.raises(CodecriaError, match="memory_bytes: 1000 bytes"):
        Limits(memory_bytes=1000)


def test_bwrap_is_hardened() -> None:
    if isolation.missing("bubblewrap") is not None:
        pytest.skip("bwrap is not installed")
    for flavour in flavours("bubblewrap"):
        launch = prepare(flavour, Limits(file_bytes=4096), (), 0)
        command = " ".join(launch.command)
        for part in (
            "--cap-drop ALL",
            "--clearenv",
            "--unshare-net",
            "--unshare-pid",
            "--new-session",
            "--remount-ro /",
        ):
            assert part in command
        assert "--size 4096 --tmpfs /box" in command
        assert ("--unshare-user" in command) != flavour.own_account
        assert str(Path.home()) not in [
            launch.command[i + 1] for i, word in enumerate(launch.command) if "bind" in word
        ]


def test_the_interpreter_s_needs() -> None:
    interpreter = base_interpreter()
    assert interpreter.executable.is_file()
    assert not interpreter.executable.is_symlink()
    assert all(place.exists() for place in interpreter.readable)
    assert Path.home() not in interpreter.readable
    listed = subprocess.run(
        interpreter.command("import sys; print(sys.path)"), capture_output=True, text=True, check=True
    )
    assert "site-packages" not in listed.stdout
    assert "''" not in listed.stdout


NOBODY = """
import json
from codecria.common.errors import CodecriaError
from codecria.sandbox import Limits, open_sandbox, run_attacks
found = {}
for name in ("bubblewrap", "landlock"):
    try:
        with open_sandbox(Limits(wall_s=0.7), backend=name) as sandbox:
            found[name] = [[r.name, r.contained, r.verdict.status, r.verdict.detail] for r in run_attacks(sandbox)]
    except CodecriaError as error:
        assert "was not" not in str(error), error
        found[name] = str(error)
print(json.dumps(found))
"""


def test_as_an_account_that_owns_nothing() -> None:
    """Root gives up everything and runs the same attacks, with an interpreter that all can read."""
    interpreter = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    source = Path(isolation.__file__).parents[2]
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    if interpreter is None or not all(folder.stat().st_mode & 0o5 == 0o5 for folder in (source, *source.parents)):
        pytest.skip("needs a system python3 and a source folder that all can read")
    version = subprocess.run([interpreter, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True)
    if version.stdout.strip() != b"True":
        pytest.skip(f"{interpreter} is older than 3.11")

    done = subprocess.run(
        [interpreter, "-B", "-c", NOBODY],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        cwd="/",
        user=65534,
        group=65534,
        extra_groups=[],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tried = [results for results in found.values() if isinstance(results, list)]
    if not tried:
        pytest.skip(f"no backend as nobody: {found}")
    for results in tried:
        assert [attack for attack in results if not attack[1]] == []
        assert len(results) >= 50
