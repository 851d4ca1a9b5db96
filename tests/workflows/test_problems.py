"""Every mistake in the wiring is found when the workflow is built, together with all others, at the author's line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, computed_field, create_model

from perago import TaskDefinitionError, task
from perago.authoring.declaration import InvalidDeclaration
from perago.workflows import Flow, WorkflowDefinitionError, workflow

from ..golden import assert_golden
from .tasks import OWNER, Found, Named, Rounds, Split, Words, alone, count, read, split, write

Wrong = Callable[[Any, Any], Any]  # mypy would find most of these mistakes, too


class Given(BaseModel):
    text: str = "a"
    number: int = 1
    maybe: str | None = None
    listed: list[str] = ["a"]


def _use_all(flow: Any, params: Given) -> None:
    """The mistakes below are about other things than unused parameters."""
    flow.unchecked([params.text, params.number, params.maybe, params.listed])


def wrong_fields(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, nam="a")
    flow.step("two", alone, Named, name=params.number)
    flow.step("three", alone, Named, name=params.maybe)
    flow.step("four", alone, Named, name=3)
    flow.step("five", count, Rounds, rounds=params.text)
    flow.step("six", alone, Named, name="a", theWeights=[params.text])
    flow.step("seven", alone, Named, name=[params.text])
    flow.step("eight", alone, Named, name="${workflow.input.text}")
    flow.step("nine", alone, Named, "a", name="a")
    flow.step("ten", alone, Words, text="a")


def wrong_names(flow: Any, params: Any) -> None:
    flow.step("my step", alone, Named, name="a")
    flow.step("one__two", alone, Named, name="a")
    flow.step("same", alone, Named, name="a")
    flow.step("same", alone, Named, name="a")
    flow.step("a" * 300, alone, Named, name="a")


def step_in_place_of_its_result(flow: Any, params: Any) -> None:
    step = flow.step("one", alone, Named, name="a")
    flow.step("two", alone, Named, name="b", theWeights=[step])
    with flow.switch("choice", step) as switch, switch.case("a"):
        flow.step("three", alone, Named, name="a")
    flow.map("parts", step, lambda name: flow.step("four", write, Named, name=name))


class Signal(BaseModel):
    by: str = "${workflow.input.text}"


class TwoNames(BaseModel):
    by: str = Field(validation_alias="a", serialization_alias="b")


def wrong_waits(flow: Any, params: Any) -> None:
    flow.wait_for("one", Words, timeout_minutes=0)
    flow.wait_for("two", Words, on_timeout=Words(text="a"))
    flow.wait_for("three", Words, timeout_minutes=5, on_timeout=Named(name="a"))
    flow.wait_for("four", Words, timeout_minutes=5, on_timeout=params.text)
    flow.wait_for("five", Signal)
    flow.wait_for("six", TwoNames)
    flow.sleep(minutes=1.5)
    flow.sleep(minutes=5)
    flow.sleep(minutes=params.text, name="text")
    flow.sleep_until("soon", name="soon")
    flow.sleep_until(datetime(2030, 1, 1), name="naive")  # noqa: DTZ001 - the mistake
    flow.sleep_until(params.number, name="number")
    flow.map("parts", params.listed, lambda item: flow.wait_for("part", Words))


def wait_for_what_is_no_model(flow: Any, params: Any) -> None:
    flow.wait_for("one", str)


def step_as_a_text(flow: Any, params: Any) -> None:
    flow.step("two", alone, Named, name=f"{flow.step('one', alone, Named, name='a')}.csv")


def options_in_two_blocks(flow: Any, params: Any) -> None:
    options = flow.options(retries=1)
    with options:
        flow.step("one", alone, Named, name="a")
    with options:
        flow.step("two", alone, Named, name="a")


def truth_of_a_value(flow: Any, params: Any) -> None:
    if params.number > 3:
        flow.step("one", alone, Named, name="a")


def choice_by_a_value(flow: Any, params: Any) -> None:
    if flow.step("one", alone, Named, name="a").result.is_done:
        flow.step("two", alone, Named, name="a")


def text_of_a_value(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, name=f"{params.text}.csv")


def items_of_a_value(flow: Any, params: Any) -> None:
    for name in params.listed:
        flow.step("one", alone, Named, name=name)


def field_that_is_missing(flow: Any, params: Any) -> None:
    flow.step("two", alone, Named, name=flow.step("one", alone, Named, name="a").result.fils)


def field_of_a_text(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, name=params.text.upper)


def _fetched(flow: Any) -> Any:
    return flow.raw({"name": "fetch", "taskReferenceName": "fetch", "type": "HTTP"})


def items_of_a_raw_step(flow: Any, params: Any) -> None:
    for name in _fetched(flow).result:
        flow.step("one", alone, Named, name=name)


def key_of_a_raw_step(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, name=_fetched(flow).result["name"])


def field_of_a_raw_step(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, name=_fetched(flow).result.name)


def field_of_a_step(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, name=_fetched(flow).body)


def key_of_a_model(flow: Any, params: Any) -> None:
    flow.step("two", alone, Named, name=flow.step("one", alone, Named, name="a").result["kind"])


def no_task(flow: Any, params: Any) -> None:
    flow.step("one", print, Named, name="a")


def no_workflow(flow: Any, params: Any) -> None:
    flow.sub("one", alone, Named, name="a")


def value_of_a_case(flow: Any, params: Any) -> None:
    with flow.switch("choice", params.text) as switch, switch.case("a"):
        step = flow.step("one", alone, Named, name="a")
    flow.step("two", alone, Named, name="b", theWeights=[step.result.weight])


def value_of_another_branch(flow: Any, params: Any) -> None:
    steps: list[Any] = []

    def branch(name: str) -> None:
        weights = [step.result.weight for step in steps]
        steps.append(flow.step("one", write, Named, name=name, theWeights=weights))

    flow.fork("parts", ["a", "b"], branch)


def value_of_an_item(flow: Any, params: Any) -> None:
    steps: list[Any] = []
    flow.map("parts", params.listed, lambda name: steps.append(flow.step("one", write, Named, name=name)))
    flow.step("two", alone, Named, name="b", theWeights=[steps[0].result.weight])


def publishing_next_to_others(flow: Any, params: Any) -> None:
    flow.fork("parts", ["a", "b"], lambda name: flow.step("one", alone, Named, name=name))
    flow.map("each", params.listed, lambda name: flow.step("two", alone, Named, name=name))
    flow.fork("good", ["a", "b"], lambda name: flow.step("look", read, Named, name=name))


def empty_parts(flow: Any, params: Any) -> None:
    flow.fork("none", [], lambda name: name)
    flow.fork("nothing", ["a"], lambda name: name)
    with flow.loop("loop", at_most=0):
        pass
    with flow.switch("choice", params.text):
        pass
    with flow.switch("otherwise", params.text) as switch, switch.default():
        flow.step("one", alone, Named, name="a")


def two_steps_for_an_item(flow: Any, params: Any) -> None:
    def both(name: str) -> None:
        flow.step("one", write, Named, name=name)
        flow.step("two", write, Named, name=name)

    flow.map("parts", params.listed, both)


def map_over_a_text(flow: Any, params: Any) -> None:
    flow.map("parts", params.text, lambda name: flow.step("one", write, Named, name=name))


def branch_that_ends_with_a_switch(flow: Any, params: Any) -> None:
    def branch(name: str) -> None:
        with flow.switch("choice", params.text) as switch, switch.case("a"):
            flow.step("one", write, Named, name=name)

    flow.fork("parts", ["a", "b"], branch)


def loop_in_a_loop(flow: Any, params: Any) -> None:
    with flow.loop("outer", at_most=2), flow.loop("inner", at_most=2):
        flow.step("one", alone, Named, name="a")


class Home(BaseModel):
    place: str = "${HOME}"


def default_that_is_an_expression(flow: Any, params: Any) -> None:
    @workflow(name="home", version=1, owner_email=OWNER)
    def home(flow: Any, params: Home) -> None:
        flow.step("one", alone, Named, name=params.place)

    flow.sub("inner", home, Home)
    flow.sub("good", home, Home, place="a")


def options_that_are_wrong(flow: Any, params: Any) -> None:
    with flow.options(retries=-1, start_delay_seconds=True):
        flow.step("first", alone, Named, name="a")
    with flow.options(optional=True):
        tried = flow.step("tried", alone, Named, name="a")
        flow.sub("whole", same, Named, name="a")
    flow.step("uses", alone, Named, name="b", theWeights=[tried.result.weight])
    flow.options(optional=True)


def options_around_waits(flow: Any, params: Any) -> None:
    with flow.options(retries=0, start_delay_seconds=5):
        flow.step("one", alone, Named, name="a")
        flow.wait_for("signal", Words)
    with flow.options(timeout_seconds=60), flow.options(optional=True):
        flow.sleep(minutes=1)
        flow.sleep(minutes=params.number, name="computed")


def call_with_wrong_arguments(flow: Any, params: Any) -> None:
    flow.sleep(10)


def switch_on_a_model(flow: Any, params: Any) -> None:
    answer = flow.wait_for("answer", Words)
    with flow.switch("choice", answer.result) as switch, switch.case("a"):
        flow.step("one", alone, Named, name="a")


def step_that_is_a_workflow(flow: Any, params: Any) -> None:
    flow.step("one", same, Named, name="a")


def reason_that_is_the_only_mistake(flow: Any, params: Any) -> None:
    with flow.when("text", params.text == "a") as text, text.then():
        flow.fail("wrong", "{nam} is wrong", name=params.text)


def rounds_that_hide_files(flow: Any, params: Any) -> None:
    with flow.loop("tries", at_most=3), flow.options(optional=True):
        flow.step("tried", alone, Named, name="a")
    with flow.loop("lists", at_most=3):
        names = flow.unchecked(flow.raw({"name": "f", "taskReferenceName": "f", "type": "HTTP"}).result.names)
        flow.map("each", names, lambda name: flow.step("item", write, Named, name=name))
    with flow.loop("good", at_most=3):
        flow.step("always", read, Named, name="a")
        flow.map("same", params.listed, lambda name: flow.step("other", write, Named, name=name))
        with flow.options(optional=True):
            flow.step("sometimes", write, Named, name="b")


def raw_tasks_that_are_wrong(flow: Any, params: Any) -> None:
    flow.raw({"name": "wait", "taskReferenceName": "wait", "type": "WAIT", "inputParameters": {"a": "${oen.output.x}"}})
    flow.raw({"name": "late", "taskReferenceName": "late", "type": "WAIT", "inputParameters": {"at": Path("a")}})


NAMES: dict[str, str] = {}


def error_of_the_author(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, name=NAMES["missing"])


def end_of_the_process(flow: Any, params: Any) -> None:
    raise SystemExit(3)


def result_of_another_type(flow: Any, params: Any) -> Split:
    step: Any = flow.step("one", split, Words, text="a")
    return flow.value(Split, words=step.result)  # type: ignore[no-any-return]


@workflow(name="same", version=1, owner_email=OWNER)
def other_same(flow: Flow, params: Named) -> None:
    flow.step("one", alone, Named, name=params.name, theWeights=params.weights)


@workflow(name="same", version=1, owner_email=OWNER)
def same(flow: Flow, params: Named) -> None:
    flow.step("two", alone, Named, name=params.name, theWeights=params.weights)


@workflow(name="wrong", version=1, owner_email=OWNER)
def called_wrong(flow: Flow, params: Named) -> None:
    flow.step("one", alone, Named, name=params.name, theWeights=params.weights)


called_wrong._build()


def workflows_of_one_name(flow: Any, params: Any) -> None:
    flow.sub("one", same, Named, name="a")
    flow.sub("two", same, Named, name="a")
    flow.sub("three", other_same, Named, name="a")


@workflow(name="around", version=1, owner_email=OWNER)
def around_other_same(flow: Flow, params: Named) -> None:
    flow.sub("one", other_same, Named, name=params.name, theWeights=params.weights)


@task(name="flow.alone", owner_email=OWNER)
def another_alone(params: Named) -> Words:
    return Words(text=params.name)


def names_of_inner_workflows(flow: Any, params: Any) -> None:
    flow.sub("one", same, Named, name="a")
    flow.sub("two", around_other_same, Named, name="a")
    flow.step("three", another_alone, Named, name="a")


def workflow_that_runs_itself(flow: Any, params: Any) -> None:
    flow.sub("one", called_wrong, Named, name="a")


def cases_that_cannot_be(flow: Any, params: Any) -> None:
    step = flow.step("first", alone, Named, name="a")
    with flow.switch("kinds", step.result.kind) as switch, switch.case("medium"):
        flow.step("never", alone, Named, name="b")
    with flow.switch("choice", params.text) as switch:
        with switch.case("a"):
            flow.step("one", alone, Named, name="a")
        flow.step("two", alone, Named, name="b")
    with switch.default():
        flow.step("three", alone, Named, name="b")


def ends_of_loops(flow: Any, params: Any) -> None:
    before = flow.step("before", count, Rounds, rounds=1)
    with flow.loop("one", at_most=2) as loop:
        flow.step("first", alone, Named, name="a")
        loop.until(before.result.is_done)
    with flow.loop("two", at_most=2) as loop:
        loop.until(flow.step("second", count, Rounds, rounds=1).result.rounds)
    with flow.loop("three", at_most=2) as loop:
        loop.until(flow.step("third", count, Rounds, rounds=1).result.is_done)
        loop.until(flow.step("fourth", count, Rounds, rounds=1).result.is_done)


def until_after_its_loop(flow: Any, params: Any) -> None:
    with flow.loop("loop", at_most=2) as loop:
        counted = flow.step("one", count, Rounds, rounds=1)
    loop.until(counted.result.is_done)


def structures_without_with(flow: Any, params: Any) -> None:
    flow.switch("choice", params.text)
    loop = flow.loop("loop", at_most=2)
    counted = flow.step("one", count, Rounds, rounds=1)
    loop.until(counted.result.is_done)


def attribute_that_does_not_exist(flow: Any, params: Any) -> None:
    with flow.switch("choice", params.text) as switch, switch.otherwise():
        pass


def reasons_of_a_failure(flow: Any, params: Any) -> None:
    first = flow.step("one", alone, Named, name="a")
    with flow.switch("choice", params.text) as switch:
        with switch.case("a"):
            flow.fail("missing", "{rows} of {all} rows", rows=params.number)
        with switch.case("b"):
            flow.fail("unused", "no rows", rows=params.number)
        with switch.case("c"):
            flow.fail("several", "{files}", files=first.result)
        with switch.case("d"):
            flow.fail("expression", "${workflow.input.text}")
        with switch.case("e"):
            flow.fail("empty", " ")
        with switch.case("f"):
            flow.fail("step", "{first}", first=first)


def failure_in_the_middle(flow: Any, params: Any) -> None:
    flow.fork("parts", ["a", "b"], lambda name: flow.fail("end", name))
    flow.fail("last", "always")
    flow.step("one", alone, Named, name="a")


def failure_with_a_formatted_value(flow: Any, params: Any) -> None:
    flow.fail("end", f"only {params.number} rows")


def exhausted_loops(flow: Any, params: Any) -> None:
    with flow.loop("one", at_most=2, on_exhausted="fail"):
        flow.step("first", count, Rounds, rounds=1)
    with flow.loop("two", at_most=2, on_exhausted="stop") as loop:
        loop.until(flow.step("second", count, Rounds, rounds=1).result.is_done)


def comparisons_that_cannot_be(flow: Any, params: Any) -> None:
    texts = flow.step("words", split, Words, text="a")
    earlier = flow.step("one", alone, Named, name="a")
    compared: list[Callable[[], Any]] = [
        lambda: params.number == "a",
        lambda: params.text < "b",
        lambda: params.number == params.number,
        lambda: (params.number > 3) == True,  # noqa: E712
        lambda: params.maybe == None,  # noqa: E711
        lambda: params.number < 2**60,
        lambda: params.number < float("nan"),
        lambda: params.text == "${workflow.input.text}",
        lambda: earlier.result.kind == "medium",
        lambda: texts.result.words == ["a"],
        lambda: flow.step("two", count, Rounds, rounds=params.number > 3),
        lambda: flow.when("three", params.text).__enter__(),
    ]
    for number, compare in enumerate(compared):
        try:
            compare()
        except InvalidDeclaration as invalid:
            flow._writer.report(f"{number}: {invalid.rule}", invalid.fix)
    flow.fork("all", ["a"], lambda name: flow.step("file", write, Named, name=name))


def bool_operators(flow: Any, params: Any) -> None:
    with flow.when("both", params.number > 1 and params.number < 3) as both, both.then():
        flow.step("one", alone, Named, name="a")


def value_in_a_tuple(flow: Any, params: Any) -> None:
    with flow.when("either", params.text in ("a", "b")) as either, either.then():
        flow.step("one", alone, Named, name="a")


def condition_that_is_known(flow: Any, params: Any) -> None:
    with flow.when("never", params.maybe is None) as never, never.then():
        flow.step("one", alone, Named, name="a")


def floats_as_cases(flow: Any, params: Any) -> None:
    earlier = flow.step("one", alone, Named, name="a")
    with flow.switch("weight", earlier.result.weight) as switch, switch.case(1):
        flow.step("two", alone, Named, name="a")
    with flow.switch("number", params.number) as switch, switch.case(1.0):
        flow.step("three", alone, Named, name="a")


def condition_without_steps(flow: Any, params: Any) -> None:
    with flow.when("empty", params.number > 1) as empty, empty.then():
        pass


class Pair(BaseModel):
    pair: tuple[int, str]

    @computed_field
    def first(self) -> int:
        return self.pair[0]


@task(name="flow.pair", owner_email=OWNER)
def pair(params: Pair) -> Pair:
    return params


@workflow(name="pairs", version=1, owner_email=OWNER)
def pairs(flow: Flow, params: Pair) -> None:
    flow.step("one", pair, Pair, pair=params.first)


def items_at_other_places(flow: Any, params: Any) -> None:
    flow.step("one", pair, Pair, pair=(params.text, params.number))
    flow.step("two", pair, Pair, pair=(params.number,))
    flow.step("three", pair, Pair, pair=(params.number, "a"))


class Renamed(BaseModel):
    found: list[Found]


@task(name="flow.renamed", owner_email=OWNER)
def renamed(params: Renamed) -> Renamed:
    return params


def model_with_two_aliases(flow: Any, params: Any) -> None:
    flow.step("two", renamed, Renamed, found=flow.step("one", renamed, Renamed, found=[]).result.found)


def name_that_a_map_gives(flow: Any, params: Any) -> None:
    flow.step("one_0", alone, Named, name="a")
    flow.map("parts", params.listed, lambda name: flow.step("one", write, Named, name=name))


def one_mistake_in_each_branch(flow: Any, params: Any) -> None:
    flow.fork("parts", ["a", "b"], lambda name: flow.step("one_", write, Named, nam="a"))


def model_that_is_called(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, name=Words(text=params.text).text)


def key_that_is_an_expression(flow: Any, params: Any) -> None:
    flow.step("one", alone, Named, name=flow.unchecked({"${a}": params.text}))


MISTAKES: list[Wrong] = [
    value
    for name, value in globals().copy().items()
    if inspect.isfunction(value) and value.__module__ == __name__ and not name.startswith("_")
    if [*inspect.signature(value).parameters] == ["flow", "params"]
]
"""Every function above that writes a wrong workflow."""


@pytest.mark.parametrize("wrong", MISTAKES, ids=lambda wrong: wrong.__name__)
def test_a_mistake_is_found_at_its_line(wrong: Wrong) -> None:
    result = Split if wrong is result_of_another_type else None

    def written(flow: Flow, params: Given) -> Any:
        _use_all(flow, params)
        return wrong(flow, params)

    written.__annotations__ = {"flow": Flow, "params": Given, "return": result}
    built: Any = workflow(name="wrong", version=1, owner_email=OWNER)(written)
    with pytest.raises(WorkflowDefinitionError) as raised:
        built.definition()

    lines, first = inspect.getsourcelines(wrong)
    problems = raised.value.problems
    assert {Path(str(problem.file)).name for problem in problems} == {Path(__file__).name}
    assert all(first <= (problem.line or 0) < first + len(lines) for problem in problems), problems
    text = "\n".join(f"{problem.message}\n  fix: {problem.fix}" for problem in problems)
    assert_golden(__file__, wrong.__name__, text)


@pytest.mark.parametrize(
    "default",
    [
        Field(default_factory=lambda: 1 / 0),
        Field(default_factory=lambda data: data["other"]),
        Field(default=float("nan")),
        Field(default=float("inf")),
        Field(default=object()),
    ],
    ids=["raises", "needs others", "nan", "inf", "object"],
)
def test_a_default_that_json_cannot_hold(default: Any) -> None:
    model: Any = create_model("Odd", number=(float, default))

    def odd(flow: Flow, params: Any) -> None:
        flow.unchecked(params.number)
        flow.step("one", alone, Named, name="a")

    odd.__annotations__ = {"flow": Flow, "params": model, "return": None}
    built: Any = workflow(name="odd", version=1, owner_email=OWNER)(odd)
    with pytest.raises(WorkflowDefinitionError, match=r"Odd\.number has no default that JSON can hold"):
        built._build()


def test_parameters_have_no_computed_fields() -> None:
    with pytest.raises(WorkflowDefinitionError, match=r"params\.first: Pair has no field 'first'; it has pair"):
        pairs._build()


def test_a_wrong_result_has_the_line_of_its_return() -> None:
    @workflow(name="empty", version=1, owner_email=OWNER)
    def empty(flow: Flow, params: Words) -> Split:
        return params  # type: ignore[return-value]

    with pytest.raises(WorkflowDefinitionError) as raised:
        empty._build()

    assert [(problem.line, problem.message) for problem in raised.value.problems] == [
        (empty.line + 2, "the result of the workflow takes Split, but params is Words"),
        (empty.line, "the workflow has no step, which Conductor refuses"),
    ]


def test_all_problems_are_listed_with_file_and_line() -> None:
    @workflow(name="many", version=1, owner_email=OWNER)
    def many(flow: Flow, params: Given) -> None:
        for name in ("a b", "c d", "e f", "g h"):
            flow.step(name, alone, Named, name=params.text)

    with pytest.raises(WorkflowDefinitionError) as raised:
        many.definition()

    here = Path(__file__).name
    text = str(raised.value)
    assert "has 4 problems" in text
    assert text.count(f"{here}:") == 5
    assert [warning.message for warning in raised.value.warnings] == [
        f"no step uses the parameter Given.{name}" for name in ("number", "maybe", "listed")
    ]


def test_parameters_without_a_step_are_mistakes_if_there_is_no_other() -> None:
    @workflow(name="unused", version=1, owner_email=OWNER)
    def unused(flow: Flow, params: Given) -> None:
        flow.step("one", alone, Named, name="a")

    with pytest.raises(WorkflowDefinitionError) as raised:
        unused.definition()

    assert [problem.message for problem in raised.value.problems] == [
        f"no step uses the parameter Given.{name}" for name in ("text", "number", "maybe", "listed")
    ]
    assert raised.value.warnings == ()


def test_a_loop_without_until_is_a_warning() -> None:
    @workflow(name="rounds", version=1, owner_email=OWNER)
    def rounds(flow: Flow, params: Words) -> None:
        with flow.loop("again", at_most=3):
            flow.step("one", alone, Named, name=params.text)

    (warning,) = rounds._build().warnings
    assert warning.message == "loop 'again' has no until(), so it always runs 3 rounds"
    assert Path(str(warning.file)).name == Path(__file__).name


@pytest.mark.parametrize(("on_exhausted", "warnings"), [(None, 1), ("continue", 0), ("fail", 0)])
def test_a_loop_that_may_end_unfinished_is_a_warning(on_exhausted: Any, warnings: int) -> None:
    @workflow(name="rounds", version=1, owner_email=OWNER)
    def rounds(flow: Flow, params: Rounds) -> None:
        with flow.loop("again", at_most=3, on_exhausted=on_exhausted) as loop:
            loop.until(flow.step("count", count, Rounds, rounds=params.rounds).result.is_done)

    messages = [warning.message for warning in rounds._build().warnings]
    assert messages == warnings * ["loop 'again' may end after 3 rounds although it is not done"]


def test_a_result_without_a_return_type_is_a_mistake() -> None:
    @workflow(name="untyped", version=1, owner_email=OWNER)
    def untyped(flow: Flow, params: Words):  # type: ignore[no-untyped-def]
        return flow.step("one", alone, Named, name=params.text).result

    with pytest.raises(WorkflowDefinitionError, match="returns a value, but its function has no return type"):
        untyped._build()


def test_a_return_type_without_a_result_is_a_mistake() -> None:
    @workflow(name="silent", version=1, owner_email=OWNER)
    def silent(flow: Flow, params: Words) -> Split:  # type: ignore[return]
        flow.step("one", alone, Named, name=params.text)

    with pytest.raises(WorkflowDefinitionError, match="returns nothing, but its return type is Split"):
        silent._build()


@pytest.mark.parametrize(
    "arguments",
    [{"name": "a b"}, {"version": 0}, {"version": True}, {"owner_email": "nobody"}, {"timeout_seconds": -1}],
    ids=str,
)
def test_a_declaration_that_conductor_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(TaskDefinitionError, match="@workflow") as raised:
        workflow(**{"name": "a", "version": 1, "owner_email": OWNER, **arguments})
    assert raised.value.fix


def test_a_function_with_another_signature() -> None:
    declare = workflow(name="a", version=1, owner_email=OWNER)

    def single(flow: Flow) -> None: ...

    def two(flow: Flow, params: int) -> None: ...

    def three(flow: Flow, params: Given) -> int:
        return 3

    wrong: tuple[Any, ...] = (single, two, three)
    for function in wrong:
        with pytest.raises(TaskDefinitionError, match="workflow 'a'"):
            declare(function)
