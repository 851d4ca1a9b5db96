"""Workflow definitions: what is stored, versions, and what is refused."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, rest, scenario, scenario_for_each, send
from .operators import fork, join, loop, operator, sub_workflow, system_task
from .workflows import Json, definition, register_workflow, step


def _posted(rest: Rest, tasks: list[dict[str, Any]], **fields: Any) -> str:
    name = rest.name("workflow")
    rest.post("/metadata/workflow", definition(name, *tasks, **fields))
    return name


def _read(rest: Rest, name: str, **query: Any) -> None:
    rest.get("/metadata/workflow/{name}", query=query, name=name)


@scenario
def a_definition_gets_defaults(rest: Rest) -> None:
    """What is left out of a definition and its tasks is stored with defaults."""
    name = rest.name("workflow")
    tasks = [{"name": "any", "taskReferenceName": "r", "type": "SIMPLE"}]
    rest.post("/metadata/workflow", {"name": name, "version": 1, "tasks": tasks})
    _read(rest, name)


EVERYTHING: dict[str, Any] = {
    "description": "What it does.",
    "ownerEmail": "data@example.com",
    "ownerApp": "app",
    "inputParameters": ["x", "y"],
    "inputTemplate": {"x": 1},
    "outputParameters": {"o": "${r0.output.o}"},
    "variables": {"v": 1},
    "restartable": False,
    "timeoutPolicy": "TIME_OUT_WF",
    "timeoutSeconds": 60,
    "metadata": {"m": 1},
}
OF_THE_STEP: dict[str, Any] = {
    "optional": True,
    "startDelay": 2,
    "retryCount": 4,
    "description": "d",
    "asyncComplete": True,
}
NOBODY = "${nobody.output.x}"
ACCEPTED: dict[str, dict[str, Any]] = {
    "every_field_of_a_workflow_is_kept": {"tasks": [step("any", **OF_THE_STEP)], **EVERYTHING},
    "a_missing_task_type_is_simple": {"tasks": [{"name": "any", "taskReferenceName": "r"}]},
    # Output parameters and the timeout of a workflow are not checked.
    "an_output_about_nobody_is_accepted": {"outputParameters": {"o": NOBODY}},
    "a_negative_workflow_timeout": {"timeoutSeconds": -1},
}


@scenario_for_each(ACCEPTED)
def accepted(rest: Rest, case: dict[str, Any]) -> None:
    """A definition with these members is stored and read back."""
    _read(rest, _posted(rest, **{"tasks": [step("any")], **case}))


REFUSED: dict[str, dict[str, Any]] = {
    "no_tasks": {"tasks": []},
    "the_same_reference_twice": {"tasks": [step("any", "r"), step("other", "r")]},
    "the_same_reference_in_a_fork": {"tasks": [fork([step("any", "r")], [step("any", "r")]), join("r")]},
    "a_missing_reference": {"tasks": [{"name": "any", "type": "SIMPLE"}]},
    "a_missing_task_name": {"tasks": [{"taskReferenceName": "r", "type": "SIMPLE"}]},
    # An expression must name the workflow or one of its tasks.
    "an_expression_about_nobody": {"tasks": [step("any", inputParameters={"deep": [{"q": NOBODY}], "q": NOBODY})]},
    # Only the second version of the format is accepted.
    "an_old_schema_version": {"schemaVersion": 1},
    # The timeout policy of a workflow has two words of its own.
    "an_unknown_workflow_policy": {"timeoutPolicy": "RETRY"},
}


@scenario_for_each(REFUSED)
def refused(rest: Rest, case: dict[str, Any]) -> None:
    """A definition with these members is refused."""
    _posted(rest, **{"tasks": [step("any")], **case})


@scenario
def a_workflow_for_failures_is_kept(rest: Rest) -> None:
    """A definition may name a workflow for failures, which nobody looks for."""
    _read(rest, _posted(rest, [step("any")], failureWorkflow=rest.name("unknown")))


@scenario
def the_same_version_twice_is_a_conflict(rest: Rest) -> None:
    """Creating a version that exists is a 409 and changes nothing."""
    name = register_workflow(rest, step("any"))
    rest.post("/metadata/workflow", definition(name, step("other")))
    _read(rest, name)


@scenario
def overwriting_a_version(rest: Rest) -> None:
    """With `overwrite` an existing version is replaced."""
    name = register_workflow(rest, step("any"))
    rest.post("/metadata/workflow", query={"overwrite": "true"}, json=definition(name, step("other")))
    _read(rest, name)


@scenario
def an_upsert_tells_what_succeeded(rest: Rest) -> None:
    """PUT takes a list, creates or replaces, and answers with names."""
    old, new = register_workflow(rest, step("any"), label="old"), rest.name("new")
    rest.put("/metadata/workflow", [definition(name, step("other")) for name in (old, new)])
    _read(rest, old)
    _read(rest, new)


@scenario
def an_upsert_takes_no_object(rest: Rest) -> None:
    """PUT with one object is a 500."""
    rest.put("/metadata/workflow", definition(rest.name("workflow"), step("any")))


@scenario
def an_upsert_with_a_mistake(rest: Rest) -> None:
    """PUT refuses the whole list when one definition is bad."""
    good, bad = rest.name("good"), rest.name("bad")
    rest.put("/metadata/workflow", [definition(good, step("any")), definition(bad)])
    _read(rest, good)


@scenario
def the_highest_version_is_read(rest: Rest) -> None:
    """Without a version the highest is meant, not the latest."""
    name = register_workflow(rest, step("any"), version=7)
    rest.silent.post("/metadata/workflow", definition(name, step("any"), version=3))
    _read(rest, name)


@scenario
def a_version_is_read(rest: Rest) -> None:
    """A version can be chosen."""
    name = register_workflow(rest, step("any"))
    rest.silent.post("/metadata/workflow", definition(name, step("any"), version=2))
    _read(rest, name, version=1)


@scenario
def a_deleted_version_is_gone(rest: Rest) -> None:
    """DELETE takes one version away, others stay."""
    name = register_workflow(rest, step("any"))
    rest.silent.post("/metadata/workflow", definition(name, step("any"), version=2))
    rest.delete("/metadata/workflow/{name}/{version}", name=name, version="2")
    _read(rest, name, version=2)
    _read(rest, name)


@scenario
def all_workflows_are_listed(rest: Rest) -> None:
    """The list has every version whole."""
    name = register_workflow(rest, step("any"))
    with rest.unnoted():
        rest.post("/metadata/workflow", definition(name, step("any"), version=2))
        found = rest.get("/metadata/workflow").json
    mine = sorted((one for one in found if one["name"] == name), key=lambda one: one["version"])
    rest.note("the listed versions", mine)


@scenario
def an_unregistered_task_type_is_accepted(rest: Rest) -> None:
    """A workflow may name a task type that nobody has registered."""
    _read(rest, _posted(rest, [step(rest.name("task"))]))


@scenario
def a_list_is_no_workflow(rest: Rest) -> None:
    """POST takes one object."""
    rest.post("/metadata/workflow", [definition(rest.name("workflow"), step("any"))])


@scenario
def who_created_and_changed_a_workflow(rest: Rest) -> None:
    """Names of authors that are sent are kept or replaced."""
    name = rest.name("workflow")
    made = definition(name, step("a"), createdBy="me", updatedBy="you")
    rest.post("/metadata/workflow", made)
    rest.get("/metadata/workflow/{name}", name=name)
    rest.put("/metadata/workflow", [made])
    rest.get("/metadata/workflow/{name}", name=name)


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
    "an_end_with_an_unknown_status": [system_task("TERMINATE", "end", terminationStatus="PAUSED") | {"optional": True}],
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
    rest.post("/metadata/workflow", definition(rest.name("workflow"), *case))


MEMBERS: dict[str, Json] = {
    "a_name_of_null": {"name": None},
    "an_empty_name": {"name": ""},
    "a_version_of_null": {"version": None},
    "a_schema_version_of_null": {"schemaVersion": None},
}


@scenario_for_each(MEMBERS)
def members(rest: Rest, case: Json) -> None:
    """A definition with this member is sent."""
    rest.post("/metadata/workflow", {**definition(rest.name("workflow"), A1), **case})


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
    rest.post("/workflow", body)


SCENARIOS: Declared = {
    # DELETE of what is not there is a server error.
    "deleting_an_unknown_workflow_is_a_500": send(
        rest.delete("/metadata/workflow/{name}/{version}", name=rest.name("workflow"), version="1")
    ),
    # A workflow has a name.
    "a_missing_workflow_name": send(rest.post("/metadata/workflow", {"version": 1, "tasks": [step("any")]})),
    # The name in the request may be empty where a definition brings one.
    "a_brought_definition_without_a_name_in_the_request": send(
        rest.post("/workflow", {"name": "", "workflowDef": definition("w", A1)})
    ),
}
