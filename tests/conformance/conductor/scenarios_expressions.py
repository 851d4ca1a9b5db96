"""What `${...}` becomes in the input of a task and in the output of a workflow."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, each, scenario, scenario_for_each, to
from .operators import inline, loop, system_task
from .workflows import on, start, start_steps, start_types, step, two_steps

GIVEN: dict[str, Any] = {
    "x": 5,
    "text": "five",
    "none": None,
    "truth": True,
    "half": 0.5,
    "whole": 1.0,
    "big": 2**70,
    "list": [1, "two", None, {"k": "v"}],
    "rows": [{"id": 1}, {}, {"id": None}, {"id": 4}],
    "map": {"a": {"b": {"c": [10, {"z": "deep"}]}}},
    "dotted.key": "dot",
    "dashed-key": "dash",
    "name": "x",
    "names": [{"n": "x1"}, {"n": "y"}],
    "small": 0.0001,
    "large": 1234567.5,
    "larger": 12345678.5,
    "huge": 1e20,
}


EXPRESSIONS: dict[str, dict[str, Any]] = {
    # An expression that is the whole text becomes the value itself.
    "a_value_keeps_its_type": {
        **{key: f"${{workflow.input.{key}}}" for key in ("x", "text", "truth", "half", "whole", "big", "map")}
    },
    # Lists and maps are passed on whole.
    "lists_keep_their_nulls": {"list": "${workflow.input.list}", "all": "${workflow.input}"},
    # A missing member is null, and its key is there.
    "what_is_missing_is_null": {
        "missing": "${workflow.input.missing}",
        "deeper": "${workflow.input.missing.more}",
        "none": "${workflow.input.none}",
    },
    # A path follows members and indices.
    "paths_go_deep": {
        "z": "${workflow.input.map.a.b.c[1].z}",
        "first": "${workflow.input.list[0]}",
        "last": "${workflow.input.list[-1]}",
    },
    # An index that is not there is null.
    "an_index_outside_is_null": {"outside": "${workflow.input.list[9]}", "of_a_text": "${workflow.input.text[0]}"},
    # A star stands for every element that has what follows.
    "every_element_of_a_list": {"every": "${workflow.input.list[*]}", "ids": "${workflow.input.rows[*].id}"},
    # Keys with dots need brackets, dashes do not.
    "unusual_keys": {"dot": "${workflow.input['dotted.key']}", "dash": "${workflow.input.dashed-key}"},
    # An expression inside a text becomes a text.
    "inside_a_text": {
        "sentence": "x is ${workflow.input.x}, text is ${workflow.input.text}",
        "twice": "${workflow.input.x}${workflow.input.x}",
        "null": "[${workflow.input.none}] [${workflow.input.missing}]",
        "truth": "<${workflow.input.truth}>",
        "numbers": "${workflow.input.half} ${workflow.input.whole} ${workflow.input.big}",
    },
    # A map or a list inside a text is written in the server's way.
    "a_map_inside_a_text": {"map": "m=${workflow.input.map}", "list": "l=${workflow.input.list}"},
    # An inner expression is resolved first.
    "expressions_in_expressions": {"nested": "${workflow.input.${workflow.input.name}}"},
    # A doubled dollar keeps an expression from being one.
    "escaped_expressions": {"escaped": "$${workflow.input.x}", "open": "${workflow.input.x", "plain": "a$b{c}"},
    # Expressions are found at any depth, in values only.
    "expressions_in_lists_and_maps": {
        "list": ["${workflow.input.x}", {"deep": ["${workflow.input.x}"]}],
        "${workflow.input.x}": "key",
    },
    # What is no text is passed on as it is.
    "constants_stay": {"number": 1.0, "null": None, "truth": False, "list": [None], "empty": ""},
    # Braces, line ends and variables that are not set around and in expressions; how fractions are written.
    "odd_texts": {
        "braces": "{${workflow.input.x}}",
        "line": "${workflow.input.x}\n",
        "unset": "${workflow.variables.q}",
        "numbers": "${workflow.input.small} ${workflow.input.large} ${workflow.input.larger} ${workflow.input.huge}",
    },
}


taken = on.rest.note("what the task is given", on.take()["inputData"])
MEMBERS = ("workflowId", "workflowType", "version", "status", "correlationId", "priority", "output", "nothing")
OF_A_TASK = {
    "a": "${r0.output.a}",
    "all": "${r0.output}",
    "input": "${r0.input}",
    "status": "${r0.status}",
    "missing": "${r0.output.missing}",
    "later": "${r1.output.a}",
}

PATHS = {
    "the_length_of_a_list": "rows.length()",
    "elements_by_a_number": "rows[?(@.id>1)].id",
    "elements_by_a_pattern": "names[?(@.n =~ /x.*/)].n",
    "elements_from_to": "rows[0:1].id",
    "elements_by_index": "rows[0,3].id",
    "the_keys_of_a_map": "map.keys()",
    "the_length_of_nothing": "missing.length()",
    "elements_that_have_a_member": "rows[?(@.z)]",
    "every_element_of_nothing": "missing[*].id",
    "a_member_of_a_text": "text.more",
}


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


FAILING_JQ = (
    ".l + .o", ".o - .o", ".l + {}", ".n[]", ".missing[]", ".o[0:1]", ".o[null]", ".n | keys", ".t | length",
    ".o | tonumber", ".s | tonumber", ".o | fromjson", ".s | sort", '.n | test("x")', '.s | test("[")', ".s | floor",
    "[[1]] | @sh", ".n | @foo", "@base64d", "{(1): 2}", '.l | has("x")', ".o | has(0)", 'range("a")', "error",
    'error("a\\nb")', "error(null)", ".z.x", "empty", ".l[]",
)  # fmt: skip


@scenario
def the_reasons_of_jq(rest: Rest) -> None:
    """Each program is a step of its own; those that fail are optional and stop no other."""
    steps = [
        system_task("JSON_JQ_TRANSFORM", f"j{number}", queryExpression=program, **VALUES) | {"optional": True}
        for number, program in enumerate(FAILING_JQ)
    ]
    rows = start(rest, "none", *steps).at_rest()["tasks"]
    for program, row in zip(FAILING_JQ, rows, strict=True):
        rest.note(program, row["outputData"])


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


OUTPUTS = {
    "a_condition_with_if_and_brackets": (
        "if ($.a1['again'] == true && $.loop.iteration < $.limit) { true; } else { false; }"
    ),
    "a_condition_with_negations": "!($.a1.again !== true) && $['loop']['iteration'] <= $.limit - 1",
    "a_condition_that_is_an_output": "$.a1.again",
}


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
    "no_program_of_jq": system_task("JSON_JQ_TRANSFORM", "step", queryExpression=None),
    "an_error_in_jq": system_task("JSON_JQ_TRANSFORM", "step", queryExpression='error("x")'),
}


SCENARIOS: Declared = {
    # A step has these input parameters; the workflow is given `GIVEN`.
    **each(EXPRESSIONS, lambda case: to(start_steps, step_fields={"inputParameters": case}, given=GIVEN)(taken)),
    # Paths have filters, slices and functions.
    **each(
        PATHS,
        lambda case: to(
            start_steps, step_fields={"inputParameters": {"found": f"${{workflow.input.{case}}}"}}, given=GIVEN
        )(taken),
    ),
    # Only true and numbers above zero keep a loop going.
    **each(
        CONDITIONS,
        lambda case: to(start_types, loop(case, inline("body", "1")), types={})(on.noted.settle("COMPLETED")),
    ),
    # A condition sees the inputs of the loop, its iteration, and what its steps have put out.
    **each(
        OUTPUTS,
        lambda case: to(start_types, loop(case, step("task", "a1"), inputParameters={"limit": 3}))(
            on.run(outputData={"again": True}), on.noted.run(outputData={"again": False})
        ),
    ),
    # The reason of a script that fails is also its output.
    **each(BROKEN, lambda case: to(start_types, case, types={})(on.note_all())),
    # Output parameters see the status that the workflow has had until now.
    **each(
        {"the_status_at_the_end": "COMPLETED", "the_status_at_a_bad_end": "FAILED_WITH_TERMINAL_ERROR"},
        lambda case: to(start_steps, outputParameters={"s": "${workflow.status}", "o": "${r0.output.a}"})(
            on.noted.run(case, outputData={"a": {"b": 1}})
        ),
    ),
    # Some members of the workflow itself can be referred to.
    "about_the_workflow": to(
        start_steps,
        step_fields={"inputParameters": {key: f"${{workflow.{key}}}" for key in MEMBERS}},
        options={"correlationId": "c", "priority": 2},
    )(on.poll()),
    # A task can be given what an earlier one has put out, and its other members.
    "the_output_of_an_earlier_task": to(start_steps, steps=2, step_fields={"inputParameters": OF_A_TASK})(
        on.run(outputData={"a": {"b": [1, None]}}), on.poll()
    ),
    # An expression inside an output is a text like any other.
    "an_output_is_not_evaluated": to(start_steps, steps=2, step_fields={"inputParameters": {"a": "${r0.output.a}"}})(
        on.run(outputData={"a": "${workflow.input.x}"}),
        on.rest.note("what the next task is given", on.take()["inputData"]),
    ),
    # A task type's template gives values for what is missing or null.
    "a_template_of_the_task_type_fills_gaps": to(
        start_steps,
        {"inputTemplate": {"x": "template", "other": "${workflow.input.x}", "kept": 1}},
        step_fields={"inputParameters": {"x": "${workflow.input.missing}", "kept": 2}},
    )(taken),
    # A task type's template fills a parameter that is null, and may refer to what the workflow's template gives.
    "both_templates_at_once": to(
        start_steps,
        {"inputTemplate": {"x": 9, "q": "${workflow.input.y}", "m": "template"}},
        step_fields={"inputParameters": {"x": "${workflow.input.none}", "m": None}},
        given={"y": None},
        inputTemplate={"y": 1},
    )(taken),
    # Output parameters are resolved at the end.
    "the_output_of_a_workflow": to(
        start_steps,
        outputParameters={
            "a": "${r0.output.a}",
            "x": "${workflow.input.x}",
            "missing": "${r0.output.b}",
            "constant": [1],
        },
    )(on.run(outputData={"a": {"b": None}}), on.read()),
    # A task can be given its own id.
    "about_the_task_itself": to(
        start_steps, step_fields={"inputParameters": {"id": "${CPEWF_TASK_ID}", "text": "t-${CPEWF_TASK_ID}"}}
    )(on.poll()),
    # A workflow's template gives values for what is missing from its input.
    "a_template_of_the_workflow_fills_gaps": to(
        start_steps, given={"y": None}, inputTemplate={"x": "template", "y": 2, "z": {"a": 1}}
    )(on.read()),
    # Without output parameters the last task's output is the workflow's.
    "the_output_of_a_workflow_without_parameters": two_steps(
        on.run(outputData={"first": 1}), on.run(outputData={"last": 2}), on.read()
    ),
    # A failed workflow puts out its output parameters, too.
    "the_output_of_a_failed_workflow": to(
        start_steps, {"retryCount": 0}, outputParameters={"a": "${r0.output.a}", "r": "${r0.reasonForIncompletion}"}
    )(on.run("FAILED", outputData={"a": 1}, reasonForIncompletion="boo"), on.read()),
    # An expression inside the workflow's input is a text like any other.
    "an_input_is_not_evaluated": to(start_steps, given={"x": "${workflow.workflowId}"})(taken),
    # A script sees a variable that was set just before it, and the first values of others.
    "variables_and_scripts_within_one_decision": to(
        start_types,
        system_task("SET_VARIABLE", "first", n="${workflow.input.x}", m={"k": "${workflow.variables.w}"}),
        inline("script", "$.n + 1", n="${workflow.variables.n}"),
        step("task", "a1", inputParameters={"v": "${workflow.variables}", "i": "${script.output.result}"}),
        system_task("SET_VARIABLE", "second", n="${a1.output.n}"),
        variables={"w": "given"},
        outputParameters={"n": "${workflow.variables.n}"},
    )(on.note_all(), on.noted.run(outputData={"n": 7})),
    # A script that fails ends the workflow, whose retry runs it again.
    "a_script_that_fails_is_retried": to(start_types, step("task", "a1"), inline("script", "$.missing.x"))(
        on.noted.run(), on.noted.retry()
    ),
}
