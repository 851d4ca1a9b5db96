"""Workflows that fail on purpose, and choices between steps, run on the embedded Conductor."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from perago.testing import TaskRunner
from perago.workflows import Flow, workflow
from perago.workflows.picture import picture_of
from perago.workflows.recovery import retry_refusal

from .tasks import OWNER, Named, Round, Rounds, alone, count, write

START = {"start": ""}


class Needed(BaseModel):
    least: int
    rounds: int = 2


@workflow(name="fails", version=1, owner_email=OWNER)
def fails(flow: Flow, needed: Needed) -> Round:
    with flow.loop("again", at_most=2, on_exhausted="fail") as loop:
        counted = flow.step("count", count, Rounds, rounds=needed.rounds)
        loop.until(counted.result.is_done)
    with flow.switch("size", needed.least) as switch:
        with switch.case(1):
            flow.step("last", alone, Named, name="last")
        with switch.default():
            flow.fail("few", "only {n} of {least} rows {{}}", n=counted.result.rounds, least=needed.least)
    return counted.result


@pytest.mark.parametrize(
    ("needed", "reason"),
    [
        (Needed(least=1), None),
        (Needed(least=3), "only 2 of 3 rows {}"),
        (Needed(least=1, rounds=3), "loop again was not done after 2 rounds"),
    ],
    ids=["completes", "fails", "exhausted"],
)
def test_a_workflow_fails_on_purpose_and_keeps_its_heads(
    perago_run: TaskRunner, needed: Needed, reason: str | None
) -> None:
    ran = perago_run.workflow(fails, needed, tree=START)

    assert (ran.status, ran.reason) == ("COMPLETED" if reason is None else "FAILED", reason)
    ended = perago_run.conductor.workflow(ran.workflow_id)
    assert str(ran.outcomes[-1].commit) in str(ended["output"]["workspace"]["ref"])
    assert ("result" in ended["output"]) == (reason is None)


def test_a_failure_on_purpose_is_run_again_instead_of_retried(perago_run: TaskRunner) -> None:
    ran = perago_run.workflow(fails, Needed(least=3), tree=START)

    refusal = retry_refusal(perago_run.conductor.workflow(ran.workflow_id))
    assert refusal is not None
    assert refusal.problem == "its step few ended it on purpose"
    assert refusal.fix == f"run every step again: perago rerun {ran.workflow_id}"


def test_a_step_that_fails_its_sub_workflow_fails_the_parent(perago_run: TaskRunner) -> None:
    @workflow(name="parent", version=1, owner_email=OWNER)
    def parent(flow: Flow, needed: Needed) -> None:
        flow.sub("inner", fails, Needed, least=needed.least, rounds=needed.rounds)

    ran = perago_run.workflow(parent, Needed(least=3), tree=START)

    assert ran.status == "FAILED"
    assert "only 2 of 3 rows {}" in str(ran.reason)


def test_the_tree_of_steps_shows_how_a_workflow_fails() -> None:
    shown = picture_of(fails.definition())

    assert "few  end as FAILED: only ${count.output.result.rounds} of ${workflow.input.least} rows {}" in shown
    assert "again_exhausted  end as FAILED: loop again was not done after 2 rounds" in shown


def test_a_failure_ends_all_branches_of_a_fork(perago_run: TaskRunner) -> None:
    @workflow(name="both", version=1, owner_email=OWNER)
    def both(flow: Flow, needed: Needed) -> None:
        def checked() -> None:
            with flow.switch("size", needed.least) as switch, switch.case(3):
                flow.fail("few", "few rows")
            flow.step("checked", write, Named, name="a")

        def other() -> None:
            flow.step("other", write, Named, name="b")

        flow.fork("both", [checked, other], lambda branch: branch())
        flow.unchecked(needed.rounds)

    ran = perago_run.workflow(both, Needed(least=3), tree=START)
    assert (ran.status, ran.reason, ran.outcomes) == ("FAILED", "few rows", ())
    assert perago_run.workflow(both, Needed(least=1), tree=START).status == "COMPLETED"
