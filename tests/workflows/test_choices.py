"""Workflows that fail on purpose, and choices between steps, run on the embedded Conductor."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any

import pytest
from pydantic import BaseModel

from perago import task
from perago.testing import TaskRunner
from perago.workflows import Flow, Step, WorkflowDefinitionError, workflow
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


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Facts(BaseModel):
    is_valid: bool = True
    number: int = 3
    share: float = 0.5
    size: Size = Size.SMALL
    level: Level = Level.LOW
    text: str = "a"
    maybe: int | None = None


class Taken(BaseModel):
    branch: str


@task(name="flow.facts", owner_email=OWNER)
def facts(params: Facts) -> Facts:
    return params


@task(name="flow.taken", owner_email=OWNER)
def taken(params: Taken) -> Taken:
    return params


CONDITIONS: list[tuple[Any, dict[str, Any], str]] = [
    (lambda read: read.is_valid, {"is_valid": True}, "then"),
    (lambda read: read.is_valid, {"is_valid": False}, "otherwise"),
    (lambda read: read.number < 3, {}, "otherwise"),
    (lambda read: read.number <= 3, {}, "then"),
    (lambda read: read.number > 2.5, {}, "then"),
    (lambda read: read.number >= 4, {}, "otherwise"),
    (lambda read: read.number == 3, {}, "then"),
    (lambda read: read.share != 0.5, {}, "otherwise"),
    (lambda read: read.share == 1, {"share": 1.0}, "then"),
    (lambda read: read.size == Size.LARGE, {"size": "large"}, "then"),
    (lambda read: read.level == Level.HIGH, {}, "otherwise"),
    (lambda read: read.text != 'it\'s "b"', {"text": 'it\'s "b"'}, "otherwise"),
    (lambda read: read.is_valid == False, {}, "otherwise"),  # noqa: E712 - a value is no bool yet
    (lambda read: read.maybe > -1, {"maybe": 0}, "then"),
    (lambda read: read.maybe > -1, {}, "no value"),
    (lambda read: read.maybe != 3, {}, "no value"),
]


@pytest.mark.parametrize(("condition", "fields", "branch"), CONDITIONS)
def test_a_condition_chooses_one_branch_or_fails(
    perago_run: TaskRunner, condition: Any, fields: dict[str, Any], branch: str
) -> None:
    @workflow(name="conditions", version=1, owner_email=OWNER)
    def conditions(flow: Flow, params: Facts) -> None:
        read = flow.step("facts", facts, Facts, **{name: getattr(params, name) for name in Facts.model_fields})
        with flow.when("choice", condition(read.result)) as choice:
            with choice.then():
                flow.step("then", taken, Taken, branch="then")
            with choice.otherwise():
                flow.step("otherwise", taken, Taken, branch="otherwise")

    ran = perago_run.workflow(conditions, fields)

    if branch == "no value":
        assert ran.status == "FAILED"
        assert "has no value" in str(ran.reason)
    else:
        assert (ran.status, ran.outcomes[-1].delivery.reference_name) == ("COMPLETED", branch)


def test_a_condition_with_one_branch_goes_on_after_it(perago_run: TaskRunner) -> None:
    @workflow(name="one", version=1, owner_email=OWNER)
    def few_steps(flow: Flow, needed: Needed) -> None:
        with flow.loop("again", at_most=5, on_exhausted="fail") as loop:
            counted = flow.step("count", count, Rounds, rounds=9)
            loop.until(counted.result.rounds >= 2)
        with flow.when("few", needed.least > 2) as few, few.otherwise():
            flow.step("enough", alone, Named, name="enough")
        flow.step("last", alone, Named, name="last")
        flow.unchecked(needed.rounds)

    assert perago_run.workflow(few_steps, Needed(least=3), tree=START).tree.keys() == {
        "last",
        "round1",
        "round2",
        "start",
    }
    assert "enough" in perago_run.workflow(few_steps, Needed(least=1), tree=START).tree
    assert "few  switch on ${workflow.input.least} > 2" in picture_of(few_steps.definition())


@pytest.mark.parametrize(
    ("name", "cases", "fields", "last"),
    [
        ("is_valid", [True, False], False, "case_1"),
        ("number", [3, 4], 4, "case_1"),
        ("size", [Size.SMALL, Size.LARGE], "large", "case_1"),
        ("level", [Level.HIGH, Level.LOW], 2, "case_0"),
        ("maybe", [1], None, "default"),
    ],
)
def test_a_switch_takes_bools_integers_and_members_of_enums(
    perago_run: TaskRunner, name: str, cases: list[Any], fields: object, last: str
) -> None:
    @workflow(name="cases", version=1, owner_email=OWNER)
    def chosen(flow: Flow, params: Facts) -> None:
        read = flow.step("facts", facts, Facts, **{field: getattr(params, field) for field in Facts.model_fields})
        with flow.switch("choice", getattr(read.result, name)) as switch:
            for number, case in enumerate(cases):
                with switch.case(case):
                    flow.step(f"case_{number}", taken, Taken, branch="case")
            with switch.default():
                flow.step("default", taken, Taken, branch="default")

    ran = perago_run.workflow(chosen, {name: fields})

    assert (ran.status, ran.outcomes[-1].delivery.reference_name) == ("COMPLETED", last)


@pytest.mark.parametrize(
    ("kind", "cases", "missing"),
    [
        ("is_valid", [True], "False"),
        ("size", [Size.SMALL], "Size.LARGE"),
        ("size", list(Size), None),
        ("number", [1], None),
    ],
)
def test_missing_cases_are_a_warning(kind: str, cases: list[Any], missing: str | None) -> None:
    @workflow(name="missing", version=1, owner_email=OWNER)
    def lacks(flow: Flow, params: Facts) -> None:
        read = flow.step("facts", facts, Facts, **{name: getattr(params, name) for name in Facts.model_fields})
        with flow.switch("choice", getattr(read.result, kind)) as switch:
            for case in cases:
                with switch.case(case):
                    flow.step(f"step{cases.index(case)}", taken, Taken, branch="a")

    messages = [warning.message for warning in lacks._build().warnings]
    assert messages == ([] if missing is None else [f"switch 'choice' has no case for {missing}"])


def test_a_missing_value_takes_no_case(perago_run: TaskRunner) -> None:
    @workflow(name="null", version=1, owner_email=OWNER)
    def null(flow: Flow, needed: Needed) -> None:
        with flow.switch("choice", needed.least) as switch:
            with switch.case(3):
                flow.step("three", taken, Taken, branch="three")
            with switch.default():
                flow.step("default", taken, Taken, branch="default")
        flow.unchecked(needed.rounds)

    conductor = perago_run.conductor
    perago_run.workflow(null, {"least": 3})
    workflow_id = conductor.start_workflow("null", {"least": None}, version=1)
    conductor.advance(1)

    ended = conductor.workflow(workflow_id)
    assert ended["reasonForIncompletion"] == "switch 'choice': needed.least has no value"


class Listed(BaseModel):
    listed: list[Facts]


class Total(BaseModel):
    numbers: list[int]


@task(name="flow.total", owner_email=OWNER)
def total(params: Listed) -> Total:
    return Total(numbers=[row.number for row in params.listed])


class Numbers(BaseModel):
    numbers: list[int]
    rounds: int = 1


def _facts(flow: Flow, number: int) -> Step[Facts]:
    return flow.step("facts", facts, Facts, number=number)


class Numbered(BaseModel):
    number: int


@workflow(name="single", version=1, owner_email=OWNER)
def single(flow: Flow, params: Numbered) -> Facts:
    return _facts(flow, params.number).result


@workflow(name="mapped", version=1, owner_email=OWNER)
def mapped(flow: Flow, params: Numbers) -> Total:
    listed = flow.map("each", params.numbers, lambda number: _facts(flow, number))
    flow.unchecked(params.rounds)
    return flow.step("total", total, Listed, listed=listed).result


@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_the_results_of_a_map_are_in_the_order_of_its_items(perago_run: TaskRunner, count: int) -> None:
    numbers = [7 * number % 12 for number in range(count)]

    ran = perago_run.workflow(mapped, Numbers(numbers=numbers))

    assert ran.result == {"numbers": numbers}
    assert "each_results  list of results in the order of the items" in picture_of(mapped.definition())


def test_each_order_of_the_items_gives_the_same_results(perago_run: TaskRunner) -> None:
    assert perago_run.workflow(mapped, Numbers(numbers=[3, 1, 2]), orders=6).result == {"numbers": [3, 1, 2]}


def test_results_of_maps_in_loops_branches_and_sub_workflows(perago_run: TaskRunner) -> None:
    @workflow(name="maps", version=1, owner_email=OWNER)
    def maps(flow: Flow, params: Numbers) -> Total:
        def branch(name: str) -> list[Facts]:
            return flow.map("each", params.numbers, lambda number: flow.sub(name, single, Numbered, number=number))

        first, _ = flow.fork("parts", ["a", "b"], branch)
        with flow.loop("again", at_most=2, on_exhausted="continue") as loop:
            listed = flow.map("inner", first, lambda row: _facts(flow, row.number))
            counted = flow.step("total", total, Listed, listed=listed)
            loop.until(flow.step("done", facts, Facts).result.number == 5)
        flow.unchecked(params.rounds)
        flow.unchecked(counted.result)
        return flow.step("last", total, Listed, listed=listed).result

    assert perago_run.workflow(maps, Numbers(numbers=[5, 4])).result == {"numbers": [5, 4]}


class Names(BaseModel):
    names: list[str]
    text: str = ""


@pytest.mark.parametrize(
    ("names", "text"), [(["a", "${workflow.input.text}"], "secret"), (["a"], "${workflow.input.names}")]
)
def test_a_map_refuses_values_that_conductor_would_read_as_expressions(
    perago_run: TaskRunner, names: list[str], text: str
) -> None:
    class Texts(BaseModel):
        name: str
        text: str

    @task(name="choices.texts", owner_email=OWNER)
    def texts(params: Texts) -> Named:
        return Named(name=params.name)

    @workflow(name="texted", version=1, owner_email=OWNER)
    def texted(flow: Flow, params: Names) -> None:
        flow.map("each", params.names, lambda name: flow.step("texts", texts, Texts, name=name, text=params.text))

    ran = perago_run.workflow(texted, Names(names=names, text=text))

    assert ran.status == "FAILED"
    assert "step texts is refused: an item or another value has an expression" in str(ran.reason)
    assert not ran.outcomes
    assert perago_run.workflow(texted, Names(names=["a$", "{b}"], text="$5")).status == "COMPLETED"


def test_an_optional_step_of_a_map_may_have_no_result() -> None:
    @workflow(name="optional", version=1, owner_email=OWNER)
    def optional(flow: Flow, params: Numbers) -> None:
        def step(number: int) -> Step[Facts]:
            with flow.options(optional=True):
                return _facts(flow, number)

        flow.step("total", total, Listed, listed=flow.map("each", params.numbers, step))
        flow.unchecked(params.rounds)

    with pytest.raises(
        WorkflowDefinitionError, match=r"takes list\[.*Facts\], but results of each is list\[.*Optional"
    ):
        optional.definition()


def test_results_that_no_step_reads_are_not_listed() -> None:
    @workflow(name="unread", version=1, owner_email=OWNER)
    def unread(flow: Flow, params: Numbers) -> None:
        flow.map("each", params.numbers, lambda number: _facts(flow, number))
        flow.unchecked(params.rounds)

    assert [task["type"] for task in unread.definition()["tasks"]][2:] == ["JOIN"]
