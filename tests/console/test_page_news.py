"""The stream that tells open windows of changes: what it says, how many there may be, and that it ends."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import urllib3

from perago.console import console_of
from perago.console.app import MAX_STREAMS, page_app
from perago.console.source import News
from perago.embedded.services import EmbeddedServices
from perago.testing.services import InMemoryServices

from ..definitions import simple
from .filled import define
from .site import site_of, source_of_models

LIMIT = 20.0
"""Seconds that a test waits for anything."""


Open = Callable[[EmbeddedServices], http.client.HTTPResponse]


@pytest.fixture
def services() -> Iterator[EmbeddedServices]:
    with EmbeddedServices(page=console_of, longest_poll=0.1) as running:
        yield running


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens a stream, and gives it with status and headers read."""
    with contextlib.ExitStack() as stack:

        def open_one(services: EmbeddedServices) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection(urlsplit(services.url).netloc, timeout=LIMIT)
            stack.callback(connection.close)
            # Else the connection would stay open after its answer is closed.
            connection.request("GET", f"{urlsplit(services.url).path}/news", headers={"Connection": "close"})
            return stack.enter_context(contextlib.closing(connection.getresponse()))

        yield open_one


def next_data(stream: http.client.HTTPResponse) -> bytes:
    """The next message of a stream; empty at its end."""
    return next((line for line in iter(stream.readline, b"") if line.startswith(b"data:")), b"")


def test_a_change_is_reported_to_every_window(services: EmbeddedServices, opened: Open) -> None:
    streams = [opened(services) for _ in range(2)]
    assert [stream.headers.get_content_type() for stream in streams] == ["text/event-stream"] * 2
    services.conductor.register_task_definitions([{"name": "t", "ownerEmail": "a@example.com"}])
    define(services.conductor, "w", simple("t"))
    services.conductor.start_workflow("w", {})
    assert [next_data(stream) for stream in streams] == [b"data: changed\n"] * 2


def test_on_servers_without_events_windows_refresh_themselves() -> None:
    """Only while somebody waits: without a stream nothing is asked and nothing runs."""
    with (
        InMemoryServices() as services,
        source_of_models(services.conductor, services.lakefs.server) as source,
        site_of(page_app(replace(source, news=News(every=0.05)))) as site,
    ):
        connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=LIMIT)
        connection.request("GET", "/news", headers={"Connection": "close"})
        with contextlib.closing(connection), contextlib.closing(connection.getresponse()) as stream:
            assert [next_data(stream) for _ in range(2)] == [b"data: changed\n"] * 2


def test_streams_are_limited_and_a_closed_one_makes_room(services: EmbeddedServices, opened: Open) -> None:
    streams = [opened(services) for _ in range(MAX_STREAMS)]
    assert {stream.status for stream in streams} == {200}
    assert opened(services).status == 503
    streams[0].close()
    deadline = time.monotonic() + LIMIT
    while (last := opened(services)).status == 503 and time.monotonic() < deadline:
        last.close()
    assert last.status == 200


def test_open_streams_end_with_the_server_and_do_not_hold_it_up(opened: Open) -> None:
    with EmbeddedServices(page=console_of, longest_poll=0.1) as services:
        streams = [opened(services) for _ in range(3)]
        began = time.monotonic()
    assert time.monotonic() - began < LIMIT
    assert [next_data(stream) for stream in streams] == [b""] * 3


def test_more_pages_than_threads_do_not_block_the_embedded_servers(services: EmbeddedServices) -> None:
    """Pages and servers are in one process here. A page waits for the servers in a thread that is not theirs."""
    services.lakefs.server.create_repository("workspace")
    with ThreadPoolExecutor(60) as threads, urllib3.PoolManager(maxsize=60) as pool:
        url = f"{services.url}/repositories/workspace"
        answers = list(threads.map(lambda _: pool.request("GET", url, timeout=LIMIT, retries=False), range(120)))
    assert [answer.status for answer in answers] == [200] * 120
