"""What deliveries make of what others of their step have left on the branch: adopt it, undo it, or refuse.

The branches have no publish fence at first, as with the default settings: the first publication brings it along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from .commands import Worker
from .conftest import Deploy
from .deploying import Deployment, Gate, block, input_of
from .proxy import Cut, Proxy
from .repositories import LakeFSServer, Repository
from .workflows import Conductor, described, step

MERGE = "POST .*/merge/main"
ORIGINAL = {"raw/a.txt", "raw/b.txt", "doc/readme.txt"}
"""The files of the `seeded` fixture."""


@dataclass(frozen=True)
class Line:
    """A worker with one slot, whose way to lakeFS can be disturbed, and a repository with the files `ORIGINAL`."""

    deployment: Deployment
    worker: Worker
    lakefs: Proxy
    lakefs_url: str
    """The way round the proxy."""
    repository: Repository
    ref: str

    @property
    def conductor(self) -> Conductor:
        return self.deployment.conductor

    def kill_after_merge(self, times: int = 1) -> None:
        """The slot dies between the effect of its next merge and the answer, this often."""
        for _ in range(times):
            self.lakefs.trap(MERGE, Cut.ANSWER, first=self.worker.kill_slots)

    def input(self, **orders: Any) -> dict[str, Any]:
        """The input of the task with these orders."""
        return input_of(self.repository, self.ref, orders)

    def start(self, workflow: str | None = None, **orders: Any) -> str:
        """Start a workflow, by default the one of one step."""
        return self.deployment.start(self.input(**orders), workflow)

    def at_its_merge(self, cut: Cut, gate: Gate, happen: Callable[[str, str], object]) -> str:
        """Start a workflow, and let something happen (given its id and its task's) while the merge of its first
        delivery is on the way there, or back; returns the workflow's id."""
        workflow_id = self.start(write_first={"first.txt": "1"}, gate=str(gate))
        (announced,) = gate.entered()
        trap = self.lakefs.trap(MERGE, cut, first=lambda: happen(workflow_id, announced.task_id))
        gate.open()
        trap.wait()
        return workflow_id

    def second_worker(self) -> Worker:
        """Another worker for the same task, which nothing disturbs."""
        return self.deployment.worker(LAKECTL_SERVER_ENDPOINT_URL=self.lakefs_url)

    def published(self) -> list[dict[str, Any]]:
        """The commits since the input ref, newest first."""
        return self.repository.since(self.ref)

    def check_branch(self, *added: str) -> None:
        """The branch has the original files and these, and no staging branch is left."""
        assert set(self.repository.tree()) == {*ORIGINAL, *added}
        self.repository.wait_for_removal_of_staging()


def noted(commit: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """Entries of a publication's metadata."""
    return tuple(str(commit["metadata"][f"perago.{name}"]) for name in names)


pytestmark = pytest.mark.live


@pytest.fixture
def line(lakefs: LakeFSServer, deploy: Deploy, lakefs_proxy: Proxy, seeded: tuple[Repository, str]) -> Line:
    """For one test alone: a slot that was killed comes back the later, the more often it was."""
    deployment = deploy("workspace", LAKECTL_SERVER_ENDPOINT_URL=lakefs_proxy.url)
    return Line(deployment, deployment.worker(), lakefs_proxy, lakefs.url, *seeded)


# ----------------------------------------------------------------------------- adoption


def test_the_retry_adopts_the_publication_of_a_dead_slot(line: Line) -> None:
    line.kill_after_merge()
    workflow_id = line.start(write={"out.txt": "o"})
    execution = line.conductor.completed(workflow_id)

    dead, retry = execution["tasks"]
    fence, merge = line.published()
    assert (dead["status"], *noted(merge, "task_id", "phase")) == ("FAILED", dead["taskId"], "merge"), described(
        execution
    )
    assert noted(fence, "task_id", "phase", "adopts") == (retry["taskId"], "fence", merge["id"])
    assert noted(fence, "result") == noted(merge, "result")
    assert f"while it published. Commit {merge['id'][:12]} is on branch main" in dead["reasonForIncompletion"]
    assert retry["outputData"]["workspace"] == block(line.repository, fence["id"])
    assert retry["outputData"]["result"]["retry_count"] == 0, "no function ran again"
    line.check_branch("out.txt")
    line.worker.line(f"completed .*{retry['taskId']}.*adopted {merge['id'][:12]} of an earlier attempt")


def test_a_retry_by_hand_adopts_the_adoption_of_a_dead_retry(line: Line) -> None:
    line.kill_after_merge(times=2)
    workflow_id = line.start(write={"out.txt": "o"})
    assert line.conductor.wait(workflow_id)["status"] == "FAILED"
    line.conductor.retry(workflow_id)
    output = line.conductor.output(workflow_id)

    last, before, merge = line.published()
    assert noted(last, "adopts") + noted(before, "adopts") == (before["id"], merge["id"])
    assert output["workspace"]["ref"] == last["id"]
    line.check_branch("out.txt")


def test_a_second_delivery_adopts_and_the_first_one_reports_nothing(line: Line, gate: Gate) -> None:
    def deliver_again(workflow_id: str, task_id: str) -> None:
        line.conductor.redeliver(workflow_id, task_id)
        line.second_worker()
        line.conductor.completed(workflow_id)

    workflow_id = line.at_its_merge(Cut.ANSWER, gate, deliver_again)
    (task,) = line.conductor.completed(workflow_id)["tasks"]
    fence, merge = line.published()
    assert noted(merge, "task_id", "poll_count") == (task["taskId"], "1")
    assert noted(fence, "task_id", "poll_count", "adopts") == (task["taskId"], "2", merge["id"])
    assert task["outputData"]["workspace"]["ref"] == fence["id"]
    line.worker.line(f"lost .*{task['taskId']}")
    assert len(gate.announcements()) == 1


def test_in_a_loop_each_round_builds_on_the_round_before_and_a_dead_one_is_adopted(line: Line) -> None:
    task = line.deployment.task
    remember = {"type": "SET_VARIABLE", "name": "remember"}
    body = step(task, "body", workspace="${workflow.variables.at}", params="${workflow.input.params}")
    line.conductor.define(
        f"{task}.loop",
        [
            {**remember, "taskReferenceName": "first", "inputParameters": {"at": "${workflow.input.workspace}"}},
            {
                "type": "DO_WHILE",
                "name": "loop",
                "taskReferenceName": "loop",
                "loopCondition": "$.loop['iteration'] < 3",
                "loopOver": [
                    body,
                    {**remember, "taskReferenceName": "then", "inputParameters": {"at": "${body.output.workspace}"}},
                ],
            },
        ],
    )
    line.kill_after_merge()
    workflow_id = line.start(f"{task}.loop", append={"log.txt": "round\n"})
    execution = line.conductor.completed(workflow_id)

    bodies = [attempt for attempt in execution["tasks"] if attempt["taskDefName"] == task]
    assert [attempt["status"] for attempt in bodies] == ["FAILED", "COMPLETED", "COMPLETED", "COMPLETED"]
    commits = line.published()[::-1]
    assert [noted(commit, "phase", "iteration") for commit in commits] == [
        ("merge", "1"),
        ("fence", "1"),
        ("merge", "2"),
        ("merge", "3"),
    ]
    assert line.repository.read("log.txt") == b"round\n" * 3
    line.repository.wait_for_removal_of_staging()


# -------------------------------------------------------------------------- superseding


def test_a_rerun_with_other_params_replaces_the_earlier_publication(line: Line) -> None:
    workflow_id = line.start(write={"before.txt": "b"})
    (before,) = line.conductor.completed(workflow_id)["tasks"]
    line.conductor.rerun(workflow_id, before["taskId"], **line.input(write={"after.txt": "a"}))
    output = line.conductor.output(workflow_id)

    second, first = line.published()
    assert noted(first, "task_id") == noted(second, "task_id") == (before["taskId"],), "a rerun keeps the task id"
    assert noted(second, "supersedes", "expected_head") == (first["id"], first["id"])
    assert output["workspace"]["ref"] == second["id"]
    line.check_branch("after.txt")
    line.worker.line(f"completed .*{before['taskId']}.*undid 1 stale publication")


@pytest.mark.parametrize("again", ["rerun", "restart"])
def test_a_restarted_chain_replaces_all_of_its_publications(line: Line, again: str) -> None:
    workflow_id = line.deployment.start(_chained(line), f"{line.deployment.task}.chain")
    first, second = line.conductor.completed(workflow_id)["tasks"]
    if again == "rerun":
        line.conductor.rerun(workflow_id, first["taskId"])
    else:
        line.conductor.restart(workflow_id)
    redone, two = line.conductor.completed(workflow_id)["tasks"]

    commits = [commit["id"] for commit in line.published()]
    outputs = [task["outputData"]["workspace"]["ref"] for task in (two, redone, second, first)]
    assert commits == outputs
    superseding = line.repository.get(redone["outputData"]["workspace"]["ref"])
    assert noted(superseding, "supersedes") == (",".join(outputs[2:]),)
    assert set(redone["outputData"]["result"]["seen"]) == ORIGINAL, "it read the input, not what it replaces"
    assert two["outputData"]["result"]["seen"]["one.txt"] == "1", "a step hands its publication to the next"
    assert noted(line.repository.get(commits[0]), "reference_name") == ("second",)
    assert set(line.repository.tree(superseding["id"])) == set(line.repository.tree(line.ref)) | {"one.txt"}
    line.check_branch("one.txt", "two.txt")


def _chained(line: Line) -> dict[str, object]:
    """Defines a workflow of two steps; returns an input for it."""
    task = line.deployment.task
    first = step(task, "first", workspace="${workflow.input.workspace}", params="${workflow.input.first}")
    then = step(task, "second", workspace="${first.output.workspace}", params="${workflow.input.second}")
    line.conductor.define(f"{task}.chain", [first, then])
    orders = {"first": {"write": {"one.txt": "1"}}, "second": {"write": {"two.txt": "2"}}}
    return {"workspace": block(line.repository, line.ref), **orders}


# --------------------------------------------------------------------------- no changes


def test_a_retry_without_changes_shuts_out_a_late_merge(line: Line, gate: Gate) -> None:
    def give_up_on(workflow_id: str, task_id: str) -> None:
        line.conductor.settle(workflow_id, task_id, "FAILED")
        line.second_worker()
        line.conductor.completed(workflow_id)

    workflow_id = line.at_its_merge(Cut.NOWHERE, gate, give_up_on)
    first, retry = line.conductor.completed(workflow_id)["tasks"]
    line.worker.line(f"lost .*{first['taskId']}")
    (fence,) = line.published()
    assert noted(fence, "task_id", "phase", "adopts") == (retry["taskId"], "fence", "")
    assert retry["outputData"]["workspace"]["ref"] == fence["id"] == line.repository.head()
    line.check_branch()


def test_a_rerun_without_changes_also_makes_a_fence_commit(line: Line, gate: Gate) -> None:
    def run_again(workflow_id: str, task_id: str) -> None:
        line.conductor.terminate(workflow_id)
        line.conductor.rerun(workflow_id, task_id, **line.input())
        line.second_worker()
        line.conductor.completed(workflow_id)

    workflow_id = line.at_its_merge(Cut.NOWHERE, gate, run_again)
    (task,) = line.conductor.completed(workflow_id)["tasks"]
    line.worker.line(f"lost .*{task['taskId']}")
    (fence,) = line.published()
    assert noted(fence, "task_id", "start_time", "phase") == (task["taskId"], str(task["startTime"]), "fence")
    assert task["outputData"]["workspace"]["ref"] == fence["id"] == line.repository.head()
    line.check_branch()


# ------------------------------------------------------------------------- sub-workflows


def test_in_a_sub_workflow_a_dead_slot_s_publication_is_adopted_too(line: Line) -> None:
    line.kill_after_merge()
    workflow_id = line.deployment.start(_nested(line), f"{line.deployment.task}.outer")
    (outer,) = line.conductor.completed(workflow_id)["tasks"]

    tasks = line.conductor.tasks(outer["subWorkflowId"])
    assert [task["status"] for task in tasks] == ["FAILED", "COMPLETED", "COMPLETED"]
    second, fence, merge = line.published()
    assert noted(fence, "adopts") == (merge["id"],)
    assert second["parents"][0] == fence["id"]
    assert set(line.repository.tree()) == {*ORIGINAL, "one.txt", "two.txt"}


def test_a_second_run_of_a_sub_workflow_undoes_the_first_publication(line: Line) -> None:
    """The new one is another workflow (`docs/dev/servers/conductor.md`, "Measured later"), which the parent names in
    place of the first."""
    payload = _nested(line, ending="give up")
    workflow_id = line.deployment.start(payload, f"{line.deployment.task}.outer")
    assert line.conductor.wait(workflow_id)["status"] == "FAILED"
    (published,) = line.published()
    line.conductor.rerun(workflow_id, line.conductor.tasks(workflow_id)[0]["taskId"])
    execution = line.conductor.wait(workflow_id)

    inner = line.conductor.tasks(execution["tasks"][-1]["subWorkflowId"])
    assert [task["status"] for task in inner] == ["COMPLETED", "FAILED_WITH_TERMINAL_ERROR"]
    again, before = line.published()
    assert before == published
    assert noted(again, "workflow_id", "supersedes") == (execution["tasks"][-1]["subWorkflowId"], published["id"])
    assert set(line.repository.tree()) == {*ORIGINAL, "one.txt"}


def _nested(line: Line, ending: str = "return") -> dict[str, object]:
    """Defines a workflow that runs the chain as a sub-workflow; returns an input for it."""
    payload = _chained(line)
    inner = {key: f"${{workflow.input.{key}}}" for key in payload}
    outer = {
        "type": "SUB_WORKFLOW",
        "name": "inner",
        "taskReferenceName": "inner",
        "inputParameters": inner,
        "subWorkflowParam": {"name": f"{line.deployment.task}.chain", "version": 1},
    }
    line.conductor.define(f"{line.deployment.task}.outer", [outer])
    return {**payload, "second": {"write": {"two.txt": "2"}, "ending": ending}}
