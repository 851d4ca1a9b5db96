"""Workflows of conductor-python in a module are found and checked, and each mistake has the line of its step."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest

from perago.testing import TaskRunner
from perago.workflows import WorkflowDefinitionError
from perago.workflows.picture import picture_of
from perago.workflows.sdk import SdkWorkflow, all_workflows_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of conductor-python, about its own models

HEAD = """\
from conductor.client.http.models import TaskDef
from conductor.client.worker.worker_task import worker_task
from conductor.client.workflow.conductor_workflow import ConductorWorkflow
from conductor.client.workflow.task.do_while_task import LoopTask
from conductor.client.workflow.task.fork_task import ForkTask
from conductor.client.workflow.task.simple_task import SimpleTask
from conductor.client.workflow.task.switch_task import SwitchTask
from perago.clients import conductor_workflow, simple_task
from tests.workflows.tasks import Named, Words, alone, read, split, write

flow = ConductorWorkflow(None, "sdk.flow", 3, "Daily").owner_email("data@example.com")
"""
STEPS = HEAD.count("\n") + 1
NUMBERS = itertools.count()


def imported(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str, head: str = HEAD) -> ModuleType:
    name = f"sdk_flows_{next(NUMBERS)}"
    (directory / f"{name}.py").write_text(head + text)
    monkeypatch.syspath_prepend(directory)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[name]


def declared(module: ModuleType) -> tuple[SdkWorkflow, ...]:
    workflows = all_workflows_of(module)
    assert all(isinstance(workflow, SdkWorkflow) for workflow in workflows)
    return workflows  # type: ignore[return-value]


GOOD = """\
first = simple_task(alone, "first", Named, name="${workflow.input.name}")
words = simple_task(split, "words", Words, text=first.output("result.kind"))
flow >> first >> words
flow >> [simple_task(write, "left", Named, name="l", after=first), simple_task(read, "right", Named, name="r")]
flow >> LoopTask("rounds", 2, [simple_task(write, "round", Named, name="o", after=first)])
inner = ConductorWorkflow(None, "sdk.inner").owner_email("data@example.com")
inner >> simple_task(write, "first", Named, name="i")
flow >> inner

@worker_task(task_definition_name="sdk.mail")
def mail(to: str) -> str: ...

