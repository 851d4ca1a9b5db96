"""Fixtures and hooks of all tests."""

from __future__ import annotations

import gc
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import perago

from .children import problem_of_children

pytest_plugins = ["pytester"]

SAME_ON_EACH_PYTHON = ("conformance", "docs")
"""Folders whose tests compare texts: answers of the embedded servers with recordings, and the documentation with its
examples. `.ci/run` runs them on one Python."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Exit if child processes would import another perago, because their failures would not name the reason."""
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and (problem := problem_of_children(perago.__file__)):
        pytest.exit(problem, returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session", autouse=True)
def children_receive_signals() -> Iterator[None]:
    """Let child processes receive signals even if the tests themselves ignore interrupts (`&` in a script) or hang-ups
    (nohup). Children inherit an ignored signal, but not a handler that does nothing.
    """
    ignored = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases of a test with `sampled(every)` that `make test` leaves out as `exhaustive`, and the tests of some
    folders as the same on each Python."""
    cases: Counter[str] = Counter()
    depth = len(Path(__file__).parent.parts)
    for item in items:
        if sampled := item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            if cases[test] % sampled.kwargs["every"]:
                item.add_marker(pytest.mark.exhaustive)
            cases[test] += 1
        if item.path.parts[depth] in SAME_ON_EACH_PYTHON:
            item.add_marker(pytest.mark.any_python)


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection, because they live as long as the process."""
    gc.freeze()
