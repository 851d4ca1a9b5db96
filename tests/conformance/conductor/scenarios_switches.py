"""SWITCH."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, each, to
from .operators import TWICE, fork, join, loop, switch
from .workflows import NO_RETRIES, Json, StartedWorkflow, on, start_types, step


def _switched(rest: Rest, value: Any, **fields: Any) -> StartedWorkflow:
    made = switch({"1": [step("task", "one")], "two": [step("task", "two")]}, [step("task", "other")], **fields)
    return start_types(rest, made, step("task", "last"), given={"x": value})


CHOICES: dict[str, tuple[Any, Json]] = {
    "a_case_is_chosen": ("two", {}),
    # A number chooses the case of its digits.
    "a_number_is_a_case": (1, {}),
    # Without a fitting case, and for a null, the default is scheduled.
    "no_case_fits": ("nothing", {}),
    "a_missing_value": (None, {}),
    "an_expression": (5, {"evaluatorType": "javascript", "expression": "$.case > 3 ? 'two' : 'one'"}),
    "a_statement": (5, {"evaluatorType": "javascript", "expression": "if ($.case == 5) { 'two'; } else { 'one'; }"}),
}


GRAALJS = {
    "a_choice_in_graaljs": "$.case > 1 && $.case < 5 ? 'two' : 'one'",
    "a_statement_in_graaljs": "if ($.case == 3) { 'two' } else { 'no' }",
    "a_number_in_graaljs": "$.case - 2",
    "a_failure_in_graaljs": "$.missing.x",
}


SCENARIOS: Declared = {
    # The case of the value is scheduled, the others are not.
    **each(CHOICES, lambda case: to(_switched, case[0], **case[1])(on.read())),
    # A case without steps, next to a default that has some.
    "an_empty_case": to(
        start_types, switch({"1": [], "2": [step("task", "two")]}, [step("task", "other")]), step("task", "last")
    )(on.read()),
    # The evaluator `graaljs` is one for JavaScript, too; a number chooses the case of its digits.
    **each(
        GRAALJS,
        lambda case: to(_switched, 3, evaluatorType="graaljs", expression=case)(on.noted.settle("RUNNING", "FAILED")),
    ),
    # A case may hold a fork, a branch of it another switch; the join waits for the steps of the chosen case.
    "a_switch_as_the_last_step_and_inside_of_others": to(
        start_types,
        switch(
            {
                "one": [
                    fork([step("b", "b1")], [switch({"one": [step("a", "i1"), step("a", "i2")]}, reference="inner")]),
                    join("b1", "inner"),
                    step("b", "b2"),
                ]
            },
            reference="outer",
        ),
        types=NO_RETRIES,
        given={"x": "one"},
    )(on.note_all(), on.run(), on.noted.run(), on.noted.run(task="b"), on.noted.run(task="b")),
    # A retry goes on with the step of the case that failed; a rerun may begin with an earlier step of it.
    "a_failed_case_is_rerun": to(
        start_types,
        step("a", "first"),
        switch({"one": [step("a", "s1"), step("a", "s2")]}),
        step("a", "last"),
        types={"a": {"retryCount": 0}},
        given={"x": "one"},
    )(
        on.run(),
        on.run(),
        on.noted.fail(),
        on.noted.retry(),
        on.fail(),
        on.noted.rerun(on.taken(2)),
        *[on.run()] * 3,
        on.note_all(),
    ),
    # The row of the switch is COMPLETED after a termination, so there is nothing to retry.
    "a_retry_after_a_rerun_from_the_row_of_a_switch": to(_switched, "two")(
        on.run(), on.run(), on.rerun(on.row("switch")), on.terminate("enough"), on.noted.retry()
    ),
    # What comes after a switch follows the chosen case.
    "after_the_case": to(_switched, "two")(on.run(), on.read()),
    # A failure in a case is retried, and fails the workflow in the end.
    "a_failure_in_a_case": to(_switched, "two")(on.run("FAILED"), on.fail(), on.read()),
    # A retry of the workflow goes on within the case.
    "a_retry_in_a_case": to(_switched, "two")(on.run("FAILED_WITH_TERMINAL_ERROR"), on.retry(), on.run(), on.read()),
    # A switch that chooses nothing is passed.
    "no_case_and_no_default": to(start_types, switch({"two": [step("task", "two")]}), step("task", "last"))(on.read()),
    # A switch whose expression cannot be evaluated is not tried again, whatever its number of retries.
    "an_expression_that_fails": to(
        start_types,
        switch({"1": [step("task", "one")]}, evaluatorType="javascript", expression="$.nobody['n']", retryCount=2),
        step("task", "last"),
    )(on.settle("FAILED", "RUNNING"), on.read()),
    # A switch may depend on an earlier task, and its case may have several steps.
    "a_switch_on_an_output": to(
        start_types,
        step("task", "first"),
        switch({"go": [step("task", "one"), step("task", "two")]}, inputParameters={"case": "${first.output.way}"}),
    )(on.run(outputData={"way": "go"}), on.read(), on.run(), on.run(outputData={"end": 1}), on.read()),
    # A case in a loop has the number of the turn.
    "a_switch_in_a_loop": to(
        start_types,
        loop(
            TWICE,
            switch(
                {"1": [step("task", "one")]},
                [step("task", "other")],
                inputParameters={"case": "${loop.output.iteration}"},
            ),
        ),
    )(on.run(), on.run(), on.settle("COMPLETED"), on.read()),
}
