"""Sub-workflows and loops that Conductor runs anew: what the run before has published is undone, not refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from perago.attempt import commands as do
from perago.attempt.history import WORKFLOWS_READ, Refuse, judge
from perago.attempt.publication import FENCE_PATH
from perago.driver.delivery import DeliveryQuestions
from perago.embedded.lakefs import objects
from perago.ports import Commit, Delivery, DeliveryCheck, Report, TaskStatus, WorkflowRow
from perago.taskdef import build_task_definition
from perago.testing import InMemoryServices, Outcome
from perago.testing.tasks import task_of
from tests.attempt.builders import DELIVERY, publication_of, workflow_row
from tests.attempt.judging import FAMILY, REBASE, read

from .forking import TREE, plain
from .tasks import edit

PLAIN, EDIT = task_of(plain), task_of(edit)
WORKSPACE = {"workspace": "${workflow.input.workspace}", "params": "${workflow.input.params}"}


def _workflow(name: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": 1, "schemaVersion": 2, "tasks": list(tasks)}


def _step(name: str, reference: str) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": WORKSPACE}


@pytest.fixture
def services() -> Iterator[InMemoryServices]:
    with InMemoryServices() as made:
        made.conductor.register_task_definitions([build_task_definition(PLAIN), build_task_definition(EDIT)])
        yield made


def _sub(reference: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": reference,
        "taskReferenceName": reference,
        "type": "SUB_WORKFLOW",
        "inputParameters": WORKSPACE,
        "subWorkflowParam": {"name": "child", "version": 1},
        **fields,
    }


def _fork(*branches: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A fork with these branches, and its JOIN."""
    ends = [branch[-1]["taskReferenceName"] for branch in branches]
    return (
        {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": list(branches)},
        {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": ends},
    )


def start(services: InMemoryServices, workflow: str, params: dict[str, Any]) -> tuple[str, str]:
    """A started workflow, and its input ref."""
    ref = services.seed(TREE)
    block = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": ref}
    return services.conductor.start_workflow(workflow, {"workspace": block, "params": params}), ref


def run_all(services: InMemoryServices, function: Any) -> list[Any]:
    """Every delivery that comes, until none does."""
    found = []
    while polled := services.conductor.poll(task_of(function).name, "w", count=1, wait_seconds=0):
        found.append(services.attempt(function, polled[0]))
        services.conductor.sweep()
    return found


def commits(services: InMemoryServices, ref: str) -> list[Commit]:
    return list(services.lakefs.history("workspace", "main", until=ref, limit=100)[::-1])


@pytest.mark.parametrize(("function", "params"), [(edit, {"do": "edit"}), (plain, {"put": {"raw/a.csv": "new"}})])
def test_a_restarted_parent_undoes_what_its_sub_workflow_has_published(
    services: InMemoryServices, function: Any, params: dict[str, Any]
) -> None:
    child = _workflow("child", _step(task_of(function).name, "step"))
    services.conductor.create_workflow_definition(child)
    services.conductor.create_workflow_definition(_workflow("parent", _sub("sub")))
    workflow, ref = start(services, "parent", params)
    (before,) = run_all(services, function)
    before.assert_completed()
    assert services.conductor.workflow(workflow)["status"] == "COMPLETED"
    services.clock.advance(1)
    services.conductor.restart_workflow(workflow)
    (after,) = run_all(services, function)

    after.assert_completed()
    assert after.record.superseded_commits == (before.record.published_commit,)
    assert services.conductor.workflow(workflow)["status"] == "COMPLETED"
    first, second = commits(services, ref)
    assert services.lakefs.diff("workspace", first.id, second.id) == {}


def test_a_restarted_workflow_undoes_the_rounds_of_its_loop(services: InMemoryServices) -> None:
    loop = {
        "name": "loop",
        "taskReferenceName": "loop",
        "type": "DO_WHILE",
        "loopCondition": "if ($.loop['iteration'] < 2) { true; } else { false; }",
        "loopOver": [_step(PLAIN.name, "step")],
    }
    services.conductor.create_workflow_definition(_workflow("looping", loop, _step(PLAIN.name, "after")))
    workflow, ref = start(services, "looping", {"put": {"raw/a.csv": "new"}})
    before = run_all(services, plain)
    assert [outcome.status for outcome in before] == [TaskStatus.COMPLETED] * 3
    services.clock.advance(1)
    services.conductor.restart_workflow(workflow)
    after = run_all(services, plain)

    assert [outcome.status for outcome in after] == [TaskStatus.COMPLETED] * 3
    assert len(after[0].record.superseded_commits) == 3
    assert services.conductor.workflow(workflow)["status"] == "COMPLETED"
    assert services.tree()["raw/a.csv"] == b"new"
    assert all(commit.parents[0] == commit.metadata["perago.expected_head"] for commit in commits(services, ref))


def by_hand(reference: str) -> dict[str, Any]:
    """A step that no task function does."""
    return {"type": "SIMPLE", "name": "by.hand", "taskReferenceName": reference}


def report_by_hand(services: InMemoryServices, reference: str, status: TaskStatus) -> None:
    """Report the delivery of such a step."""
    for delivery in services.conductor.poll("by.hand", "w", count=9, wait_seconds=0):
        if delivery.reference_name == reference:
            services.conductor.report(delivery, Report(status), "w")
        else:
            services.conductor.hand_back(delivery)
    services.conductor.sweep()


def again_beside_a_starting_sub_workflow(
    services: InMemoryServices, function: Any, delay: int, how: str = "rerun"
) -> Outcome:
    """Rerun or retry a sub-workflow that has published, and run its first attempt while another sub-workflow of the
    parent is to start in `delay` seconds."""
    conductor = services.conductor
    last, step = (by_hand(reference) for reference in ("last", "step"))
    conductor.create_workflow_definition(_workflow("child", _step(task_of(function).name, "first"), last))
    fork = _fork([_sub("retried")], [step, _sub("delayed", startDelay=delay)])
    conductor.create_workflow_definition(_workflow("parent", *fork))
    params = {"do": "edit"} if function is edit else {"put": {"raw/a.csv": "new"}}
    workflow, _ = start(services, "parent", params)
    conductor.sweep()
    services.attempt(function).assert_completed()
    conductor.sweep()
    conductor.terminate_workflow(workflow)
    if how == "retry":
        conductor.retry_workflow(workflow)
    else:
        rows = conductor.workflow(workflow)["tasks"]
        (sub,) = [row["taskId"] for row in rows if row["referenceTaskName"] == "retried"]
        conductor.rerun_workflow(workflow, sub)
    conductor.sweep()
    report_by_hand(services, "step", TaskStatus.COMPLETED)
    return services.attempt(function)


@pytest.mark.parametrize("function", [edit, plain], ids=["on an unmoved head", "rebase"])
def test_a_parent_is_read_again_while_a_sub_workflow_of_it_starts(services: InMemoryServices, function: Any) -> None:
    began = services.clock.now()
    services.clock.call_at(began + 20.5, services.conductor.sweep)
    outcome = again_beside_a_starting_sub_workflow(services, function, delay=20).assert_completed()

    assert len(outcome.record.superseded_commits) == 1, "the publication of the run before"
    assert began + 20 < services.clock.now() < began + 30


def test_an_attempt_fails_as_retryable_if_the_sub_workflow_has_not_started_after_30_seconds(
    services: InMemoryServices,
) -> None:
    began = services.clock.now()
    outcome = again_beside_a_starting_sub_workflow(services, edit, delay=60)

    assert outcome.status is TaskStatus.FAILED
    assert "not all started" in str(outcome.reason)
    assert began + 25 < services.clock.now() <= began + 30
    services.conductor.advance(60)
    assert len(services.attempt(edit).assert_completed().record.superseded_commits) == 1


@pytest.mark.parametrize("function", [edit, plain], ids=["on an unmoved head", "rebase"])
def test_a_sub_workflow_that_was_retried_is_stale_whatever_starts_beside_it(
    services: InMemoryServices, function: Any
) -> None:
    began = services.clock.now()
    outcome = again_beside_a_starting_sub_workflow(services, function, delay=600, how="retry").assert_completed()

    assert len(outcome.record.superseded_commits) == 1
    assert services.clock.now() == began, "nothing is waited for"


def fork_of_sub_workflows(services: InMemoryServices, count: int) -> tuple[str, str]:
    """A started fork of sub-workflows, each of which publishes a file of its own, and its input ref."""
    services.conductor.create_workflow_definition(_workflow("child", _step(PLAIN.name, "step")))
    branches = [
        [_sub(f"sub{n}", inputParameters={**WORKSPACE, "params": {"put": {f"out/{n}": "x"}}})] for n in range(count)
    ]
    services.conductor.create_workflow_definition(_workflow("parent", *_fork(*branches)))
    return start(services, "parent", {})


def test_a_fork_of_many_sub_workflows_is_judged_exactly_among_other_workflows(services: InMemoryServices) -> None:
    count, others = 10, 20
    workflow, ref = fork_of_sub_workflows(services, count)
    services.conductor.sweep()
    before = run_all(services, plain)
    assert [outcome.status for outcome in before] == [TaskStatus.COMPLETED] * count
    own_and_parent = 2
    asked = own_and_parent * (count - 1) + count * (count - 1) // 2
    assert services.faults.calls("read_workflow") == asked, "and each that has published before"
    services.conductor.create_workflow_definition(_workflow("other", by_hand("only")))
    metadata = dict(commits(services, ref)[-1].metadata)
    for number in range(others):
        other = services.conductor.start_workflow("other", {})
        objects.put_object(services.lakefs.server.repository("workspace"), "main", f"others/{number}", b"x")
        theirs = {**metadata, "perago.workflow_id": other, "perago.step_key": "", "perago.supersedes": ""}
        services.lakefs.commit("workspace", "main", "others", theirs)
    services.clock.advance(1)
    services.conductor.restart_workflow(workflow)
    services.conductor.sweep()
    asked = services.faults.calls("read_workflow")
    after = run_all(services, plain)

    asked = services.faults.calls("read_workflow") - asked
    own_and_parent = 3
    assert asked <= count * (count - 1) // 2 + count * (own_and_parent + others) + count, (
        "what the first one has undone is not read again"
    )
    assert {len(outcome.assert_completed().record.superseded_commits) for outcome in after} == {count, 0}
    assert len(after[0].record.superseded_commits) == count
    assert len(services.tree()) == len(TREE) - 1 + count + others


def test_a_loop_that_cannot_run_a_sub_workflow_does_not_keep_it_from_being_undone(services: InMemoryServices) -> None:
    loop = {
        "name": "loop",
        "taskReferenceName": "loop",
        "type": "DO_WHILE",
        "loopCondition": "false",
        "loopOver": [by_hand("round")],
    }
    child = _workflow("child", _step(PLAIN.name, "first"), by_hand("last"))
    services.conductor.create_workflow_definition(child)
    services.conductor.create_workflow_definition(_workflow("parent", loop, _sub("sub")))
    workflow, _ = start(services, "parent", {"put": {"raw/a.csv": "new"}})
    report_by_hand(services, "round__1", TaskStatus.COMPLETED)
    services.conductor.sweep()
    (before,) = run_all(services, plain)
    report_by_hand(services, "last", TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    services.conductor.retry_workflow(workflow)
    services.conductor.sweep()
    (after,) = run_all(services, plain)

    assert after.assert_completed().record.superseded_commits == (before.record.published_commit,)


@pytest.mark.parametrize("completes", [False, True], ids=["running", "completed"])
def test_what_a_restarted_sub_workflow_has_published_before_is_undone(
    services: InMemoryServices, completes: bool
) -> None:
    conductor = services.conductor
    for name in "ab":
        steps = by_hand(f"{name}1"), _step(PLAIN.name, name), by_hand(f"{name}2")
        conductor.create_workflow_definition(_workflow(name, *steps))
    branches = [
        [
            _sub(
                name,
                subWorkflowParam={"name": name, "version": 1},
                inputParameters={**WORKSPACE, "params": {"put": {f"out/{name}": name}}},
            )
        ]
        for name in "ab"
    ]
    conductor.create_workflow_definition(_workflow("parent", *_fork(*branches)))
    _, ref = start(services, "parent", {})
    conductor.sweep()
    report_by_hand(services, "a1", TaskStatus.COMPLETED)
    (before,) = run_all(services, plain)
    sub_workflow = commits(services, ref)[0].metadata["perago.workflow_id"]
    services.clock.advance(1)
    conductor.terminate_workflow(sub_workflow)
    conductor.restart_workflow(sub_workflow)
    if completes:
        report_by_hand(services, "a1", TaskStatus.COMPLETED)
        (skipped,) = conductor.poll(PLAIN.name, "w", count=1, wait_seconds=0)
        conductor.report(skipped, Report(TaskStatus.COMPLETED), "w")  # this time it takes another way
        conductor.sweep()
        report_by_hand(services, "a2", TaskStatus.COMPLETED)
        assert conductor.workflow(sub_workflow)["status"] == "COMPLETED"
    conductor.sweep()
    report_by_hand(services, "b1", TaskStatus.COMPLETED)
    after = services.attempt(plain).assert_completed()

    assert after.record.superseded_commits == (before.record.published_commit,)
    assert services.tree().keys() == {*TREE, "out/b"} - {FENCE_PATH}


class Parents:
    """A Conductor whose workflows have the next one of `line` as their parent, and the last one has the first."""

    def __init__(self, line: Sequence[str]) -> None:
        self._line = line
        self.read = 0

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow:
        self.read += 1
        above = self._line[(self._line.index(workflow_id) + 1) % len(self._line)]
        return workflow_row(workflow_id, int(delivery.start_time), above)


@pytest.mark.parametrize("length", [1, 3, WORKFLOWS_READ + 100])
def test_parents_are_followed_within_a_bound(services: InMemoryServices, length: int) -> None:
    parents = Parents([f"wf-{number}" for number in range(length)])
    questions = DeliveryQuestions(cast("DeliveryCheck", parents), DELIVERY, services.clock, patience=1)
    event = questions.read_workflows(do.ReadWorkflows(("wf-0",)))

    assert parents.read == len(event.rows) == min(length, WORKFLOWS_READ)
    theirs = publication_of(replace(DELIVERY, workflow_id="wf-0"))
    state = REBASE.evolve(read=read(theirs), workflows={**FAMILY, **event.rows})
    judgement = judge(state)
    assert isinstance(judgement, Refuse)
    assert "not read up to its root" in judgement.reason
