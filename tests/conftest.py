"""What every test finds."""

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
"""Folders whose tests compare texts: what the embedded servers answer with recordings, the documentation with what it
shows. `.ci/run` runs them on one Python."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """End at once if child processes would import another perago: their failures would say nothing of the reason."""
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and (problem := problem_of_children(perago.__file__)):
        pytest.exit(problem, returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session", autouse=True)
def children_hear_signals() -> Iterator[None]:
    """Whoever starts the tests may ignore interrupts (`&` in a script) or hang-ups (nohup).

    Children inherit that, but not a handler that does nothing: they hear signals, while the tests themselves stay as
    deaf as they were meant to be.
    """
    ignored = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with `sampled(every)` each so many-th case is part of `make test`; the others are `exhaustive`. The
    tests of some folders are the same on each Python."""
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
    """Spare the garbage collector the collected tests, which live as long as the process."""
    gc.freeze()
