"""Logs of tasks."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, each, scenario, scenario_with
from .workflows import StartedWorkflow, on, one_step, start_steps

LINES = {"a_line_is_kept": "one line", "a_line_in_quotes": '"quoted \\n ü"'}


@scenario
def lines_of_an_unknown_task(rest: Rest) -> None:
    """A line of an unknown task is accepted and kept."""
    task = rest.name("unknown")
    rest.post("/tasks/{task}/log", task=task, body=b"line", headers={"Content-Type": "application/json"})
    rest.get("/tasks/{task}/log", task=task)


@scenario_with(start_steps)
def lines_come_in_order(on: StartedWorkflow) -> None:
    """Lines are read in the order of their posting."""
    task = on.take()
    for number in range(3):
        on.log(task, f"line {number}")
        on.rest.sleep(0.01)
    on.logs(task)


@scenario_with(start_steps)
def only_ten_lines_inside_a_result(on: StartedWorkflow) -> None:
    """Of a result's lines the first ten are kept."""
    task = on.take()
    on.finish(task, logs=[{"log": f"line {n}", "taskId": task["taskId"], "createdTime": n + 1} for n in range(15)])
    on.rest.note("the lines", sorted(line["log"] for line in on.silent.logs(task).json))


@scenario_with(start_steps)
def a_long_line(on: StartedWorkflow) -> None:
    """A line is not cut."""
    on.silent.log(on.take(), "x" * 100_000)
    on.rest.note("its length", [len(line["log"]) for line in on.silent.logs(on.taken(1)).json])


SCENARIOS: Declared = {
    # Lines that are posted one by one are all kept.
    "many_single_lines": one_step(
        on.take(),
        *(on.silent.log(on.taken(1), f"line {number}") for number in range(15)),
        on.note_number("how many", on.silent.logs(on.taken(1))),
    ),
    # A posted line is read back with its time. A JSON text is kept with its quotes.
    **each(LINES, lambda case: one_step(on.log(on.take(), case), on.logs(on.taken(1)))),
    # An empty line is no body.
    "an_empty_line": one_step(on.log(on.take(), "")),
    # A line may be sent as plain text.
    "a_line_as_plain_text": one_step(on.log(on.take(), "ünï", "text/plain;charset=UTF-8"), on.logs(on.taken(1))),
    # Lines of a result are kept with the times they were given.
    "lines_inside_a_result": one_step(
        on.take(),
        on.update(
            on.taken(1),
            "COMPLETED",
            logs=[{"log": "one", "taskId": on.taken(1)["taskId"], "createdTime": 5}, {"log": "two"}],
        ),
        on.logs(on.taken(1)),
    ),
    # A line may come after the end.
    "lines_of_an_ended_task": one_step(on.log(on.run(), "late"), on.logs(on.taken(1))),
    # The lines of a result that is ignored are lost.
    "lines_of_an_ignored_result": one_step(
        on.run(),
        on.finish(on.taken(1), logs=[{"log": "late", "taskId": on.taken(1)["taskId"], "createdTime": 1}]),
        on.logs(on.taken(1)),
    ),
}
