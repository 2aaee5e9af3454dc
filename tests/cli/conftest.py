import sys

import pytest

from codecria.cli import main as entry
from tests.tiny import write_infilling_checkpoint, write_tiny_checkpoint


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: (status, standard output, standard error)."""

    def call(*arguments, stdin=None):
        import io

        monkeypatch.setattr(sys, "argv", ["codecria", *map(str, arguments)])
        if stdin is not None:
            data = stdin.encode() if isinstance(stdin, str) else stdin
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
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
    return write_infilling_checkpoint(tmp_path_factory.mktemp("infill") / "model", plain_model)
