"""Scenarios about the smaller operators, workflows started with their own definition, domains, and refusals."""

from __future__ import annotations

from typing import Any

from .play import Play, fork, loop, operator, step, sub
from .servers import Server, unique
from .stage import Seen, scenario, without_definitions

VALUES: dict[str, Any] = {
    "n": 1, "f": 1.5, "one": 1.0, "s": "a", "num": "5", "t": True, "z": None, "l": [1, 2], "o": {"x": {"y": 2}},
    "e": "", "big": 2**40,
}  # fmt: skip

SCRIPTS = (
    "$.n + 1", "$.f + 1", "4/2", "1/2", "$.one", "$.n + 'x'", "$.f + 'x'", "$.big + 1", "$.missing", "undefined",
    "$.missing == null", "$.missing === undefined", "$.z == null", "$.z === undefined", "$.z == undefined", "$.l",
    "$.l.length", "$.l[0]", "$.l[5]", "$.s.length", "$.o", "$.o.x.y", "$.o['x']['y'] > 1", "$['n']", "$.num == 5",
    "$.num === 5", "$.num > 4", "$.t == 1", "$.t + 1", "!$.s", "!$.e", "$.s && $.n", "$.z || 'd'",
    "$.n == 1 ? 'y' : 'n'",
    "if ($.n == 1) { true; } else { false; }", "if ($.n > 1) true; else false;", "if ($.n > 1) { true }", "'a' < 'b'",
    "-$.n", "$.n % 2", "1 == '1'", "null == 0", "null >= 0", "'' == 0", "$.n/0", "0/0", "$.n;", "true;false",
    "$.z + ''", "$.missing + ''", "$.missing > 1", "$.z < 1", "'it\\'s'", "1e3", ".5", "$.f.x", "-7 % 3",
    "$.n == 1 && $.f > 1 || false", "$.o == $.o", "($.n)", "if ($.n) 5", "'5' * '2'", "'a' * 1", "$.missing.x", "$.z.x",
    "if ($.n > 1) { 'a' } else if ($.n > 0) { 'b' } else { 'c' }", "$.o.x.z", "$.l['length'] >= 2",
)  # fmt: skip


@scenario
def scripts(server: Server) -> Seen:
    play = Play(server)
    steps = [
        operator("INLINE", f"i{index}", optional=True, inputParameters={**VALUES, "expression": script})
        for index, script in enumerate(SCRIPTS)
    ]
    _, workflow = server.settled(play.run(*steps))
    rows = zip(SCRIPTS, workflow["tasks"], strict=True)
    return [(script, row["status"], row["outputData"], row.get("reasonForIncompletion")) for script, row in rows]


