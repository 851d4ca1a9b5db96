from __future__ import annotations

from collections.abc import Iterator

import pytest

from perago.testing import InMemoryServices


@pytest.fixture
def services() -> Iterator[InMemoryServices]:
    """Fresh in-memory services; every fault that was scripted must have happened."""
    with InMemoryServices() as found:
        yield found
        assert found.faults.unused() == ()
        assert list(found.workspace_root.iterdir()) == [], "an attempt directory was left behind"
