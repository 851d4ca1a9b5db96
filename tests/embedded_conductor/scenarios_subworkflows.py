"""Scenarios about sub-workflows: ids, statuses, and what is done to a child or a parent and to the other by it."""

from __future__ import annotations

from .play import Play, fork, loop, step, sub
from .servers import Server
from .stage import Seen, scenario


@scenario
def a_sub_workflow_hands_its_output_to_its_parent(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    output = {"r": "${c2.output.n}", "p": "${workflow.input}"}
    child = play.define(step(a, "c1"), step(a, "c2"), outputParameters=output)
    end = step(b, "end", inputParameters={"q": "${s.output}", "in": "${s.input.workflowInput}"})
    parent = play.define(sub(child, "s"), end)
    workflow_id = play.start(parent, {"x": 1}, correlation_id="c", priority=3)
    play.look(workflow_id)
    child_id = play.child(workflow_id, "s")
    play.look(child_id)
    play.finish(a)
    play.finish(a, {"n": 2})
    play.look(child_id)
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_sub_workflow_without_input_gets_what_its_task_has(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    child = play.define(step(a, "c1"), inputTemplate={"y": 2})
    workflow_id = play.run(sub(child, "s", inputParameters={}))
    play.look(play.child(workflow_id, "s"))
    return play.seen


@scenario
def a_sub_workflow_that_is_unknown(server: Server) -> Seen:
    play = Play(server)
    name = play.define(sub("nobody", "s"))
    play.seen.append(server.start(name, {}))
    step_of_a_version = {**sub("nobody", "s"), "subWorkflowParam": {"name": "nobody", "version": 4}}
    play.look(play.run(step_of_a_version))
    return play.seen


@scenario
def a_failed_sub_workflow_is_started_anew_by_a_retry_of_the_parent(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1"), step(a, "c2")), "s"), step(b, "end"))
    first = play.child(workflow_id, "s")
    play.finish(a)
    play.fail(a)
    play.look(first)
    play.look(workflow_id)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    play.look(first)
    second = play.child(workflow_id, "s")
    play.look(second)
    play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    play.act("retry", first)
    play.look(first)
    play.look(workflow_id)
    return play.seen


@scenario
def a_retry_of_a_failed_sub_workflow_revives_its_parent(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1"), step(a, "c2")), "s"), step(b, "end"))
    child_id = play.child(workflow_id, "s")
    play.finish(a)
    play.fail(a)
    play.look(workflow_id)
    play.act("retry", child_id)
    play.look(child_id)
    play.look(workflow_id)
    play.seen.append(sorted(entry["log"] for entry in server.logs(play.row(workflow_id, "s")["taskId"])))
    play.finish(a)
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_retry_of_the_parent_can_resume_its_sub_workflow(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    inner = play.define(step(a, "c1"), step(a, "c2"))
    workflow_id = play.run(sub(play.define(sub(inner, "i")), "s"), step(b, "end"))
    play.finish(a)
    play.fail(a)
    play.look(workflow_id)
    play.act("retry", workflow_id, resume_sub_workflows=True)
    play.look(workflow_id)
    middle = play.child(workflow_id, "s")
    play.look(middle)
    play.look(play.child(middle, "i"))
    play.finish(a)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def the_end_of_a_parent_is_the_end_of_its_sub_workflows(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    inner = play.define(step(a, "c1"))
    workflow_id = play.run(sub(play.define(sub(inner, "i")), "s"))
    middle = play.child(workflow_id, "s")
    last = play.child(middle, "i")
    play.act("terminate", workflow_id, reason="enough")
    for seen in (workflow_id, middle, last):
        play.look(seen)
    play.act("retry", workflow_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_terminated_sub_workflow_terminates_its_parent(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1")), "s"))
    child_id = play.child(workflow_id, "s")
    play.act("terminate", child_id, reason="enough")
    play.look(child_id)
    play.look(workflow_id)
    play.act("retry", child_id)
    play.look(child_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_failed_branch_terminates_the_sub_workflows_beside_it(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    branches = [sub(play.define(step(a, "c1")), "s")], [sub(play.define(step(b, "d1")), "t")]
    workflow_id = play.run(*fork(*branches, join_on=["t"]), step(b, "end"))
    left, right = play.child(workflow_id, "s"), play.child(workflow_id, "t")
    play.fail(a)
    for seen in (workflow_id, left, right):
        play.look(seen)
    play.act("retry", left)
    for seen in (workflow_id, left, right):
        play.look(seen)
    play.finish(a)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_of_a_failed_sub_workflow_step(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1")), "s"), step(b, "end"))
    play.fail(a)
    row = play.row(workflow_id, "s")
    play.act("rerun", workflow_id, from_task_id=row["taskId"])
    play.look(workflow_id)
    play.look(play.child(workflow_id, "s"))
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_of_a_completed_sub_workflow_step_repeats_nothing(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1")), "s"), step(b, "end"))
    play.finish(a, {"n": 1})
    play.fail(b)
    row = play.row(workflow_id, "s")
    play.act("rerun", workflow_id, from_task_id=row["taskId"])
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_of_a_step_inside_of_a_sub_workflow(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1"), step(a, "c2")), "s"), step(b, "end"))
    child_id = play.child(workflow_id, "s")
    first = play.finish(a, {"n": 1})
    play.fail(a)
    play.look(workflow_id)
    play.act("rerun", child_id, from_task_id=first["taskId"])
    play.look(child_id)
    play.look(workflow_id)
    play.finish(a)
    play.fail(a)
    play.look(workflow_id)
    play.act("rerun", workflow_id, from_task_id=first["taskId"])
    play.look(child_id)
    play.look(workflow_id)
    play.finish(a)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_rerun_of_the_step_before_a_sub_workflow_starts_another(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(step(b, "begin"), sub(play.define(step(a, "c1")), "s"))
    begin = play.finish(b)
    old = play.child(workflow_id, "s")
    play.fail(a)
    play.look(workflow_id)
    play.act("rerun", workflow_id, from_task_id=begin["taskId"])
    play.look(workflow_id)
    play.finish(b)
    play.look(workflow_id)
    play.look(old)
    play.act("retry", old)
    play.look(workflow_id)
    return play.seen


@scenario
def a_restart_of_a_sub_workflow_revives_its_parent(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1")), "s"), step(b, "end"))
    child_id = play.child(workflow_id, "s")
    play.fail(a)
    play.look(workflow_id)
    play.act("restart", child_id)
    play.look(child_id)
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_restart_of_the_parent_starts_another_sub_workflow(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1")), "s"))
    old = play.child(workflow_id, "s")
    play.fail(a)
    play.look(workflow_id)
    play.act("restart", workflow_id)
    play.look(workflow_id)
    play.look(old)
    play.finish(a)
    play.look(workflow_id)
    return play.seen


@scenario
def a_sub_workflow_is_retried_by_its_task_definition(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    again = play.task(retryCount=1)
    workflow_id = play.run({**sub(play.define(step(a, "c1")), "s"), "name": again})
    play.fail(a)
    play.look(workflow_id)
    play.fail(a)
    play.look(workflow_id)
    return play.seen


@scenario
def an_optional_sub_workflow_may_fail(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1")), "s", optional=True), step(b, "end"))
    child_id = play.child(workflow_id, "s")
    play.fail(a)
    play.look(workflow_id)
    play.act("retry", child_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_sub_workflow_in_each_iteration_of_a_loop(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    workflow_id = play.run(loop(sub(play.define(step(a, "c1")), "s")))
    first = play.child(workflow_id, "s__1")
    play.finish(a, {"n": 1})
    play.look(workflow_id)
    play.fail(a)
    play.look(workflow_id)
    play.act("retry", play.child(workflow_id, "s__2"))
    play.look(workflow_id)
    play.finish(a)
    play.look(workflow_id)
    play.look(first)
    return play.seen


@scenario
def a_paused_parent_waits_with_what_comes_after_its_sub_workflow(server: Server) -> Seen:
    play = Play(server)
    a, b = play.task(), play.task()
    workflow_id = play.run(sub(play.define(step(a, "c1")), "s"), step(b, "end"))
    child_id = play.child(workflow_id, "s")
    play.act("pause", workflow_id)
    play.look(child_id)
    play.finish(a)
    play.look(workflow_id)
    play.act("resume", workflow_id)
    play.look(workflow_id)
    return play.seen


@scenario
def a_workflow_that_times_out_ends_its_sub_workflows(server: Server) -> Seen:
    play = Play(server)
    a = play.task()
    child = play.define(step(a, "c1"))
    workflow_id = play.run(sub(child, "s"), timeoutSeconds=2, timeoutPolicy="TIME_OUT_WF")
    child_id = play.child(workflow_id, "s")
    server.clock.sleep(2.5)
    server.act("decide", workflow_id)
    play.look(workflow_id)
    play.look(child_id)
    return play.seen
