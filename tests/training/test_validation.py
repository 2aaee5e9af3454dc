import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from codecria.batches.loader import KINDS_OF_TOKENS, Sequences
from codecria.batches.recipe import LossRecipe
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.tokenizer.sentinels import find_sentinels
from codecria.training.loop import train
from codecria.training.metrics import read_metrics
from codecria.training.parallel import World
from codecria.training.plan import shape_after, shape_of
from codecria.training.recipe import TrainRecipe, ValidationRecipe
from codecria.training.start import begin
from codecria.training.validation import Validation
from tests.tiny import write_tiny_checkpoint
from tests.training import forks
from tests.training.small import exact, small_stage

ASKED = {"every_steps": 5, "sequences": 4}


def validated(run):
    return [
        {name: value for name, value in line.items() if name.startswith(("step", "validation"))}
        for line in exact(run)
        if "validation_loss" in line
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    values = small_stage(tmp_path_factory) | {"validation": ASKED}
    values["batches"] = values["batches"] | {"loss": {"context_share": 0.3, "end_weight": 4.0}}
    folder = tmp_path_factory.mktemp("validated") / "run"
    train(TrainRecipe.model_validate(values), folder)
    return values, folder


def direct(recipe, folder, psm_share):
    """Losses of every target of the held-out sequences by kind, from plain logits of the exported model."""
    start = begin(recipe)
    model = load_model(open_checkpoint(folder / "checkpoint"))
    infill = recipe.batches.infill.model_copy(
        update={"rate": 0.0 if psm_share is None else 1.0, "psm_share": psm_share or 0.0}
    )
    rows = []
    for source in ("code", "code-related"):
        batches = recipe.batches.model_copy(update={"infill": infill, "loss": LossRecipe(), "mixture": {source: 1.0}})
        sequences = Sequences(folder / "held_out", start.tokenizer, start.sentinels, batches, recipe.seed)
        rows += [sequences.sequence(n) for n in range(ASKED["sequences"])]
    found = {}
    for row in rows:
        assert row.epoch == 0
        first = 0
        for length in row.lengths:
            ids = torch.from_numpy(row.ids[first : first + length])
            with torch.inference_mode():
                losses = F.cross_entropy(model.logits(model(ids[None])[0, :-1]), ids[1:], reduction="none")
            for loss, kind in zip(losses.tolist(), row.kinds[first + 1 : first + length], strict=True):
                found.setdefault((row.source, KINDS_OF_TOKENS[kind]), []).append(loss)
            first += length
    return found


def test_the_losses_are_those_of_plain_logits(trained):
    values, folder = trained
    recipe = TrainRecipe.model_validate(values)
    lines = validated(folder)
    assert [line["step"] for line in lines] == [0, 5, 10, 12]
    last = lines[-1]
    plain = direct(recipe, folder, None)
    for source in ("code", "code-related"):
        losses = plain[source, "plain"]
        assert last[f"validation_loss/{source}"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    every = [loss for losses in plain.values() for loss in losses]
    assert last["validation_loss"] == pytest.approx(sum(every) / len(every), rel=1e-5)
    assert last["validation_perplexity"] == pytest.approx(torch.tensor(last["validation_loss"]).exp().item(), rel=1e-4)
    for order, share in (("psm", 1.0), ("spm", 0.0)):
        middles = [
            loss for (_, kind), losses in direct(recipe, folder, share).items() if kind == order for loss in losses
        ]
        assert last[f"validation_infill_{order}"] == pytest.approx(sum(middles) / len(middles), rel=1e-5)


def test_held_out_documents_are_not_trained_on(trained):
    _, folder = trained
    hashes = []
    for part in ("prepared", "held_out"):
        table = pa.ipc.open_file(pa.memory_map(str(folder / part / "texts.arrow"))).read_all()
        hashes.append(set(table["content_hash"].to_pylist()))
    assert len(hashes[1]) > 3
    assert not hashes[0] & hashes[1]


def test_training_is_the_same_with_and_without(trained, tmp_path):
    values, folder = trained
    train(TrainRecipe.model_validate(values | {"validation": None}), tmp_path / "run")
    assert exact(tmp_path / "run") == [line for line in exact(folder) if "learning_rate" in line]


def test_ranks_share_the_sequences(trained, tmp_path):
    values, folder = trained
    forks.run(forks.train_values, values | {"steps": 1}, tmp_path / "run", ranks=2)
    assert validated(tmp_path / "run")[0] == pytest.approx(validated(folder)[0], rel=1e-5)


def test_no_gradient_is_left_and_a_small_source_is_not_repeated(trained):
    values, folder = trained
    recipe = TrainRecipe.model_validate(values)
    start = begin(recipe)
    model = start.model(torch.device("cpu"))
    few, many = (
        Validation(ValidationRecipe(sequences=count), recipe, start, folder, World(torch.device("cpu")))
        for count in (200, 400)
    )
    figures = few(model, 0)
    assert figures == many(model, 0)
    assert all(each.grad is None for each in model.parameters())
    assert figures["validation_loss"] == pytest.approx(
        read_metrics(folder / "metrics.jsonl")[0]["validation_loss"], rel=0.02
    )


def test_files_of_a_repository_left_to_right_have_markers_and_no_infilling_loss(trained, tmp_path):
    values, _ = trained
    model = write_tiny_checkpoint(tmp_path / "model", markers=("<repo_name>", "<file_sep>"))
    batches = {"mixture": {"repository": 1.0}, "sequence_tokens": 2048, "infill": {"rate": 0.0}}
    changes = {"model": str(model), "steps": 1, "sequences_per_step": 1, "batches": batches}
    checkpoint = open_checkpoint(train(TrainRecipe.model_validate(values | changes), tmp_path / "run"))
    assert find_sentinels(checkpoint.tokenizer) is not None
    assert {form for line in exact(tmp_path / "run") for form in line.get("forms", {})} == {"plain"}
    assert shape_after(TrainRecipe.model_validate(values | changes), shape_of(str(model))).config == checkpoint.config
    first = validated(tmp_path / "run")[0]
    assert "validation_loss/repository" in first
    assert not any("infill" in name for name in first)


def test_a_stage_without_infilling_has_no_infilling_loss(trained, tmp_path):
    values, _ = trained
    batches = values["batches"] | {"infill": {"rate": 0.0, "level": "context"}}
    train(TrainRecipe.model_validate(values | {"steps": 1, "batches": batches}), tmp_path / "run")
    assert not any("infill" in name for line in validated(tmp_path / "run") for name in line)
