"""Every scenario shows on the embedded server what a real one showed, by the rule of `comparing`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ..embedded_saving.completeness import Increments
from .comparing import difference
from .differences import DIFFERENCES
from .recordings import load, without_scenario
from .scenario import Scenario, scenarios
from .targets import Target, embedded_server, real

SERVERS = ("lakefs", "conductor")
ALL = [scenario for server in SERVERS for scenario in scenarios(server)]


def _named(scenario: Scenario) -> str:
    return f"{scenario.server}-{scenario}"


class _EmbeddedServers:
    """The embedded servers, each from its first use to the end."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._targets: dict[str, tuple[Target, Increments]] = {}

    def run(self, scenario: Scenario) -> list[dict[str, Any]]:
        """The transcript of a scenario. Its changes are taken as persistence does."""
        if scenario.server not in self._targets:
            target = self._open.enter_context(embedded_server(scenario.server))
            model = target.model
            self._targets[scenario.server] = target, getattr(model, "increments", None) or Increments(model)
        target, increments = self._targets[scenario.server]
        found = target.run(scenario)
        increments.take()
        return found

    def close(self) -> None:
        """End the servers; persistence must have missed nothing that the scenarios did."""
        missed = [key for _, increments in self._targets.values() for key in increments.missed()]
        self._open.close()
        assert missed == []


@pytest.fixture(scope="module")
def embedded_servers() -> Iterator[_EmbeddedServers]:
    found = _EmbeddedServers()
    yield found
    found.close()


@pytest.mark.parametrize("scenario", ALL, ids=_named)
def test_the_embedded_server_answers_as_recorded(scenario: Scenario, embedded_servers: _EmbeddedServers) -> None:
    different = difference(load(scenario), embedded_servers.run(scenario))
    if reason := DIFFERENCES.get((scenario.server, str(scenario))):
        assert different, f"{scenario} does not differ any more; take it off the list of differences ({reason})"
    else:
        assert not different, different


@pytest.mark.live
@pytest.mark.parametrize("scenario", ALL, ids=_named)
def test_a_real_server_still_answers_as_recorded(scenario: Scenario) -> None:
    different = difference(load(scenario), real(scenario.server).run(scenario))
    assert not different, different


def test_no_recording_is_left_without_its_scenario() -> None:
    assert without_scenario() == {}, "run python -m tests.conformance.recordings"
