"""The Conductor that a port scenario is played on, and what a scenario needs beside the port."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from perago.adapters.conductor import ConductorQueue
from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.http.conductor import conductor_app
from perago.embedded.http.loopback import serve
from perago.ports import TaskQueue
from perago.settings import ConductorSettings

from ...live.workflows import Conductor, definition

Json = dict[str, Any]


@dataclass(frozen=True)
class ConductorService:
    """A queue, and workflows for it."""

    queue: TaskQueue
    define: Callable[[str, Sequence[Json]], object]
    """Creates a workflow of this name with these tasks."""
    start: Callable[[str, Mapping[str, Any]], str]
    workflow: Callable[[str], Json]
    terminate: Callable[[str], object]
    remove: Callable[[str], object]
    retry: Callable[[str], object]
    restart: Callable[[str], object]
    rerun: Callable[[str, str], object]
    """Runs a workflow again from an attempt on."""
    log_of: Callable[[str], Sequence[Mapping[str, Any]]]


@contextmanager
def on_the_model() -> Iterator[ConductorService]:
    """The model itself, as tests of attempts use it."""
    model = InMemoryConductor(SystemClock())
    yield ConductorService(
        model,
        lambda name, tasks: model.create_workflow_definition(definition(name, tasks)),
        model.start_workflow,
        model.workflow,
        model.terminate_workflow,
        model.remove_workflow,
        model.retry_workflow,
        model.restart_workflow,
        model.rerun_workflow,
        model.task_logs,
    )


@contextmanager
def over_http(url: str) -> Iterator[ConductorService]:
    """The adapter that production uses, on the server whose API is at `url`."""
    with closing(ConductorQueue(ConductorSettings(url))) as queue, closing(Conductor(url)) as server:
        yield ConductorService(
            queue,
            server.define,
            server.start,
            server.workflow,
            server.terminate,
            server.remove,
            server.retry,
            server.restart,
            server.rerun,
            server.log_entries,
        )


@contextmanager
def embedded() -> Iterator[str]:
    """The address of an embedded server's API."""
    with serve(conductor_app(InMemoryConductor(SystemClock()))) as url:
        yield f"{url}/api"
