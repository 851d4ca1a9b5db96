"""What forks, loops, sub-workflows and domains mean to a worker, told through the port and on a virtual clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import HistoryEvent, InMemoryConductor
from perago.ports import Delivery

from ..conformance.conductor.operators import TWICE, fork, join, loop, operator, sub_workflow
from ..conformance.conductor.workflows import step
from .one_workflow import DONE, FAILED


class TwoTaskTypes:
    """A model with the task types `a` and `b`, which are retried once and at once."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.conductor = InMemoryConductor(self.clock, seed=1)
        definition = {"retryCount": 1, "retryDelaySeconds": 0}
        self.conductor.register_task_definitions([{"name": name, **definition} for name in ("a", "b")])

    def run(self, *steps: Mapping[str, Any], name: str = "w", **options: Any) -> str:
        self.conductor.create_workflow_definition({"name": name, "tasks": steps})
        return self.conductor.start_workflow(name, {"x": 1}, **options)

    def poll(self, task: str, seconds: float = 0) -> Delivery | None:
        deliveries = self.conductor.poll(task, "w0001", count=1, wait_seconds=seconds)
        return deliveries[0] if deliveries else None

    def take(self, task: str, seconds: float = 0) -> Delivery:
        delivery = self.poll(task, seconds)
        assert delivery is not None
        return delivery

    def finish(self, task: str) -> None:
        self.conductor.report(self.take(task), DONE, "w0001")

    def fail(self, task: str) -> None:
        for _ in range(2):
            self.conductor.report(self.take(task), FAILED, "w0001")

    def statuses(self, workflow_id: str) -> list[str]:
        return [task["status"] for task in self.conductor.workflow(workflow_id)["tasks"]]

    def child(self, workflow_id: str) -> str:
        return str(self.conductor.workflow(workflow_id)["tasks"][-1]["subWorkflowId"])


def test_a_join_with_a_delay_below_zero_waits_for_an_update() -> None:
    """Neither time nor decisions wake it (measured on 3.32.3)."""
    model = TwoTaskTypes()
    workflow_id = model.run(fork([step("a", "a1")], [step("b", "b1")]), join("a1", "b1"))
    waiting = model.conductor.workflow(workflow_id)["tasks"][-1]["taskId"]
    result = {"taskId": waiting, "workflowInstanceId": workflow_id, "status": "IN_PROGRESS"}
    model.conductor.update_task({**result, "callbackAfterSeconds": -1})
    model.finish("a")
    model.finish("b")
    model.clock.sleep(600)
    model.conductor.decide(workflow_id)
    assert model.statuses(workflow_id)[-1] == "IN_PROGRESS"
    model.conductor.update_task(result)
    assert model.statuses(workflow_id)[-1] == "COMPLETED"


def test_a_delivery_in_a_loop_names_its_iteration() -> None:
    model = TwoTaskTypes()
    model.run(loop(TWICE, step("a", "r")))
    first = model.take("a")
    model.conductor.report(first, FAILED, "w0001")
    retry = model.take("a")
    model.conductor.report(retry, DONE, "w0001")
    second = model.take("a")
    seen = [(d.reference_name, d.iteration, d.retry_count, d.retried_task_id) for d in (first, retry, second)]
    assert seen == [("r__1", 1, 0, None), ("r__1", 1, 1, first.task_id), ("r__2", 2, 0, None)]


def test_the_failure_of_one_branch_is_the_loss_of_the_others() -> None:
    model = TwoTaskTypes()
    workflow_id = model.run(fork([step("a", "a1")], [step("b", "b1")]), join("a1", "b1"))
    other = model.take("b")
    model.fail("a")
    assert not model.conductor.is_current(other)
    before = model.statuses(workflow_id)
    model.conductor.report(other, DONE, "w0001")
    assert model.statuses(workflow_id) == before
    assert model.conductor.history()[-1].what is HistoryEvent.IGNORED


def test_a_step_behind_a_join_can_be_polled_when_the_last_branch_has_ended() -> None:
    model = TwoTaskTypes()
    model.run(fork([step("a", "a1")], [step("b", "b1")]), join("a1", "b1"), step("b", "end"))
    model.finish("a")
    model.finish("b")
    assert model.take("b").reference_name == "end"


