import pytest
import torch

from tests.tiny import write_tiny_checkpoint, write_tiny_corpus


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with `model/` and `corpus/`."""
    folder = tmp_path_factory.mktemp("training")
    write_tiny_checkpoint(folder / "model")
    write_tiny_corpus(folder / "corpus")
    return folder


def tiny_recipe(tiny):
    """Keys of a recipe that trains the tiny model in a second."""
    return {
        "model": str(tiny / "model"),
        "corpus": str(tiny / "corpus"),
        "steps": 12,
        "sequences_per_step": 2,
        "batches": {
            "sequence_tokens": 256,
            "piece_tokens": 120,
            "infill": {"rate": 0.9, "level": "context", "units": "line"},
            "loss": {"context_share": 0.3},
        },
        "optimiser": {"peak_rate": 1e-3, "warm_up_steps": 3, "new_rows_factor": 4.0},
        "precision": "fp32",
        "checkpoint_every_steps": 4,
        "export_precision": "fp32",
    }


@pytest.fixture
def recipe_values(tiny):
    """See `tiny_recipe`."""
    return tiny_recipe(tiny)
