"""Definitions with operators, and definitions in a start request, that are refused or accepted."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_for_each
from .operators import fork, join, loop, operator, sub_workflow, system_task
from .workflows import Json, definition, step

A1 = step("any", "a1")
DEFINITIONS: dict[str, list[Json]] = {
    "a_loop_of_nothing": [operator("DO_WHILE", "loop")],
    "a_loop_and_its_step_of_one_name": [loop("true", step("any", "loop"))],
    "a_loop_with_an_unknown_reference": [loop("false", step("any", "a1", inputParameters={"q": "${nope.output}"}))],
    "a_fork_of_nothing": [operator("FORK_JOIN", "fork"), join()],
    "a_fork_with_a_step_without_a_name": [
        fork([{"name": "", "taskReferenceName": "a1", "type": "SIMPLE"}], [step("any", "b1")]),
        join("a1", "b1"),
    ],
    "a_switch_of_nothing": [operator("SWITCH", "switch")],
    "a_switch_with_a_step_without_a_reference": [
        operator("SWITCH", "switch", evaluatorType="value-param", decisionCases={"1": [step("any", "")]})
    ],
    "a_switch_with_a_default_only": [
        operator("SWITCH", "switch", evaluatorType="value-param", expression="q", defaultCase=[A1])
    ],
    "a_sub_workflow_of_nothing": [operator("SUB_WORKFLOW", "sub")],
    "an_end_without_a_status": [operator("TERMINATE", "end")],
    "an_end_with_an_unknown_status": [
        system_task("TERMINATE", "end", terminationStatus="PAUSED") | {"optional": True},
    ],
    "a_wait_for_no_duration": [system_task("WAIT", "wait", duration="soon")],
    "a_reference_into_a_loop": [
        loop("false", A1),
        step("any", "last", inputParameters={"q": "${a1.output} ${loop.output}"}),
    ],
    "a_list_with_an_unknown_reference": [step("any", "a", inputParameters={"q": {"z": ["${nope.output.x}"]}})],
    "references_that_nobody_checks": [
        step("any", "a", inputParameters={"q": "${a.output.x} ${CPEWF_TASK_ID} ${workflow} ${workflow.nope.z} $${zz}"})
    ],
    "a_switch_by_a_script_that_is_none": [
        operator("SWITCH", "s", evaluatorType="javascript", expression="$.x ==", decisionCases={"1": [A1]})
    ],
    "a_decision_by_a_script_that_is_none": [
        operator("DECISION", "d", caseExpression="return 1", decisionCases={"1": [A1]})
    ],
    "a_fork_of_two_forms": [
        operator("FORK_JOIN_DYNAMIC", "f", dynamicForkJoinTasksParam="a", dynamicForkTasksParam="b"),
        join(),
    ],
    "a_dynamic_fork_with_names_to_join": [
        operator("FORK_JOIN_DYNAMIC", "f", dynamicForkJoinTasksParam="a", joinOn=["nobody"]),
        join(),
    ],
    "blanks_in_a_reference": [step("any", "a", inputParameters={"q": "${ workflow.input.x }"})],
}


@scenario_for_each(DEFINITIONS)
def definitions(rest: Rest, case: list[Json]) -> None:
    """A definition of these steps is sent, and no workflow of it is started."""
    rest.call("POST", "/metadata/workflow", json=definition(rest.name("workflow"), *case))


MEMBERS: dict[str, Json] = {
    "a_name_of_null": {"name": None},
    "an_empty_name": {"name": ""},
    "a_version_of_null": {"version": None},
    "a_schema_version_of_null": {"schemaVersion": None},
}


@scenario_for_each(MEMBERS)
def members(rest: Rest, case: Json) -> None:
    """A definition with this member is sent."""
    rest.call("POST", "/metadata/workflow", json={**definition(rest.name("workflow"), A1), **case})


BROUGHT: dict[str, Json] = {
    "a_brought_name_of_null": {"name": None},
    "a_brought_definition_without_tasks": {"tasks": []},
    "a_brought_definition_with_a_name_twice": {"tasks": [A1, A1]},
    "a_brought_definition_with_an_unknown_reference": {
        "tasks": [step("any", "a1", inputParameters={"q": "${nope.output}"})]
    },
    "a_brought_definition_of_the_first_schema": {"schemaVersion": 1},
    "a_brought_definition_with_an_unknown_child": {"tasks": [sub_workflow("perago_nobody")]},
}


@scenario_for_each(BROUGHT)
def brought_definitions(rest: Rest, case: Json) -> None:
    """A start request brings this definition of its own."""
    body: dict[str, Any] = {"name": "x", "workflowDef": {**definition("w", A1), **case}}
    rest.call("POST", "/workflow", json=body)


@scenario
def a_brought_definition_without_a_name_in_the_request(rest: Rest) -> None:
    """The name in the request may be empty where a definition brings one."""
    rest.call("POST", "/workflow", json={"name": "", "workflowDef": definition("w", A1)})
