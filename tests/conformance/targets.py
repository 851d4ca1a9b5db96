"""The servers that a scenario can run on: the embedded one over HTTP, and a real one where its address is given."""

from __future__ import annotations

import base64
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from perago.driver import SystemClock
from perago.embedded.http.loopback import serve
from perago.ports import VirtualClock

from .normal import Normal, Rules
from .rest import Rest
from .scenario import Scenario

KEY, SECRET = "conformance", "secret"
ENVIRONMENT = {"lakefs": "PERAGO_CONFORMANCE_LAKEFS", "conductor": "PERAGO_CONFORMANCE_CONDUCTOR"}
"""Variables with the address of a real server; for lakeFS `http://KEY:SECRET@HOST:PORT`, for Conductor with `/api`."""


@dataclass(frozen=True)
class Target:
    """A running server of one kind."""

    server: str
    url: str
    sleep: Callable[[float], None]
    headers: Mapping[str, str] = field(default_factory=dict)
    model: Any = None
    """What an embedded server serves."""

    def run(self, scenario: Scenario) -> list[dict[str, Any]]:
        """The normalised transcript of a scenario with this server."""
        rest = Rest(self.url, self.sleep, self.headers, works_at_once=self.model is not None)
        try:
            scenario.body(rest)
        finally:
            rest.close()
        return Normal(rules(self.server), rest.names).transcript(rest.exchanges)


def rules(server: str) -> Rules:
    """What one kind of server may answer differently each time."""
    if server == "lakefs":
        from .lakefs.rules import RULES
    else:
        from .conductor.rules import RULES
    return RULES


@contextmanager
def embedded_server(server: str, *, real_time: bool = False) -> Iterator[Target]:
    """The embedded server of this kind, over HTTP on loopback.

    Time passes only when told to, unless it is to be `real_time`.
    """
    start = _embedded_lakefs if server == "lakefs" else _embedded_conductor
    with start(real_time=real_time) as target:
        yield target


class _TickingClock(VirtualClock):
    """A clock on which each look takes a microsecond, so that no scenario crosses a second by chance."""

    def now(self) -> float:
        self.advance(1e-6)
        return super().now()


@contextmanager
def _embedded_lakefs(*, real_time: bool) -> Iterator[Target]:
    from perago.embedded.http.lakefs import lakefs_app
    from perago.embedded.lakefs.repository import LakeFSServer

    clock = _TickingClock()
    model = LakeFSServer(SystemClock() if real_time else clock)
    sleep = time.sleep if real_time else clock.advance
    try:
        with serve(lakefs_app(model, access_key_id=KEY, secret_access_key=SECRET)) as url:
            yield Target("lakefs", f"{url}/api/v1", sleep, _basic(KEY, SECRET), model)
    finally:
        model.close()


@contextmanager
def _embedded_conductor(*, real_time: bool) -> Iterator[Target]:
    from perago.embedded.conductor.model import ConductorModel
    from perago.embedded.http.conductor import conductor_app

    from ..embedded_saving.completeness import CheckedConductor

    if real_time:
        with serve(conductor_app(ConductorModel(SystemClock()))) as url:
            yield Target("conductor", f"{url}/api", time.sleep)
        return
    clock = VirtualClock()
    model = CheckedConductor(clock)
    with serve(conductor_app(model)) as url:
        yield Target("conductor", f"{url}/api", clock.advance, model=model)


def address(server: str) -> str:
    """Where the real server is, as the environment says; without that the test is skipped."""
    found = os.environ.get(ENVIRONMENT[server])
    if not found:
        pytest.skip(f"{ENVIRONMENT[server]} does not name a server to compare with")
    return found


def real(server: str) -> Target:
    """The real server that the environment names; without one the test is skipped."""
    return real_at(server, address(server))


def real_at(server: str, address: str) -> Target:
    """A real server by its address."""
    address = address.rstrip("/")
    if server == "conductor":
        return Target("conductor", address, time.sleep)
    parts = urllib.parse.urlsplit(address)
    if not parts.username or not parts.password:
        raise ValueError(f"{ENVIRONMENT['lakefs']} must be http://KEY:SECRET@HOST:PORT")
    host = f"{parts.scheme}://{parts.hostname}:{parts.port or 80}/api/v1"
    headers = _basic(urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password))
    return Target("lakefs", host, time.sleep, headers)


def _basic(key: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()}
