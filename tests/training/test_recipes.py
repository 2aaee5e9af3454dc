"""The recipes that ship, and `extends`."""

import pytest

from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe, shipped_recipes
from codecria.training.plan import plan, shape_after, shape_of
from codecria.training.recipe import TrainRecipe

STAGES = ["infill-135m", "infill-135m-end"] + [f"{stage}-{size}" for stage in ("code", "python", "long-context", "instruct") for size in ("7b", "13b", "34b", "70b", "135m")]  # noqa: E501  # fmt: skip


def load(name, *overrides):
    return load_recipe(TrainRecipe, name, list(overrides))


@pytest.mark.parametrize("name", STAGES)
def test_a_shipped_stage_has_a_plan_with_no_weights_and_follows_its_parent(name):
    recipe = load(name)
    shape = shape_after(recipe, shape_of(recipe.model))
    assert recipe.batches.sequence_tokens <= shape.config.max_positions
    planned = plan(recipe, shape, 1 if "135m" in name else 256 if "70b" in name else 64)
    assert planned.tokens == recipe.steps * recipe.sequences_per_step * recipe.batches.sequence_tokens
    assert planned.memory_gb < 80
    assert TrainRecipe.model_validate(recipe.model_dump()) == recipe


@pytest.mark.parametrize(
    ("names", "tokens", "step_tokens", "rate"),
    [
        (("code-7b", "code-13b"), 500e9, 4 * 2**20, 3e-4),
        (("code-34b",), 500e9, 4 * 2**20, 1.5e-4),
        (("code-70b",), 1e12, 4 * 2**20, 1.5e-4),
        (("python-7b", "python-13b", "python-34b", "python-70b"), 100e9, 4 * 2**20, 1e-4),
        (("long-context-7b",), 3_000 * 2 * 2**20, 2 * 2**20, 2e-5),
        (("long-context-13b",), 10_000 * 2 * 2**20, 2 * 2**20, 2e-5),
        (("long-context-34b",), 11_000 * 2**20, 2**20, 2e-5),
        (("instruct-7b", "instruct-13b", "instruct-34b", "instruct-70b"), 5e9, 524_288, 2e-5),
    ],
)
def test_the_papers_tokens_batches_and_rates(names, tokens, step_tokens, rate):
    for name in names:
        recipe = load(name)
        assert recipe.sequences_per_step * recipe.batches.sequence_tokens == step_tokens
        assert abs(recipe.steps * step_tokens - tokens) <= step_tokens / 2
        assert recipe.optimiser.peak_rate == rate
        assert recipe.optimiser.betas == (0.9, 0.95)
        assert recipe.optimiser.final_share == pytest.approx(1 / 30)


def test_the_papers_infilling_mixtures_and_rotary_base():
    rates = {name: load(name).batches.infill.rate for name in STAGES}
    without = [f"code-{size}" for size in ("34b",)] + [f"python-{size}" for size in ("7b", "13b", "34b", "70b")]
    assert [rates[name] for name in without] == [0.0] * 5
    assert [rates[name] for name in ("code-7b", "code-13b", "code-70b", "long-context-7b", "instruct-13b")] == [0.9] * 5
    assert load("code-7b").optimiser.warm_up_steps == 1000
    assert load("python-13b").batches.mixture["code/Python"] == 0.75
    for size in ("7b", "13b", "34b", "70b", "135m"):
        stage = load(f"long-context-{size}")
        assert (stage.rope_theta, stage.max_positions, stage.batches.sequence_tokens) == (1e6, 16_384, 16_384)
        mixture = load(f"instruct-{size}").batches.mixture
        assert mixture == {"conversations": 0.92, "code": 0.06, "natural": 0.02}  # replaced, not merged


def write(folder, name, text):
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def test_extends_merges_sections_and_overrides_come_last(tmp_path):
    write(tmp_path, "base", "extends: code-7b\nsteps: 5\noptimiser: {peak_rate: 1e-5}\n")
    path = write(tmp_path, "mine", "extends: base.yaml\nmodel: here\noptimiser: {clip_norm: 2.0}\n")
    recipe = load(path, "steps=6")
    assert (recipe.model, recipe.steps, recipe.sequences_per_step) == ("here", 6, 1024)
    assert (recipe.optimiser.peak_rate, recipe.optimiser.clip_norm, recipe.optimiser.weight_decay) == (1e-5, 2.0, 0.1)
    whole = write(tmp_path, "whole", recipe.to_yaml())
    assert "extends" not in whole.read_text()
    assert load(whole) == recipe


@pytest.mark.parametrize(
    ("base", "mine", "error"),
    [
        ("steps: 5\noptimiser:\n  peek_rate: 1\n", "extends: base.yaml\n", "base.yaml:3: unknown key 'optimiser.peek_rate'"),  # noqa: E501
        ("extends: code-7b\noptimiser:\n  eps: 1\n", "extends: base.yaml\noptimiser:\n  eps: -1\n", "mine.yaml:3: 'optimiser.eps' = -1"),  # noqa: E501
        ("batches: {extends: mixture-python-100b}", "extends: base.yaml\nbatches:\n  infil: {}\n", "mine.yaml:3: unknown key"),  # noqa: E501
        ("extends: mine.yaml\n", "extends: base.yaml\n", "in a circle: mine.yaml → base.yaml → mine.yaml"),
        ("", "extends: code-7\n", "code-7: no such recipe; did you mean"),
    ],
)  # fmt: skip
def test_an_error_names_the_file_it_stands_in(tmp_path, base, mine, error):
    write(tmp_path, "base", base)
    with pytest.raises(CodecriaError) as raised:
        load(write(tmp_path, "mine", mine))
    assert error in str(raised.value)


@pytest.mark.parametrize(
    ("targets", "key"),
    [
        ("[q_proj, vproj]", "'lora.targets.1' = 'vproj'"),
        ("[lm_head]", "'lora.targets.0' = 'lm_head'"),
        ("[]", "'lora.targets' = []"),
    ],
)
def test_targets_of_adapters_are_a_blocks_linear_layers(tmp_path, targets, key):
    path = write(tmp_path, "mine", f"extends: code-7b\nlora:\n  targets: {targets}\n")
    with pytest.raises(CodecriaError) as raised:
        load(path)
    assert f"mine.yaml:3: {key}" in str(raised.value)


def test_every_shipped_recipe_is_tested_somewhere():
    others = ("corpus-", "mixture-", "pipeline-", "demo", "self-instruct-", "rounds-")
    assert {name for name in shipped_recipes() if not name.startswith(others)} == set(STAGES)
