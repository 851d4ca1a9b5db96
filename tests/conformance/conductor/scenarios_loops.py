"""DO_WHILE."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, scenario, to
from .operators import TWICE, fork, inline, join, loop, system_task
from .workflows import Json, StartedWorkflow, on, start, start_types, step, task_type


def _looping(rest: Rest, condition: str = TWICE, body: Json | None = None, **definition: Any) -> StartedWorkflow:
    """A loop over the step `body`, and the step `last` of another type after it."""
    repeated = loop(condition, step("task", "body", **(body or {})))
    return start_types(rest, repeated, step("after", "last"), types={"task": definition, "after": {}})


@scenario
def what_steps_see_of_the_output_of_their_loop(rest: Rest) -> None:
    """The whole map is the loop's own, and shows what was done since; a path into it is looked up at once."""
    task = task_type(rest)
    seen = {"whole": "${loop.output}", "path": "${loop.output.1.ten.result}"}
    body = (
        inline("ten", "10"),
        system_task("SET_VARIABLE", "soon", **{f"{name}_1": value for name, value in seen.items()}),
        step(task, "work"),
        system_task("SET_VARIABLE", "later", **{f"{name}_2": value for name, value in seen.items()}),
        inline("look", "$.all['1'].work.d", all="${loop.output}"),
    )
    on = start(rest, task, loop("$.loop.iteration < 1", *body))
    on.run(outputData={"d": 1})
    on.settle("COMPLETED")
    shown = on.silent.read()
    first, second = (shown["variables"][f"whole_{number}"]["1"] for number in (1, 2))
    rest.note("the step before, by its path", [shown["variables"]["path_1"], shown["variables"]["path_2"]])
    rest.note("the steps before, in the whole map", [first["ten"], second["ten"], second["soon"], second["work"]])
    rest.note("what the script saw", shown["output"])


SCENARIOS: Declared = {
    # Turns are counted from one, and the loop's output keeps each.
    "many_turns": to(_looping, "$.loop['iteration'] < 4")(
        *(
            request
            for turn in range(1, 5)
            for request in (on.await_row(f"body__{turn}"), on.run(outputData={"n": turn}))
        ),
        on.await_row("last"),
        on.read(),
    ),
    # What comes after a loop refers to its last turn by bare names, and to the loop's output.
    "the_output_of_a_loop": to(
        start_types,
        loop(TWICE, step("task", "body")),
        step("after", "last", inputParameters={"last": "${body.output.n}", "all": "${loop.output}"}),
        types={"task": {}, "after": {}},
    )(
        on.run(outputData={"n": 1}),
        on.run(outputData={"n": 2}),
        on.rest.note("what the last task is given", on.take(task="after")["inputData"]),
    ),
    # The tasks of a turn have its number in their reference name.
    "the_first_turn": to(_looping)(on.read()),
    # The next turn has tasks of its own; the loop collects the outputs.
    "the_second_turn": to(_looping)(on.run(outputData={"n": 1}), on.await_row("body__2"), on.read()),
    # When the condition is false the loop ends and what comes next is scheduled.
    "after_the_last_turn": to(_looping)(
        on.run(outputData={"n": 1}), on.run(outputData={"n": 2}), on.await_row("last"), on.read()
    ),
    # A polled task of a loop shows its turn; its definition keeps the bare reference name.
    "what_a_poller_sees": to(_looping)(on.run(), on.await_row("body__2"), on.poll(show=("workflowTask",))),
    # A retry keeps the turn.
    "a_retry_in_a_loop": to(_looping)(on.fail(), on.read()),
    # A failure in a loop fails the loop and the workflow.
    "a_failure_in_a_loop": to(_looping, retryCount=0)(on.fail(), on.settle("FAILED"), on.read()),
    # A retry of a loop whose condition failed goes on with its own row, which counts the retry.
    "a_loop_that_cannot_go_on_is_retried": to(_looping, "$.nobody['n'] == 1")(
        on.run(), on.settle("FAILED"), on.read(), on.retry(), on.read()
    ),
    # A condition may look at what the turn has put out.
    "a_condition_on_an_output": to(_looping, "$.body['more'] == true")(
        on.run(outputData={"more": True}),
        on.await_row("body__2"),
        on.run(outputData={"more": False}),
        on.await_row("last"),
        on.read(),
    ),
    # A condition may be written as a statement.
    "a_condition_with_if": to(_looping, "if ($.loop['iteration'] < 2 && $.body['n'] > 0) { true; } else { false; }")(
        on.run(outputData={"n": 0}), on.await_row("last"), on.read()
    ),
    # A termination cancels the loop with its turn.
    "a_loop_is_terminated": to(_looping)(on.silent.terminate(), on.read()),
    # A condition may look at the inputs of the loop.
    "a_condition_on_an_input": to(
        start_types,
        loop("$.loop['iteration'] < $.turns", step("task", "body"), inputParameters={"turns": "${workflow.input.x}"}),
        given={"x": 1},
    )(on.run(), on.settle("COMPLETED"), on.read()),
    # The steps of a turn follow each other, and refer to each other by bare names.
    "two_steps_in_a_turn": to(
        start_types, loop(TWICE, *(step("task", "one"), step("task", "two", inputParameters={"n": "${one.output.n}"})))
    )(on.run(outputData={"n": 1}), on.run(), on.run(outputData={"n": 2}), on.poll(), on.read()),
    # A task refers by its own name to its turn before.
    "a_turn_refers_to_the_one_before": to(
        _looping, body={"inputParameters": {"before": "${body.output.n}", "turn": "${loop.output.iteration}"}}
    )(on.run(outputData={"n": 7}), on.rest.note("what the second turn is given", on.take()["inputData"])),
    # A rerun from a task of an earlier turn.
    "a_rerun_of_a_turn": to(_looping)(
        on.run(outputData={"n": 1}),
        on.run(outputData={"n": 2}),
        on.await_row("last"),
        on.silent.terminate(),
        on.rerun(on.taken(1)),
        on.read(),
    ),
    # Every task of a fork in a loop has the number of the turn.
    "a_fork_in_a_loop": to(
        start_types,
        loop("$.loop['iteration'] < 1", fork(*[[step("left", "a")], [step("right", "b")]]), join("a", "b")),
        types={"left": {}, "right": {}},
    )(on.read(), on.run(), on.run(task="right"), on.settle("COMPLETED"), on.read()),
}
