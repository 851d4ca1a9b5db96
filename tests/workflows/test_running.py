"""Each form of a workflow runs on the embedded Conductor, and every step continues all that was published before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, Field, RootModel

from perago import task
from perago.ports import ServiceError
from perago.testing import TaskRunner
from perago.testing.workflow_run import WorkflowRun
from perago.workflows import Flow, Workflow, workflow
from perago.workflows.definition import workflows_of

from .tasks import OWNER, Found, Named, Round, Rounds, Split, Words, alone, count, fail, read, split, write, write_once


class Nothing(BaseModel):
    pass


class Report(BaseModel):
    weight: float


@pytest.fixture
def run(perago_run: TaskRunner) -> Runner:
    return Runner(perago_run)


class Runner:
    """Runs workflows on a branch with one file, `start`."""

    def __init__(self, perago_run: TaskRunner) -> None:
        self._perago_run = perago_run

    def __call__(self, flow: Workflow[Any, Any], lost: Sequence[str] = (), **params: object) -> WorkflowRun:
        ran = self._perago_run.workflow(flow, params, tree={"start": ""}, lost=lost)
        assert ran.status == "COMPLETED", ran.reason
        return ran


def test_steps_continue_each_other(run: Runner) -> None:
    @workflow(name="chain", version=1, owner_email=OWNER)
    def chain(flow: Flow, params: Named) -> Report:
        first = flow.step("one", alone, Named, name=params.name, theWeights=params.weights)
        look = flow.step("look", read, Named, name="unused")
        flow.step("words", split, Words, text=params.name)
        second = flow.step("two", alone, Named, name="b", theWeights=[first.result.weight, 0.5, look.result.weight])
        return flow.value(Report, weight=second.result.weight)

    ran = run(chain, name="a")

    assert sorted(ran.tree) == ["a", "b", "start"]
    assert ran.result == {"weight": 2 + 1 + 0.5 + 2}


def test_different_steps_run_next_to_each_other(run: Runner) -> None:
    @workflow(name="both", version=1, owner_email=OWNER)
    def both(flow: Flow, params: Nothing) -> None:
        def publish() -> None:
            flow.fork("inner", ["x", "y"], lambda name: flow.step("deep", write, Named, name=name))

        def words() -> None:
            flow.step("words", split, Words, text="a b")

        flow.fork("both", [publish, words], lambda branch: branch())
        flow.step("last", alone, Named, name="last")

    ran = run(both)

    assert ran.outcome("last").result["files"] == ["start", "x", "y"]
    assert ran.outcome("words_words").result == {"words": ["a", "b"]}


class Whole(BaseModel, extra="forbid"):
    words: Words


class Sent(BaseModel):
    number: int = Field(validation_alias="readAs", serialization_alias="writtenAs")


class Numbers(BaseModel):
    numbers: list[Sent]


@task(name="flow.numbers", owner_email=OWNER)
def numbers(params: Nothing) -> Numbers:
    return Numbers(numbers=[Sent(readAs=3)])


@task(name="flow.whole", owner_email=OWNER)
def whole(params: Whole) -> Words:
    return params.words


class Listed(RootModel[list[str]]):
    pass


class Lists(BaseModel):
    listed: Listed


@task(name="flow.lists", owner_email=OWNER)
def lists(params: Lists) -> Split:
    return Split(words=params.listed.root)


@task(name="flow.rounds", owner_email=OWNER)
def rounds_of(params: Rounds) -> Round:
    return Round(rounds=params.rounds, is_done=True)


def test_values_of_each_form_arrive(run: Runner) -> None:
    """All parameters as one value, a root model, constants next to values, an item under the name of its result."""

    @workflow(name="forms", version=1, owner_email=OWNER)
    def forms(flow: Flow, params: Words) -> Words:
        flow.step("file", write, Named, name="a")
        flow.step("whole", whole, Whole, words=params)
        flow.step("lists", lists, Lists, listed=flow.value(Listed, root=[params.text]))
        flow.map("files", ["c", params.text], lambda word: flow.step("each", write, Named, name=word))
        step = flow.step("numbers", numbers, Nothing)
        flow.map("rounds", step.result.numbers, lambda item: flow.step("round", rounds_of, Rounds, rounds=item.number))
        return params

    ran = run(forms, text="b")

    assert ran.result == {"text": "b"}
    assert sorted(ran.tree) == ["a", "b", "c", "start"]
    assert ran.outcome("whole").result == {"text": "b"}
    assert ran.outcome("lists").result == {"words": ["b"]}
    assert ran.outcome("round_0").result == {"rounds": 3, "is_done": True}


def test_two_versions_of_a_sub_workflow_run_in_one_workflow(run: Runner) -> None:
    def version(number: int) -> Workflow[Any, Any]:
        @workflow(name="versions", version=number, owner_email=OWNER)
        def numbered(flow: Flow, params: Nothing) -> None:
            flow.step("file", write, Named, name=f"version{number}")

        return numbered

    @workflow(name="versions", version=2, owner_email=OWNER)
    def both(flow: Flow, params: Nothing) -> None:
        flow.sub("one", version(1), Nothing)
        flow.sub("three", version(3), Nothing)

    assert sorted(run(both).tree) == ["start", "version1", "version3"]


def test_many_loops_are_written_in_a_moment() -> None:
    @workflow(name="many", version=1, owner_email=OWNER)
    def many(flow: Flow, params: Split) -> None:
        for number in range(40):
            with flow.loop(f"loop{number}", at_most=2):
                flow.map(f"map{number}", params.words, lambda word: flow.step(f"file{number}", write, Named, name=word))  # noqa: B023

    assert len(many.definition()["tasks"]) == 40


@workflow(name="inner", version=3, owner_email=OWNER)
def inner(flow: Flow, params: Named) -> Found:
    flow.fork("halves", [1, 2], lambda number: flow.step("half", write, Named, name=params.name))
    flow.step("other", write, Named, name="other")
    return flow.step("end", write, Named, name="end", theWeights=params.weights).result


def test_a_sub_workflow_is_a_step_whose_defaults_count(run: Runner) -> None:
    @workflow(name="outer", version=1, owner_email=OWNER)
    def outer(flow: Flow, params: Nothing) -> Report:
        flow.step("before", alone, Named, name="before")
        result = flow.sub("part", inner, Named, name="half").result
        flow.step("after", alone, Named, name="after")
        return flow.value(Report, weight=result.weight)

    ran = run(outer)

    assert sorted(ran.tree) == ["after", "before", "end", "half", "other", "start"]
    assert ran.result == {"weight": 4}


def test_a_sub_workflow_runs_for_each_item(run: Runner) -> None:
    @workflow(name="regions", version=1, owner_email=OWNER)
    def regions(flow: Flow, params: Split) -> None:
        flow.map("regions", params.words, lambda name: flow.sub("region", one_region, Words, text=name))
        flow.step("last", alone, Named, name="last")

    ran = run(regions, words=["a", "b"])

    assert sorted(ran.tree) == ["a", "b", "last", "start"]
    assert ran.outcome("last").result["files"] == ["a", "b", "start"]


@workflow(name="region", version=1, owner_email=OWNER)
def one_region(flow: Flow, params: Words) -> None:
    flow.step("write", write, Named, name=params.text)


@pytest.mark.parametrize(("rounds", "at_most", "done"), [(3, 10, 3), (10, 2, 2), (1, 10, 1)])
def test_a_loop_continues_its_last_round_until_it_is_done(run: Runner, rounds: int, at_most: int, done: int) -> None:
    @workflow(name="loop", version=1, owner_email=OWNER)
    def refine(flow: Flow, params: Rounds) -> Round:
        flow.step("before", alone, Named, name="before")
        with flow.loop("rounds", at_most=at_most) as loop:
            counted = flow.step("count", count, Rounds, rounds=params.rounds)
            loop.until(counted.result.is_done)
        flow.step("after", alone, Named, name="after")
        return counted.result

    ran = run(refine, rounds=rounds)

    assert sorted(ran.tree) == ["after", "before", *(f"round{number + 1}" for number in range(done)), "start"]
    assert ran.result["rounds"] == done


def test_a_map_in_a_loop_continues_the_last_round(run: Runner) -> None:
    @workflow(name="maps", version=1, owner_email=OWNER)
    def maps(flow: Flow, params: Words) -> None:
        words = flow.step("words", split, Words, text=params.text)
        with flow.loop("rounds", at_most=2):
            flow.map("files", words.result.words, lambda word: flow.step("file", write, Named, name=word))
            flow.step("count", count, Rounds, rounds=9)

    assert run(maps, text="a b").tree.keys() == {"a", "b", "round1", "round2", "start"}


@pytest.mark.parametrize(("name", "last"), [("a", "large"), ("", "small"), ("other", "default")])
def test_one_case_of_a_switch_runs(run: Runner, name: str, last: str) -> None:
    @workflow(name="switch", version=1, owner_email=OWNER)
    def choose(flow: Flow, params: Words) -> None:
        with flow.switch("choice", params.text) as switch:
            with switch.case("a"):
                flow.step("large", alone, Named, name="large")
            with switch.case(""):
                flow.step("small", alone, Named, name="small")
            with switch.default():
                flow.step("default", alone, Named, name="default")
        flow.step("after", alone, Named, name="after")

    assert run(choose, text=name).tree.keys() == {"after", last, "start"}


def test_tasks_that_perago_does_not_know_are_added_as_json(run: Runner) -> None:
    """Also a structure, whose tasks can be named."""

    @workflow(name="raw", version=1, owner_email=OWNER)
    def raw(flow: Flow, params: Words) -> None:
        inputs = {"evaluatorType": "value-param", "expression": "value", "value": params.text}
        made = flow.raw({"name": "made", "taskReferenceName": "made", "type": "INLINE", "inputParameters": inputs})
        inner = {"name": "inner", "taskReferenceName": "inner", "type": "NOOP"}
        join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": ["inner"]}
        flow.raw({"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[inner]]})
        flow.raw({**join, "inputParameters": {"found": "${inner.output}"}})
        flow.step("write", alone, Named, name=flow.unchecked(made.result.result))

    assert run(raw, text="file").tree.keys() == {"file", "start"}


def test_a_publication_of_a_dead_worker_is_adopted(run: Runner) -> None:
    ran = run(inner, lost=["other", "half_1"], name="half")

    assert sorted(ran.tree) == ["end", "half", "other", "start"]
    attempts = [one.delivery.reference_name for one in ran.outcomes]
    assert (attempts.count("other"), attempts.count("half_1"), attempts.count("end")) == (2, 2, 1)


def test_a_step_that_never_ran_cannot_be_lost(run: Runner) -> None:
    with pytest.raises(LookupError, match=r"lost: no attempt of others ran; attempts ran of \w+, "):
        run(inner, lost=["others"], name="half")


def test_every_order_of_a_fork_is_tried(perago_run: TaskRunner) -> None:
    @workflow(name="depends", version=1, owner_email=OWNER)
    def depends(flow: Flow, params: Nothing) -> Round:
        flow.fork("parts", ["x", "y"], lambda name: flow.step("part", number, Words, text=name))
        return flow.step("last", last_number, Nothing).result

    with pytest.raises(AssertionError, match="in the order part_y -> part_x -> last"):
        perago_run.workflow(depends, orders=10)


NUMBERS: list[str] = []


@task(name="flow.number", owner_email=OWNER)
def number(params: Words) -> Nothing:
    NUMBERS.append(params.text)
    return Nothing()


@task(name="flow.last", owner_email=OWNER)
def last_number(params: Nothing) -> Round:
    return Round(rounds=ord(NUMBERS[-1]), is_done=True)


def test_a_workflow_goes_on_without_an_optional_step_that_failed(run: Runner) -> None:
    @workflow(name="optional", version=1, owner_email=OWNER)
    def optional(flow: Flow, params: Nothing) -> Report:
        flow.step("one", write, Named, name="one")
        with flow.options(optional=True):
            flow.step("broken", fail, Named, name="broken")
        with flow.options(optional=True):
            flow.step("works", write, Named, name="works")
            flow.step("broken_last", fail, Named, name="broken")
        with flow.options(optional=True):
            flow.fork(
                "sides",
                ["left", "right"],
                lambda side: flow.step("side", [fail, write][side == "left"], Named, name=side),
            )
            flow.map("words", ["a", "b"], lambda word: flow.step("word", fail, Named, name=word))
        return flow.value(Report, weight=flow.step("last", write, Named, name="last").result.weight)

    ran = run(optional)
    assert sorted(ran.tree) == ["last", "left", "one", "start", "works"]
    assert ran.tree["last"] == b"left\none\nstart\nworks\n"


def test_the_files_of_optional_steps_stay_whichever_of_them_fail(run: Runner) -> None:
    @workflow(name="some", version=1, owner_email=OWNER)
    def some(flow: Flow, params: Nothing) -> None:
        def branch(side: str) -> None:
            with flow.options(optional=True):
                flow.step("begin", fail, Named, name="broken")
                flow.step("works", write, Named, name=side)
                flow.step("broken", fail, Named, name="broken")

        branch("alone")
        flow.step("between", write, Named, name="between")
        with flow.options(optional=True):
            flow.fork("sides", ["left", "right"], branch)
            flow.step("end", fail, Named, name="broken")
        flow.step("last", write, Named, name="last")

    ran = run(some)
    assert ran.tree["between"] == b"alone\nstart\n"
    assert ran.tree["last"] == b"alone\nbetween\nleft\nright\nstart\n"


def test_the_files_of_an_optional_step_stay_if_it_fails_in_a_later_round(run: Runner) -> None:
    @workflow(name="rounds", version=1, owner_email=OWNER)
    def rounds(flow: Flow, params: Nothing) -> None:
        with flow.loop("again", at_most=3):
            with flow.options(optional=True):
                flow.step("first", write_once, Named, name="once")
            flow.step("look", read, Named, name="look")
        flow.step("last", write, Named, name="last")

    assert run(rounds).tree["last"] == b"once\nstart\n"


def test_a_step_has_the_retries_and_the_delay_of_its_options(perago_run: TaskRunner) -> None:
    @workflow(name="retried", version=1, owner_email=OWNER)
    def retried(flow: Flow, params: Nothing) -> None:
        with flow.options(retries=2, start_delay_seconds=60):
            flow.step("broken", fail, Named, name="broken")

    ran = perago_run.workflow(retried, tree={})
    assert (ran.status, len(ran.outcomes)) == ("FAILED", 3)
    (first, *_) = ran.outcomes
    assert first.task["startTime"] - first.task["scheduledTime"] >= 60_000


def test_a_parameter_that_the_workflow_does_not_have_is_refused(perago_run: TaskRunner) -> None:
    with pytest.raises(TypeError, match=r"^workflow inner has no parameter 'nmae'; it takes name, "):
        perago_run.workflow(inner, {"nmae": "half"}, tree={})
    with pytest.raises(TypeError, match=r"^workflow inner needs the parameter 'name'; it takes name, "):
        perago_run.workflow(inner, orders=2)


@pytest.mark.parametrize("wrong", [split, "inner", {"name": "inner"}, None])
def test_what_is_not_a_workflow_or_its_params_is_refused(perago_run: TaskRunner, wrong: Any) -> None:
    with pytest.raises((TypeError, ServiceError), match=r"is not a workflow; give a function|tasks") as raised:
        perago_run.workflow(wrong, tree={})
    assert [Path(str(entry.path)).name for entry in raised.traceback.filter(raised)] == ["test_running.py"]
    for params in (Named, "half", ["half"]):
        with pytest.raises(TypeError, match=r"the params are .*; give a model or a dictionary") as raised:
            perago_run.workflow(inner, params, tree={})  # type: ignore[arg-type]


def test_two_workflows_of_one_function_name_are_both_found() -> None:
    module = ModuleType("twins")
    code = """
from pydantic import BaseModel
from perago.workflows import workflow

class Given(BaseModel):
    pass

@workflow(name="first", version=1, owner_email="a@b.example")
def twin(flow, given: Given) -> None: ...
@workflow(name="second", version=1, owner_email="a@b.example")
def twin(flow, given: Given) -> None: ...
"""
    exec(code, vars(module))
    assert [one.name for one in workflows_of(module)] == ["first", "second"]


def test_the_json_of_another_tool_runs_with_its_task_functions(perago_run: TaskRunner) -> None:
    step = {"name": "flow.split", "taskReferenceName": "one", "type": "SIMPLE"}
    definition = {
        "name": "json",
        "version": 1,
        "schemaVersion": 2,
        "tasks": [{**step, "inputParameters": {"params": {"text": "${workflow.input.text}"}}}],
    }
    ran = perago_run.workflow(definition, {"text": "a b"}, functions=[split])
    assert ran.outcome("one").result == {"words": ["a", "b"]}
    with pytest.raises(LookupError, match="no attempt of 'two' ran; attempts ran of one"):
        ran.outcome("two")
