"""`perago list`, `terminate`, `retry` and `rerun`, on the embedded Conductor as the configured server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perago.embedded.services import EmbeddedServices

from ..definitions import flow, forking, operator, simple
from .conftest import Project, Ran, started_attempt
from .start_command import terminal


@pytest.fixture
def workflow_id(embedded: EmbeddedServices) -> str:
    """A workflow of one step, whose attempt waits."""
    embedded.conductor.register_task_definitions([{"name": "busy", "retryCount": 0}])
    task_id = started_attempt(embedded.conductor, "busy")
    return str(embedded.conductor.get_task(task_id)["workflowInstanceId"])


def end(embedded: EmbeddedServices, status: str, **fields: Any) -> None:
    """Do the attempt that waits."""
    (row,) = embedded.conductor.poll_tasks("busy", "w0000", wait_seconds=0)
    result = {"taskId": row["taskId"], "workflowInstanceId": row["workflowInstanceId"], "status": status}
    embedded.conductor.update_task({**result, **fields})


def ran(project: Project, embedded: EmbeddedServices, *arguments: str) -> Ran:
    return project.run(*arguments, **embedded.environment())


def listed(project: Project, embedded: EmbeddedServices, *arguments: str) -> list[str]:
    found = ran(project, embedded, "list", "--json", *arguments)
    assert (found.code, found.err) == (0, "")
    return [each["workflow_id"] for each in json.loads(found.out)["workflows"]]


def test_workflows_are_listed_by_status_name_correlation_and_age(
    project: Project, embedded: EmbeddedServices, workflow_id: str
) -> None:
    other = embedded.conductor.start_workflow(
        "w", {}, correlation_id="order-17", definition=embedded.conductor.workflow(workflow_id)["workflowDefinition"]
    )
    assert listed(project, embedded) == [other, workflow_id]
    assert listed(project, embedded, "--limit", "1") == [other]
    assert listed(project, embedded, "--correlation", "order-*") == [other]
    assert listed(project, embedded, "--name", "w*", "--status", "running", "--since", "1h") == [other, workflow_id]
    assert listed(project, embedded, "--name", "ww") == []
    end(embedded, "FAILED", reasonForIncompletion="row 17\x1b[2J has 3 columns")
    assert listed(project, embedded, "--status", "failed") == [workflow_id]
    lines = ran(project, embedded, "list", "--status", "failed").out.splitlines()
    assert lines[0].split() == ["status", "started", "took", "id", "workflow"]
    assert lines[1].split()[-3:] == [workflow_id, "w", "v1"]
    assert "row 17⟨U+001B⟩[2J has 3 columns" in lines[2]


@pytest.mark.parametrize("value", ["a'b", 'a"b', "a OR b", "a,b", "x" * 201])
def test_a_text_that_conductors_language_does_not_have_is_a_usage_error(project: Project, value: str) -> None:
    found = project.run("list", "--correlation", value, CONDUCTOR_SERVER_URL="http://127.0.0.1:9/api")
    assert found.code == 2
    assert "Conductor cannot search for this text" in found.err


def test_a_workflow_is_terminated_without_a_question_only_with_yes(
    project: Project, embedded: EmbeddedServices, workflow_id: str
) -> None:
    refused = ran(project, embedded, "terminate", workflow_id)
    assert refused.code == 2
    assert "there is no terminal to ask on, so nothing was terminated\n  fix: give --yes" in refused.err
    assert embedded.conductor.workflow(workflow_id)["status"] == "RUNNING"

    done = ran(project, embedded, "terminate", workflow_id, "--yes", "--reason", "wrong input", "--json")
    assert (done.code, json.loads(done.out)["status"]) == (0, "TERMINATED")
    assert embedded.conductor.workflow(workflow_id)["reasonForIncompletion"] == "wrong input"
    again = ran(project, embedded, "terminate", workflow_id, "--yes")
    assert again.code == 1
    assert "cannot be terminated: it has ended already: TERMINATED" in again.err


@pytest.mark.parametrize(("answer", "status"), [("y", "TERMINATED"), ("", "RUNNING"), ("n", "RUNNING")])
def test_a_terminal_is_asked(
    project: Project, embedded: EmbeddedServices, workflow_id: str, answer: str, status: str
) -> None:
    embedded.conductor.poll_tasks("busy", "pod-7", wait_seconds=0)
    with terminal(project, "terminate", workflow_id, **embedded.environment()) as shown:
        shown.wait_for(r"\[y/N\]")
        assert "1 running attempt: r on pod-7" in shown.text
        shown.type(answer)
        assert shown.ended() == int(status == "RUNNING")
    assert embedded.conductor.workflow(workflow_id)["status"] == status


def test_failed_steps_are_retried(project: Project, embedded: EmbeddedServices, workflow_id: str) -> None:
    running = ran(project, embedded, "retry", workflow_id)
    assert running.code == 1
    assert "it is RUNNING, and only a workflow that has ended can be retried" in running.err
    assert f"fix: end it first: perago terminate {workflow_id}" in running.err
    end(embedded, "FAILED", reasonForIncompletion="boo")
    done = ran(project, embedded, "retry", workflow_id)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"w {workflow_id}: RUNNING\n  the failed and canceled steps run again\n"
    end(embedded, "COMPLETED")
    refused = ran(project, embedded, "retry", workflow_id)
    assert refused.code == 1
    assert f"no failed step to retry\n  fix: run every step again: perago rerun {workflow_id}" in refused.err


def test_a_workflow_that_ends_again_immediately_is_reported(project: Project, embedded: EmbeddedServices) -> None:
    """Conductor can also cancel the new attempts, because it was still ending the workflow."""
    inputs = {"evaluatorType": "graaljs", "expression": "(function () { throw new Error('boo'); })();"}
    steps = flow(operator("INLINE", "i", inputParameters=inputs))
    workflow_id = embedded.conductor.start_workflow("w", {}, definition=steps)
    assert embedded.conductor.workflow(workflow_id)["status"] == "FAILED"
    again = ran(project, embedded, "retry", workflow_id)
    again.ends(0, "warning: it has ended again already: FAILED (")
    assert "boo" in again.err
    assert "attempts of this run: i FAILED" in again.err
    assert "run the command again" not in again.err


def test_the_help_of_retry_says_that_it_undoes_first(project: Project, embedded: EmbeddedServices) -> None:
    text = ran(project, embedded, "retry", "--help").out
    assert "Publications that will no longer count are undone first." in " ".join(text.split())


def test_a_workflow_is_run_again_in_full_or_from_a_step(
    project: Project, embedded: EmbeddedServices, workflow_id: str
) -> None:
    end(embedded, "COMPLETED")
    (first,) = embedded.conductor.workflow(workflow_id)["tasks"]
    step = first["referenceTaskName"]
    done = ran(project, embedded, "rerun", workflow_id, "--from", step)
    assert done.out == f"w {workflow_id}: RUNNING\n  {step} and the steps after it run again\n"
    (again,) = embedded.conductor.workflow(workflow_id)["tasks"]
    assert again["taskId"] == first["taskId"]
    end(embedded, "COMPLETED")

    whole = ran(project, embedded, "rerun", workflow_id, "--json")
    assert json.loads(whole.out)["done"] == "every step runs again"
    (again,) = embedded.conductor.workflow(workflow_id)["tasks"]
    assert again["taskId"] != first["taskId"]
    unknown = ran(project, embedded, "rerun", workflow_id, "--from", "x\x1b[2J").ends(1, f"it has '{step}'")
    assert "\x1b" not in unknown.err


def test_an_undo_says_that_nothing_is_left_to_undo(
    project: Project, embedded: EmbeddedServices, workflow_id: str
) -> None:
    waiting = ran(project, embedded, "undo", workflow_id, "--dry-run")
    assert (waiting.code, waiting.out) == (0, f"open: r of {workflow_id}\nnothing to undo\n")
    refused = ran(project, embedded, "undo", workflow_id, "--wait", "0").ends(1, "has 1 open attempt: 'r of ")
    assert f"perago undo {workflow_id} --terminate" in refused.err
    done = ran(project, embedded, "undo", workflow_id, "--terminate", "--reason", "wrong input", "--json")
    assert json.loads(done.out) == {"root_id": workflow_id, "branches": [], "open_attempts": [], "done": []}
    assert embedded.conductor.workflow(workflow_id)["reasonForIncompletion"] == "wrong input"


def test_a_rerun_that_would_be_stuck_is_refused(project: Project, embedded: EmbeddedServices, workflow_id: str) -> None:
    definition = flow(*forking("fork", *([simple("busy", name)] for name in "xy")))
    forked = embedded.conductor.start_workflow("w", {}, definition=definition)
    end(embedded, "COMPLETED")
    for _ in "xy":
        end(embedded, "COMPLETED")
    assert embedded.conductor.workflow(forked)["status"] == "COMPLETED"
    refused = ran(project, embedded, "rerun", forked, "--from", "x")
    assert refused.code == 1
    assert "x is not in the last branch of fork fork, and a rerun removes the rows of later branches" in refused.err
    assert f"fix: run every step again: perago rerun {forked}" in refused.err
    assert embedded.conductor.workflow(forked)["status"] == "COMPLETED"


@pytest.mark.parametrize("command", ["terminate", "retry", "rerun"])
def test_an_unknown_workflow_is_named(project: Project, embedded: EmbeddedServices, command: str) -> None:
    found = ran(project, embedded, command, "../x").ends(1, "error: ")
    assert "Traceback" not in found.err


def waiting(embedded: EmbeddedServices) -> str:
    """Start a workflow that waits for a signal with a text, in a sub-workflow."""
    schema = {"type": "object", "properties": {"by": {"type": "string"}}, "required": ["by"]}
    wait = operator("WAIT", "approval", taskDefinition={"name": "approval", "outputSchema": {"data": schema}})
    embedded.conductor.create_workflow_definition(flow(wait, name="inner"))
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": "inner", "version": 1})
    workflow_id = embedded.conductor.start_workflow("outer", {}, definition=flow(sub, name="outer"))
    embedded.conductor.sweep()
    return workflow_id


def test_a_signal_is_taken_by_the_step_that_waits(project: Project, embedded: EmbeddedServices) -> None:
    workflow_id = waiting(embedded)
    (inner,) = (row["subWorkflowId"] for row in embedded.conductor.workflow(workflow_id)["tasks"])
    refused = ran(project, embedded, "signal", workflow_id, "approval", "--params", '{"by": 5}')
    assert (refused.code, refused.out) == (1, "")
    assert "the signal 'approval' was not sent: /by: must be string, but is integer\n  fix: correct" in refused.err
    assert ran(project, embedded, "signal", workflow_id, "approval", "--params", "[]").code == 2

    done = ran(project, embedded, "signal", workflow_id, "approval", "--params", '{"by": "ann"}')
    assert (done.code, done.out) == (0, f"step approval of workflow {inner} has taken the signal\n")
    assert embedded.conductor.workflow(inner)["tasks"][0]["outputData"] == {"by": "ann"}
    late = ran(project, embedded, "signal", workflow_id, "approval", "--params", '{"by": "bob"}')
    assert late.code == 1
    assert f"workflow {workflow_id} is COMPLETED and does not wait for 'approval' now; it waits for no sig" in late.err


def test_a_signal_reports_the_step_as_json(project: Project, embedded: EmbeddedServices) -> None:
    workflow_id = waiting(embedded)
    done = ran(project, embedded, "signal", workflow_id, "approval", "--params", '{"by": "ann"}', "--json")
    document = json.loads(done.out)
    assert (document["step"], document["taken"]) == ("approval", True)
    unknown = ran(project, embedded, "signal", "nobody", "approval")
    assert (unknown.code, "Conductor has no workflow 'nobody'" in unknown.err) == (1, True)
