import pytest

from codecria.batches.recipe import BatchRecipe
from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe


@pytest.mark.parametrize(
    ("name", "shares", "rate"),
    [
        ("mixture-code-500b", {"code": 0.85, "code-related": 0.08, "natural": 0.07}, 0.9),
        ("mixture-python-100b", {"code/Python": 0.75, "code": 0.10, "code-related": 0.10, "natural": 0.05}, 0.0),
    ],
)
def test_the_mixtures_of_the_paper(name, shares, rate):
    """Table 1 of the paper, and its section 2.3."""
    recipe = load_recipe(BatchRecipe, name)
    assert recipe.mixture == shares
    assert sum(recipe.mixture.values()) == pytest.approx(1)
    assert (recipe.sequence_tokens, recipe.infill.rate) == (4096, rate)
    assert (recipe.infill.level, recipe.infill.units, recipe.infill.psm_share) == ("document", {"character": 1}, 0.5)
    assert recipe.longest_piece == 4080


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("code/Pyton", "did you mean 'code/Python'?"),
        ("code/python", "did you mean 'code/Python'?"),
        ("cod/Python", "did you mean 'code/Python'?"),
        ("code-related/Markdwon", "did you mean 'code-related/Markdown'?"),
        ("natrual", "did you mean 'natural'?"),
        ("Python", "did you mean 'code/Python'?"),
        ("conversation", "did you mean 'conversations'?"),
        ("xyz", "name one of code, code-related, natural, conversations, repository, or KIND/LANGUAGE"),
    ],
)
def test_an_unknown_source_is_one_line_naming_the_nearest(tmp_path, name, mend):
    path = tmp_path / "batches.yaml"
    path.write_text(f"mixture: {{{name}: 1.0}}\n")
    with pytest.raises(CodecriaError) as error:
        load_recipe(BatchRecipe, path)
    assert str(error.value).endswith(f"no such source of documents; {mend}")
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_mixture_is_refused():
    with pytest.raises(ValueError, match="at least one source"):
        BatchRecipe(mixture={})


def test_sources_are_those_of_every_mixture():
    later = [{"from_step": 9, "mixture": {"natural": 1}}, {"from_step": 20, "mixture": {"repository": 1, "code": 1}}]
    recipe = BatchRecipe(mixture={"code": 1.0}, mixture_changes=later, max_epochs={"natural": 4})
    assert recipe.sources == ["code", "natural", "repository"]


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"mixture_changes": [{"from_step": 9, "mixture": {"code": 1}}] * 2}, "at steps 9, 9, which do not rise"),
        ({"mixture_changes": [{"from_step": 9, "mixture": {}}]}, "at least one source"),
        ({"mixture_changes": [{"from_step": 0, "mixture": {"code": 1}}]}, "greater than 0"),
        ({"max_epochs": {"code/Python": 2}}, "names 'code/Python', which is in no mixture"),
        ({"max_epochs": 0}, "greater than 0"),
        ({"mixture": {"conversations": 1}}, "a share in the mixture and a path"),
        ({"conversations": "rows.jsonl"}, "a share in the mixture and a path"),
        ({"piece_tokens": 400}, "piece_tokens cuts documents at infill.level: context alone"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys, what):
    with pytest.raises(ValueError, match=what):
        BatchRecipe.model_validate(keys)
