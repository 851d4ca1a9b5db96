from __future__ import annotations

from collections.abc import Iterator

import pytest

from perago.driver.publisher import TURNS_FILE
from perago.testing.services import InMemoryServices


@pytest.fixture
def services(request: pytest.FixtureRequest) -> Iterator[InMemoryServices]:
    """Fresh in-memory services. Every fault that was scripted must have happened. Only killed processes leave attempt
    directories; a module whose tests kill some sets `KILLS_PROCESSES`."""
    with InMemoryServices() as found:
        yield found
        assert found.faults.unused() == ()
        left = {path.name for path in found.workspace_root.iterdir()} - {TURNS_FILE}
        assert not left or getattr(request.module, "KILLS_PROCESSES", False), "an attempt directory was left behind"
