"""Workflow definitions: what is stored, versions, and what is refused."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, each, rest, scenario, send, to
from .operators import fork, join, loop, operator, sub_workflow, system_task
from .workflows import Json, at, definition, registered, step, unregistered

URL, ONE = "/metadata/workflow", "/metadata/workflow/{name}"
ANY, OTHER = step("any"), step("other")
AUTHORS = {"createdBy": "me", "updatedBy": "you"}
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
    "numbers_in_lists_of_texts": {"inputParameters": [1, None], "maskedFields": [2]},
    "a_schema_of_a_workflow": {"inputSchema": {"a": 1}},
    "a_time_of_an_update": {"updateTime": "5"},
    "a_task_definition_that_is_a_text": {"tasks": [step("any", taskDefinition="other")]},
    "a_version_that_is_a_text": {"tasks": [sub_workflow("any", subWorkflowParam={"name": "any", "version": "+2"})]},
}


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
    "a_task_of_null": {"tasks": [None]},
    "a_negative_start_delay": {"tasks": [step("any", startDelay=-1)]},
    "a_version_that_is_a_word": {"tasks": [sub_workflow("any", subWorkflowParam={"name": "any", "version": "x"})]},
    "a_brought_definition_that_is_a_number": {
        "tasks": [sub_workflow("any", subWorkflowParam={"name": "any", "workflowDefinition": 5})]
    },
}


@scenario
def all_workflows_are_listed(rest: Rest) -> None:
    """The list has every version whole."""
    made = registered(rest, ANY, types={})
    made.silent.post(ANY, version=2)
    found = rest.silent.get(URL).json
    mine = sorted((one for one in found if one["name"] == made.name), key=lambda one: one["version"])
    rest.note("the listed versions", mine)


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


MEMBERS: dict[str, Json] = {
    "a_name_of_null": {"name": None},
    "an_empty_name": {"name": ""},
    "a_version_of_null": {"version": None},
    "a_schema_version_of_null": {"schemaVersion": None},
}


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


SCENARIOS: Declared = {
    # A definition with these members is stored and read back.
    **each(ACCEPTED, lambda case: to(unregistered)(at.post(ANY, **case), at.read())),
    # A definition with these members is refused.
    **each(REFUSED, lambda case: to(unregistered)(at.post(ANY, **case))),
    # A definition of these steps is sent, and no workflow of it is started.
    **each(DEFINITIONS, lambda case: to(unregistered)(at.post(*case))),
    # A definition with this member is sent.
    **each(MEMBERS, lambda case: to(unregistered)(at.post(A1, **case))),
    # A start request brings this definition of its own.
    **each(
        BROUGHT,
        lambda case: send(rest.post("/workflow", {"name": "x", "workflowDef": {**definition("w", A1), **case}})),
    ),
    # What is left out of a definition and its tasks is stored with defaults.
    "a_definition_gets_defaults": to(unregistered)(
        at.rest.post(
            URL, {"name": at.name, "version": 1, "tasks": [{"name": "any", "taskReferenceName": "r", "type": "SIMPLE"}]}
        ),
        at.read(),
    ),
    # A definition may name a workflow for failures, which nobody looks for.
    "a_workflow_for_failures_is_kept": to(unregistered)(
        at.post(ANY, failureWorkflow=at.rest.name("unknown")), at.read()
    ),
    # Creating a version that exists is a 409 and changes nothing.
    "the_same_version_twice_is_a_conflict": to(registered, ANY, types={})(at.post(OTHER), at.read()),
    # With `overwrite` an existing version is replaced.
    "overwriting_a_version": to(registered, ANY, types={})(at.post(OTHER, query={"overwrite": "true"}), at.read()),
    # PUT takes a list, creates or replaces, and answers with names.
    "an_upsert_tells_what_succeeded": to(registered, ANY, types={}, label="old")(
        at.rest.put(URL, [definition(at.name, OTHER), definition(at.rest.unique("new"), OTHER)]),
        at.read(),
        at.rest.get(ONE, name=at.rest.unique("new")),
    ),
    # PUT with one object is a 500.
    "an_upsert_takes_no_object": send(rest.put(URL, definition(rest.name("workflow"), ANY))),
    # PUT refuses the whole list when one definition is bad.
    "an_upsert_with_a_mistake": send(
        rest.put(URL, [definition(rest.unique("good"), ANY), definition(rest.name("bad"))]),
        rest.get(ONE, name=rest.unique("good")),
    ),
    # Without a version the highest is meant, not the latest.
    "the_highest_version_is_read": to(registered, ANY, types={}, version=7)(at.silent.post(ANY, version=3), at.read()),
    # A version can be chosen.
    "a_version_is_read": to(registered, ANY, types={})(at.silent.post(ANY, version=2), at.read(version=1)),
    # DELETE takes one version away, others stay.
    "a_deleted_version_is_gone": to(registered, ANY, types={})(
        at.silent.post(ANY, version=2),
        at.rest.delete(ONE + "/{version}", name=at.name, version="2"),
        at.read(version=2),
        at.read(),
    ),
    # A workflow may name a task type that nobody has registered.
    "an_unregistered_task_type_is_accepted": to(unregistered)(at.post(step(at.rest.name("task"))), at.read()),
    # POST takes one object.
    "a_list_is_no_workflow": send(rest.post(URL, [definition(rest.name("workflow"), ANY)])),
    # Names of authors that are sent are kept or replaced.
    "who_created_and_changed_a_workflow": to(unregistered)(
        at.post(step("a"), **AUTHORS), at.read(), at.put(step("a"), **AUTHORS), at.read()
    ),
    # DELETE of what is not there is a server error.
    "deleting_an_unknown_workflow_is_a_500": send(
        rest.delete(ONE + "/{version}", name=rest.name("workflow"), version="1")
    ),
    # A workflow has a name.
    "a_missing_workflow_name": send(rest.post(URL, {"version": 1, "tasks": [step("any")]})),
    # The name in the request may be empty where a definition brings one.
    "a_brought_definition_without_a_name_in_the_request": send(
        rest.post("/workflow", {"name": "", "workflowDef": definition("w", A1)})
    ),
}
