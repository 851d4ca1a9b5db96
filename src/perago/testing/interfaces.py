"""The in-memory services and the snapshots as tests see them. Their classes are internal and have more methods, which
can change.

`TaskRunner`, `serve` and the fixtures give these objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from perago.embedded.faults import FaultScript
from perago.ports import Commit, Delivery
from perago.testing.outcome import Outcome, Race
from perago.testing.tasks import TaskFunction

if TYPE_CHECKING:
    from perago.clients import Client, Configuration

DAY = 86_400.0


class VirtualClock(Protocol):
    """The time of both services. It passes only when something waits for it or a test moves it."""

    def now(self) -> float:
        """Return the seconds since the epoch."""

    def advance(self, seconds: float) -> None:
        """Let time pass. Only `Conductor.advance` also runs the timeouts and retries that are due then.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` of virtual time have passed."""


class InMemoryLakeFS(Protocol):
    """A lakeFS in this process."""

    @property
    def faults(self) -> FaultScript:
        """The script of faults: `faults.after("merge", error=Unclear)`."""

    def seed(
        self,
        repository: str,
        branch: str,
        tree: Mapping[str, str | bytes | Path | None] | Path,
        *,
        message: str = "Seed",
    ) -> Commit:
        """Commit files to a branch. Create the repository and the branch if they are missing.

        Args:
            repository: the repository.
            branch: the branch. Its other objects stay.
            tree: a directory, or keys with contents: a text is UTF-8, a path is a file to read. None, an empty
                directory, has no effect.
            message: the message of the commit.
        """

    def tree(self, repository: str, ref: str) -> dict[str, bytes]:
        """Return all objects of a branch or commit with their bytes, in the order of their keys."""

    def export(self, repository: str, ref: str, target: Path, *, prefix: str = "") -> None:
        """Write the objects whose keys begin with `prefix` below a directory, without the prefix.

        Raises:
            ValueError: a key would be outside of `target`, or is not a file name.
        """

    def get_commit(self, repository: str, ref: str) -> Commit:
        """Return the commit of a full commit id, or the head of a branch."""

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        """Return the first-parent commits of a branch after `until`, newest first, at most `limit`."""


class InMemoryConductor(Protocol):
    """A Conductor in this process. Workflows, tasks and definitions have Conductor's JSON."""

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace TaskDefs. One invalid definition rejects the complete list."""

    def create_workflow_definition(self, definition: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Register a workflow."""

    def start_workflow(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        correlation_id: str | None = None,
        priority: int = 0,
        definition: Mapping[str, Any] | None = None,
        task_to_domain: Mapping[str, str] | None = None,
    ) -> str:
        """Start a workflow with `payload` as its input. Return its id.

        Args:
            name: the name of the workflow.
            payload: its input.
            version: the version; by default the highest registered one.
            correlation_id: as in Conductor.
            priority: as in Conductor, from 0 to 99.
            definition: a definition that need not be registered.
            task_to_domain: as in Conductor.
        """

    def workflow(self, workflow_id: str, *, include_tasks: bool = True) -> dict[str, Any]:
        """Return a workflow, by default with its attempts."""

    def workflow_ids(self) -> tuple[str, ...]:
        """Return all workflows, in the order of their start."""

    def get_task(self, task_id: str) -> dict[str, Any]:
        """Return one attempt."""

    def task_logs(self, task_id: str) -> tuple[dict[str, Any], ...]:
        """Return the log entries of an attempt, in the order of their times."""

    def queue_size(self, task_name: str, *, domain: str | None = None) -> int:
        """Return the number of attempts that wait to be polled, delayed ones included."""

    def update_task(self, result: Mapping[str, Any]) -> str:
        """Send the result of an attempt, as a worker does. Return the task id that was sent."""

    def update_task_by_reference(
        self,
        workflow_id: str,
        reference_name: str,
        status: str,
        output: Mapping[str, Any],
        worker_id: str | None = None,
    ) -> str | None:
        """Update the open attempt of a step, such as a HUMAN task. Return its id; None without an open attempt."""

    def terminate_workflow(self, workflow_id: str, reason: str | None = None) -> None:
        """End a workflow. Its open attempts become CANCELED."""

    def pause_workflow(self, workflow_id: str) -> None:
        """Stop scheduling steps and retries."""

    def resume_workflow(self, workflow_id: str) -> None:
        """Continue a paused workflow."""

    def retry_workflow(self, workflow_id: str, *, resume_sub_workflows: bool = False) -> None:
        """Give the failed steps of a finished workflow one more attempt each."""

    def restart_workflow(self, workflow_id: str, *, use_latest_definitions: bool = False) -> None:
        """Begin a finished workflow again, with new task ids."""

    def rerun_workflow(
        self,
        workflow_id: str,
        from_task_id: str | None = None,
        *,
        task_input: Mapping[str, Any] | None = None,
        workflow_input: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a finished workflow again from one of its attempts, which keeps its id."""

    def skip_task(self, workflow_id: str, reference_name: str) -> None:
        """Leave out a step that has not begun."""


class Conductor(InMemoryConductor, Protocol):
    """The Conductor of a test, in virtual time.

    Time only passes in calls: `advance` takes a duration, `next_delivery` waits until an attempt is handed out, `drain`
    until the queue is empty.
    """

    @property
    def faults(self) -> FaultScript:
        """The script of faults, which is also that of lakeFS: `faults.before("report", error=Unavailable)`."""

    def register(self, *functions: TaskFunction, controls: Mapping[str, Any] | None = None) -> None:
        """Register the TaskDefs of these task functions, and let `drain` run them.

        `controls` replaces fields of the TaskDefs: `{"retryDelaySeconds": 0}`.

        Raises:
            TypeError: one is not a task function.
        """

    def advance(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass. Timeouts and retries in between happen at their time, as on a server.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """

    def next_delivery(self, *task_names: str, within: float = DAY) -> Delivery:
        """Take the next attempt of one of these task types, as a worker does. Virtual time passes until there is one.

        Raises:
            LookupError: no attempt is due within `within` virtual seconds. The message has the states of the workflows.
        """

    def drain(self, *functions: TaskFunction, within: float = DAY) -> tuple[Outcome, ...]:
        """Run every attempt of these task functions, including retries, until no attempt is due within `within` virtual
        seconds.

        Without functions, run the attempts of all functions that were registered or run before. Return the outcomes, in
        order.

        Raises:
            TypeError: one is not a task function.
            RuntimeError: it has not ended after 1,000 attempts.
        """

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give an attempt back, as a stopping worker does. It is delivered again after `seconds`."""


class EmbeddedServices(Protocol):
    """A Conductor and a lakeFS in real time, on a port of this machine."""

    @property
    def url(self) -> str:
        """The address of a page for people."""

    @property
    def conductor_url(self) -> str:
        """Conductor's address, `/api` included."""

    @property
    def lakefs_url(self) -> str:
        """lakeFS's address."""

    @property
    def conductor(self) -> InMemoryConductor:
        """The Conductor in this process."""

    @property
    def lakefs(self) -> InMemoryLakeFS:
        """The lakeFS in this process."""

    @property
    def conductor_configuration(self) -> Configuration:
        """conductor-python's configuration for the Conductor. It needs the extra `sdk`."""

    @property
    def lakefs_client(self) -> Client:
        """A `lakefs.Client` for the lakeFS. It needs the extra `sdk`."""

    def environment(self) -> Mapping[str, str]:
        """Return the variables that connect perago commands, lakectl and the lakeFS SDK to these services."""


class Snapshots(Protocol):
    """Compares with snapshots, and writes them under `--perago-update`: `perago_snapshot` is one."""

    def __call__(self, task: TaskFunction) -> None:
        """Compare the TaskDef of a task with its snapshot.

        Raises:
            AssertionError: it differs, or there is no snapshot.
            TypeError: it is not a function with `@task`.
        """

    def tree(
        self,
        published: Outcome | Race | Mapping[str, str | bytes | None],
        name: str = "",
        *,
        exclude: Iterable[str] = (),
    ) -> None:
        """Compare a tree with its snapshot.

        Args:
            published: the outcome of a completed attempt, for its added, changed and removed files; or a tree, such as
                `perago_run.tree()`, for all its files.
            name: distinguishes several snapshots of one test.
            exclude: globs of files that always differ.

        Raises:
            AssertionError: it differs, there is no snapshot, or the attempt did not complete.
            ValueError: the test has used this name before, or it cannot be a part of a file name.
        """
