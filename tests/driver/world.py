"""One workflow of one task on fresh models, everything that was tried for it, and who removes its leftovers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, WorkspaceSpec, task
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.driver import AttemptRecord, AttemptRuntime, deliver_report, run_attempt
from perago.driver.gc import BranchAges, BranchClearing, Fate, Leftover, Policy
from perago.embedded.lakefs import InMemoryLakeFS, references
from perago.embedded.lakefs import commits as model_commits
from perago.ports import Commit, Delivery, TaskStatus
from perago.taskdef import build_task_definition
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.workspace.directory import directory_name

from ..definitions import flow, simple


class Params(BaseModel):
    quiet: Literal["never", "always"] = "never"
    """When nothing is changed."""
    began: int
    """When the workflow began, in milliseconds. Recorded digests of the params have it."""


class Nothing(BaseModel):
    pass


CONTROLS = TaskControls(retry=RetryPolicy(count=5, delay_seconds=1))


def _edit(workspace: Path, params: Params) -> Nothing:
    """Add, change and remove a file. The added file has the name of the delivery's directory, so two publications do
    not conflict, and no tree passes for that of another delivery."""
    if params.quiet == "never":
        (workspace / "raw/a.csv").write_text("changed")
        (workspace / "raw/b.csv").unlink()
        (workspace / workspace.parent.name).write_text("added")
    return Nothing()


@task(name="matrix.edit", owner_email="data@example.com", workspace=WorkspaceSpec(), controls=CONTROLS)
def edit(workspace: Path, params: Params) -> Nothing:
    """The step of a workflow that has its branch for itself."""
    return _edit(workspace, params)


@task(
    name="matrix.share",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(on_moved_head="rebase"),
    controls=CONTROLS,
)
def share(workspace: Path, params: Params) -> Nothing:
    """A step that publishes beside others."""
    return _edit(workspace, params)


def expected_tree(delivery: Delivery, start: Mapping[str, bytes]) -> dict[str, bytes]:
    """`start` and exactly the changes of the delivery's function."""
    if Params.model_validate(delivery.input["params"]).quiet == "always":
        return dict(start)
    kept = {key: content for key, content in start.items() if key != "raw/b.csv"}
    return {**kept, "raw/a.csv": b"changed", directory_name(delivery): b"added"}


def flow_of(task: Task) -> dict[str, Any]:
    """Return a workflow of one step, which is called `matrix`."""
    inputs = {"workspace": "${workflow.input.workspace}", "params": "${workflow.input.params}"}
    return flow(simple(task.name, **inputs), name="matrix")


TASK = task_of(edit)
SHARING = task_of(share)
DEFINITION = build_task_definition(TASK)
WORKFLOW = flow_of(TASK)


# ---------------------------------------------------------------------------------------- the workflow


INPUT = {"raw/a.csv": "1", "raw/b.csv": "2", "readme": "3"}
REPOSITORY, BRANCH = "workspace", "main"


class Killed(BaseException):
    """The end of a process, as far as a test in the same process can have one."""


@dataclass(slots=True)
class Tried:
    """One delivery that was run in a world."""

    delivery: Delivery
    record: AttemptRecord | None = None

    @property
    def words(self) -> str:
        """Why it failed or was lost."""
        if self.record is None:
            return ""
        return str(self.record.report.reason if self.record.report else self.record.lost_reason)

    @property
    def completed(self) -> bool:
        """Whether it has published, or found that there is nothing to publish."""
        report = self.record.report if self.record else None
        return report is not None and report.status is TaskStatus.COMPLETED


def without_hooks(store: InMemoryLakeFS) -> InMemoryLakeFS:
    """The store of a server that has its hooks switched off."""
    store.server.fence = lambda _: None
    return store


def runtime_of(services: InMemoryServices, **changes: Any) -> AttemptRuntime:
    """Return what an attempt on these services runs on, apart from the changes."""
    usual: dict[str, Any] = {
        "store": services.lakefs,
        "delivery_check": services.conductor,
        "workspace_root": services.workspace_root,
        "clock": services.clock,
        "limits": services.limits,
        "proofs": services.proofs,
    }
    return AttemptRuntime(**usual | changes)


