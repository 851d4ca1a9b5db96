"""Every scenario shows on the embedded server what a real one showed, by the rule of `comparing`.

`docs/dev/fidelity.md` lists what the scenarios cover.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.routing import Match, Route

from perago.driver import SystemClock
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import conductor_app
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.lakefs.repository import LakeFSServer

from ..embedded_saving.completeness import Increments
from .comparing import difference
from .differences import DIFFERENCES, UNRECORDED
from .fidelity import INTRODUCTION, PAGE, SDKS, page
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
        transcript = target.run(scenario)
        increments.take()
        return transcript

    def close(self) -> None:
        """End the servers; persistence must have missed nothing that the scenarios did."""
        missed = [key for _, increments in self._targets.values() for key in increments.missed()]
        self._open.close()
        assert missed == []


@pytest.fixture(scope="module")
def embedded_servers() -> Iterator[_EmbeddedServers]:
    servers = _EmbeddedServers()
    yield servers
    servers.close()


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


def _answer(status: int, body: Any = None, kind: str = "application/json") -> list[dict[str, Any]]:
    response = {"status": status, "headers": {"content-type": kind}, **({} if body is None else {"body": body})}
    return [{"request": {"operation": "GET /x", "path": "/x"}, "response": response}]


# Whatever else the rule leaves out differs in some recording, so that a stricter rule fails its scenario.
ALIKE = {
    "another member of an error": (_answer(500, {"instance": "a", "message": ""}), _answer(500, {"message": ""})),
    "a parameter of the media type": (
        _answer(200, "id", "text/plain;charset=UTF-8"),
        _answer(200, "id", "text/plain; charset=utf-8"),
    ),
}

DIFFERENT = {
    "the status": (_answer(404, {"message": "a"}), _answer(400, {"message": "a"})),
    "what a client looks for": (_answer(400, {"message": "branch has no changes"}), _answer(400, {"message": "no"})),
    "an error without a message": (_answer(404, {"message": "a"}), _answer(404, {})),
    "whether to try again": (_answer(500, {"retryable": True}), _answer(500, {"retryable": False})),
    "whether validation failed": (_answer(400, {"validationErrors": [1]}), _answer(400, {})),
    "the order of a list": (_answer(200, ["a", "b"]), _answer(200, ["b", "a"])),
    "a message in a success": (_answer(200, {"message": "first"}), _answer(200, {"message": "second"})),
    "the media type of an object": (_answer(200, "a,b", "text/csv"), _answer(200, "a,b", "text/plain")),
    "an answer that is missing": (_answer(200) * 2, _answer(200)),
}


@pytest.mark.parametrize("case", [*ALIKE, *DIFFERENT])
def test_only_facts_that_clients_use_are_compared(case: str) -> None:
    recorded, actual = (ALIKE | DIFFERENT)[case]
    assert (difference(recorded, actual) is None) == (case in ALIKE)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.conformance.fidelity"


def test_the_files_that_the_page_names_are_there() -> None:
    root = PAGE.parents[2]
    named = set(re.findall(r"`((?:tests|fixtures|docs|src)/[\w/*.]+)`", INTRODUCTION))
    assert len(named) > 1
    assert [path for path in named if not list(root.glob(path.rstrip("/")))] == []


def test_the_page_names_the_oldest_supported_versions_of_the_sdks() -> None:
    extra = tomllib.loads((PAGE.parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]["sdk"]
    oldest = dict(re.findall(r"([\w-]+)>=([\d.]+)", " ".join(extra)))
    assert oldest.keys() == SDKS.keys()
    assert all(versions[0].startswith(f"{oldest[package]}.") for package, versions in SDKS.items())


def test_every_difference_has_a_scenario() -> None:
    assert set(DIFFERENCES) <= {(scenario.server, str(scenario)) for scenario in ALL}


def test_every_served_route_is_recorded_or_listed() -> None:
    lakefs: Any = lakefs_app(LakeFSServer(SystemClock()), access_key_id="id", secret_access_key="key")
    apps: dict[str, tuple[Any, str]] = {
        "conductor": (conductor_app(ConductorModel(SystemClock())), "/api"),
        "lakefs": (lakefs.app, "/api/v1"),
    }
    unrecorded = set()
    for server, (app, root) in apps.items():
        served = [route for route in app.routes if "unserved" not in getattr(route.endpoint, "__name__", "")]
        requests = [
            exchange["request"]
            for scenario in scenarios(server)
            for exchange in load(scenario)
            if "request" in exchange
        ]
        calls = {
            (exchange["operation"].split()[0], posixpath.normpath(root + exchange["path"].partition("?")[0]))
            for exchange in requests
        }
        met = {_name(served, *call) for call in calls}
        unrecorded |= {(server, f"{min(route.methods)} {route.path}") for route in served} - {(server, n) for n in met}
    assert unrecorded == set(UNRECORDED)


def _name(routes: list[Route], method: str, path: str) -> str:
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    served = next((route for route in routes if route.matches(scope)[0] is Match.FULL), None)
    return "" if served is None else f"{min(served.methods or ())} {served.path}"
