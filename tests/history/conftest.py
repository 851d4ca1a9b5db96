from __future__ import annotations

from collections.abc import Iterator

import pytest

from perago.testing import TaskRunner


@pytest.fixture
def run() -> Iterator[TaskRunner]:
    with TaskRunner() as runner:
        yield runner