class World:
    """A started workflow. `begin` runs its first delivery, `settle` all that follow."""

    task: ClassVar[Task] = TASK

    def __init__(self, services: InMemoryServices, *, fence: str | None = FENCE_TEXT, quiet: str = "never") -> None:
        """`fence`: the text that lies where the publish fence belongs; None: there is nothing."""
        self.services = services
        self.tried: list[Tried] = []
        self.store: object = services.lakefs
        """The way to lakeFS of the deliveries that are run."""
        self.ref = services.seed(dict(INPUT) if fence is None else {**INPUT, FENCE_PATH: fence})
        self.start = services.tree(self.ref)
        conductor = services.conductor
        conductor.register_task_definitions([build_task_definition(self.task)])
        conductor.create_workflow_definition(flow_of(self.task))
        params = {"quiet": quiet, "began": int(services.clock.now() * 1000)}
        block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": self.ref}
        self.workflow = conductor.start_workflow("matrix", {"workspace": block, "params": params})

    # ------------------------------------------------------------------------- what is done

    def take(self) -> Delivery | None:
        """The next delivery that waits."""
        return next(iter(self.services.conductor.poll(self.task.name, "w0001", count=1, wait_seconds=0)), None)

    def run(self, delivery: Delivery | None, *, report: bool = True) -> None:
        """Run and report a delivery, as a worker does; or run it only."""
        if delivery is None:
            return
        services, tried = self.services, Tried(delivery)
        self.tried.append(tried)
        try:
            tried.record = run_attempt(self.task, delivery, runtime_of(services, store=self.store))
            if report and tried.record.report is not None:
                found = tried.record.report
                deliver_report(services.conductor, services.clock, delivery, found, "w0001", services.limits)
        except Killed:
            return

    def settle(self) -> None:
        """Let time-outs and retries happen until the workflow is over."""
        for _ in range(10):
            if self.is_over:
                return
            self.services.clock.advance(700)
            self.services.conductor.sweep()
            self.run(self.take())
        raise AssertionError(f"the workflow does not end: {[tried.words for tried in self.tried]}")

    @property
    def is_over(self) -> bool:
        """Whether the workflow has ended, or nothing in it will: a rerun in a fork takes the JOIN away."""
        rows = self.services.conductor.workflow(self.workflow)["tasks"]
        waits = any(row["status"] in ("SCHEDULED", "IN_PROGRESS") and row["taskType"] == self.task.name for row in rows)
        return self.status != "RUNNING" or not waits

    @property
    def status(self) -> str:
        """Of the workflow."""
        return str(self.services.conductor.workflow(self.workflow, include_tasks=False)["status"])

    # ------------------------------------------------------------- what happens in between

    def terminate(self) -> None:
        """Somebody ends the workflow."""
        if self.status == "RUNNING":
            self.services.conductor.terminate_workflow(self.workflow)

    def hand_back(self) -> None:
        """The next delivery is given back unused."""
        delivery = self.take()
        assert delivery is not None
        self.services.conductor.hand_back(delivery)

    def order_rerun(self) -> None:
        """Somebody ends the workflow and orders the same task again."""
        self.terminate()
        if self.status == "TERMINATED":
            self.services.clock.advance(1)  # the start time alone tells a rerun from the run before
            self.services.conductor.rerun_workflow(self.workflow, self.tried[-1].delivery.task_id)

    def order_restart(self) -> None:
        """Somebody ends the workflow and begins it again."""
        self.terminate()
        if self.status == "TERMINATED":
            self.services.clock.advance(1)
            self.services.conductor.restart_workflow(self.workflow)

    def complete(self) -> None:
        """The first delivery publishes and reports. Then the workflow is run again from it."""
        self.run(self.take())
        self.services.clock.advance(1)
        self.services.conductor.rerun_workflow(self.workflow, self.tried[0].delivery.task_id)

    def publish_and_die(self) -> None:
        """The first delivery publishes, and its process ends before the report."""
        self.run(self.take(), report=False)
        self.time_out()

    def time_out(self) -> None:
        """The response timeout passes, and the retry delay."""
        self.services.clock.advance(601)
        self.services.conductor.sweep()
        self.services.clock.advance(2)

    @staticmethod
    def kill() -> None:
        """The process ends."""
        raise Killed

    # ------------------------------------------------------------------------ what must hold

    def staging_branches(self) -> list[str]:
        """All of them, by the server itself."""
        branches = references.list_branches(
            self.services.lakefs.server.repository(REPOSITORY), show_hidden=True
        ).results
        return [branch.name for branch in branches if branch.name != BRANCH]

    def commits(self) -> tuple[Commit, ...]:
        """First-parent commits after the input ref, newest first, by the server itself: no fault meets this."""
        records = model_commits.first_parents(self.services.lakefs.server.repository(REPOSITORY), BRANCH)
        return tuple(takewhile(lambda commit: commit.id != self.ref, (record.commit for record in records)))

    def publications(self) -> tuple[Commit, ...]:
        """Those that attempts made."""
        return tuple(commit for commit in self.commits() if "perago.task_id" in commit.metadata)

    def assert_sound(self) -> None:
        """Each publication came on the head that it was built on. The branch has the input and the changes of the
        deliveries whose publications are in effect, and Conductor has the last of these publications."""
        publications, tree = self.publications(), self.start
        undone = {gone for commit in publications for gone in commit.metadata["perago.supersedes"].split(",")}
        makers = {tuple(map(str, tried.delivery.identity)): tried.delivery for tried in self.tried}
        for commit in reversed(publications):
            assert commit.parents[0] == commit.metadata["perago.expected_head"]
            if commit.id not in undone and not commit.metadata["perago.adopts"]:
                tree = expected_tree(makers[tuple(commit.metadata[key] for key in _IDENTITY)], tree)
        assert self.services.tree() == tree
        rows = self.services.conductor.workflow(self.workflow)["tasks"]
        outputs = [row["outputData"] for row in rows if row["taskType"] == self.task.name]
        assert publications[0].id in [output["workspace"]["ref"] for output in outputs if output]

    def commit(self, commit_id: str) -> Commit:
        """A commit, by the server itself."""
        return model_commits.get_commit(self.services.lakefs.server.repository(REPOSITORY), commit_id).commit


