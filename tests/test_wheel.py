"""The wheel builds, installs in an empty environment outside the checkout, and works there."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.tiny import write_tiny_checkpoint

ROOT = Path(__file__).parent.parent
SMOKE = """
import codecria, sys
assert "torch" not in sys.modules
assert codecria.__file__.startswith(sys.prefix), codecria.__file__
model = codecria.load(sys.argv[1])
print(repr(model.complete("import os", max_tokens=4).text))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "codecria/recipes/demo.yaml" in names
    assert "codecria/evaluation/report_page.html" in names
    assert "codecria/py.typed" in names
    page = ROOT / "src" / "codecria" / "serving" / "page" / "assets"
    assert {f"codecria/serving/page/assets/{file.name}" for file in page.iterdir()} <= set(names)
    assert not any("package-lock.json" in name or "node_modules" in name for name in names)
    assert all(name.startswith(("codecria/", "codecria-")) for name in names)


@pytest.mark.slow
def test_it_works_in_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=900)
    checkpoint = write_tiny_checkpoint(tmp_path / "model")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = {"cwd": tmp_path, "env": environment, "text": True, "check": True}
    out = subprocess.run([python, "-c", SMOKE, str(checkpoint)], capture_output=True, **run).stdout
    assert out.startswith(("'", '"'))
    program = tmp_path / "venv" / "bin" / "codecria"
    assert "infill" in subprocess.run([program, "--help"], capture_output=True, **run).stdout
    assert "demo.yaml" not in subprocess.run([program, "models", "--here"], capture_output=True, **run).stdout
