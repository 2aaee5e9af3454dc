from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codecria.sandbox.isolation import missing
from codecria.sandbox.limits import Limits
from tests.sandbox.flavours import EVERY, open_flavour, spell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.sandbox.runner import Sandbox


@pytest.fixture(scope="module", params=EVERY, ids=spell)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox of each kind there is on this machine."""
    opened = open_flavour(request.param, Limits(wall_s=2))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def any_sandbox() -> Iterator[Sandbox]:
    """The first kind that works: for what does not depend on the backend."""
    for flavour in EVERY:
        if missing(flavour.backend) is None:
            opened = open_flavour(flavour, Limits(wall_s=5))
            yield opened
            opened.close()
            return
    pytest.skip("no backend on this machine")
