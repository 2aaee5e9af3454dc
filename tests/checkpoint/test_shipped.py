"""The adapter that ships: whole, small, with its papers, and an infilling model once its base is there."""

import hashlib
import json
import shutil

import pytest

from codecria.checkpoint.catalogue import CATALOGUE, INFILLING, SHIPPED
from codecria.checkpoint.licence import licence_of
from codecria.checkpoint.open import open_checkpoint
from codecria.common.recipe import load_recipe
from codecria.generation.code_model import load
from codecria.training.recipe import TrainRecipe

FOLDER = SHIPPED / INFILLING


def test_it_is_whole_small_and_has_its_papers():
    sums = dict(reversed(line.split("  ")) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    files = {path.name for path in FOLDER.iterdir()} - {"SHA256SUMS"}
    assert files == set(sums)
    assert {"README.md", "LICENSE", "recipe.yaml", "lineage.json", "corpus-manifest.json"} < files
    for name, expected in sums.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == expected, name
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 25_000_000
    assert licence_of(FOLDER) == CATALOGUE[INFILLING].licence == "apache-2.0"


def test_its_papers_agree():
    lineage = json.loads((FOLDER / "lineage.json").read_text())
    manifest = json.loads((FOLDER / "corpus-manifest.json").read_text())
    assert lineage["corpus"] == manifest["fingerprint"]
    assert lineage["parent"]["path"] == CATALOGUE[INFILLING].origin
    recipe = load_recipe(TrainRecipe, FOLDER / "recipe.yaml")
    assert recipe.lora is not None
    config = json.loads((FOLDER / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (recipe.lora.rank, recipe.lora.alpha)


@pytest.fixture(scope="module")
def adapter(smollm2_gguf, tmp_path_factory):
    """A copy whose base is the file that the tests have fetched."""
    folder = tmp_path_factory.mktemp("shipped") / INFILLING
    shutil.copytree(FOLDER, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(smollm2_gguf)}))
    return folder


def test_it_infills_both_ways_and_stops(adapter):
    assert open_checkpoint(adapter).config.vocab_size == 49_168
    model = load(adapter)
    prefix, suffix = "def area(width, height):\n    return ", "\n\n\nprint(area(2, 3))\n"
    for order in ("spm", "psm"):
        middle = model.infill(prefix, suffix, order=order, max_tokens=32)
        assert middle.finish_reason == "stop", (order, middle)
    assert model.infill(prefix, suffix).text.strip() == "width * height"
