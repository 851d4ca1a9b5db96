"""A chain whose first step needed a retry, run again from its second step.

Conductor then hands out the failed attempt of the first step as well (`retried` stays true), waits for its end, and
ignores how it ends: measured on a real server, which takes the inputs of the second step from the retry all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perago.driver import AttemptRecord, AttemptRuntime, deliver_report, run_attempt
from perago.embedded.lakefs import commits as model_commits
from perago.ports import Delivery, Report, TaskStatus
from perago.testing import InMemoryServices

from .editing import DEFINITION, STEP, TASK
from .world import BRANCH, INPUT, REPOSITORY

PLAIN = {"name": "plain", "taskReferenceName": "plain", "type": "SIMPLE"}


@dataclass(slots=True)
class Revived:
    """The chain after its rerun."""

    services: InMemoryServices
    workflow: str
    reported: str
    """What the retry of the first step has published and reported."""
    records: dict[str, AttemptRecord]
    """What came of the deliveries of the rerun, by step."""

    def violations(self) -> Iterator[str]:
        """Every promise that was broken."""
        commits = [
            record.commit
            for record in model_commits.first_parents(self.services.lakefs.server.repository(REPOSITORY), BRANCH)
        ]
        undone = {gone for commit in commits for gone in commit.metadata.get("perago.supersedes", "").split(",")}
        if self.reported in undone:
            yield "a publication was undone that Conductor counts"
        found = self.services.conductor.workflow(self.workflow)
        if found["status"] != "COMPLETED":
            yield f"the workflow is {found['status']}"
        elif commits[0].id != found["tasks"][-1]["outputData"]["workspace"]["ref"]:
            yield "the branch holds something else than what was reported"


def play_revived(services: InMemoryServices, *, by_hand: bool = False, revived_first: bool = True) -> Revived:
    """Play it to its end; the two deliveries of the rerun run one after the other. `by_hand`: the retry is completed
    with the input as it is, and the second step has something to change."""
    conductor = services.conductor
    workflow, block = _start(services, [_step(0), _step(1, quiet=not by_hand)])
    for name in ("first", "retry", "second step"):
        (delivery,) = deliveries(services)
        if by_hand and name == "retry":
            conductor.report(delivery, Report(TaskStatus.COMPLETED, {"workspace": block}), "a person")
        else:
            run(services, delivery)
        services.clock.advance(2)
    _, retry, second = conductor.workflow(workflow)["tasks"]
    conductor.rerun_workflow(workflow, second["taskId"])
    found = sorted(deliveries(services), key=lambda each: each.retried is not revived_first)
    records = {each.reference_name: run(services, each) for each in found}
    return Revived(services, workflow, retry["outputData"]["workspace"]["ref"], records)


def play_forgotten(services: InMemoryServices) -> list[AttemptRecord]:
    """A fork of `r0`, which needed a retry, and of a branch without a workspace, from which it is run again. The retry
    came later than that, so Conductor forgets it, and the failed attempt is all that is left of `r0`. Returns what came
    of the attempts of `r0`, in order."""
    workflow, _ = _start(services, _side_by_side(_step(0), PLAIN))
    records = [run(services, each) for each in deliveries(services)]
    plain = _finish_plain(services)
    services.clock.advance(2)
    records += [run(services, each) for each in deliveries(services)]
    services.conductor.rerun_workflow(workflow, plain.task_id)
    _finish_plain(services)
    return records + [run(services, each) for each in deliveries(services)]


@dataclass(slots=True)
class BegunAgain:
    """A fork of `r0`, whose first attempt was cancelled and retried, and of a sub-workflow that goes on afterwards."""

    workflow: str
    retry: AttemptRecord | None
    first: AttemptRecord | None


def play_begun_again(services: InMemoryServices, *, retry_first: bool = True) -> BegunAgain:
    """The sub-workflow fails, the workflow is retried, the sub-workflow fails again and is retried alone. Conductor
    then begins the cancelled first attempt of `r0` again, without its mark: measured on a real server.

    `retry_first`: the retry has ended by then; otherwise it is cancelled and begun again, too.
    """
    conductor = services.conductor
    conductor.create_workflow_definition({"name": "inner", "version": 1, "schemaVersion": 2, "tasks": [PLAIN]})
    sub = {"name": "sub", "taskReferenceName": "sub", "type": "SUB_WORKFLOW", "subWorkflowParam": {"name": "inner"}}
    workflow, _ = _start(services, _side_by_side(_step(0), sub), fails=False)
    _finish_plain(services, TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    conductor.sweep()
    conductor.retry_workflow(workflow)
    conductor.sweep()
    played = [run(services, each) for each in deliveries(services)] if retry_first else []
    child = _finish_plain(services, TaskStatus.FAILED_WITH_TERMINAL_ERROR).workflow_id
    conductor.sweep()
    conductor.retry_workflow(child)
    _finish_plain(services)
    for _ in range(3):
        played += [run(services, each) for each in deliveries(services)]
        services.clock.advance(10)
        conductor.sweep()
    by_chain = {record.delivery.retried_task_id is None: record for record in played}
    return BegunAgain(workflow, by_chain.get(False), by_chain.get(True))


def _side_by_side(*steps: Mapping[str, Any]) -> list[dict[str, Any]]:
    fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[each] for each in steps]}
    names = [each["taskReferenceName"] for each in steps]
    return [fork, {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": names}]


def _start(
    services: InMemoryServices, steps: Sequence[Mapping[str, Any]], *, fails: bool = True
) -> tuple[str, dict[str, str]]:
    """A workflow of these steps, whose first attempt with a workspace `fails`; its id, and its workspace."""
    conductor = services.conductor
    conductor.register_task_definitions([DEFINITION, {**DEFINITION, "name": "plain"}])
    conductor.create_workflow_definition({"name": "revived", "version": 1, "schemaVersion": 2, "tasks": list(steps)})
    block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": services.seed(INPUT)}
    if fails:
        services.faults.before("download", error=OSError(28, "No space left on device"))
    return conductor.start_workflow("revived", {"workspace": block}), block


def _finish_plain(services: InMemoryServices, status: TaskStatus = TaskStatus.COMPLETED) -> Delivery:
    """End all tasks without a workspace that wait; the retry of a sub-workflow revives its earlier runs as well."""
    *others, last = services.conductor.poll("plain", "w0001", count=9, wait_seconds=0)
    for delivery in (*others, last):
        services.conductor.report(delivery, Report(status), "w0001")
    return last


def _step(number: int, *, quiet: bool = False) -> dict[str, Any]:
    workspace = "${r0.output.workspace}" if number else "${workflow.input.workspace}"
    inputs = {"workspace": workspace, "params": {"quiet": "always" if quiet else "never", "began": 0}}
    return {**STEP, "taskReferenceName": f"r{number}", "inputParameters": inputs}


def deliveries(services: InMemoryServices) -> Sequence[Delivery]:
    """All that wait."""
    return services.conductor.poll(TASK.name, "w0001", count=9, wait_seconds=0)


def run(services: InMemoryServices, delivery: Delivery) -> AttemptRecord:
    """Run and report a delivery, as a worker does."""
    store, queue, clock = services.lakefs, services.conductor, services.clock
    root, limits = services.workspace_root, services.limits
    record = run_attempt(
        TASK,
        delivery,
        AttemptRuntime(store=store, delivery_check=queue, workspace_root=root, clock=clock, limits=limits),
    )
    if record.report is not None:
        deliver_report(queue, clock, delivery, record.report, "w0001", limits)
    return record
