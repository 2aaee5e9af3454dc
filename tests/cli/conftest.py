import sys

import pytest

from codecria.cli import main as entry
from codecria.tokenizer.sentinels import add_sentinels
from tests.tiny import write_tiny_checkpoint


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: (status, standard output, standard error)."""

    def call(*arguments, stdin=None):
        import io

        monkeypatch.setattr(sys, "argv", ["codecria", *map(str, arguments)])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = 0
        try:
            entry.main()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory):
    """A tiny model without infill markers."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture(scope="session")
def infill_model(plain_model, tmp_path_factory):
    """The same with markers, their rows untrained."""
    from codecria.checkpoint.huggingface import save_huggingface
    from codecria.checkpoint.open import load_model, open_checkpoint
    from codecria.checkpoint.source import Description
    from codecria.training.start import grow_vocabulary

    folder = tmp_path_factory.mktemp("infill") / "model"
    parent = open_checkpoint(plain_model)
    tokenizer, _ = add_sentinels(parent.tokenizer)
    model = grow_vocabulary(load_model(parent), parent.tokenizer.vocab_size, tokenizer.vocab_size, seed=0)
    save_huggingface(folder, model, Description(model.config, tokenizer, parent.hf_config, parent.generation_config))
    return folder
