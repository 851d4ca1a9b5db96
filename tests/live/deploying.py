"""One task on the servers: registered under a unique name, with a workflow of this task, and its workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .commands import Environment, Worker, perago
from .repositories import BRANCH, LakeFSServer, Repository
from .tasks.acting import Announcement
from .waiting import wait_for
from .workflows import Conductor, step

TASKS = f"{__package__}.tasks"


class Deployment:
    """A task module, deployed. Use `deployed` to make one."""

    def __init__(self, conductor: Conductor, module: str, environment: Environment, stack: ExitStack) -> None:
        self.conductor = conductor
        self.module = f"{TASKS}.{module}"
        self.task = f"live.{environment.token}.{module}"
        self.environment = environment
        self._stack = stack
        self._workflows: list[str] = []

    def register(self) -> None:
        """Register the TaskDef with the command of users, and a workflow of this one step."""
        done = perago(self.environment, "register", self.module)
        assert done.returncode == 0, done.stderr
        keys = ("params",) if self.module.endswith(".free") else ("workspace", "params")
        self.conductor.define(self.task, [step(self.task, **{key: f"${{workflow.input.{key}}}" for key in keys})])

    def worker(self, slots: int = 1, **extra: str) -> Worker:
        """Start a worker and wait until it is ready. The deployment stops it."""
        return self.starting("-j", str(slots), **extra).ready()

    def starting(self, *options: str, python: str = sys.executable, **extra: str) -> Worker:
        """Start a worker and do not wait."""
        worker = Worker(self.environment, self.module, *options, python=python, **extra)
        self._stack.callback(worker.stop)
        return worker

    def start(self, payload: Mapping[str, Any], workflow: str | None = None) -> str:
        """Start a workflow. The deployment terminates it if it still runs."""
        workflow_id = self.conductor.start(workflow or self.task, payload)
        self._workflows.append(workflow_id)
        return workflow_id

    def terminate(self) -> None:
        """Terminate all workflows that still run, so that none waits on the server forever."""
        for workflow_id in self._workflows:
            if self.conductor.workflow(workflow_id)["status"] == "RUNNING":
                self.conductor.terminate(workflow_id)


@contextmanager
def deployed(
    conductor: Conductor, lakefs: LakeFSServer, module: str, directory: Path, **variables: str
) -> Iterator[Deployment]:
    """Deploy a module of `tests/live/tasks` while the `with` block runs. `variables` are for its processes."""
    servers = {"CONDUCTOR_SERVER_URL": conductor.url, **lakefs.environment()}
    environment = Environment(directory, {**servers, **variables})
    with ExitStack() as stack:
        deployment = Deployment(conductor, module, environment, stack)
        stack.callback(deployment.terminate)
        deployment.register()
        yield deployment


def input_of(repository: Repository, ref: str, orders: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the input of a workspace task."""
    return {"workspace": block(repository, ref), "params": dict(orders or {})}


def block(repository: Repository, ref: str) -> dict[str, Any]:
    """Return the `workspace` part of inputs and outputs."""
    return {"repository": repository.name, "branch": BRANCH, "ref_type": "commit", "ref": ref}


class Gate:
    """Blocks functions, so that a test can act while they run."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory

    def __str__(self) -> str:
        return str(self._directory)

    def entered(self, count: int = 1) -> list[Announcement]:
        """Wait until `count` functions are blocked, and return them."""

        def blocked() -> list[Announcement] | None:
            announcements = self.announcements()
            return announcements if len(announcements) >= count else None

        return wait_for(f"{count} functions at the gate", blocked)

    def announcements(self) -> list[Announcement]:
        """Return the functions that have reached the gate so far."""
        return [Announcement.model_validate_json(path.read_text()) for path in self._directory.glob("entered-*")]

    def open(self) -> None:
        """Unblock all functions, from now on."""
        (self._directory / "go").touch()
