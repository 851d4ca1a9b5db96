"""Scenarios about loops: names and iterations of rows, and what retry, rerun and restart do in there."""

from __future__ import annotations

from .play import Play, fork, loop, operator, step
from .servers import Server
from .stage import Seen, scenario


@scenario
def a_loop_runs_while_its_condition_holds(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task(retryCount=1)
    before = {"last": "${b1.output}", "loop": "${l.output.iteration}", "me": "${a1.iteration}"}
    end = step(a, "end", inputParameters={"q": "${l.output}", "z": "${a1.output}", "i": "${a1.iteration}"})
    workflow_id = play.run(loop(step(a, "a1", inputParameters=before), step(b, "b1")), end)
    play.look(workflow_id)
    play.finish(a, {"n": 1})
    play.fail(b)
    play.look(workflow_id)
    play.finish(b, {"m": 1})
    play.look(workflow_id)
    play.finish(a, {"n": 2})
    play.finish(b)
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_loop_decides_by_the_outputs_of_its_steps(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    conditions = (
        "if ($.a1['again'] == true && $.l.iteration < $.limit) { true; } else { false; }",
        "!($.a1.again !== true) && $['l']['iteration'] <= $.limit - 1",
        "$.a1.again",
    )
    for condition in conditions:
        workflow_id = play.run(loop(step(a, "a1"), condition=condition, inputParameters={"limit": 3}))
        play.finish(a, {"again": True})
        play.finish(a, {"again": False})
        play.look(workflow_id)
    return play.seen


@scenario
def a_condition_that_fails_ends_the_workflow(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(step(a, "a1"), condition="$.nothing.x > 1"), step(a, "end"))
    play.finish(a)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_failed_iteration_is_retried(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(step(a, "a1"), step(a, "a2"), condition="$.l.iteration < 3"), step(a, "end"))
    for _ in range(3):
        play.finish(a, {"n": 1})
    play.fail(a)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    for _ in range(3):
        play.finish(a, {"n": 2})
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_terminated_loop_is_retried(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(step(a, "a1")))
    play.finish(a)
    play.act("terminate", workflow_id)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_within_an_iteration(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(step(a, "a1"), step(a, "a2")), step(a, "end"))
    play.finish(a)
    play.finish(a)
    second = play.finish(a)
    play.fail(a)
    play.look(workflow_id)
    play.act("rerun", workflow_id, from_task_id=second["taskId"])
    play.look(workflow_id)
    play.finish(a, {"n": 2})
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_from_an_earlier_iteration(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(step(a, "a1")), step(a, "end"))
    first = play.finish(a, {"n": 1})
    play.fail(a)
    play.act("rerun", workflow_id, from_task_id=first["taskId"])
    play.look(workflow_id)
    play.finish(a, {"n": 2})
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_into_a_completed_loop(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(step(a, "a1")), step(a, "end"))
    play.finish(a)
    second = play.finish(a)
    play.finish(a)
    play.act("rerun", workflow_id, from_task_id=second["taskId"])
    play.look(workflow_id)
    play.finish(a, {"n": 2})
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_of_the_loop_itself_begins_with_the_first_iteration(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(step(a, "begin"), loop(step(a, "a1")), step(a, "end"))
    play.finish(a)
    play.finish(a)
    play.fail(a)
    play.act("rerun", workflow_id, from_task_id=play.row(workflow_id, "l")["taskId"])
    play.look(workflow_id)
    play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_restarted_loop_begins_anew(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(step(a, "a1")))
    play.finish(a)
    play.fail(a)
    play.act("restart", workflow_id)
    play.look(workflow_id)
    play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_fork_and_a_switch_inside_of_a_loop(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task(retryCount=1)
    switch = operator(
        "SWITCH",
        "s",
        evaluatorType="value-param",
        expression="q",
        inputParameters={"q": "${l.output.iteration}"},
        decisionCases={"1": [step(a, "s1")]},
        defaultCase=[step(a, "s2"), step(a, "s3")],
    )
    workflow_id = play.run(loop(*fork([step(a, "a1")], [step(b, "b1"), step(b, "b2")]), switch), step(a, "end"))
    play.look(workflow_id)
    play.finish(a, {"n": 1})
    play.fail(b)
    play.finish(b)
    play.finish(b, {"n": 1})
    play.finish(a)
    play.look(workflow_id)
    play.finish(b)
    play.finish(b)
    play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_failed_fork_inside_of_a_loop_is_retried(server: Server) -> Seen:
    """Its join goes on, too; on a busy server only when a minute has passed, so its end is not waited for."""
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(loop(*fork([step(a, "a1")], [step(b, "b1"), step(b, "b2")])))
    play.finish(a)
    play.look(workflow_id)
    play.fail(b)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_loop_as_a_branch_of_a_fork(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(*fork([loop(step(a, "a1"))], [step(b, "b1")]), step(a, "end"))
    play.finish(a)
    play.finish(b)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def an_optional_step_of_a_loop_may_fail(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(step(a, "a1", optional=True)))
    play.fail(a)
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen
