"""Forks that fail, end or pause, and are retried, rerun and restarted.

No step that fails is named by a join: on a real server it is a matter of luck whether the join sees the failure first.
Nor does a step fail right after another has ended: the join is looked at then, and later ever more seldom.
"""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .operators import fork, join
from .workflows import StartedWorkflow, start, step, task_type


def _two_types(rest: Rest, **of_second: int) -> tuple[str, str]:
    """Two task types without retries, unless the second is to have some."""
    return task_type(rest, "a", retryCount=0), task_type(rest, "b", **{"retryCount": 0, **of_second})


def _two_by_two(rest: Rest) -> tuple[StartedWorkflow, str]:
    """Branches of two steps each, of types `a` and `b`, and a step after their join; the second type."""
    a, b = _two_types(rest)
    branches = [step(a, "a1"), step(a, "a2")], [step(b, "b1"), step(b, "b2")]
    return start(rest, a, fork(*branches), join("a2", "b2"), step(a, "last")), b


@scenario
def a_step_is_retried_on_the_way_to_its_join(rest: Rest) -> None:
    """A retry in a branch is no matter for the join, which waits for the last steps."""
    a, b = _two_types(rest, retryCount=1)
    last = step(a, "last", inputParameters={"j": "${join.output}", "f": "${fork.status}", "a": "${a2.output.n}"})
    branches = [step(a, "a1"), step(a, "a2")], [step(b, "b1"), step(b, "b2")]
    on = start(rest, a, fork(*branches), join("a2", "b2"), last)
    on.run(outputData={"n": 1})
    on.run("FAILED", task=b, reasonForIncompletion="boo")
    on.note_all()
    on.run(task=b)
    on.run(task=b)
    on.run(outputData={"n": 2})
    on.note_all()
    on.run()
    on.note_all()


@scenario
def a_failed_branch_cancels_its_siblings_until_a_retry(rest: Rest) -> None:
    """A retry makes new attempts of what failed and of what was cancelled, and no others; so does a second one."""
    a, b = _two_types(rest)
    branches = [step(a, "a1")], [step(b, "b1")], [step(b, "b2"), step(b, "b3")]
    on = start(rest, a, fork(*branches), join("b1", "b3"), step(a, "last"))
    on.run(task=b, outputData={"n": 1})
    on.note_all()
    on.take()
    on.run("FAILED", task=b, reasonForIncompletion="boo")
    on.note_all(without=("join",))
    on.retry()
    on.note_all(without=("join",))
    on.run()
    on.note_all(without=("join",))
    on.run("FAILED", task=b, reasonForIncompletion="boo")
    on.note_all(without=("join",))
    on.retry()
    on.run(task=b)
    on.run(task=b)
    on.await_row("last")
    on.note_all()
    on.run()
    on.note_all()


@scenario
def a_branch_is_cancelled_by_its_worker(rest: Rest) -> None:
    """A worker that cancels its task terminates the workflow, which a retry brings back."""
    a, b = _two_types(rest)
    on = start(rest, a, fork([step(a, "a1")], [step(b, "b1"), step(b, "b2")]), join("b2"))
    on.run("CANCELED", reasonForIncompletion="boo")
    on.note_all(without=("join",))
    on.retry()
    on.note_all(without=("join",))


@scenario
def a_terminated_fork_is_retried(rest: Rest) -> None:
    """A retry after a termination makes new attempts of the open steps, and the join waits for them."""
    a, b = _two_types(rest)
    on = start(rest, a, fork([step(a, "a1"), step(a, "a2")], [step(b, "b1")]), join("a2", "b1"))
    on.run()
    on.terminate("enough")
    on.note_all()
    on.retry()
    on.note_all()
    on.run()
    on.run(task=b)
    on.note_all()


@scenario
def a_rerun_of_one_branch_drops_the_others(rest: Rest) -> None:
    """A rerun from a step of a branch removes the rows of the other branches that came later."""
    on, b = _two_by_two(rest)
    first = on.run()
    on.run()
    on.run("FAILED", task=b, reasonForIncompletion="boo")
    on.note_all(without=("join",))
    on.rerun(first)
    on.note_all()
    on.run()
    on.run()
    on.note_all()
    on.act("PUT", "/workflow/decide/{workflow}")
    on.note_all()


@scenario
def a_rerun_of_a_branch_of_a_completed_fork(rest: Rest) -> None:
    """After a rerun of a branch the join is passed as it was."""
    a, b = _two_types(rest)
    on = start(rest, a, fork([step(a, "a1")], [step(b, "b1")]), join("a1", "b1"), step(a, "last"))
    on.run(outputData={"n": 1})
    branch = on.run(task=b, outputData={"n": 1})
    on.run()
    on.note_all()
    on.rerun(branch)
    on.note_all()
    on.run(task=b, outputData={"n": 2})
    on.note_all()
    on.act("PUT", "/workflow/decide/{workflow}")
    on.note_all()


@scenario
def a_paused_fork(rest: Rest) -> None:
    """In a paused workflow branches end, and nothing follows in them until it is resumed."""
    a, b = _two_types(rest)
    on = start(rest, a, fork([step(a, "a1"), step(a, "a2")], [step(b, "b1")]), join("a2", "b1"))
    on.act("PUT", "/workflow/{workflow}/pause")
    on.run()
    on.run(task=b)
    on.note_all()
    on.act("PUT", "/workflow/{workflow}/resume")
    on.note_all()
    on.run()
    on.note_all()


@scenario
def a_restarted_fork(rest: Rest) -> None:
    """A restart begins with new rows, and the old ones are gone."""
    a, b = _two_types(rest)
    on = start(rest, a, fork([step(a, "a1")], [step(b, "b1")]), join("b1"))
    old = on.run("FAILED", reasonForIncompletion="boo")
    on.restart()
    on.note_all()
    rest.call("GET", "/tasks/{task}", task=old["taskId"])
    on.run()
    on.run(task=b)
    on.note_all()


@scenario
def a_branch_that_no_join_names(rest: Rest) -> None:
    """What follows a join need not wait for a branch that the join does not name; the end of the workflow must."""
    a, b = _two_types(rest)
    on = start(rest, a, fork([step(a, "a1")], [step(b, "b1")]), join("a1"), step(a, "last"))
    on.run()
    on.note_all()
    on.run()
    on.note_all()
    on.run(task=b)
    on.note_all()


@scenario
def a_fork_without_its_join_is_started(rest: Rest) -> None:
    """A fork that no join follows cannot be run."""
    a, _ = _two_types(rest)
    start(rest, a, fork([step(a, "a1")]), step(a, "last")).note_all()
