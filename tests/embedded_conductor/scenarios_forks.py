"""Scenarios about forks, joins and switches: what is scheduled when, and what retry, rerun and restart do in there.

No step that fails is named by a JOIN: on a real server it is a matter of luck whether the JOIN sees the failure first.
"""

from __future__ import annotations

from .play import Play, fork, operator, step
from .servers import Server
from .stage import Seen, scenario


@scenario
def a_join_waits_for_the_branches_of_a_fork(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task(retryCount=1)
    end = step(a, "end", inputParameters={"j": "${j.output}", "f": "${f.status}", "a": "${a2.output.n}"})
    workflow_id = play.run(*fork([step(a, "a1"), step(a, "a2")], [step(b, "b1"), step(b, "b2")]), end)
    play.look(workflow_id)
    play.finish(a, {"n": 1})
    play.fail(b)
    play.look(workflow_id)
    play.finish(b)
    play.finish(b)
    play.finish(a, {"n": 2})
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_failed_branch_cancels_its_siblings_until_a_retry(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1")], [step(b, "b1")], [step(b, "b2"), step(b, "b3")]), step(a, "end"))
    play.finish(b, {"n": 1})
    play.look(workflow_id)
    play.take(a)
    play.fail(b)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    play.fail(b)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.finish(b)
    play.finish(b)
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def an_optional_branch_leaves_errors_in_the_join(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1", optional=True)], [step(b, "b1")]), step(b, "end"))
    play.fail(a)
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_branch_cancelled_by_its_worker_terminates_the_workflow(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1")], [step(b, "b1")], join_on=["b1"]))
    play.fail(a, "CANCELED")
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_terminated_fork_goes_on_with_a_retry(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1"), step(a, "a2")], [step(b, "b1")]))
    play.finish(a)
    play.act("terminate", workflow_id, reason="enough")
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    play.finish(a)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_of_one_branch_drops_the_others(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1"), step(a, "a2")], [step(b, "b1"), step(b, "b2")]), step(a, "end"))
    first = play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    play.fail(b)
    play.look(workflow_id)
    play.act("rerun", workflow_id, from_task_id=first["taskId"])
    play.look(workflow_id)
    play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    play.act("decide", workflow_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_of_a_branch_of_a_completed_fork(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1")], [step(b, "b1")]), step(a, "end"))
    play.finish(a, {"n": 1})
    branch = play.finish(b, {"n": 1})
    play.finish(a)
    play.look(workflow_id)
    play.act("rerun", workflow_id, from_task_id=branch["taskId"])
    play.look(workflow_id)
    play.finish(b, {"n": 2})
    play.look(workflow_id)
    play.act("decide", workflow_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_paused_fork_does_not_go_on(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1"), step(a, "a2")], [step(b, "b1")]))
    play.act("pause", workflow_id)
    play.finish(a)
    play.finish(b)
    play.look(workflow_id)
    play.act("resume", workflow_id)
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_restarted_fork_begins_anew(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1")], [step(b, "b1")], join_on=["b1"]))
    old = play.fail(a)
    play.act("restart", workflow_id)
    play.look(workflow_id)
    play.seen.append(server.task(old["taskId"]))
    play.finish(a)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_join_waits_only_for_what_it_names(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([step(a, "a1")], [step(b, "b1")], join_on=["a1"]), step(a, "end"))
    play.finish(a)
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


def _switch(a: str, reference: str, expression: str = "q", **fields: object) -> dict[str, object]:
    cases = {"one": [step(a, f"{reference}_1"), step(a, f"{reference}_2")], "1": [step(a, f"{reference}_n")], "no": []}
    given = {"evaluatorType": "value-param", "inputParameters": {"q": "${workflow.input.q}"}, **fields}
    return operator("SWITCH", reference, expression=expression, decisionCases=cases, **given)


@scenario
def a_switch_takes_the_case_that_its_parameter_names(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    name = play.define(_switch(a, "s", defaultCase=[step(a, "s_d")]), step(a, "end"))
    for payload, steps in (({"q": "one"}, 3), ({"q": 1}, 2), ({"q": "no"}, 1), ({"q": "two"}, 2), ({}, 2)):
        workflow_id = play.start(name, payload)
        play.look(workflow_id)
        for _ in range(steps):
            play.finish(a)
        play.look(workflow_id)
    return play.seen


@scenario
def a_switch_evaluates_an_expression(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    chosen = "$.q > 1 && $.q < 5 ? 'one' : 'two'"
    for expression in (chosen, "if ($.q == 3) { 'one' } else { 'no' }", "$.q - 2", "$.missing.x"):
        workflow_id = play.run(_switch(a, "s", expression, evaluatorType="javascript"), step(a, "end"))
        play.act("terminate", workflow_id)
        name = play.define(_switch(a, "s", expression, evaluatorType="graaljs"), step(a, "end"))
        workflow_id = play.start(name, {"q": 3})
        play.look(workflow_id)
        play.act("terminate", workflow_id)
    return play.seen


@scenario
def a_switch_as_the_last_step_and_inside_of_others(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    inner = _switch(a, "i")
    outer = operator(
        "SWITCH",
        "o",
        evaluatorType="value-param",
        expression="q",
        inputParameters={"q": "${workflow.input.q}"},
        decisionCases={"one": [*fork([step(b, "b1")], [inner]), step(b, "b2")]},
    )
    workflow_id = play.start(play.define(outer), {"q": "one"})
    play.look(workflow_id)
    play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_failed_case_is_retried_and_rerun(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    name = play.define(step(a, "begin"), _switch(a, "s"), step(a, "end"))
    workflow_id = play.start(name, {"q": "one"})
    play.finish(a)
    first = play.finish(a)
    play.fail(a)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    play.fail(a)
    play.act("rerun", workflow_id, from_task_id=first["taskId"])
    play.look(workflow_id)
    for _ in range(3):
        play.finish(a)
    play.look(workflow_id)
    return play.seen
