import pytest
from pydantic import Field

from codecria.common.errors import CodecriaError
from codecria.common.recipe import Recipe, find_recipe, load_recipe


class Inner(Recipe):
    peak_rate: float = Field(default=3e-4, gt=0)
    warm_up_steps: int = 10


class Outer(Recipe):
    steps: int
    optimiser: Inner = Inner()
    extra: Inner | None = None
    many: tuple[Inner, ...] = ()


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_reads_floats_as_people_write_them(tmp_path):
    recipe = load_recipe(Outer, write(tmp_path, "steps: 7\noptimiser:\n  peak_rate: 1e-4\n"))
    assert recipe.optimiser.peak_rate == 1e-4


def test_round_trip(tmp_path):
    recipe = load_recipe(Outer, write(tmp_path, "steps: 7\nmany:\n  - peak_rate: 2e-5\n"))
    assert load_recipe(Outer, write(tmp_path, recipe.to_yaml())) == recipe


def test_overrides_reach_inside_and_make_sections(tmp_path):
    path = write(tmp_path, "steps: 7\n")
    recipe = load_recipe(Outer, path, ["optimiser.peak_rate=1e-5", "steps=9", "extra.warm_up_steps=3"])
    assert (recipe.optimiser.peak_rate, recipe.steps, recipe.extra and recipe.extra.warm_up_steps) == (1e-5, 9, 3)


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("steps: 7\noptimiser:\n  peek_rate: 1\n", [], "recipe.yaml:3: unknown key 'optimiser.peek_rate'; did you mean 'peak_rate'?"),  # noqa: E501
        ("stebs: 7\n", [], "unknown key 'stebs'; did you mean 'steps'?"),
        ("optimiser: {}\n", [], "the key 'steps' is missing"),
        ("steps: many\n", [], "recipe.yaml:1: 'steps' = 'many': input should be a valid integer"),
        ("steps: 7\nmany:\n  - warm_up_steps: 2\n  - warmup: 2\n", [], "recipe.yaml:4: unknown key 'many.1.warmup'; did you mean 'warm_up_steps'?"),  # noqa: E501
        ("steps: 7\n", ["optimiser.peak_rate=-1"], "--set optimiser.peak_rate: 'optimiser.peak_rate' = -1: input should be greater than 0"),  # noqa: E501
        ("steps: 7\n", ["steps"], "--set: 'steps' is not of the form key.sub=value"),
        ("steps: 7\n", ["steps.a=1"], "--set steps.a: 'steps' holds a value, not keys"),
        ("steps: [7\n", [], "not valid YAML"),
        ("steps: 7\noptimiser:\n  peak_rate: 1\nmany: []\noptimiser:\n  warm_up_steps: 1\n", [], "recipe.yaml:5: not valid YAML: the key 'optimiser' stands twice, first in line 2"),  # noqa: E501
        ("steps: 7\nmany:\n- {peak_rate: 1,\n   peak_rate: 1}\n", [], "recipe.yaml:4: not valid YAML: the key 'peak_rate' stands twice, first in line 3"),  # noqa: E501
        ("- 1\n", [], "a recipe is a mapping"),
        ("steps: 7\nextra:\n  wurm_up_steps: 1\n", [], "did you mean 'warm_up_steps'?"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_one_line_with_file_line_and_mend(tmp_path, text, overrides, expected):
    with pytest.raises(CodecriaError) as error:
        load_recipe(Outer, write(tmp_path, text), overrides)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_utf8_is_one_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"steps: 7\n# caf\xe9\n")
    with pytest.raises(CodecriaError, match=r"recipe\.yaml:2: not UTF-8; save it as UTF-8$"):
        load_recipe(Outer, path)


def test_unknown_recipe_names_what_ships():
    with pytest.raises(CodecriaError, match="no such recipe"):
        find_recipe("dema")
