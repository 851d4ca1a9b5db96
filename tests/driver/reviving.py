"""A chain whose first step needed a retry, run again from its second step.

Conductor then hands out the failed attempt of the first step as well (`retried` stays true), waits for its end, and
ignores how it ends: measured on a real server, which takes the inputs of the second step from the retry all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perago.driver import AttemptRecord, deliver_report, run_attempt
from perago.ports import Delivery
from perago.testing import InMemoryServices

from .editing import DEFINITION, STEP, TASK
from .world import BRANCH, INPUT, REPOSITORY


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
        commits = [record.commit for record in self.services.lakefs.server.first_parents(REPOSITORY, BRANCH)]
        undone = {gone for commit in commits for gone in commit.metadata.get("perago.supersedes", "").split(",")}
        if self.reported in undone:
            yield "a publication was undone that Conductor counts"
        found = self.services.conductor.workflow(self.workflow)
        if found["status"] != "COMPLETED":
            yield f"the workflow is {found['status']}"
        elif commits[0].id != found["tasks"][-1]["outputData"]["workspace"]["ref"]:
            yield "the branch holds something else than what was reported"


def play_revived(services: InMemoryServices, *, revived_first: bool = True) -> Revived:
    """Play it to its end; the two deliveries of the rerun run one after the other."""
    ref = services.seed(INPUT)
    conductor = services.conductor
    conductor.register_task_definitions([DEFINITION])
    conductor.create_workflow_definition(
        {"name": "chain", "version": 1, "schemaVersion": 2, "tasks": [_step(0), _step(1)]}
    )
    block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": ref}
    workflow = conductor.start_workflow("chain", {"workspace": block})
    services.faults.before("download", error=OSError(28, "No space left on device"))
    for _ in range(3):  # the first attempt, its retry, and the second step
        (delivery,) = _deliveries(services)
        _run(services, delivery)
        services.clock.advance(2)
    _, retry, second = conductor.workflow(workflow)["tasks"]
    conductor.rerun_workflow(workflow, second["taskId"])
    deliveries = sorted(_deliveries(services), key=lambda each: each.retried is not revived_first)
    records = {each.reference_name: _run(services, each) for each in deliveries}
    return Revived(services, workflow, retry["outputData"]["workspace"]["ref"], records)


def _step(number: int) -> dict[str, Any]:
    workspace = "${r0.output.workspace}" if number else "${workflow.input.workspace}"
    inputs = {"workspace": workspace, "params": {"quiet": "always" if number else "never", "began": 0}}
    return {**STEP, "taskReferenceName": f"r{number}", "inputParameters": inputs}


def _deliveries(services: InMemoryServices) -> Sequence[Delivery]:
    return services.conductor.poll(TASK.name, "w0001", count=9, wait_seconds=0)


def _run(services: InMemoryServices, delivery: Delivery) -> AttemptRecord:
    store, queue, clock = services.lakefs, services.conductor, services.clock
    root, limits = services.workspace_root, services.limits
    record = run_attempt(TASK, delivery, store=store, fence=queue, workspace_root=root, clock=clock, limits=limits)
    if record.report is not None:
        deliver_report(queue, clock, delivery, record.report, "w0001", limits)
    return record
