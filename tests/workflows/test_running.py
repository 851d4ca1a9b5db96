"""Each form of a workflow runs on the embedded Conductor, and every step continues all that was published before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from perago.attempt.publication import FENCE_PATH
from perago.testing import Conductor, InMemoryLakeFS, Outcome, TaskRunner
from perago.workflows import Flow, Workflow, workflow

from .tasks import OWNER, Found, Named, Round, Rounds, Split, Words, alone, count, read, split, write


class Nothing(BaseModel):
    pass


class Report(BaseModel):
    weight: float


@pytest.fixture
def run(perago_run: TaskRunner) -> Runner:
    return Runner(perago_run.conductor, perago_run.lakefs)


class Runner:
    """Runs workflows on a branch with one file, `start`."""

    def __init__(self, conductor: Conductor, lakefs: InMemoryLakeFS) -> None:
        self._conductor = conductor
        self._lakefs = lakefs
        self.ref = lakefs.seed("data", "main", {"start": ""}).id
        conductor.register(write, alone, read, count, split)

    def __call__(self, *definitions: Workflow[Any, Any], **params: object) -> Ran:
        """Run the last of the workflows; the others are its sub-workflows."""
        for one in definitions:
            self._conductor.create_workflow_definition(one.definition())
        place = {"repository": "data", "branch": "main", "ref_type": "commit", "ref": self.ref}
        started = self._conductor.start_workflow(definitions[-1].name, {"workspace": place, **params})
        outcomes = self._conductor.drain()
        ended = self._conductor.workflow(started)
        assert ended["status"] == "COMPLETED", ended
        return Ran(ended, outcomes, sorted({*self._lakefs.tree("data", "main")} - {FENCE_PATH}))


class Ran:
    """A workflow that completed."""

    def __init__(self, ended: Mapping[str, Any], outcomes: tuple[Outcome, ...], files: list[str]) -> None:
        self.output = ended["output"]
        self.steps = {row["referenceTaskName"]: row for row in ended["tasks"]}
        self.outcomes = outcomes
        self.files = files


def test_steps_continue_each_other(run: Runner) -> None:
    @workflow(name="chain", version=1, owner_email=OWNER)
    def chain(flow: Flow, given: Named) -> Report:
        one = flow.step("one", alone, Named, name=given.name, theWeights=given.weights)
        seen = flow.step("look", read, Named, name="unused")
        flow.step("words", split, Words, text=given.name)
        two = flow.step("two", alone, Named, name="b", theWeights=[one.result.weight, 0.5, seen.result.weight])
        return flow.value(Report, weight=two.result.weight)

    ran = run(chain, name="a")

    assert ran.files == ["a", "b", "start"]
    assert ran.output["result"] == {"weight": 2 + 1 + 0.5 + 2}
    assert ran.output["workspace"]["ref"] == ran.outcomes[-1].commit


def test_what_follows_a_fork_has_the_files_of_all_branches(run: Runner) -> None:
    @workflow(name="fork", version=1, owner_email=OWNER)
    def fork(flow: Flow, given: Nothing) -> Report:
        def branch(name: str) -> Found:
            flow.step("first", write, Named, name=f"{name}1")
            return flow.step("second", write, Named, name=f"{name}2").result

        results = flow.fork("parts", ["North", "South"], branch)
        last = flow.step("last", alone, Named, name="last", theWeights=[one.weight for one in results])
        return flow.value(Report, weight=last.result.weight)

    ran = run(fork)

    assert ran.files == ["North1", "North2", "South1", "South2", "last", "start"]
    assert ran.steps["last"]["outputData"]["result"]["files"] == ["North1", "North2", "South1", "South2", "start"]
    assert {"first_north", "second_north", "first_south", "second_south"} <= ran.steps.keys()


def test_different_steps_run_next_to_each_other(run: Runner) -> None:
    @workflow(name="both", version=1, owner_email=OWNER)
    def both(flow: Flow, given: Nothing) -> None:
        def publish() -> None:
            flow.fork("inner", ["x", "y"], lambda name: flow.step("deep", write, Named, name=name))

        def words() -> None:
            flow.step("words", split, Words, text="a b")

        flow.fork("both", [publish, words], lambda branch: branch())
        flow.step("last", alone, Named, name="last")

    ran = run(both)

    assert ran.steps["last"]["outputData"]["result"]["files"] == ["start", "x", "y"]
    assert "words_words" in ran.steps


@pytest.mark.parametrize("text", ["", "a b c"])
def test_a_step_runs_for_each_item_of_a_list(run: Runner, text: str) -> None:
    @workflow(name="each", version=1, owner_email=OWNER)
    def each(flow: Flow, given: Words) -> None:
        words = flow.step("words", split, Words, text=given.text)
        flow.map("files", words.result.words, lambda word: flow.step("file", write, Named, name=word))
        flow.step("last", alone, Named, name="last")

    ran = run(each, text=text)

    assert ran.steps["last"]["outputData"]["result"]["files"] == [*text.split(), "start"]


@workflow(name="inner", version=3, owner_email=OWNER)
def inner(flow: Flow, given: Named) -> Found:
    flow.fork("halves", [1, 2], lambda number: flow.step("half", write, Named, name=given.name))
    flow.step("other", write, Named, name="other")
    return flow.step("end", write, Named, name="end", theWeights=given.weights).result


def test_a_sub_workflow_is_a_step_whose_defaults_count(run: Runner) -> None:
    @workflow(name="outer", version=1, owner_email=OWNER)
    def outer(flow: Flow, given: Nothing) -> Report:
        flow.step("before", alone, Named, name="before")
        found = flow.sub("part", inner, Named, name="half").result
        flow.step("after", alone, Named, name="after")
        return flow.value(Report, weight=found.weight)

    ran = run(inner, outer)

    assert ran.files == ["after", "before", "end", "half", "other", "start"]
    assert ran.output["result"] == {"weight": 4}


def test_a_sub_workflow_runs_for_each_item(run: Runner) -> None:
    @workflow(name="regions", version=1, owner_email=OWNER)
    def regions(flow: Flow, given: Split) -> None:
        flow.map("regions", given.words, lambda name: flow.sub("region", one_region, Words, text=name))
        flow.step("last", alone, Named, name="last")

    ran = run(one_region, regions, words=["a", "b"])

    assert ran.files == ["a", "b", "last", "start"]
    assert ran.steps["last"]["outputData"]["result"]["files"] == ["a", "b", "start"]


@workflow(name="region", version=1, owner_email=OWNER)
def one_region(flow: Flow, given: Words) -> None:
    flow.step("write", write, Named, name=given.text)


@pytest.mark.parametrize(("rounds", "at_most", "done"), [(3, 10, 3), (10, 2, 2), (1, 10, 1)])
def test_a_loop_continues_its_last_round_until_it_is_done(run: Runner, rounds: int, at_most: int, done: int) -> None:
    @workflow(name="loop", version=1, owner_email=OWNER)
    def refine(flow: Flow, given: Rounds) -> Round:
        flow.step("before", alone, Named, name="before")
        with flow.loop("rounds", at_most=at_most) as loop:
            counted = flow.step("count", count, Rounds, rounds=given.rounds)
            loop.until(counted.result.is_done)
        flow.step("after", alone, Named, name="after")
        return counted.result

    ran = run(refine, rounds=rounds)

    assert ran.files == ["after", "before", *(f"round{number + 1}" for number in range(done)), "start"]
    assert ran.output["result"]["rounds"] == done


def test_a_map_in_a_loop_continues_the_last_round(run: Runner) -> None:
    @workflow(name="maps", version=1, owner_email=OWNER)
    def maps(flow: Flow, given: Words) -> None:
        words = flow.step("words", split, Words, text=given.text)
        with flow.loop("rounds", at_most=2):
            flow.map("files", words.result.words, lambda word: flow.step("file", write, Named, name=word))
            flow.step("count", count, Rounds, rounds=9)

    assert run(maps, text="a b").files == ["a", "b", "round1", "round2", "start"]


@pytest.mark.parametrize(("name", "last"), [("a", "large"), ("", "small"), ("other", "default")])
def test_one_case_of_a_switch_runs(run: Runner, name: str, last: str) -> None:
    @workflow(name="switch", version=1, owner_email=OWNER)
    def choose(flow: Flow, given: Words) -> None:
        with flow.switch("choice", given.text) as switch:
            with switch.case("a"):
                flow.step("large", alone, Named, name="large")
            with switch.case(""):
                flow.step("small", alone, Named, name="small")
            with switch.default():
                flow.step("default", alone, Named, name="default")
        flow.step("after", alone, Named, name="after")

    assert run(choose, text=name).files == sorted(["after", last, "start"])


def test_a_task_that_perago_does_not_know_is_added_as_json(run: Runner) -> None:
    @workflow(name="raw", version=1, owner_email=OWNER)
    def raw(flow: Flow, given: Words) -> None:
        made = flow.raw(
            {
                "name": "join",
                "taskReferenceName": "join",
                "type": "INLINE",
                "inputParameters": {
                    "evaluatorType": "value-param",
                    "expression": "value",
                    "value": "${workflow.input.text}",
                },
            }
        )
        flow.step("write", alone, Named, name=flow.unchecked(made.result.result))

    assert run(raw, text="made").files == ["made", "start"]
