"""Filled models and their page, shared by the tests that only read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perago.testing.services import InMemoryServices
from perago.text import show_utc

from .browser import NAMES, Browser, find_browser, running_browser
from .filled import Filled, fill
from .hostile import Hostile, hostile_commit, hostile_workflow
from .site import Site, page_of


@pytest.fixture(scope="package", autouse=True)
def utc() -> Iterator[None]:
    """Show UTC, as with `--utc`."""
    show_utc(True)
    yield
    show_utc(False)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser, where one is installed."""
    if (executable := find_browser()) is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with running_browser(executable, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="session")
def filled() -> Iterator[Filled]:
    with InMemoryServices() as services:
        yield fill(services)


@pytest.fixture(scope="session")
def site(filled: Filled) -> Iterator[Site]:
    with page_of(filled.services.conductor, filled.services.lakefs.server) as site:
        yield site


@pytest.fixture
def services() -> Iterator[InMemoryServices]:
    with InMemoryServices() as services:
        yield services


@pytest.fixture
def fresh(services: InMemoryServices) -> Iterator[Site]:
    """The page of `services`, which are empty at first."""
    with page_of(services.conductor, services.lakefs.server) as site:
        yield site


@pytest.fixture(scope="session")
def hostile() -> Iterator[Hostile]:
    with InMemoryServices() as services:
        workflow = hostile_workflow(services)
        commit = hostile_commit(services, workflow)
        with page_of(services.conductor, services.lakefs.server) as site:
            yield Hostile(services, site, workflow, commit)
