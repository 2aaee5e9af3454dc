import pickle
import platform
from importlib.metadata import version

import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.licence import is_permissive
from codecria.corpus.sources import folder
from codecria.corpus.sources.python_environment import PythonEnvironmentRecipe


def units(**settings):
    return list(PythonEnvironmentRecipe(**settings).open().units())


def listed(**settings):
    return [one for unit in units(**settings) for one in unit.files()]


def test_the_standard_library():
    found = listed(packages=[])
    by_path = {one.path: one for one in found}
    assert by_path["json/decoder.py"].origin == f"python {platform.python_version()}"
    assert {one.licence for one in found} == {"PSF-2.0"}
    assert by_path["json/decoder.py"].docstrings
    assert b"JSONDecoder" in by_path["json/decoder.py"].read()
    assert {one.modified_s for one in found} == {0}
    assert not any("site-packages" in one.path or "__pycache__" in one.path for one in found)
    assert len([one for one in found if one.form == "file" and one.kind == "code"]) > 400
    assert not any(one.path.endswith("LICENSE.txt") for one in found)


def test_packages_and_their_licences():
    found = listed(standard_library=False, packages=["Rich", "hypothesis", "numpy", "setuptools", "typing-extensions"])
    by_path = {one.path: one for one in found}
    assert by_path["rich/console.py"].origin == f"rich {version('rich')}"
    assert by_path["rich/console.py"].licence == "MIT"
    assert by_path["hypothesis/core.py"].licence == "MPL-2.0"
    assert by_path["typing_extensions.py"].licence == "PSF-2.0"
    assert is_permissive(by_path["numpy/__init__.py"].licence)
    description = by_path[f"rich-{version('rich')}.dist-info/METADATA"]
    assert (description.form, description.kind, description.language) == ("description", "code-related", "Markdown")
    assert not any("dist-info" in one.path for one in found if one.form != "description")
    assert description.read().startswith(b"Metadata-Version")
    assert {one.language for one in found if one.kind == "code"} == {"Python"}


def test_a_vendored_copy_belongs_to_the_package_it_is_a_copy_of():
    pytest.importorskip("pip")
    found = [one for one in listed(standard_library=False) if one.path.startswith("pip/_vendor/rich/")]
    assert found
    assert {(one.package, one.licence) for one in found} == {("rich", "MIT")}
    assert {one.origin for one in found} == {f"pip {version('pip')}"}


@pytest.fixture
def environment(tmp_path):
    base, environment = tmp_path / "python", tmp_path / "env"
    library, site = base / "lib/python3.12", environment / "lib/python3.12/site-packages"
    (library / "json").mkdir(parents=True)
    (library / "json/decoder.py").write_text("x = 1\n")
    (base / "bin").mkdir()
    (site / "demo/inner").mkdir(parents=True)
    (site / "demo/core.py").write_text("x = 1\n")
    (site / "demo/inner/COPYING").write_text("Apache License Version 2.0, January 2004")
    (site / "demo/inner/part.py").write_text("x = 1\n")
    (site / "stray.py").write_text("x = 1\n")
    metadata = "Metadata-Version: 2.4\nName: demo\nVersion: 1.5\nLicense-Expression: MIT\n\n# Demo\n"
    (site / "demo-1.5.dist-info").mkdir()
    (site / "demo-1.5.dist-info/METADATA").write_text(metadata)
    record = "demo/core.py,,\ndemo/inner/part.py,,\ndemo-1.5.dist-info/METADATA,,\ndemo-1.5.dist-info/RECORD,,\n"
    (site / "demo-1.5.dist-info/RECORD").write_text(record)
    (environment / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\nversion = 3.12.4\n")
    return environment


def test_an_environment_that_is_not_running(environment):
    found = {one.path: one for one in listed(path=str(environment), docstrings=False)}
    assert {path: (one.origin, one.licence) for path, one in found.items()} == {
        "json/decoder.py": ("python 3.12.4", "PSF-2.0"),
        "demo/core.py": ("demo 1.5", "MIT"),
        "demo/inner/part.py": ("demo 1.5", "Apache-2.0"),
        "demo-1.5.dist-info/METADATA": ("demo 1.5", "MIT"),
        "stray.py": ("stray", "unknown"),
    }


def test_no_environment(tmp_path):
    with pytest.raises(CodecriaError, match=r"is no Python environment: it holds no lib/python3"):
        PythonEnvironmentRecipe(path=str(tmp_path)).open()


def test_settings(environment):
    settings = {"path": str(environment), "licence": "MIT", "prose": "none", "docstrings": False}
    found = {one.path: one for one in listed(**settings)}
    assert found["stray.py"].licence == "MIT"
    assert found["demo/inner/part.py"].licence == "Apache-2.0"
    assert not any(one.docstrings or one.form == "description" for one in found.values())


def test_units_carry_only_what_their_own_files_need(monkeypatch):
    monkeypatch.setattr(folder, "_UNIT_FILES", 40)
    found = units(standard_library=False, packages=["rich", "pytest", "hypothesis"])
    assert len(found) > 3
    assert pickle.loads(pickle.dumps(found)) == found
    assert max(len(unit.entries) for unit in found) <= 40
    assert max(len(pickle.dumps(unit)) for unit in found) < 20_000
    assert len({unit.state for unit in found}) == len(found)


def test_the_order_is_fixed():
    settings = {"standard_library": False, "packages": ["rich", "pytest"]}
    first, second = units(**settings), units(**settings)
    assert first == second
    assert [unit.state for unit in first] == [unit.state for unit in second]
