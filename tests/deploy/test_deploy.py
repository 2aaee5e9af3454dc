"""The container file and the unit: their syntax, and that what they start is what the command line has."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "codecria.service"
CONTAINER = ROOT / "deploy" / "Containerfile"
INSTRUCTIONS = {
    *("FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"),
    "ENTRYPOINT",
}


def instructions():
    """(stage, instruction, arguments) with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", CONTAINER.read_text(), flags=re.MULTILINE)
    found, stage = [], -1
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        name, _, arguments = line.partition(" ")
        assert name in INSTRUCTIONS, line
        stage += name == "FROM"
        found.append((stage, name, arguments.strip()))
    return found


def options(command):
    from codecria.cli.main import app

    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    assert told.exit_code == 0
    return told.stdout


def check_command(words):
    program, command, *rest = words
    assert Path(program).name == "codecria" and command == "serve"
    known = options("serve")
    for word in rest:
        if word.startswith("--"):
            assert word in known, word


def test_the_container_has_two_stages_and_ends_without_root():
    found = instructions()
    assert [name for stage, name, _ in found if name == "FROM"] == ["FROM", "FROM"]
    users = [arguments for stage, name, arguments in found if stage == 1 and name == "USER"]
    assert users == ["10001:10001"]
    last_user = max(place for place, (_, name, _) in enumerate(found) if name == "USER")
    assert not [name for _, name, _ in found[last_user:] if name in ("RUN", "COPY")]


def test_the_container_copies_what_there_is_and_starts_a_command_there_is():
    found = instructions()
    for stage, name, arguments in found:
        if name == "COPY" and stage == 0:
            *sources, _ = arguments.split()
            assert all((ROOT / source).exists() for source in sources), arguments
        if name == "RUN" and shutil.which("bash"):
            done = subprocess.run(["bash", "-n", "-c", arguments], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    (entry,) = (arguments for _, name, arguments in found if name == "ENTRYPOINT")
    check_command([word.strip(' "') for word in entry.strip("[]").split(",")])


def test_the_containers_health_check_is_python_that_tells_health():
    (check,) = (arguments for _, name, arguments in instructions() if name == "HEALTHCHECK")
    code = re.search(r'CMD \["python", "-c", "(.*)"\]$', check)[1]
    compile(code, "HEALTHCHECK", "exec")
    # Nothing listens at that port of this test's own: the check must fail, not only exist.
    code = code.replace(":8012", ":1")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode != 0


def test_the_unit_starts_a_command_there_is_and_is_closed():
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str
    unit.read(UNIT)
    service = unit["Service"]
    check_command(shlex.split(service["ExecStart"]))
    for name in ("DynamicUser", "ProtectHome", "PrivateTmp", "PrivateDevices", "NoNewPrivileges", "LockPersonality"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_understands_the_unit(tmp_path):
    program = tmp_path / "codecria"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = UNIT.read_text().replace("/opt/codecria/bin/codecria", str(program))
    (tmp_path / "codecria.service").write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "codecria.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    (tmp_path / "codecria.service").write_text(text.replace("ProtectSystem=strict", "ProtectSystem=maybe"))
    assert "maybe" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