def test_the_end_of_a_parent_is_the_loss_of_an_attempt_deep_inside() -> None:
    model = TwoTaskTypes()
    model.conductor.create_workflow_definition({"name": "inner", "tasks": [step("a", "a1")]})
    model.conductor.create_workflow_definition({"name": "middle", "tasks": [sub_workflow("inner", "i")]})
    workflow_id = model.run(sub_workflow("middle", "s"))
    delivery = model.take("a")
    assert delivery.workflow_id == model.child(model.child(workflow_id))
    model.conductor.terminate_workflow(workflow_id)
    assert not model.conductor.is_current(delivery)
    assert model.conductor.workflow(delivery.workflow_id)["status"] == "TERMINATED"


def test_a_sub_workflow_starts_late_if_its_step_says_so() -> None:
    model = TwoTaskTypes()
    model.conductor.create_workflow_definition({"name": "inner", "tasks": [step("a", "a1")]})
    workflow_id = model.run(sub_workflow("inner", "s", startDelay=5))
    assert model.statuses(workflow_id) == ["SCHEDULED"]
    model.clock.advance(4)
    assert model.poll("a") is None
    model.clock.advance(1)
    assert model.take("a").reference_name == "a1"


def test_a_wait_delays_the_following_steps_until_its_time() -> None:
    model = TwoTaskTypes()
    model.run(operator("WAIT", "w", inputParameters={"duration": "1 hour 2 minutes 3 s"}), step("a", "end"))
    model.clock.advance(3600 + 2 * 60 + 2.5)
    assert model.poll("a") is None
    began = model.clock.now()
    assert model.take("a", seconds=5).reference_name == "end"
    assert model.clock.now() - began == pytest.approx(0.5, abs=0.11)


def test_a_timeout_in_a_loop_makes_another_attempt_of_the_iteration() -> None:
    model = TwoTaskTypes()
    model.conductor.register_task_definitions([{"name": "a", "responseTimeoutSeconds": 10, "retryDelaySeconds": 0}])
    workflow_id = model.run(loop(TWICE, step("a", "r")))
    stale = model.take("a")
    model.clock.advance(10)
    model.conductor.sweep()
    assert not model.conductor.is_current(stale)
    assert model.statuses(workflow_id) == ["IN_PROGRESS", "TIMED_OUT", "SCHEDULED"]
    assert model.take("a").reference_name == "r__1"


def test_a_domain_is_served_for_ten_seconds_after_a_poll() -> None:
    model = TwoTaskTypes()
    model.conductor.create_workflow_definition({"name": "w", "tasks": [step("a", "a1")]})
    model.conductor.poll_tasks("a", "w1", domain="d", wait_seconds=0)
    domains = {"a": "d,NO_DOMAIN"}
    first = model.conductor.start_workflow("w", task_to_domain=domains)
    model.clock.advance(10)
    second = model.conductor.start_workflow("w", task_to_domain=domains)
    rows = [model.conductor.workflow(each)["tasks"][0] for each in (first, second)]
    assert [row.get("domain") for row in rows] == ["d", None]
    assert (model.conductor.queue_size("d:a"), model.conductor.queue_size("a")) == (1, 1)


def _nested(inner: Mapping[str, Any]) -> dict[str, Any]:
    return operator("SWITCH", "s", evaluatorType="value-param", expression="q", decisionCases={"1": [inner]})


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        (
            [loop(TWICE, _nested(operator("DO_WHILE", "k", loopOver=[step("a", "a1")], loopCondition="true")))],
            "a loop inside",
        ),
        ([loop(TWICE, step("a", "a1"), inputParameters={"keepLastN": 2})], "keepLastN"),
        ([loop(TWICE, step("a", "a1"), items="${workflow.input.l}")], "items"),
        ([_nested(operator("EVENT", "h"))], r"tasks\[0\]\[0\]\.type EVENT"),
        ([operator("SWITCH", "s", evaluatorType="python", expression="1", decisionCases={"1": []})], "python"),
        (
            [sub_workflow("x", "s") | {"subWorkflowParam": {"name": "x", "workflowDefinition": "${a.output}"}}],
            "as an expression",
        ),
        ([sub_workflow("x", "s") | {"subWorkflowParam": {"name": "x", "priority": 3}}], r"subWorkflowParam\.priority"),
        ([operator("INLINE", "i", inputParameters={"expression": "1", "evaluatorType": "python"})], "python"),
        ([{**step("a", "a1"), "joinOn": ["b"]}], "a SIMPLE task: joinOn"),
        ([loop(TWICE, {"name": "a", "type": "SIMPLE"})], "a step without a name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_features_that_no_model_has_are_named_at_registration(steps: list[dict[str, Any]], name: str) -> None:
    with pytest.raises(NotImplementedError, match=name):
        TwoTaskTypes().run(*steps)
