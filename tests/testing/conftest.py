from __future__ import annotations

from collections.abc import Iterator

import pytest

from perago.testing import TaskRunner

from .tasks_for_runner import CALLS


@pytest.fixture
def run() -> Iterator[TaskRunner]:
    """A runner of this test alone, whose tasks have not been called yet."""
    CALLS.clear()
    with TaskRunner() as runner:
        yield runner
