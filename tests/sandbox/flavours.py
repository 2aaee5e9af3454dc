"""The kinds of sandbox this machine can have, for tests that try each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codecria.sandbox.isolation import BACKENDS, Flavour, flavours, missing
from codecria.sandbox.runner import Sandbox
from codecria.sandbox.worker import BrokenError

if TYPE_CHECKING:
    from codecria.sandbox.limits import Limits

EVERY = [flavour for name in BACKENDS for flavour in flavours(name)]

_CHECKED: set[Flavour] = set()


def spell(flavour: Flavour) -> str:
    return flavour.backend + ("-own-account" if flavour.own_account else "")


def open_flavour(flavour: Flavour, limits: Limits, workers: int = 1) -> Sandbox:
    """A sandbox that has passed its self-test; the test is skipped only where it does not start."""
    reason = missing(flavour.backend)
    if reason is not None:
        pytest.skip(f"{flavour.backend}: {reason}")
    sandbox = Sandbox(flavour, limits, workers, ())
    if flavour in _CHECKED:
        return sandbox
    try:
        sandbox.check()
    except BrokenError as error:
        sandbox.close()
        assert "was not" not in str(error), error
        pytest.skip(f"{flavour.backend} does not start here: {error}")
    _CHECKED.add(flavour)
    return sandbox
