"""A workflow waits for signals and times, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from perago import task
from perago.failure import Failure
from perago.testing import TaskRunner
from perago.testing.services import InMemoryServices
from perago.workflows import FailedWorkflow, Flow, Workflow, workflow
from perago.workflows.picture import picture_of
from perago.workflows.waiting import MAX_SIGNAL_BYTES, send_signal

from .tasks import OWNER, Named, Rounds, Words, alone, count, split


class Nothing(BaseModel):
    pass


class Approval(BaseModel):
    by: str
    answer: Literal["yes", "no", "later"] = "yes"
    notes: list[str] = []


class Plan(BaseModel):
    minutes: int = 1
    at: datetime = datetime(2030, 1, 1, tzinfo=UTC)


@workflow(name="approved", version=1, owner_email=OWNER)
def approved(flow: Flow, params: Nothing) -> Approval:
    silence = Approval(by="nobody", answer="no")
    approval = flow.wait_for("approval", Approval, timeout_minutes=90, on_timeout=silence)
    with flow.switch("answer", approval.result.answer) as answer, answer.case("yes"):
        flow.step("publish", alone, Named, name=approval.result.by)
    return approval.result


@workflow(name="asked", version=1, owner_email=OWNER)
def asked(flow: Flow, params: Nothing) -> Approval:
    return flow.wait_for("approval", Approval).result


@workflow(name="strict", version=1, owner_email=OWNER)
def strict(flow: Flow, params: Nothing) -> Approval:
    return flow.wait_for("approval", Approval, timeout_minutes=60 * 24 * 40).result


def test_a_signal_is_the_result_of_its_step(perago_run: TaskRunner) -> None:
    ran = perago_run.workflow(approved, tree={}, signals={"approval": Approval(by="ann")})
    assert ran.result == {"by": "ann", "answer": "yes", "notes": []}
    assert sorted(ran.tree) == ["ann"]


def test_the_workflow_goes_on_after_the_timeout(perago_run: TaskRunner) -> None:
    ran = perago_run.workflow(approved, tree={"start": ""})
    assert (ran.status, ran.result["by"], sorted(ran.tree)) == ("COMPLETED", "nobody", ["start"])


def test_the_workflow_ends_after_the_timeout(perago_run: TaskRunner) -> None:
    assert perago_run.workflow(strict, tree={}).status == "TIMED_OUT"
    assert perago_run.workflow(asked, tree={}).status == "RUNNING"


def test_an_optional_wait_ends_without_a_result(perago_run: TaskRunner) -> None:
    @workflow(name="optional", version=1, owner_email=OWNER)
    def optional(flow: Flow, params: Nothing) -> None:
        with flow.options(optional=True):
            flow.wait_for("approval", Approval, timeout_minutes=5)
        flow.step("after", alone, Named, name="after")

    assert sorted(perago_run.workflow(optional, tree={}).tree) == ["after"]


@workflow(name="rounds", version=1, owner_email=OWNER)
def rounds(flow: Flow, params: Nothing) -> Approval:
    with flow.loop("again", at_most=3):
        approval = flow.wait_for("approval", Approval, timeout_minutes=5, on_timeout=Approval(by="nobody"))
    return approval.result


def test_each_round_of_a_loop_waits_for_its_own_signal(perago_run: TaskRunner) -> None:
    signals = [Approval(by=name) for name in ("ann", "bob", "cem")]
    ran = perago_run.workflow(rounds, tree={}, signals={"approval": signals})
    assert ran.result["by"] == "cem"
    assert perago_run.workflow(rounds, tree={}, signals={"approval": signals[0]}).result["by"] == "ann"
    assert perago_run.workflow(rounds, tree={}, signals={"approval": signals[:2]}).result["by"] == "nobody"
    ran = perago_run.workflow(rounds, tree={}, signals={"approval": [None, *signals[1:]]})
    assert ran.result["by"] == "cem"
    with pytest.raises(LookupError, match="step 'approval' waited 3 times, but the list has 6 signals"):
        perago_run.workflow(rounds, tree={}, signals={"approval": [*signals, *signals]})


@workflow(name="parts", version=1, owner_email=OWNER)
def parts(flow: Flow, params: Nothing) -> Approval:
    def branch(name: str) -> Approval:
        return flow.wait_for("ask", Approval).result

    left, _ = flow.fork("sides", ["left", "right"], branch)
    flow.sub("inner", asked, Nothing)
    return left


def test_branches_and_sub_workflows_wait_for_signals(perago_run: TaskRunner) -> None:
    signals = {"ask_left": Approval(by="l"), "ask_right": Approval(by="r"), "approval": Approval(by="sub")}
    ran = perago_run.workflow(parts, signals=signals, orders=2)
    assert (ran.status, ran.result["by"]) == ("COMPLETED", "l")


class Rejection(BaseModel):
    by: str = "x"


WRONG_SIGNALS: dict[str, tuple[Any, str]] = {
    "no field": ({"approval": {}}, "the signal 'approval' was not sent: /by: is missing (sent: {}; the step waits for"),
    "a name": (
        {"aproval": Approval(by="a")},
        "no step waits for 'aproval'; did you mean approval? (the workflow waits",
    ),
    "another name": (
        {"x": {}},
        "no step waits for 'x'; correct the name (the workflow waits for 'approval' (Approval))",
    ),
    "no names": (Approval(by="a"), "signals is Approval(by='a', answer='yes', notes=[]), not a dictionary of signals"),
    "a model": ({"approval": Rejection()}, "Rejection(by='x') was sent to 'approval', but it waits for Approval"),
    "a class": (
        {"approval": Approval},
        "was sent to 'approval', and is not a signal; give Approval(...), its JSON, or",
    ),
    "a text": ({"approval": "yes"}, "signals: 'yes' was sent to 'approval', and is not a signal"),
    "a text in a list": ({"approval": [{"by": "a"}, "yes"]}, "signals: 'yes' was sent to 'approval', and is not"),
    "nothing": ({"approval": None}, "signals: None was sent to 'approval', and is not a signal"),
    "no JSON": ({"approval": {"by": {1}}}, "{'by': {1}} was sent to 'approval': Object of type set is not JSON"),
    "too many": ({"approval": [{"by": "a"}] * 2}, "step 'approval' waited 1 time, but the list has 2 signals"),
}


@pytest.mark.parametrize(("signals", "problem"), WRONG_SIGNALS.values(), ids=WRONG_SIGNALS)
def test_a_wrong_signal_of_a_test_is_reported(perago_run: TaskRunner, signals: Any, problem: str) -> None:
    with pytest.raises((TypeError, LookupError)) as raised:
        perago_run.workflow(asked, tree={}, signals=signals)
    assert problem in str(raised.value)
    shown = [Path(entry.path).name for entry in raised.traceback.filter(raised)]
    assert shown == ["test_waiting.py"]


def test_a_signal_that_no_step_waited_for_is_reported(perago_run: TaskRunner) -> None:
    with pytest.raises(LookupError, match="signals: no step waited for after"):
        perago_run.workflow(rescued, Words(text="good"), signals={"after": {"by": "ann"}})


@workflow(name="rescue", version=1, owner_email=OWNER)
def rescue(flow: Flow, failed: FailedWorkflow) -> None:
    answer = flow.wait_for("after", Approval)
    flow.sub("inner", asked, Nothing)
    flow.step("words", split, Words, text=answer.result.by)


@workflow(name="rescued", version=1, owner_email=OWNER, on_failure=rescue)
def rescued(flow: Flow, params: Words) -> None:
    with flow.when("bad", params.text == "bad") as bad, bad.then():
        flow.fail("end", "it is bad")
    flow.sleep(minutes=1)


@pytest.mark.parametrize("orders", [1, 2])
def test_a_workflow_that_runs_after_a_failure_gets_signals(perago_run: TaskRunner, orders: int) -> None:
    signals = {"after": Approval(by="ann"), "approval": Approval(by="bob")}
    ran = perago_run.workflow(rescued, Words(text="bad"), signals=signals, orders=orders)
    assert (ran.status, ran.outcome("words").result) == ("FAILED", {"words": ["ann"]})


@pytest.mark.parametrize("sent", [{}, {"by": 1}, {"by": "ann", "answer": "maybe"}, {"by": "ann", "notes": "none"}])
def test_a_signal_that_nobody_checked_fails_the_workflow(sent: Mapping[str, Any]) -> None:
    with InMemoryServices() as services:
        conductor, workflow_id = services.conductor, _started(services, asked)
        conductor.update_task_by_reference(workflow_id, "approval", "COMPLETED", sent)
        ended = conductor.workflow(workflow_id)
        assert ended["status"] == "FAILED"
        field = [*sent, "by"][max(len(sent) - 1, 0)]
        assert f"signal approval is refused: {field} is missing or of another type" in ended["reasonForIncompletion"]


class Amount(BaseModel):
    euros: int
    note: str | None = None


class Order(BaseModel):
    amounts: list[Amount]
    by: Approval | None = None
    limit: float = 1


@workflow(name="ordered", version=1, owner_email=OWNER)
def ordered(flow: Flow, params: Nothing) -> Order:
    return flow.wait_for("order", Order).result


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        ({"amounts": [{"euros": 1}, {"note": "a"}]}, "amounts.1.euros"),
        ({"amounts": [{"euros": 1.5}]}, "amounts.0.euros"),
        ({"amounts": [{"euros": 1, "note": 1}]}, "amounts.0.note"),
        ({"amounts": [{"euros": 1, "note": None}], "by": {"by": "ann", "answer": "maybe"}}, "by"),
        ({"amounts": [1]}, "amounts.0"),
        ({"amounts": [], "by": {"by": "ann"}, "limit": 1.5}, None),
        ({"amounts": [], "limit": 2}, None),
    ],
)
def test_nested_models_of_a_signal_are_checked_by_the_server(sent: Mapping[str, Any], place: str | None) -> None:
    with InMemoryServices() as services:
        conductor, workflow_id = services.conductor, _started(services, ordered)
        conductor.update_task_by_reference(workflow_id, "order", "COMPLETED", sent)
        reason = str(conductor.workflow(workflow_id).get("reasonForIncompletion", ""))
        refused = f"signal order is refused: {place} is missing or of another type" in reason
        assert (refused, bool(reason)) == (place is not None,) * 2


def test_a_workflow_after_a_failure_takes_a_signal_of_the_failed_one() -> None:
    with InMemoryServices() as services:
        services.conductor.create_workflow_definition(rescue.definition())
        failed = _started(services, rescued, text="bad")
        assert _send(services, failed, "after", {"by": "ann"}) != failed


def _started(services: InMemoryServices, flow: Workflow[Any, Any], **params: object) -> str:
    for part in (asked, flow):
        services.conductor.create_workflow_definition(part.definition(), overwrite=True)
    return services.conductor.start_workflow(flow.name, {"minutes": 1, **params}, version=flow.version)


def _send(services: InMemoryServices, workflow_id: str, name: str, signal: Mapping[str, Any]) -> str:
    return send_signal(services.conductor, services.conductor.workflow(workflow_id), name, signal).workflow_id


def test_a_signal_says_whether_it_was_taken() -> None:
    with InMemoryServices() as services:
        workflow_id = _started(services, parts)
        with pytest.raises(
            Failure, match=r"is RUNNING and does not wait for 'approval' now; it waits for 'ask_left', "
        ):
            _send(services, workflow_id, "approval", {"by": "early"})
        assert _send(services, workflow_id, "ask_left", {"by": "ann"}) == workflow_id
        with pytest.raises(Failure, match="does not wait for 'ask_left' now; it waits for 'ask_right'"):
            _send(services, workflow_id, "ask_left", {"by": "twice"})
        _send(services, workflow_id, "ask_right", {"by": "bob"})
        services.conductor.sweep()
        services.conductor.advance(60)
        assert _send(services, workflow_id, "approval", {"by": "cem"}) != workflow_id
        services.conductor.advance(60)
        with pytest.raises(
            Failure, match="is COMPLETED and does not wait for 'approval' now; it waits for no signal"
        ) as ended:
            _send(services, workflow_id, "approval", {"by": "late"})
        assert f"perago rerun {workflow_id} --from approval" in str(ended.value.fix)


def test_a_signal_for_several_steps_is_refused() -> None:
    @workflow(name="twins", version=1, owner_email=OWNER)
    def twins(flow: Flow, params: Nothing) -> None:
        flow.fork("both", [1, 2], lambda _: flow.sub("inner", asked, Nothing))

    with InMemoryServices() as services:
        workflow_id = _started(services, twins)
        services.conductor.advance(60)
        with pytest.raises(Failure, match=r"2 steps of workflow .* wait for 'approval': in ") as refused:
            _send(services, workflow_id, "approval", {"by": "ann"})
        inner = refused.value.message.rpartition(" ")[2]
        assert _send(services, inner, "approval", {"by": "ann"}) == inner


def test_a_wrong_signal_is_not_sent_and_not_quoted() -> None:
    with InMemoryServices() as services:
        workflow_id = _started(services, asked)
        with pytest.raises(Failure, match="the signal 'approval' was not sent") as refused:
            _send(services, workflow_id, "approval", {"by": "ann", "answer": "hunter2"})
        assert "hunter2" not in refused.value.message
        with pytest.raises(Failure, match="was not sent: /anser: is unknown") as refused:
            _send(services, workflow_id, "approval", {"by": "ann", "anser": "no"})
        assert refused.value.fix == "correct the signal, and send it; its fields are by, answer, notes"
        with pytest.raises(Failure, match=r"has 262,\d+ bytes, but 262,144 at most"):
            _send(services, workflow_id, "approval", {"by": "a" * MAX_SIGNAL_BYTES})
        with pytest.raises(Failure, match=r"could read '\$\{' in it as an expression"):
            _send(services, workflow_id, "approval", {"by": "${workflow.input.minutes}"})
        assert services.conductor.workflow(workflow_id)["status"] == "RUNNING"
        services.conductor.update_task_by_reference(workflow_id, "approval", "COMPLETED", {"by": "${workflow.input}"})
        reason = services.conductor.workflow(workflow_id)["reasonForIncompletion"]
        assert "signal approval is refused: it has an expression" in reason


class Overtaken:
    """Conductor, on which another client answers first."""

    def __init__(self, services: InMemoryServices) -> None:
        self._conductor = services.conductor

    def workflow(self, workflow_id: str) -> Mapping[str, Any]:
        return self._conductor.workflow(workflow_id)

    def update_task_by_reference(
        self, workflow_id: str, reference_name: str, status: str, output: Mapping[str, Any]
    ) -> str | None:
        self._conductor.update_task_by_reference(workflow_id, reference_name, status, {"by": "first"})
        return self._conductor.update_task_by_reference(workflow_id, reference_name, status, output)


@pytest.mark.parametrize("flow", [asked, rounds])
def test_a_signal_that_another_one_overtook_is_reported(flow: Workflow[Any, Any]) -> None:
    """It does not answer the next round of a loop."""
    with InMemoryServices() as services:
        overtaken = Overtaken(services)
        workflow = overtaken.workflow(_started(services, flow))
        with pytest.raises(Failure, match="another answer to 'approval' came first, so Conductor lost this one"):
            send_signal(overtaken, workflow, "approval", {"by": "second"})


# ---------------------------------------------------------------------------------- sleep


class Times(BaseModel):
    minutes: int
    at: datetime


@task(name="flow.times", owner_email=OWNER)
def times(params: Plan) -> Times:
    return Times(minutes=params.minutes, at=params.at)


@workflow(name="sleeps", version=1, owner_email=OWNER)
def sleeps(flow: Flow, params: Plan) -> None:
    flow.sleep(minutes=60 * 24 * 3)
    flow.sleep(minutes=params.minutes, name="more")
    computed = flow.step("times", times, Plan, minutes=params.minutes, at=params.at)
    flow.sleep(minutes=computed.result.minutes, name="still_more")
    flow.sleep_until(params.at)
    flow.sleep_until(computed.result.at, name="again")
    flow.step("after", count, Rounds, rounds=1)


def test_a_workflow_sleeps_in_virtual_time(perago_run: TaskRunner) -> None:
    begin = datetime.fromtimestamp(perago_run.clock.now(), UTC)
    at = begin + timedelta(days=400, seconds=1)
    ran = perago_run.workflow(sleeps, Plan(minutes=7, at=at.astimezone(timezone(timedelta(hours=5.5)))), tree={})
    first, after = (
        datetime.fromtimestamp(ran.outcome(name).task["startTime"] / 1000, UTC) for name in ("times", "after")
    )
    assert timedelta(0) <= first - begin - timedelta(days=3, minutes=7) < timedelta(minutes=1)
    assert timedelta(0) <= after - at < timedelta(minutes=2)


@pytest.mark.parametrize("params", [{"minutes": -1}, {"minutes": 1.5}, {"minutes": "1"}, {"minutes": []}])
def test_minutes_that_are_no_number_fail_the_workflow(perago_run: TaskRunner, params: Mapping[str, Any]) -> None:
    ran = perago_run.workflow(sleeps.definition(), params, tree={}, functions=[times, count])
    assert ran.status == "FAILED"
    assert "the minutes of a sleep are not a whole number" in str(ran.reason)


@pytest.mark.parametrize("at", ["soon", "2030-01-01T00:00:00", "2030-13-01T00:00:00Z", "9999-12-31T23:59:59Z", {}, 5])
def test_a_value_that_is_no_time_fails_the_workflow(perago_run: TaskRunner, at: object) -> None:
    @workflow(name="until", version=1, owner_email=OWNER)
    def until(flow: Flow, params: Plan) -> None:
        flow.sleep(minutes=params.minutes)
        flow.sleep_until(params.at)

    ran = perago_run.workflow(until.definition(), {"minutes": 1, "at": at}, tree={})
    assert ran.status == "FAILED"
    assert "the value of a sleep is not a time with a time zone" in str(ran.reason)


def test_a_known_time_is_rounded_up_to_the_minute() -> None:
    @workflow(name="known", version=1, owner_email=OWNER)
    def known(flow: Flow, params: Nothing) -> None:
        flow.sleep_until(datetime(2030, 1, 1, 2, 0, tzinfo=timezone(timedelta(hours=2))))
        flow.sleep_until(datetime(2030, 12, 31, 23, 59, 0, 1, UTC), name="second")

    until = [step["inputParameters"]["until"] for step in known.definition()["tasks"]]
    assert until == ["2030-01-01 00:00 UTC", "2031-01-01 00:00 UTC"]


def test_steps_that_wait_are_one_line_of_the_picture() -> None:
    @workflow(name="drawn", version=1, owner_email=OWNER)
    def drawn(flow: Flow, params: Plan) -> None:
        flow.wait_for("approval", Approval, timeout_minutes=90)
        flow.wait_for("second", Approval)
        flow.sleep(minutes=3)
        flow.sleep(minutes=params.minutes, name="more")
        flow.sleep_until(params.at)
        flow.raw({"name": "wait", "taskReferenceName": "raw", "type": "WAIT"})

    assert picture_of(drawn.definition()).splitlines()[1:] == [
        "  approval  wait for a signal Approval, at most 90 minutes",
        "  second  wait for a signal Approval",
        "  sleep  sleep for 3 minutes",
        "  more  sleep for ${workflow.input.minutes} minutes",
        "  sleep_until  sleep until ${workflow.input.at}",
        "  raw  wait for a signal",
    ]
    hostile = {"type": "WAIT", "taskDefinition": {"timeoutSeconds": "x", "outputSchema": 3}, "inputParameters": 7}
    assert picture_of({"name": "a", "tasks": [hostile]}).endswith("wait for a signal")


def test_two_workflows_with_waits_have_the_same_json() -> None:
    assert json.dumps(approved.definition()) == json.dumps(approved.definition())