@scenario
def variables_and_scripts_within_one_decision(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    given = {"n": "${workflow.input.x}", "m": {"k": "${workflow.variables.w}"}}
    script = {"evaluatorType": "javascript", "expression": "$.n + 1", "n": "${workflow.variables.n}"}
    workflow_id = play.run(
        operator("SET_VARIABLE", "v", inputParameters=given),
        operator("INLINE", "i", inputParameters=script),
        step(a, "a1", inputParameters={"v": "${workflow.variables}", "i": "${i.output.result}"}),
        operator("SET_VARIABLE", "u", inputParameters={"n": "${a1.output.n}"}),
        variables={"w": "given"},
        outputParameters={"n": "${workflow.variables.n}"},
    )
    play.look(workflow_id)
    play.finish(a, {"n": 7})
    play.look(workflow_id)
    return play.seen


@scenario
def an_inline_script_that_fails(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    broken = operator("INLINE", "i", inputParameters={"expression": "$.missing.x"})
    workflow_id = play.run(step(a, "a1"), broken)
    play.finish(a)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_terminate_task_ends_the_workflow_as_it_says(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    for status in ("COMPLETED", "FAILED", "TERMINATED"):
        given = {"terminationStatus": status, "workflowOutput": {"q": "${a1.output.n}"}}
        if status != "COMPLETED":
            given["terminationReason"] = "so it is"
        end = operator("TERMINATE", "te", inputParameters=given)
        child = play.define(step(b, "c1"))
        workflow_id = play.run(*fork([step(a, "a1"), end], [sub(child, "s")]), step(a, "end"))
        child_id = play.child(workflow_id, "s")
        play.finish(a, {"n": 7})
        play.look(workflow_id)
        play.look(child_id)
    text = operator("TERMINATE", "te", inputParameters={"terminationStatus": "COMPLETED", "workflowOutput": "text"})
    play.look(play.run(text))
    return play.seen


@scenario
def a_wait_lasts_as_long_as_it_says(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(operator("WAIT", "w", inputParameters={"duration": "2 seconds"}), step(a, "end"))
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_wait_without_a_duration_waits_for_an_update(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(operator("WAIT", "w"), step(a, "end", inputParameters={"q": "${w.output}"}))
    play.look(workflow_id)
    row = play.row(workflow_id, "w")
    play.update(row, "IN_PROGRESS", {"n": 1})
    play.look(workflow_id)
    play.update(row, "COMPLETED", {"n": 2})
    play.look(workflow_id)
    return play.seen


@scenario
def a_workflow_started_with_its_own_definition(server: Server) -> Seen:
    play = Play(server)
    a = play.task(retryCount=1)
    definition = {"name": unique("w"), "version": 3, "tasks": [step(a, "a1")], "inputTemplate": {"y": 1}}
    workflow_id = play.start("another", {"x": 1}, definition=definition, version=9)
    play.look(workflow_id)
    _, shown = server.workflow(workflow_id)
    kept = ("name", "version", "createTime", "schemaVersion", "inputTemplate", "timeoutPolicy")
    play.seen.append([shown[key] for key in ("workflowName", "workflowVersion")])
    play.seen.append([shown["workflowDefinition"][key] for key in kept])
    play.fail(a)
    play.fail(a)
    play.act("restart", workflow_id)
    play.look(workflow_id)
    play.look(play.start("another", {}, definition=definition))
    return play.seen


@scenario
def definitions_that_no_workflow_is_started_with(server: Server) -> Seen:
    a = unique("t")
    good: dict[str, Any] = {"name": "w", "version": 1, "tasks": [step(a, "a1")]}
    definitions: tuple[dict[str, Any], ...] = (
        {"name": None},
        {"tasks": []},
        {"tasks": [step(a, "a1"), step(a, "a1")]},
        {"tasks": [step(a, "a1", inputParameters={"q": "${nope.output}"})]},
        {"schemaVersion": 1},
        {"tasks": [sub("nobody", "s")]},
    )
    seen: Seen = [server.start("x", {}, definition={**good, **fields}) for fields in definitions]
    return [*seen, server.start("", {}, definition=good)]


@scenario
def operators_that_are_refused_by_validation(server: Server) -> Seen:
    a = unique("t")
    inner = step(a, "a1", inputParameters={"q": "${nope.output}"})
    steps: tuple[list[dict[str, Any]], ...] = (
        [operator("DO_WHILE", "l")],
        [operator("DO_WHILE", "l", loopCondition="true", loopOver=[step(a, "l")])],
        [operator("DO_WHILE", "l", loopCondition="false", loopOver=[inner])],
        [operator("FORK_JOIN", "f"), operator("JOIN", "j")],
        fork([{"name": "", "taskReferenceName": "a1", "type": "SIMPLE"}], [step(a, "b1")]),
        [operator("SWITCH", "s")],
        [operator("SWITCH", "s", evaluatorType="value-param", decisionCases={"1": [step(a, "")]})],
        [operator("SWITCH", "s", evaluatorType="value-param", expression="q", defaultCase=[step(a, "a1")])],
        [operator("SUB_WORKFLOW", "s")],
        [operator("TERMINATE", "te")],
        [operator("TERMINATE", "te", optional=True, inputParameters={"terminationStatus": "PAUSED"})],
        [operator("WAIT", "w", inputParameters={"duration": "soon"})],
        [loop(step(a, "a1")), step(a, "end", inputParameters={"q": "${a1.output} ${l.output}"})],
    )
    definition = {"version": 1, "schemaVersion": 2}
    return [server.create({**definition, "name": unique("w"), "tasks": tasks}) for tasks in steps]


@scenario
def a_fork_without_its_join(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    play.look(play.run(operator("FORK_JOIN", "f", forkTasks=[[step(a, "a1")]]), step(a, "end")))
    return play.seen


@scenario
def a_failed_workflow_starts_the_one_that_it_names(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(retryCount=1), play.task()
    rescue = play.define(step(b, "r1"))
    workflow_id = play.run(step(a, "a1"), failureWorkflow=rescue, failureWorkflowVersion=1)
    play.fail(a)
    play.fail(a)
    play.look(workflow_id)
    play.seen.append(without_definitions(server.workflow(str(play.take(b)["workflowInstanceId"]))))
    given = {"terminationStatus": "FAILED", "workflowOutput": {"n": 1}}
    workflow_id = play.run(operator("TERMINATE", "te", inputParameters=given), failureWorkflow=rescue)
    play.look(workflow_id)
    workflow_id = play.run(step(a, "a1"), failureWorkflow=rescue)
    play.act("terminate", workflow_id)
    play.look(workflow_id)
    workflow_id = play.run(step(b, "b1"), failureWorkflow="nobody", outputParameters={"q": 1})
    for _ in range(2):
        play.fail(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_step_may_override_the_retries_of_its_task(server: Server) -> Seen:
    play = Play(server)
    a = play.task(retryCount=2)
    workflow_id = play.run(step(a, "a1", retryCount=0, optional=True), step(a, "a2", retryCount=1))
    for _ in range(3):
        play.fail(a)
    play.look(workflow_id)
    return play.seen


@scenario
def attempts_in_domains(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(retryCount=1), play.task()
    child = play.define(step(b, "c1"))
    name = play.define(step(a, "a1"), sub(child, "s"), step(b, "b1"))
    workflow_id = play.start(name, task_to_domain={a: "d1", "*": "d2"})
    play.seen.append([len(server.poll(a)), len(server.poll(a, domain="d2"))])
    (taken,) = server.poll(a, domain="d1")
    play.update(taken, "FAILED")
    play.look(workflow_id)
    (taken,) = server.poll(a, domain="d1")
    play.update(taken, "COMPLETED")
    play.look(workflow_id)
    play.look(play.child(workflow_id, "s"))
    (taken,) = server.poll(b, domain="d2")
    play.update(taken, "COMPLETED")
    play.look(workflow_id)
    play.seen.append([server.queue_size(b), server.queue_size(f"d2:{b}")])
    return play.seen


@scenario
def a_domain_counts_when_it_was_polled_of_late(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    server.poll(a, domain="d1")
    name = play.define(step(a, "a1"))
    given = ({a: "d1,NO_DOMAIN"}, {a: "d2,NO_DOMAIN"}, {a: "d2,d1"}, {a: "no_domain"}, {"*": "d1"})
    more = ({"*": "d1", a: "NO_DOMAIN"}, {a: " d3 , d4 "}, {a: ""}, {"*": ""})
    for domains in (*given, *more):
        play.look(play.start(name, task_to_domain=domains))
    return play.seen