other = TaskDef(name="sdk.other")
flow >> mail(task_ref_name="mail", to="me") >> SimpleTask("sdk.other", "other")
switch = SwitchTask("kind", "${workflow.input.kind}").switch_case("a", [SimpleTask("sdk.other", "case")])
flow >> switch
flow.output_parameters({"files": words.output("result.words")})
"""


def test_the_same_module_always_gives_the_same_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, inner = declared(imported(tmp_path, monkeypatch, GOOD))
    again, _ = declared(imported(tmp_path, monkeypatch, GOOD))
    assert flow.definition() == again.definition()
    assert (flow.name, flow.version, flow.line, flow.module.startswith("sdk_flows_")) == (
        "sdk.flow",
        3,
        STEPS - 1,
        True,
    )
    assert (inner.name, inner.version, inner.line) == ("sdk.inner", 1, STEPS + 5)
    assert flow.definition()["inputParameters"] == ["workspace", "name", "kind"]
    assert picture_of(flow.definition()).splitlines() == [
        "sdk.flow, version 3",
        "  first  flow.alone",
        "  words  flow.split",
        "  forked_1  fork",
        "  ├─ left  flow.write",
        "  └─ right  flow.read",
        "  rounds  loop",
        "  └─ round  flow.write",
        "  sdk.inner_2  sub-workflow sdk.inner",
        "  mail  sdk.mail",
        "  other  sdk.other",
        "  kind  switch on ${workflow.input.kind}",
        "  └─ a: case  sdk.other",
    ]
    assert flow.definition()["tasks"][3]["joinOn"] == ["left", "right"]
    unknown = [warning.message.partition(" the registration")[0] for warning in flow._build().warnings]
    assert unknown == [f"step '{step}': perago cannot know" for step in ("mail", "other", "case")]


def test_perago_run_runs_a_workflow_of_the_sdk_with_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, perago_run: TaskRunner
) -> None:
    text = (
        "first = simple_task(alone, 'first', Named, name='${workflow.input.name}')\n"
        "flow >> first >> simple_task(alone, 'second', Named, name='b', after=first)\n"
    )
    module = imported(tmp_path, monkeypatch, text)
    with pytest.raises(TypeError, match=r"give a function .*, or a ConductorWorkflow that a module assigns to a name"):
        perago_run.workflow(module.flow)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    ran = perago_run.workflow(module.flow, {"name": "a"}, tree={}, lost=["first"])
    assert (ran.status, ran.tree) == ("COMPLETED", {"a": b"", "b": b"a\n"})


@pytest.mark.parametrize(
    ("limits", "notes"),
    [
        ("", []),
        ("timeout_policy(TimeoutPolicy.TIME_OUT_WORKFLOW)", ["times out after 60 seconds, the default"]),
        ("timeout_policy(TimeoutPolicy.TIME_OUT_WORKFLOW).timeout_seconds(60)", []),
        ("timeout_policy(TimeoutPolicy.TIME_OUT_WORKFLOW).timeout_seconds(90)", []),
        ("timeout_seconds(90)", ["does not end after 90 seconds"]),
    ],
)
def test_a_limit_that_the_author_did_not_mean_is_noted(
    limits: str, notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from conductor.client.workflow.task.timeout_policy import TimeoutPolicy\n"
        f"flow >> simple_task(split, 'one', Words, text='a')\nflow{limits and '.'}{limits}\n"
    )
    warnings = declared(imported(tmp_path, monkeypatch, text))[0]._build().warnings
    assert [note for note in notes if note not in warnings[0].message] == []
    assert [warning.line for warning in warnings] == [STEPS - 1] * len(notes)


WRONG = {
    "an unknown task": ("flow >> SimpleTask('flow.alnoe', 'one')", "'flow.alnoe' is not a known task"),
    "a task of nobody": ("flow >> SimpleTask('nobodys', 'one')", "declare TaskDef(name='nobodys') in this module"),
    "no step": ("", "the workflow has no step"),
    "two steps of one name": (
        "flow >> simple_task(read, 'one', Named, name='a') >> simple_task(split, 'one', Words, text='')",
        "two steps have this name",
    ),
    "an unknown field": (
        "flow >> (one := SimpleTask('flow.split', 'one')).input_parameter('params', {'txet': '', 'text': ''})",
        "Words has no field 'txet'; it has text",
    ),
    "a field of another type": (
        "flow >> (one := SimpleTask('flow.split', 'one')).input_parameter('params', {'text': 3})",
        "Words.text: Input should be a valid string",
    ),
    "a missing field": (
        "flow >> (one := SimpleTask('flow.split', 'one')).input_parameter('params', {})",
        "Words.text is required and not given",
    ),
    "params of another kind": (
        "flow >> (one := SimpleTask('flow.split', 'one')).input_parameter('params', 3)",
        "params is 3, not an object",
    ),
    "a result of another type": (
        "flow >> simple_task(split, 'two', Words, text='')\n"
        "flow >> simple_task(split, 'one', Words, text='${two.output.result.words}')",
        "Words.text takes str, but ${two.output.result.words} is list[str]",
    ),
    "a result that is not there": (
        "flow >> simple_task(split, 'two', Words, text='')\n"
        "flow >> simple_task(split, 'one', Words, text='${two.output.result.word}')",
        "Split has no field 'word'; it has words",
    ),
    "an output that is not there": (
        "flow >> simple_task(split, 'two', Words, text='')\n"
        "flow >> simple_task(split, 'one', Words, text='${two.output.words}')",
        "flow.split puts out result and workspace, not words",
    ),
    "an unknown step": (
        "flow >> simple_task(split, 'one', Words, text='${nobody.output.words}')",
        "no step has the name 'nobody'",
    ),
    "a missing ref": (
        "flow >> (one := SimpleTask('flow.read', 'one')).input_parameter('params', {'name': 'a'})",
        "task flow.read has a workspace, but its input has no workspace.ref",
    ),
    "a workspace without a branch": (
        "one = simple_task(read, 'one', Named, name='a')\ndel one.input_parameters['workspace']['branch']\nflow >> one",
        "its input has no workspace.branch",
    ),
    "a commit that is not continued": (
        "flow >> simple_task(alone, 'zero', Named, name='a')\nflow >> simple_task(alone, 'one', Named, name='b')",
        "it does not continue the commit of step 'zero'",
    ),
    "a fork without rebase": (
        "two = simple_task(write, 'two', Named, name='a')\n"
        "flow >> [simple_task(alone, 'one', Named, name='a'), two] >> simple_task(split, 'three', Words, text='')",
        "fork: it publishes next to others",
    ),
    "a fork at the end": (
        "two, three = (simple_task(split, name, Words, text='') for name in ('two', 'three'))\n"
        "flow >> ForkTask('one', [[two], [three]])",
        "no JOIN follows the fork",
    ),
    "a mistake inside of another workflow": (
        "inner = ConductorWorkflow(None, 'sdk.inner').owner_email('data@example.com') >> SimpleTask('nobodys', 'one')\n"
        "flow >> inner",
        "'nobodys' is not a known task",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_has_the_line_of_its_step(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, rule = WRONG[case]
    module = imported(tmp_path, monkeypatch, text)
    with pytest.raises(WorkflowDefinitionError) as caught:
        declared(module)[0].definition()
    lines = [*HEAD.splitlines(), *text.splitlines()]
    (problem,) = caught.value.problems
    assert rule in f"{problem.message} {problem.fix}"
    assert (problem.file, problem.message.startswith("step ")) == (module.__file__, case != "no step")
    assert problem.line is not None
    assert ("'one'" if case != "no step" else "sdk.flow") in lines[problem.line - 1]


def test_steps_of_one_name_in_two_workflows_have_their_own_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "flow >> simple_task(split, 'one', Words, text='a')\n"
        "second = ConductorWorkflow(None, 'sdk.second').owner_email('data@example.com')\n"
        "second >> SimpleTask('nobodys', 'one')\n"
    )
    flow, second = declared(imported(tmp_path, monkeypatch, text))
    assert flow.definition()["name"] == "sdk.flow"
    with pytest.raises(WorkflowDefinitionError) as caught:
        second.definition()
    assert [problem.line for problem in caught.value.problems] == [STEPS + 2]


def test_workflows_of_other_modules_and_of_perago_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = imported(tmp_path, monkeypatch, "flow >> simple_task(split, 'one', Words, text='a')\nalias = flow\n")
    assert [workflow.name for workflow in declared(made)] == ["sdk.flow"]
    monkeypatch.setitem(sys.modules, "sdk_made", made)
    importing = imported(tmp_path, monkeypatch, "from sdk_made import flow\n", head="")
    assert declared(importing) == ()
