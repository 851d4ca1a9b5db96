"""One run of `perago dev` once the services are up: the modules' workers, their lines, and the end."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from perago.cli.dev.processes import Checked, ChildEnded, ChildSaid, DevEvent, Signalled
from perago.cli.dev.runner import ModuleRunner
from perago.cli.dev.view import DevView
from perago.cli.dev.watching import SECONDS
from perago.cli.dev.workflows import curl_line, head, params_of, send_line, workflow_definition, workflow_name
from perago.cli.errors import ExitCode
from perago.cli.loading import report
from perago.cli.probe import refused_as_duplicate
from perago.cli.signals import end_if_told, heard

if TYPE_CHECKING:
    from perago.cli.probe import Probed
    from perago.embedded.http.services import EmbeddedServices

_START_FAILURES = frozenset({ExitCode.INVALID_MODULE, ExitCode.INVALID_CONFIGURATION, ExitCode.UNREACHABLE})
_ABANDONED = 10.0
"""Seconds that worker processes get if we end because of a mistake of ours."""


class Session:
    """Decides, in one thread, what happens to all modules. Other threads only put events into its queue."""

    def __init__(
        self,
        services: EmbeddedServices,
        probed: Sequence[Probed],
        slots: int,
        environment: Mapping[str, str],
        import_limit: float,
        samples: dict[str, Any],
    ) -> None:
        """A session that has not started anything yet.

        Args:
            services: The embedded services; they are up.
            probed: What was found in each module; all have a task.
            slots: How many attempts of each module run at a time.
            environment: The whole environment of the workers.
            import_limit: Seconds that importing a module may take.
            samples: Gets the parameters that the console's forms begin with, by workflow.
        """
        self._services = services
        self._samples = samples
        self._events: SimpleQueue[DevEvent] = SimpleQueue()  # the one queue that a signal handler may put into
        self._view = DevView([one.module for one in probed])
        self._stopping = False
        self._signals = 0
        self._exit_code = 0
        self._runners = {
            one.module: ModuleRunner(one.module, one, slots, environment, import_limit, self._events.put, self)
            for one in probed
        }

    def run(self, begun: float, state: Path | None) -> int:
        """Start everything, say where it is, and go on until told to stop; returns the exit code."""
        for runner in self._runners.values():
            self.register(runner)
        with heard(lambda number: self._events.put(Signalled(number))), self._ending():
            end_if_told()  # by a signal that came before there was anything to end, and was dropped
            self._tick()
            self._view.services(self._services, head(self._services), time.monotonic() - begun, state)
            for runner in self._runners.values():
                self.show_start(runner)
            while not self._stopping or any(runner.alive for runner in self._runners.values()):
                self._wait()
        self._view.stopped(state)
        return self._exit_code

    # --------------------------------------------------------------- for the runners

    def register(self, runner: ModuleRunner) -> None:
        """Put the TaskDef and the workflow of the runner's task on the embedded Conductor."""
        conductor = self._services.conductor
        conductor.register_task_definitions([json.loads(runner.task.definition)])
        conductor.create_workflow_definition(workflow_definition(runner.task), overwrite=True)
        self._samples[workflow_name(runner.task)] = params_of(runner.task)

    def told_apart(self, probed: Probed) -> Probed:
        """The same, or a problem if another module declares a task of that name."""
        for runner in self._runners.values():
            if runner.module != probed.module and probed.task is not None and runner.task.name == probed.task.name:
                return refused_as_duplicate(probed, runner.module)
        return probed

    def say(self, runner: ModuleRunner, text: str) -> None:
        """Print a line about a module."""
        self._view.line(runner.module, text)

    def show_problem(self, runner: ModuleRunner, probed: Probed) -> None:  # noqa: ARG002 - the message names it
        """Print why a module cannot be used."""
        report([probed])

    def show_start(self, runner: ModuleRunner) -> None:
        """Print how its workflow is started now."""
        services = self._services
        once = curl_line(services.conductor_url, runner.task, head(services))
        self._view.start(runner.task, once, send_line(runner.module, runner.task))

    # ---------------------------------------------------------------------- mechanics

    def _wait(self) -> None:
        with contextlib.suppress(Empty):
            self._handle(self._events.get(timeout=SECONDS))
        self._tick()

    def _tick(self) -> None:
        for runner in self._runners.values():
            runner.tick()

    def _handle(self, event: DevEvent) -> None:
        match event:
            case Signalled(number):
                self._signalled(number)
            case ChildSaid():
                self._runners[event.module].said(event)
                self._services.changed()  # the line is in the worker's log, too, which the console reads
            case Checked():
                self._runners[event.module].checked(event)
            case ChildEnded():
                runner = self._runners[event.module]
                runner.ended(event)
                if not runner.was_ready and event.status in _START_FAILURES and not self._stopping:
                    self._exit_code = event.status  # it said why, and trying again would not mend it
                    self._stop()

    def _signalled(self, number: signal.Signals) -> None:
        """First: drain. Second: cancel. From the third on: kill."""
        self._signals += 1
        if self._signals == 2:
            self._exit_code = 128 + number
        self._view.stopping(self._signals)
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for runner in self._runners.values():
            runner.stop()

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Whatever happens to us, no process stays behind."""
        try:
            yield
        finally:
            deadline = time.monotonic() + _ABANDONED
            while any(runner.alive for runner in self._runners.values()):
                for runner in self._runners.values():
                    runner.stop()
                if time.monotonic() > deadline:
                    break
                self._forget_one()

    def _forget_one(self) -> None:
        with contextlib.suppress(Empty):
            event = self._events.get(timeout=SECONDS)
            if isinstance(event, ChildEnded):
                self._runners[event.module].ended(event)
            elif isinstance(event, Checked):
                self._runners[event.module].checked(event)