_IDENTITY = ("perago.task_id", "perago.poll_count", "perago.start_time")


class SharedWorld(World):
    """A workflow of a step that publishes beside others."""

    task: ClassVar[Task] = SHARING


# ----------------------------------------------------------------------------------------- `perago gc`


HOUR, DAY = 3600.0, 86_400.0


class Caretaker:
    """Somebody who calls `perago gc` now and then."""

    def __init__(self, world: World, file: Path) -> None:
        self._world = world
        self._file = file
        self.clearing: BranchClearing | None = None

    def clear(self, *, older_than: float = DAY, dry_run: bool = False, server: str = "here") -> list[Leftover]:
        services = self._world.services
        ages = BranchAges(self._file, server)
        policy = Policy(older_than, services.clock.now(), dry_run)
        self.clearing = BranchClearing(services.lakefs, services.conductor, ages, policy)
        found = list(self.clearing.clear(REPOSITORY))
        if not dry_run:
            ages.save()
        return found

    def fate(self, **options: float | bool | str) -> Fate | None:
        """Of the one branch that is found; None if there is none."""
        found = self.clear(**options)  # type: ignore[arg-type]
        return found[0].fate if found else None

    @property
    def branches(self) -> list[str]:
        repository = self._world.services.lakefs.server.repository(REPOSITORY)
        return [branch.name for branch in references.list_branches(repository, show_hidden=True).results]
