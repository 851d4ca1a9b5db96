"""`perago console`: a real process on services behind HTTP, what it serves, and how it ends."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from perago.embedded.services import EmbeddedServices

from ..definitions import flow, simple
from ..worker.outside import get
from .conftest import Project
from .start_command import LIMIT

WORKFLOW = flow(simple("by.hand.step"), name="by.hand", ownerEmail="data@example.com")


@pytest.fixture
def services() -> Iterator[EmbeddedServices]:
    with EmbeddedServices() as services:
        services.conductor.create_workflow_definition(WORKFLOW)
        services.lakefs.server.create_repository("data-of-a-team")
        yield services


@contextlib.contextmanager
def console(project: Project, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run it on any free port; gives the process and the address of its page."""
    project = replace(project, environment={**project.environment, **variables})
    with project.start("console", "--port", "0", *arguments) as process:
        try:
            assert process.stdout is not None
            said = "".join(process.stdout.readline().decode() for _ in range(3))
            match = re.search(r"perago console is ready, Ctrl-C ends it\n\n  page  (\S+)\n", said)
            assert match is not None, said
            yield process, match[1]
        finally:
            process.kill()


def test_the_configured_servers_are_shown_and_a_signal_ends_it_well(
    project: Project, services: EmbeddedServices
) -> None:
    workflow = services.conductor.start_workflow("by.hand", {})
    with console(project, **services.environment()) as (process, page):
        text = get(page)[1].decode()
        assert workflow in text
        assert "data-of-a-team" in text
        assert get(re.sub(r"[^/]+/$", "", page))[0] == 403
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT)
        assert (process.returncode, said) == (0, b"")


def test_it_starts_without_servers_and_names_the_missing_settings(project: Project) -> None:
    with console(project, CONDUCTOR_SERVER_URL="http://127.0.0.1:9/api") as (process, page):
        text = get(page)[1].decode()
        assert "Conductor: " in text
        assert "LAKECTL_SERVER_ENDPOINT_URL is not set" in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0


def test_without_any_configuration_it_names_the_variable(project: Project) -> None:
    project.run("console").ends(4, "CONDUCTOR_SERVER_URL")


def test_a_port_that_is_taken_is_named(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        ran = project.run("console", "--port", str(port), CONDUCTOR_SERVER_URL="http://127.0.0.1:9/api")
    assert ran.code == 1
    assert f"port {port} cannot be used" in ran.err
