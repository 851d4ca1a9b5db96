"""Logs of tasks."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .workflows import StartedWorkflow, start_steps


def _read(rest: Rest, task: str) -> None:
    rest.get("/tasks/{task}/log", task=task)


def _log(rest: Rest, task: str, text: str) -> None:
    rest.post("/tasks/{task}/log", task=task, body=text.encode(), headers={"Content-Type": "application/json"})


# A JSON text is kept with its quotes.
@scenario_for_each({"a_line_is_kept": "one line", "a_line_in_quotes": '"quoted \\n ü"'})
def lines(rest: Rest, case: str) -> None:
    """A posted line is read back with its time."""
    task = start_steps(rest).take()["taskId"]
    _log(rest, task, case)
    _read(rest, task)


@scenario
def lines_of_an_unknown_task(rest: Rest) -> None:
    """A line of an unknown task is accepted and kept."""
    task = rest.name("unknown")
    _log(rest, task, "line")
    _read(rest, task)


@scenario
def an_empty_line(rest: Rest) -> None:
    """An empty line is no body."""
    _log(rest, start_steps(rest).take()["taskId"], "")


@scenario
def lines_come_in_order(rest: Rest) -> None:
    """Lines are read in the order of their posting."""
    task = start_steps(rest).take()["taskId"]
    for number in range(3):
        _log(rest, task, f"line {number}")
        rest.sleep(0.01)
    _read(rest, task)


@scenario
def a_line_as_plain_text(rest: Rest) -> None:
    """A line may be sent as plain text."""
    task = start_steps(rest).take()["taskId"]
    rest.post("/tasks/{task}/log", task=task, body="ünï".encode(), headers={"Content-Type": "text/plain;charset=UTF-8"})
    _read(rest, task)


@scenario_with(start_steps)
def lines_inside_a_result(on: StartedWorkflow) -> None:
    """Lines of a result are kept with the times they were given."""
    task = on.take()
    logs: list[dict[str, Any]] = [{"log": "one", "taskId": task["taskId"], "createdTime": 5}, {"log": "two"}]
    on.update(task, "COMPLETED", logs=logs)
    _read(on.rest, task["taskId"])


@scenario_with(start_steps)
def only_ten_lines_inside_a_result(on: StartedWorkflow) -> None:
    """Of a result's lines the first ten are kept."""
    task = on.take()
    on.finish(task, logs=[{"log": f"line {n}", "taskId": task["taskId"], "createdTime": n + 1} for n in range(15)])
    found = on.silent.rest.get("/tasks/{task}/log", task=task["taskId"]).json
    on.rest.note("the lines", sorted(line["log"] for line in found))


@scenario
def many_single_lines(rest: Rest) -> None:
    """Lines that are posted one by one are all kept."""
    task = start_steps(rest).take()["taskId"]
    with rest.unnoted():
        for number in range(15):
            _log(rest, task, f"line {number}")
        found = rest.get("/tasks/{task}/log", task=task).json
    rest.note("how many", len(found))


@scenario
def a_long_line(rest: Rest) -> None:
    """A line is not cut."""
    task = start_steps(rest).take()["taskId"]
    with rest.unnoted():
        _log(rest, task, "x" * 100_000)
        found = rest.get("/tasks/{task}/log", task=task).json
    rest.note("its length", [len(line["log"]) for line in found])


@scenario
def lines_of_an_ended_task(rest: Rest) -> None:
    """A line may come after the end."""
    task = start_steps(rest).run()["taskId"]
    _log(rest, task, "late")
    _read(rest, task)


@scenario_with(start_steps)
def lines_of_an_ignored_result(on: StartedWorkflow) -> None:
    """The lines of a result that is ignored are lost."""
    task = on.run()
    on.finish(task, logs=[{"log": "late", "taskId": task["taskId"], "createdTime": 1}])
    _read(on.rest, task["taskId"])
