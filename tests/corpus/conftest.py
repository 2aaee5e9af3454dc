import shutil
import sysconfig
from pathlib import Path

import pytest

MIT = """MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy of this software ...
The above copyright notice and this permission notice shall be included in all copies.
"""
PROJECTS = ("json", "email", "logging", "sqlite3", "importlib", "unittest", "concurrent", "html")


@pytest.fixture(scope="session")
def projects(tmp_path_factory) -> Path:
    """Eight projects made of packages of the standard library, each with a build file and the MIT licence."""
    root = tmp_path_factory.mktemp("sources") / "projects"
    library = Path(sysconfig.get_path("stdlib"))
    for name in PROJECTS:
        shutil.copytree(library / name, root / name / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
        (root / name / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
        (root / name / "LICENSE").write_text(MIT)
        (root / name / "README.md").write_text(f"# {name}\n\n" + f"The package {name} does one thing well. " * 20)
    return root
