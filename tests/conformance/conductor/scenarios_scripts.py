"""Scripts in JavaScript: what INLINE puts out, which conditions keep a loop going, and scripts that fail."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_for_each
from .operators import inline, loop, system_task
from .workflows import Json, start, step, task_type

VALUES: dict[str, Any] = {
    "n": 1, "f": 1.5, "one": 1.0, "s": "a", "num": "5", "t": True, "z": None, "l": [1, 2], "o": {"x": {"y": 2}},
    "e": "", "big": 2**40,
}  # fmt: skip
"""Inputs of the scripts, each under a short name."""

SCRIPTS = {
    "arithmetic": (
        "$.n + 1", "$.f + 1", "4/2", "1/2", "$.one", "$.big + 1", "-$.n", "$.n % 2", "-7 % 3", "$.n/0", "0/0", "1e3",
        ".5", "'5' * '2'", "'a' * 1", "$.t + 1", "($.n)", "$.n;", "true;false", "Math.max(1, 2.5)",
    ),
    "texts": (
        "$.n + 'x'", "$.f + 'x'", "$.z + ''", "$.missing + ''", "'a' < 'b'", "'it\\'s'", "$.s.length",
    ),
    "members": (
        "$.l", "$.l.length", "$.l[0]", "$.l[5]", "$.l['length'] >= 2", "$.o", "$.o.x.y", "$.o.x.z", "$.f.x", "$['n']",
        "$.o['x']['y'] > 1", "$.o == $.o", "$.missing", "undefined",
    ),
    "comparisons": (
        "$.missing == null", "$.missing === undefined", "$.z == null", "$.z === undefined", "$.z == undefined",
        "$.num == 5", "$.num === 5", "$.num > 4", "$.t == 1", "1 == '1'", "null == 0", "null >= 0", "'' == 0",
        "$.missing > 1", "$.z < 1", "[3] < 2",
    ),
    "choices": (
        "!$.s", "!$.e", "$.s && $.n", "$.z || 'd'", "$.n == 1 ? 'y' : 'n'", "$.n == 1 && $.f > 1 || false",
        "if ($.n == 1) { true; } else { false; }", "if ($.n > 1) true; else false;", "if ($.n > 1) { true }",
        "if ($.n) 5", "if ($.n > 1) { 'a' } else if ($.n > 0) { 'b' } else { 'c' }",
    ),
    "functions_and_objects": (
        "function f(){var a=[]; for(var i=0;i<3;i++) a.push(i*2); return a}; f()", "JSON.parse('[{}]')", "var x = 1",
        "({a: 1, b: undefined, c: NaN, d: new Date(0)})",
    ),
    "failures": ("$.missing.x", "$.z.x", "return 1", "throw new Error('bad')", "f()"),
}  # fmt: skip


@scenario_for_each(SCRIPTS)
def scripts(rest: Rest, case: tuple[str, ...]) -> None:
    """Each script is a step of its own; those that fail are optional and stop no other."""
    steps = [inline(f"i{number}", script, **VALUES) | {"optional": True} for number, script in enumerate(case)]
    rows = start(rest, "none", *steps).at_rest()["tasks"]
    for script, row in zip(case, rows, strict=True):
        shown = {key: row[key] for key in ("status", "outputData", "reasonForIncompletion") if row.get(key)}
        rest.note(script, shown)


CONDITIONS = {
    "a_condition_that_is_the_word_false": "'false'",
    "a_condition_that_is_a_word": "'x'",
    "a_condition_below_zero": "-1",
    "a_condition_of_zero": "0",
    "a_condition_that_is_a_list": "[]",
    "a_condition_that_is_an_object": "({})",
    "a_condition_that_is_null": "null",
    "a_condition_that_is_no_number": "NaN",
}


@scenario_for_each(CONDITIONS)
def conditions(rest: Rest, case: str) -> None:
    """Only true and numbers above zero keep a loop going."""
    on = start(rest, "none", loop(case, inline("body", "1")))
    on.settle("COMPLETED")
    on.note_all()


OUTPUTS = {
    "a_condition_with_if_and_brackets": (
        "if ($.a1['again'] == true && $.loop.iteration < $.limit) { true; } else { false; }"
    ),
    "a_condition_with_negations": "!($.a1.again !== true) && $['loop']['iteration'] <= $.limit - 1",
    "a_condition_that_is_an_output": "$.a1.again",
}


@scenario_for_each(OUTPUTS)
def conditions_on_outputs(rest: Rest, case: str) -> None:
    """A condition sees the inputs of the loop, its iteration, and what its steps have put out."""
    task = task_type(rest)
    on = start(rest, task, loop(case, step(task, "a1"), inputParameters={"limit": 3}))
    on.run(outputData={"again": True})
    on.run(outputData={"again": False})
    on.note_all()


@scenario
def variables_and_scripts_within_one_decision(rest: Rest) -> None:
    """A script sees a variable that was set just before it, and the first values of others."""
    task = task_type(rest)
    on = start(
        rest,
        task,
        system_task("SET_VARIABLE", "first", n="${workflow.input.x}", m={"k": "${workflow.variables.w}"}),
        inline("script", "$.n + 1", n="${workflow.variables.n}"),
        step(task, "a1", inputParameters={"v": "${workflow.variables}", "i": "${script.output.result}"}),
        system_task("SET_VARIABLE", "second", n="${a1.output.n}"),
        variables={"w": "given"},
        outputParameters={"n": "${workflow.variables.n}"},
    )
    on.note_all()
    on.run(outputData={"n": 7})
    on.note_all()


@scenario
def a_script_that_fails_is_retried(rest: Rest) -> None:
    """A script that fails ends the workflow, whose retry runs it again."""
    task = task_type(rest)
    on = start(rest, task, step(task, "a1"), inline("script", "$.missing.x"))
    on.run()
    on.note_all()
    on.retry()
    on.note_all()


BROKEN = {
    "an_error_in_the_third_line": inline("step", "\n\nvar x; x.y"),
    "an_error_that_is_thrown": inline("step", "throw new Error('bad')"),
    "a_text_that_is_thrown": inline("step", "throw 'text'"),
    "an_object_that_is_thrown": inline("step", "throw {a: 1}"),
    "an_error_within_a_function": inline("step", "(function () {\n null.x })()"),
    "an_unknown_name": inline("step", "nothing.at"),
    "an_empty_script": inline("step", "${workflow.input.nothing}"),
    "a_division_by_zero_in_jq": system_task("JSON_JQ_TRANSFORM", "step", queryExpression="1/0"),
    "an_index_of_an_object_in_jq": system_task("JSON_JQ_TRANSFORM", "step", queryExpression=".[0]"),
    "a_function_of_jq_that_the_server_lacks": system_task(
        "JSON_JQ_TRANSFORM", "step", queryExpression='{setpath: 1} | setpath(["a"]; 1)'
    ),
    "an_error_in_jq": system_task("JSON_JQ_TRANSFORM", "step", queryExpression='error("x")'),
}


@scenario_for_each(BROKEN)
def broken_scripts(rest: Rest, case: Json) -> None:
    """The reason of a script that fails is also its output."""
    start(rest, "none", case).note_all()
