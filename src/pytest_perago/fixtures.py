"""The fixtures for tests that are written by hand (docs/testing/fixtures.md). PYTEST_DONT_REWRITE

They are on one in-memory lakeFS and Conductor, a new one for each test that uses them. perago is imported by the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_perago.options import refuse_other_perago

if TYPE_CHECKING:
    from perago.testing import Conductor, EmbeddedServices, InMemoryLakeFS, TaskRunner, TreeBuilder, VirtualClock


@pytest.fixture
def perago_run() -> Iterator[TaskRunner]:
    """Runs task functions as a worker does: `perago_run(build, Params(), tree={"raw/a.csv": "x"})` is an outcome."""
    refuse_other_perago()
    from perago.testing import TaskRunner

    with TaskRunner() as run:
        yield run


@pytest.fixture
def perago_conductor(perago_run: TaskRunner) -> Conductor:
    """The Conductor of `perago_run`: `.drain()`, `.advance(seconds)`, `.faults` and all that Conductor can do."""
    return perago_run.conductor


@pytest.fixture
def perago_lakefs(perago_run: TaskRunner) -> InMemoryLakeFS:
    """The lakeFS of `perago_run`: `.seed()`, `.tree()`, `.history()`, `.faults` and, as `.server`, all of lakeFS."""
    return perago_run.lakefs


@pytest.fixture
def perago_clock(perago_run: TaskRunner) -> VirtualClock:
    """The virtual time of both services. `perago_conductor.advance` also lets timeouts happen."""
    return perago_run.clock


@pytest.fixture
def perago_tree() -> Iterator[TreeBuilder]:
    """Builds trees on disk: `perago_tree(source, ...)` from mappings, directories, zips and task functions."""
    refuse_other_perago()
    from perago.testing import TreeBuilder

    with TreeBuilder() as build:
        yield build


@pytest.fixture(scope="session")
def perago_server() -> Iterator[EmbeddedServices]:
    """A Conductor and a lakeFS over HTTP on this machine, for the whole session: use names that are yours."""
    refuse_other_perago()
    from perago.testing import serve

    with serve() as services:
        yield services
