import sys

import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.training.recipe import TrainRecipe
from codecria.training.start import add_rows, begin, save_start


def test_new_rows_differ_from_one_another_and_lie_among_the_old():
    """Reserved rows of a foundation model are all alike (cosine 1.0 in SmolLM2): a model cannot tell them apart."""
    table = torch.randn(500, 64, generator=torch.Generator().manual_seed(0)) + 0.3
    grown = add_rows(table, 516, key=7)
    assert torch.equal(grown[:500], table)
    new = grown[500:]
    cosine = torch.nn.functional.cosine_similarity(new[:, None], new[None], dim=-1)
    assert (cosine - torch.eye(16)).abs().max() < 0.6
    assert 0.8 < (new.norm(dim=1).mean() / table.norm(dim=1).mean()).item() < 1.25
    assert torch.equal(add_rows(table, 516, key=7), grown)
    assert not torch.equal(add_rows(table, 516, key=8)[500:], new)


def test_a_start_has_markers_the_parent_lacks(recipe_values):
    start = begin(TrainRecipe.model_validate(recipe_values))
    assert start.new_rows == 16
    assert start.sentinels is not None
    assert start.config.vocab_size == start.tokenizer.vocab_size == len(start.model(torch.device("cpu")).head_weight)
    assert start.sentinels.prefix == start.parent.config.vocab_size


def test_syntax_needs_its_grammars_before_anything_is_read(recipe_values, monkeypatch):
    recipe_values["batches"]["infill"]["units"] = {"syntax": 1, "line": 1}
    recipe_values["model"] = "not read"
    monkeypatch.setitem(sys.modules, "tree_sitter_language_pack", None)
    with pytest.raises(CodecriaError, match="grammars, which are not installed"):
        begin(TrainRecipe.model_validate(recipe_values))


def test_what_a_kill_left_beside_a_saved_start_is_cleared(recipe_values, tmp_path):
    (tmp_path / ".checkpoint.abcd.part" / "inside").mkdir(parents=True)
    save_start(TrainRecipe.model_validate(recipe_values), tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
