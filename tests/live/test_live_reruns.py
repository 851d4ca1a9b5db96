"""Reruns that are asked of a real Conductor directly, with the order of poll, read, merge and report forced.

The attempts run in this process, with the adapters of a worker, so that a test can do something between two of their
calls. A rerun that ends in a refusal is recovered by the commands that the refusal names.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, TaskFailed, TaskTerminalError, WorkspaceSpec, current, task
from perago.adapters.http import COMMAND_POLICY
from perago.configuration import Servers
from perago.driver import AttemptRecord, AttemptRuntime, SystemClock, run_attempt
from perago.driver.fencing import FenceProofs
from perago.ports import Delivery
from perago.taskdef import build_task_definition
from perago.testing.tasks import task_of

from .commands import Environment, advised, perago
from .deploying import block
from .histories import STAMPS, Family, History, field, md5
from .repositories import LakeFSServer, Repository
from .waiting import wait_for
from .workflows import OVER, Conductor, described, step

pytestmark = pytest.mark.live

TASK = f"live.{secrets.token_hex(5)}.reruns"
FROM_INPUT = "${workflow.input.workspace}"
Json = dict[str, Any]


class Nothing(BaseModel):
    pass


class Done(BaseModel):
    stamp: str = ""
    stamp_md5: str = ""
    seen: dict[str, str] = {}


ACTIONS: dict[str, list[str]] = {}
"""What the next calls of a step do, by its reference name: `stamp` (what it does when nothing is said), `nothing`,
`fail`, `give up`, or a path to write."""


@task(
    name=TASK,
    owner_email="live@example.com",
    workspace=WorkspaceSpec(on_moved_head="rebase"),
    controls=TaskControls(retry=RetryPolicy(count=1, delay_seconds=0)),
)
def work(workspace: Path, params: Nothing) -> Done:
    """Do what the test says."""
    seen = {
        path.relative_to(workspace).as_posix(): md5(path.read_bytes())
        for path in workspace.rglob("*")
        if path.is_file()
    }
    actions = ACTIONS.get(current().reference_name)
    match actions.pop(0) if actions else "stamp":
        case "nothing":
            return Done(seen=seen)
        case "fail":
            raise TaskFailed("the weather is bad")
        case "give up":
            raise TaskTerminalError("there is no such measurement")
        case "stamp":
            token = secrets.token_hex(8)
            text = f"{current().task_id} {token}"
            (workspace / STAMPS).mkdir(exist_ok=True)
            (workspace / STAMPS / token).write_text(text)
            return Done(stamp=text, stamp_md5=md5(text.encode()), seen=seen)
        case path:
            (workspace / path).write_text("alike")
            return Done(seen=seen)


class Interposed:
    """A service, with a call of the test after its next call of one name."""

    def __init__(self, service: object, after: dict[str, Callable[[], object]]) -> None:
        self._service = service
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._service, name)

        def call(*arguments: Any, **options: Any) -> Any:
            answer = method(*arguments, **options)
            if (act := self._after.pop(name, None)) is not None:
                act()
            return answer

        return call if callable(method) else method


class Actor:
    """A worker whose steps a test decides."""

    def __init__(
        self, servers: Servers, conductor: Conductor, repository: Repository, environment: Environment, root: Path
    ) -> None:
        self.conductor = conductor
        self.repository = repository
        self.ref = repository.commit({"raw/a.txt": b"a"})
        self._servers = servers
        self._environment = environment
        self._root = root
        self._clock = SystemClock()
        self._proofs = FenceProofs(self._clock)
        self._count = 0
        self._taken: list[Delivery] = []
        servers.queue.register_task_definitions([build_task_definition(task_of(work))])

    def define(self, *steps: Json) -> str:
        """Define a workflow of these steps; returns its name."""
        self._count += 1
        name = f"{TASK}.{secrets.token_hex(3)}.{self._count}"
        self.conductor.define(name, steps)
        return name

    def start(self, *steps: Json) -> str:
        """Start a workflow of these steps; returns its id."""
        return self.conductor.start(self.define(*steps), {"workspace": block(self.repository, self.ref), "params": {}})

    def poll(self, reference: str) -> Delivery:
        """Take a delivery of a step. Those of others that come first are kept for later."""

        def look() -> Delivery | None:
            self._taken += self._servers.queue.poll(TASK, "live", count=4, wait_seconds=0.5)
            return next((delivery for delivery in self._taken if delivery.reference_name == reference), None)

        delivery = wait_for(f"a delivery of {reference}", look, limit=150.0)
        self._taken.remove(delivery)
        return delivery

    def run(self, delivery: Delivery, **after: Callable[[], object]) -> AttemptRecord:
        """Run a delivery without its report. `after`: what happens after its first call of this name."""
        runtime = AttemptRuntime(
            store=Interposed(self._servers.store, after),
            delivery_check=Interposed(self._servers.queue, after),
            workspace_root=self._root,
            clock=self._clock,
            proofs=self._proofs,
        )
        return run_attempt(task_of(work), delivery, runtime)

    def report(self, record: AttemptRecord) -> None:
        """Send the report of a delivery, as one that was on its way: without a look whether it is still current."""
        if record.hand_back:
            self._servers.queue.hand_back(record.delivery, 1)
        elif record.report is not None:
            self._servers.queue.report(record.delivery, record.report, "live")

    def step(self, reference: str) -> AttemptRecord:
        """Poll, run and report a step."""
        record = self.run(self.poll(reference))
        self.report(record)
        return record

    def finish(self, workflow_id: str, limit: float = 150.0) -> str:
        """Run whatever there is until a workflow is over, or Conductor has left it stuck; returns its status."""
        idle = 0

        def look() -> str | None:
            nonlocal idle
            self._taken += self._servers.queue.poll(TASK, "live", count=1, wait_seconds=0.3)
            while self._taken:
                self.report(self.run(self._taken.pop(0)))
            family = Family(self.conductor, workflow_id)
            if family.open:
                idle = 0
                return None
            idle += 1
            status = str(family.root["status"])
            return status if status in OVER or idle > 10 else None

        def context() -> str:
            return Family(self.conductor, workflow_id).described()

        return wait_for(f"the end of workflow {workflow_id}", look, limit=limit, context=context)

    def see_through(self, workflow_id: str) -> None:
        """Run whatever there is, and do what refusals say and what operators do with a stuck workflow, until it has
        completed. Nothing may be lost, and nothing published twice."""
        for _ in range(4):
            status = self.finish(workflow_id)
            family = Family(self.conductor, workflow_id)
            if status == "COMPLETED":
                break
            if status == "RUNNING":
                self.conductor.terminate(workflow_id)
                self.command("rerun", workflow_id)
                continue
            commands = advised(family.reasons)
            assert commands, f"a refusal without advice\n{family.described()}"
            for command in commands:
                self.command(*command)
        assert status == "COMPLETED", family.described()
        self.judge(workflow_id)

    def judge(self, workflow_id: str) -> None:
        """The branch has what the steps of this workflow reported, and nothing else."""
        family = Family(self.conductor, workflow_id)
        history = History(family, self.repository, self.ref)
        violations = list(history.violations())
        assert violations == [], "\n".join([*violations, family.described(), history.described()])

    def command(self, *arguments: str) -> None:
        """Run a command of perago, which must succeed."""
        done = perago(self._environment, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def row(self, workflow_id: str, reference: str, number: int = -1) -> Mapping[str, Any]:
        """A row of a step: the last one, or the one of this number."""
        rows = [row for row in self.conductor.tasks(workflow_id) if row["referenceTaskName"] == reference]
        return rows[number]

    def rerun(self, workflow_id: str, reference: str, number: int = -1) -> None:
        """Ask Conductor to run a workflow again from a row."""
        self.conductor.rerun(workflow_id, self.row(workflow_id, reference, number)["taskId"])

    def effective(self) -> list[str]:
        """The steps whose stamps are on the branch, and how often."""
        names = dict[str, str]()
        for commit in self.repository.since(self.ref):
            above, below = self.repository.tree(commit["id"]), self.repository.tree(commit["parents"][0])
            names |= {
                path: field(commit, "reference_name") for path in above.keys() - below.keys() if path not in names
            }
        return sorted(names[path] for path in self.repository.tree() if path.startswith(STAMPS))


@pytest.fixture
def actor(
    conductor: Conductor,
    lakefs: LakeFSServer,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Actor]:
    ACTIONS.clear()
    variables = {"CONDUCTOR_SERVER_URL": conductor.url, **lakefs.environment()}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment = Environment(tmp_path, variables)
    root = tmp_path / "attempts"
    root.mkdir()
    with Servers(policy=COMMAND_POLICY) as servers:
        yield Actor(servers, conductor, repository, environment, root)


def simple(name: str, workspace: str = FROM_INPUT) -> Json:
    """A step of the task."""
    return step(TASK, name, workspace=workspace, params="${workflow.input.params}")


def below(child: str, name: str, workspace: str = FROM_INPUT) -> Json:
    """A step that runs the workflow `child`."""
    inputs = {"workspace": workspace, "params": "${workflow.input.params}"}
    return {
        "name": child,
        "taskReferenceName": name,
        "type": "SUB_WORKFLOW",
        "inputParameters": inputs,
        "subWorkflowParam": {"name": child, "version": 1},
    }


def fork(*branches: Json) -> list[Json]:
    """A fork of steps, and its JOIN."""
    names = [branch["taskReferenceName"] for branch in branches]
    return [
        {
            "name": "fork",
            "taskReferenceName": "fork",
            "type": "FORK_JOIN",
            "forkTasks": [[branch | {"permissive": True}] for branch in branches],
        },
        {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": names},
    ]


@pytest.mark.parametrize("moment", ["read_workflow", "create_branch"])
def test_a_branch_that_read_the_row_of_another_before_its_poll_undoes_nothing(actor: Actor, moment: str) -> None:
    """Case A: a rerun resets a failed attempt of the other branch, too, and that one comes first. The other publishes
    when it has read rows, or, if it does not wait, when it makes its staging branch."""
    ACTIONS.update(f0=["fail"], f1=["fail"])
    workflow_id = actor.start(*fork(simple("f0"), simple("f1")))
    assert actor.finish(workflow_id) == "COMPLETED"
    actor.judge(workflow_id)
    actor.rerun(workflow_id, "f0")
    early, published = actor.poll("f1"), list[AttemptRecord]()
    record = actor.run(early, **{moment: lambda: published.append(actor.step("f0"))})
    actor.report(record)
    if not published:
        assert record.hand_back
        published.append(actor.step("f0"))
    assert published[0].published_commit is not None
    if record.hand_back:
        assert actor.step("f1").report is not None
    assert actor.effective() == ["f0", "f1"]
    actor.see_through(workflow_id)


def test_a_sub_workflow_that_judges_first_leaves_nothing_of_the_steps_behind_it(actor: Actor) -> None:
    """Case B: the first step publishes nothing, so the sub-workflow is the first to judge."""
    ACTIONS.update(first=["nothing", "nothing"])
    child = actor.define(simple("inner"))
    workflow_id = actor.start(
        simple("first"),
        below(child, "sub", "${first.output.workspace}"),
        simple("second", "${sub.output.workspace}"),
        simple("third", "${second.output.workspace}"),
    )
    actor.see_through(workflow_id)
    assert actor.effective() == ["inner", "second", "third"]
    actor.rerun(workflow_id, "first")
    actor.see_through(workflow_id)
    assert actor.effective() == ["inner", "second", "third"]


def test_bytes_that_another_workflow_shares_stay(actor: Actor) -> None:
    """Case C: two workflows write a file alike; the one that wrote it first is run again, and then does not."""
    ACTIONS.update(mine=["alike.txt", "alike.txt", "nothing"], other=["alike.txt"])
    mine, other = actor.start(simple("mine")), actor.start(simple("other"))
    actor.report(actor.run(actor.poll("mine")))
    actor.report(actor.run(actor.poll("other")))
    assert actor.finish(mine) == actor.finish(other) == "COMPLETED"
    for _ in range(2):
        actor.conductor.restart(mine)
        status = actor.finish(mine)
        assert "alike.txt" in actor.repository.tree()
        if status != "COMPLETED":  # it says that it cannot undo what another has shared
            assert "start the workflow from the new head" in Family(actor.conductor, mine).reasons
            actor.ref = actor.repository.head()
            ACTIONS.update(mine=["nothing"])
            assert actor.finish(actor.start(simple("mine"))) == "COMPLETED"
            assert "alike.txt" in actor.repository.tree()


def test_a_commit_whose_late_report_completes_the_row_that_was_started_again_stays(actor: Actor) -> None:
    """Case D: the report of `f0` arrives when a rerun has started its row again."""
    workflow_id = actor.start(simple("f0"), simple("f1"))
    published = actor.run(actor.poll("f0"))
    actor.conductor.terminate(workflow_id)
    actor.rerun(workflow_id, "f0")
    actor.report(published)
    row = actor.row(workflow_id, "f0")
    assert (row["status"], row["startTime"]) == ("COMPLETED", 0), described(actor.conductor.workflow(workflow_id))
    actor.see_through(workflow_id)
    assert actor.effective() == ["f0", "f1"]
    assert actor.row(workflow_id, "f0")["outputData"]["workspace"]["ref"] == published.published_commit


def with_a_replaced_child(actor: Actor, *steps: Json) -> str:
    """Start a workflow whose first step is a sub-workflow that has failed and was retried."""
    ACTIONS["inner"] = ["give up"]
    workflow_id = actor.start(below(actor.define(simple("inner")), "sub"), *steps)
    assert actor.finish(workflow_id) == "FAILED"
    actor.conductor.retry(workflow_id)
    return workflow_id


def test_a_replaced_sub_workflow_that_a_rerun_starts_again_publishes_nothing(actor: Actor) -> None:
    """Case E: a rerun of a later step also starts the failed sub-workflow again."""
    workflow_id = with_a_replaced_child(actor, simple("last"))
    actor.see_through(workflow_id)
    actor.rerun(workflow_id, "last")
    wait_for("the replaced row in progress", lambda: actor.row(workflow_id, "sub", 0)["status"] != "FAILED")
    actor.see_through(workflow_id)
    assert actor.effective() == ["inner", "last"]


def test_a_replaced_sub_workflow_that_the_retry_of_another_starts_again_publishes_nothing(actor: Actor) -> None:
    """Case E: the retry of another failed sub-workflow alone also retries the replaced one."""
    ACTIONS["second"] = ["give up"]
    two = below(actor.define(simple("second")), "two", "${sub.output.workspace}")
    workflow_id = with_a_replaced_child(actor, two, simple("last", "${two.output.workspace}"))
    assert actor.finish(workflow_id) == "FAILED"
    actor.conductor.retry(actor.row(workflow_id, "two")["subWorkflowId"])
    replaced = actor.poll("inner")
    actor.step("second")
    actor.step("last")
    actor.report(actor.run(replaced))
    actor.see_through(workflow_id)
    assert actor.effective() == ["inner", "last", "second"]
