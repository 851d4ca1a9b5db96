"""SET_VARIABLE, INLINE, TERMINATE, WAIT, HUMAN, NOOP and JSON_JQ_TRANSFORM."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, each, scenario, scenario_for_each, to
from .operators import TWICE, fork, inline, join, loop, operator, sub_workflow, switch, system_task
from .workflows import Json, StartedWorkflow, definition, on, register_workflow, start, start_types, step, task_type

ENDS = ("COMPLETED", "FAILED", "TERMINATED")


WAITS = {
    "a_human_waits": system_task("HUMAN", "step"),
    "a_wait_until_a_day_that_has_passed": system_task("WAIT", "step", until="2000-01-01"),
    "a_wait_for_a_duration_of_the_input": system_task("WAIT", "step", duration="${workflow.input.x}"),
    "nothing_is_done": operator("NOOP", "step"),
    "a_query_in_jq": system_task("JSON_JQ_TRANSFORM", "step", queryExpression=".b[] | . + 1", b=[1, 2]),
}


@scenario_for_each({f"an_end_of_a_child_beside_it_as_{status.lower()}": status for status in ENDS})
def ends(rest: Rest, case: str) -> None:
    """TERMINATE ends the workflow as it says, and terminates the child in the other branch of a fork."""
    task, inner = task_type(rest), task_type(rest, "inner")
    inputs = {"terminationStatus": case, "workflowOutput": {"q": "${a1.output.n}"}}
    if case != "COMPLETED":
        inputs["terminationReason"] = "so it is"
    child_name = register_workflow(rest, step(inner, "c1"), label="child")
    ending = [step(task, "a1"), system_task("TERMINATE", "end", **inputs)]
    on = start(rest, task, fork(ending, [sub_workflow(child_name)]), join("end", "sub"))
    child = on.started_by("sub")
    on.run(outputData={"n": 7})
    on.note_all(without=("join",))
    child.note_all()


BAD_WAITS: dict[str, Json] = {
    "a_wait_until_what_is_no_date": {"until": "${workflow.input.x}"},
    "a_wait_for_what_is_no_duration": {"duration": "${workflow.input.x}"},
}


@scenario_for_each(BAD_WAITS)
def bad_waits(rest: Rest, case: Json) -> None:
    """A WAIT that cannot read its time, as the second step of a workflow."""
    task = task_type(rest)
    on = start(rest, task, step(task, "first"), system_task("WAIT", "wait", **case), given={"x": "soon"})
    on.update(on.take(), "COMPLETED")
    on.evaluate()
    on.note_all(without=("first", "wait"))
    fields = ("status", "reasonForIncompletion", "callbackAfterSeconds")
    rest.note("the steps", [[row.get(field) for field in fields] for row in on.rows()])


@scenario_for_each({f"{name}_at_the_start": case for name, case in BAD_WAITS.items()})
def bad_waits_at_the_start(rest: Rest, case: Json) -> None:
    """A WAIT that cannot read its time, as the first step of a workflow: no running workflow is left behind."""
    name = register_workflow(rest, system_task("WAIT", "wait", **case))
    started = rest.post("/workflow", {"name": name, "input": {"x": "soon"}})
    if started.status == 200:
        on = StartedWorkflow(rest, "none", name, started.text)
        on.settle("FAILED")
        on.note_all(without=("wait",))
    rest.get("/workflow/running/{name}", name=name)


@scenario
def a_start_that_is_refused(rest: Rest) -> None:
    """A start that fails in its first decision leaves no workflow behind."""
    child = sub_workflow(rest.name("nobody"))
    name = register_workflow(rest, operator("NOOP", "nothing"), fork([], [inline("script", "1")]), join("script"))
    rest.post("/workflow", {"name": name})
    rest.get("/workflow/running/{name}", name=name)
    name = register_workflow(rest, operator("NOOP", "nothing"), child)
    rest.post("/workflow", {"name": name})
    rest.get("/workflow/running/{name}", name=name)


@scenario_for_each({"a_large_variable": 200_000, "a_variable_that_is_too_large": 300_000})
def sizes_of_variables(rest: Rest, case: int) -> None:
    """All variables of a workflow together may have 256 KiB; a step that would exceed that fails."""
    on = start(rest, "none", system_task("SET_VARIABLE", "set", v="${workflow.input.x}", w=1), given={"x": "v" * case})
    shown = on.silent.at_rest()
    rest.note("the status", shown["status"])
    rest.note("the names of the variables", sorted(shown["variables"]))
    reason = shown["tasks"][0].get("reasonForIncompletion", "").replace(on.id, "<id>")
    rest.note("the step", [shown["tasks"][0]["status"], reason])


OLDER: dict[str, Json] = {
    "a_lambda": system_task("LAMBDA", "step", scriptExpression="return $.a + 1;", a="${workflow.input.x}"),
    "a_lambda_of_an_object": system_task("LAMBDA", "step", scriptExpression="return {b: $.a};", a=1),
    "a_lambda_without_return": system_task("LAMBDA", "step", scriptExpression="$.a + 1", a=1),
    "a_lambda_that_fails": system_task("LAMBDA", "step", scriptExpression="return nothing.at;", a=1),
    "a_lambda_without_a_script": system_task("LAMBDA", "step", scriptExpression="", a=1),
    "a_lambda_of_a_number": system_task("LAMBDA", "step", scriptExpression=5, a=1),
    "a_query_that_is_missing": system_task("JSON_JQ_TRANSFORM", "step", queryExpression="${workflow.input.nothing}"),
    "a_query_that_is_a_number": system_task("JSON_JQ_TRANSFORM", "step", queryExpression="${workflow.input.x}"),
}


DECISIONS: dict[str, Json] = {
    "a_decision_by_a_value": {"caseValueParam": "case"},
    "a_decision_by_a_script": {"caseExpression": "$.case == 1 ? 'one' : 'two'"},
    "a_decision_without_its_case": {"caseValueParam": "nothing"},
    "a_decision_by_a_script_that_fails": {"caseExpression": "nothing.at"},
}


@scenario
def a_decision_without_cases(rest: Rest) -> None:
    """DECISION needs cases and a way to choose one."""
    name = rest.name("workflow")
    rest.post("/metadata/workflow", definition(name, operator("DECISION", "d", caseValueParam="x")))
    made = operator("DECISION", "d", decisionCases={"1": [step("a", "a")]})
    rest.post("/metadata/workflow", definition(name, made))
    rest.post("/metadata/workflow", definition(name, operator("LAMBDA", "d")))


CASES: Json = {
    "inputParameters": {"case": "${workflow.input.x}", "other": 1},
    "decisionCases": {"1": [step("task", "by_value")], "one": [step("task", "by_script")]},
    "defaultCase": [step("task", "other")],
}
HTTP: dict[str, Json] = {
    "a_request_without_an_address": system_task("HTTP", "step", http_request={"method": "GET"}),
    "a_request_of_no_method": system_task("HTTP", "step", http_request={"uri": "http://127.0.0.1:1/"}),
}
WORK: Json = {"taskReferenceName": "step", "type": "SIMPLE"}
BY_NAME: dict[str, Json] = {
    "a_worker_named_terminate": {"name": "TERMINATE", "inputParameters": {"terminationStatus": "COMPLETED"}},
    "a_worker_named_noop": {"name": "NOOP"},
    "a_worker_named_inline": {"name": "INLINE", "inputParameters": {"evaluatorType": "javascript", "expression": "1"}},
    "a_worker_named_lambda": {"name": "LAMBDA", "inputParameters": {"scriptExpression": "return 1"}},
    "a_worker_named_set_variable": {"name": "SET_VARIABLE", "inputParameters": {"v": 1}},
    "a_worker_named_json_jq_transform": {
        "name": "JSON_JQ_TRANSFORM",
        "inputParameters": {"queryExpression": ".x", "x": 1},
    },
}


OPEN: dict[str, Json] = {
    "a_worker_named_wait": {"name": "WAIT", "inputParameters": {"duration": "1 s"}},
    "a_worker_named_human": {"name": "HUMAN"},
}


def timed_wait(**fields: Any) -> Json:
    """A WAIT with a definition of its own, whose timeout is two seconds."""
    limits = {"timeoutSeconds": 2, "timeoutPolicy": "RETRY", "retryCount": 0, "responseTimeoutSeconds": 0}
    schema = {"name": "signal", "version": 1, "type": "JSON", "data": {"type": "object"}}
    return system_task("WAIT", "wait") | {"taskDefinition": {"name": "wait", "outputSchema": schema, **limits}} | fields


SCRIPT = """(function () {
  var parts = /^(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d):\\d\\d(Z|[+-]\\d\\d:\\d\\d)$/.exec($.value);
  var time = parts ? Date.parse(parts[1] + ":00" + parts[2]) : NaN;
  if (isNaN(time)) { throw new Error("this is no time"); }
  return new Date(time).toISOString().slice(0, 16).replace("T", " ") + " UTC";
})()"""
TIMES = {"a_time_of_a_script": "2000-01-01T00:00:01+02:00", "a_script_refuses_a_time": "soon"}


SCENARIOS: Declared = {
    # A WAIT in a loop is answered by its reference, with or without the number of its round.
    "a_wait_in_a_loop_is_answered": to(start_types, loop(TWICE, system_task("WAIT", "wait")), types={})(
        on.await_row("wait__1", "IN_PROGRESS"),
        on.report("wait__2", "COMPLETED", {"n": 0}),
        on.report("wait__1", "COMPLETED", {"n": 1}),
        on.await_row("wait__2", "IN_PROGRESS"),
        on.report("wait__1", "COMPLETED", {"n": 2}),
        on.noted.report("wait", "COMPLETED", {"n": 3}),
    ),
    # An answer before the WAIT, and one after it, is a success without an id.
    "a_wait_is_answered_too_early_and_twice": to(start_types, step("task", "first"), system_task("WAIT", "wait"))(
        on.report("wait", "COMPLETED", {"n": 1}),
        on.run(),
        on.await_row("wait", "IN_PROGRESS"),
        on.report("wait", "COMPLETED", {"n": 2}),
        on.noted.report("wait", "COMPLETED", {"n": 3}),
    ),
    # An optional WAIT whose time has passed has no output, and what follows reads its status.
    "an_optional_wait_times_out": to(
        start_types,
        timed_wait(optional=True),
        step("task", "last", inputParameters={"s": "${wait.status}", "o": "${wait.output}"}),
    )(on.await_row("wait", "IN_PROGRESS"), on.wait(3), on.await_row("last"), on.note("last")),
    # Another one ends the workflow, and its definition is shown with it.
    "a_wait_times_out": to(start_types, timed_wait(), types={})(
        on.await_row("wait", "IN_PROGRESS"), on.wait(3), on.settle("TIMED_OUT"), on.read()
    ),
    # A script writes a time as WAIT reads it, or fails the workflow.
    **{
        name: to(
            start_types,
            system_task("INLINE", "script", evaluatorType="graaljs", expression=SCRIPT, value="${workflow.input.x}"),
            system_task("WAIT", "wait", until="${script.output.result}"),
            types={},
            given={"x": time},
        )(on.settle("COMPLETED", "FAILED"), on.note_all())
        for name, time in TIMES.items()
    },
    # A workflow of one step of the server.
    **each(WAITS, lambda case: to(start_types, case, types={}, given={"x": "5 s"})(on.note_all())),
    # LAMBDA evaluates a script that returns its result; scripts that are no text fail.
    **each(OLDER, lambda case: to(start_types, case, types={}, given={"x": 41})(on.note_all())),
    # HTTP without an address or a method fails with a reason that is also its output.
    **each(HTTP, lambda case: to(start_types, case, types={})(on.noted.settle("FAILED"))),
    # The server works on a task of a worker that has the name of an operator.
    **each(BY_NAME, lambda case: to(start_types, WORK | case, types={})(on.noted.settle("COMPLETED"))),
    # The server starts a task of a worker that is named WAIT or HUMAN, and does not end it.
    **each(
        OPEN,
        lambda case: to(start_types, WORK | case, types={})(
            on.await_row("step", "IN_PROGRESS"), on.rest.sleep(1.5), on.note_all()
        ),
    ),
    # DECISION chooses a branch as SWITCH does.
    **each(
        DECISIONS,
        lambda case: to(start_types, operator("DECISION", "d", **CASES, **case), step("task", "last"))(on.note_all()),
    ),
    # TERMINATE that was run again with another input, and is completed by hand, ends the workflow well.
    "an_end_that_says_nothing": to(start_types, system_task("TERMINATE", "end", terminationStatus="FAILED"))(
        on.settle("FAILED"),
        on.rerun(on.row("end"), taskInput={"x": 9}),
        on.read(),
        on.act("POST", "/tasks/{workflow}/{reference}/COMPLETED", reference="end", json={"n": 1}),
        on.settle("COMPLETED"),
        on.read(),
    ),
    # A WAIT that is given an IN_PROGRESS result waits on; its output is what comes next is given.
    "a_wait_is_updated_before_its_end": to(
        start_types, system_task("WAIT", "wait"), step("task", "last", inputParameters={"q": "${wait.output}"})
    )(
        on.note_all(),
        on.noted.update(on.row("wait"), "IN_PROGRESS", outputData={"n": 1}),
        on.noted.update(on.row("wait"), "COMPLETED", outputData={"n": 2}),
    ),
    # The output that TERMINATE gives the workflow may be a text.
    "an_end_with_an_output_that_is_a_text": to(
        start_types, system_task("TERMINATE", "end", terminationStatus="COMPLETED", workflowOutput="text"), types={}
    )(on.note_all()),
    # TERMINATE in the body of a loop ends the workflow in that iteration.
    "an_end_within_a_loop": to(
        start_types,
        loop(
            TWICE,
            step("task", "work"),
            system_task("TERMINATE", "end", terminationStatus="COMPLETED", workflowOutput={"o": "${work.output.n}"}),
        ),
        step("task", "never"),
    )(on.run(outputData={"n": 1}), on.noted.settle("COMPLETED")),
    # TERMINATE in a case of a SWITCH in a loop fails the workflow.
    "a_choice_of_an_end_within_a_loop": to(
        start_types,
        loop(
            TWICE,
            step("task", "work"),
            switch({"1": [system_task("TERMINATE", "end", terminationStatus="FAILED", terminationReason="enough")]}),
        ),
        step("task", "never"),
    )(on.run(outputData={"n": 1}), on.noted.settle("FAILED")),
    # A variable is seen in the workflow and by what comes next.
    "a_variable_is_set": to(
        start_types,
        system_task("SET_VARIABLE", "set", v="${workflow.input.x}", w=[1]),
        step("task", "after", inputParameters={"v": "${workflow.variables.v}"}),
    )(on.read()),
    # A definition may give variables their first values.
    "a_variable_has_a_first_value": to(
        start_types, step("task", "after", inputParameters={"v": "${workflow.variables.v}"}), variables={"v": {"a": 1}}
    )(on.read()),
    # INLINE puts out the result of its expression.
    "an_expression_is_evaluated": to(
        start_types,
        inline("inline", "$.a + 1", a="${workflow.input.x}"),
        step("task", "after", inputParameters={"r": "${inline.output.result}"}),
        given={"x": 41},
    )(on.read()),
    # TERMINATE ends the workflow with a status, a reason and an output.
    "an_end_before_the_end": to(
        start_types,
        system_task(
            "TERMINATE",
            "end",
            terminationStatus="COMPLETED",
            terminationReason="enough",
            workflowOutput={"o": "${workflow.input.x}"},
        ),
        step("task", "never"),
    )(on.settle("COMPLETED"), on.read()),
    # TERMINATE may fail the workflow.
    "an_end_as_a_failure": to(
        start_types, system_task("TERMINATE", "end", terminationStatus="FAILED", terminationReason="bad")
    )(on.settle("FAILED"), on.read()),
    # TERMINATE in one branch of a fork cancels what is open in the other.
    "a_workflow_ends_itself_beside_an_open_step": to(
        start_types,
        fork(
            [step("task", "open")],
            [step("quick", "quick"), system_task("TERMINATE", "end", terminationStatus="COMPLETED")],
        ),
        join("open", "end"),
        types={"task": {}, "quick": {}},
    )(on.run(task="quick"), on.settle("COMPLETED"), on.note("open", "end"), on.poll()),
    # WAIT with a duration ends by itself.
    "a_wait_for_a_second": to(start_types, system_task("WAIT", "wait", duration="1 seconds"), step("task", "after"))(
        on.await_row("wait", "IN_PROGRESS"), on.await_row("after"), on.read()
    ),
}
