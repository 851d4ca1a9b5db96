"""What steps inside of a loop see of the loop's own output, as Conductor 3.32.3 showed it."""

from __future__ import annotations

from typing import Any

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor


def step(kind: str, reference: str, **given: Any) -> dict[str, Any]:
    return {"name": reference, "taskReferenceName": reference, "type": kind, "inputParameters": given}


def test_a_variable_of_a_loop_s_own_output_has_the_present_iteration() -> None:
    """A whole map is the loop's own there, so it shows what was done since; a path into it is looked up at once."""
    seen = {"whole": "${lp.output}", "path": "${lp.output.1.ten.result}", "text": "x ${lp.output}"}
    body = [
        step("INLINE", "ten", evaluatorType="javascript", expression="10"),
        step("SET_VARIABLE", "soon", **{f"{name}_1": value for name, value in seen.items()}),
        step("SIMPLE", "work"),
        step("SET_VARIABLE", "later", **{f"{name}_2": value for name, value in seen.items()}),
        step("INLINE", "look", evaluatorType="javascript", expression="$.all['1'].work.d", all="${lp.output}"),
    ]
    loop = {**step("DO_WHILE", "lp"), "loopCondition": "$.lp.iteration < 1", "loopOver": body}
    conductor = InMemoryConductor(VirtualClock(), seed=1)
    conductor.create_workflow_definition({"name": "w", "tasks": [loop]})
    workflow_id = conductor.start_workflow("w")
    (work,) = conductor.poll_tasks("work", wait_seconds=0)
    ended = {"taskId": work["taskId"], "workflowInstanceId": workflow_id, "status": "COMPLETED", "outputData": {"d": 1}}
    conductor.update_task(ended)
    shown = conductor.workflow(workflow_id)
    seen = shown["variables"]
    assert shown["status"] == "COMPLETED"
    assert seen["whole_1"]["1"]["ten"] == {"result": 10}
    assert (seen["path_1"], seen["text_1"]) == (10, "x {iteration=1, 1={ten={result=10}}}")
    assert seen["whole_2"]["1"] == {"ten": {"result": 10}, "soon": {}, "work": {"d": 1}, "later": {}}
    assert (seen["path_2"], seen["text_2"]) == (None, "x {iteration=1}")
    assert shown["output"] == {"result": 1}
