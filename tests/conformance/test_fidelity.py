"""`docs/dev/fidelity.md` says what the suite says."""

from __future__ import annotations

import re
from typing import Any

from starlette.routing import Match, Route

from perago.driver import SystemClock
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import conductor_app
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.lakefs.repository import LakeFSServer

from .differences import DIFFERENCES, UNRECORDED
from .fidelity import INTRODUCTION, PAGE, page
from .recordings import load
from .scenario import scenarios


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.conformance.fidelity"


def test_the_files_that_the_page_names_are_there() -> None:
    root = PAGE.parents[2]
    named = set(re.findall(r"`((?:tests|fixtures|docs|src)/[\w/*.]+)`", INTRODUCTION))
    assert len(named) > 1
    assert [path for path in named if not list(root.glob(path.rstrip("/")))] == []


def test_every_difference_has_a_scenario() -> None:
    known = {(server, str(found)) for server in ("lakefs", "conductor") for found in scenarios(server)}
    assert set(DIFFERENCES) <= known


def test_every_served_route_is_recorded_or_listed() -> None:
    lakefs: Any = lakefs_app(LakeFSServer(SystemClock()), access_key_id="id", secret_access_key="key")
    apps: dict[str, tuple[Any, str]] = {
        "conductor": (conductor_app(ConductorModel(SystemClock())), "/api"),
        "lakefs": (lakefs._app, "/api/v1"),
    }
    unrecorded = set()
    for server, (app, root) in apps.items():
        served = [route for route in app.routes if "unserved" not in getattr(route.endpoint, "__name__", "")]
        requests = [found["request"] for each in scenarios(server) for found in load(each) if "request" in found]
        calls = {(found["operation"].split()[0], root + found["path"].partition("?")[0]) for found in requests}
        met = {_name(served, *call) for call in calls}
        unrecorded |= {(server, f"{min(route.methods)} {route.path}") for route in served} - {(server, n) for n in met}
    assert unrecorded == set(UNRECORDED)


def _name(routes: list[Route], method: str, path: str) -> str:
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    found = next((route for route in routes if route.matches(scope)[0] is Match.FULL), None)
    return "" if found is None else f"{min(found.methods or ())} {found.path}"
