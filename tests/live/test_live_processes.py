"""Processes that run at the same time, die or are stopped, and the processes and files that must not remain."""

from __future__ import annotations

import signal

import psutil
import pytest

from .commands import Worker
from .conftest import Deploy
from .deploying import Deployment, Gate, input_of
from .proxy import Cut, Proxy
from .repositories import Repository
from .tasks.acting import Announcement
from .waiting import wait_for

pytestmark = pytest.mark.live

Seeded = tuple[Repository, str]


def _nothing_left_of(worker: Worker) -> None:
    wait_for("the end of every process", worker.gone, context=lambda: str(worker.environment.processes()))


def _is_gone(pid: int | None) -> bool:
    assert pid is not None
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _held(workspace: Deployment, seeded: Seeded, gate: Gate, *, child: bool = True) -> tuple[str, Announcement]:
    """Start a workflow whose function waits at the gate and can have a child; return the workflow's id, too."""
    orders = {"write": {"out.txt": "o"}, "gate": str(gate), "child": child}
    workflow_id = workspace.start(input_of(*seeded, orders))
    (running,) = gate.entered()
    return workflow_id, running


def _check_untouched(seeded: Seeded) -> None:
    """Assert that the branch is at the input ref, without a staging branch."""
    repository, ref = seeded
    assert (repository.head(), repository.branches()) == (ref, {"main"})


# ------------------------------------------------------------------------- side by side


def test_four_slots_run_four_tasks_at_the_same_time(deploy: Deploy, gate: Gate) -> None:
    free = deploy("free")
    free.worker(4)
    workflows = [free.start({"params": {"gate": str(gate)}}) for _ in range(6)]
    inside = gate.entered(4)
    assert len({here.pid for here in inside}) == 4
    assert sorted(status for workflow_id in workflows for status in free.conductor.statuses(workflow_id)) == [
        *["IN_PROGRESS"] * 4,
        *["SCHEDULED"] * 2,
    ], "what no slot is free for stays on the server"
    gate.open()
    workers = set()
    for workflow_id in workflows:
        (task,) = free.conductor.completed(workflow_id)["tasks"]
        workers.add(task["workerId"])
    assert len(workers) == 4


# -------------------------------------------------------------------------------- death


def test_a_killed_slot_fails_immediately_and_the_retry_completes(
    workspace: Deployment, worker: Worker, seeded: Seeded, gate: Gate
) -> None:
    repository, ref = seeded
    workflow_id, victim = _held(workspace, seeded, gate)
    psutil.Process(victim.pid).kill()
    wait_for("the failure", lambda: workspace.conductor.statuses(workflow_id)[0] == "FAILED")
    first = workspace.conductor.tasks(workflow_id)[0]
    assert "SIGKILL" in first["reasonForIncompletion"]
    worker.line(f"failed {workspace.task} {first['taskId']}.*SIGKILL")
    wait_for("the end of the function's child", lambda: _is_gone(victim.child))
    gate.open()
    output = workspace.conductor.output(workflow_id)
    assert output["result"]["retry_count"] == 1
    assert output["result"]["pid"] != victim.pid
    assert len(repository.since(ref)) == 1
    repository.wait_for_removal_of_staging()
    workspace.environment.wait_for_removal_of_directories()


@pytest.mark.parametrize(("ending", "cause"), [("exit", "exit status 7"), ("killed", "SIGKILL")])
def test_a_function_that_ends_its_process_is_a_failure_with_its_cause(
    workspace: Deployment, worker: Worker, seeded: Seeded, ending: str, cause: str
) -> None:
    repository, ref = seeded
    workflow_id = workspace.start(input_of(repository, ref, {"write": {"o": "1"}, "ending": ending}))
    workspace.conductor.wait(workflow_id)
    assert workspace.conductor.statuses(workflow_id) == ["FAILED", "FAILED"]
    assert all(cause in task["reasonForIncompletion"] for task in workspace.conductor.tasks(workflow_id))
    _check_untouched(seeded)
    workspace.environment.wait_for_removal_of_directories()


@pytest.mark.parametrize("call", ["POST .*/objects", "POST .*/branches/perago-[^/]*/commits", "POST .*/merge/main"])
def test_a_slot_killed_before_its_merge_leaves_the_work_to_the_retry(
    deploy: Deploy, seeded: Seeded, gate: Gate, lakefs_proxy: Proxy, call: str
) -> None:
    repository, ref = seeded
    workspace = deploy("workspace", LAKECTL_SERVER_ENDPOINT_URL=lakefs_proxy.url)
    workspace.worker()
    workflow_id, victim = _held(workspace, seeded, gate, child=False)
    trap = lakefs_proxy.trap(call, Cut.REQUEST, first=psutil.Process(victim.pid).kill)
    gate.open()
    trap.wait()
    output = workspace.conductor.output(workflow_id)
    assert workspace.conductor.statuses(workflow_id) == ["FAILED", "COMPLETED"]
    assert [commit["id"] for commit in repository.since(ref)] == [output["workspace"]["ref"]]


def test_a_killed_supervisor_takes_everything_with_it(deploy: Deploy, seeded: Seeded, gate: Gate) -> None:
    workspace = deploy("workspace")
    worker = workspace.worker(2)
    workflow_id, running = _held(workspace, seeded, gate)
    worker.signal(signal.SIGKILL)
    wait_for("the end of the function's child", lambda: _is_gone(running.child))
    gate.open()
    _nothing_left_of(worker)
    assert workspace.conductor.statuses(workflow_id) == ["IN_PROGRESS"], "nobody is left to report"
    _check_untouched(seeded)

    workspace.worker()
    workspace.environment.wait_for_removal_of_directories()


# ----------------------------------------------------------------------------- stopping


def test_the_first_signal_finishes_running_attempts_and_leaves_the_rest(
    deploy: Deploy, seeded: Seeded, gate: Gate
) -> None:
    repository, ref = seeded
    workspace = deploy("workspace")
    worker = workspace.worker(1)
    running = workspace.start(input_of(repository, ref, {"write": {"out.txt": "o"}, "gate": str(gate)}))
    gate.entered()
    queued = [workspace.start(input_of(repository, ref)) for _ in range(2)]
    worker.signal(signal.SIGTERM)
    worker.line("stopping: .*1 running")
    gate.open()
    assert worker.exit_code() == 0
    _nothing_left_of(worker)
    published = workspace.conductor.output(running)["workspace"]["ref"]
    assert repository.head() == published
    assert [workspace.conductor.statuses(workflow_id) for workflow_id in queued] == [["SCHEDULED"], ["SCHEDULED"]]
    worker.line("stopped with exit code 0")
    assert worker.lines[-1] == "stopped with exit code 0"


def test_an_idle_worker_that_ends_hands_back_the_delivery_of_its_last_poll(deploy: Deploy) -> None:
    free = deploy("free")
    worker = free.worker(1)
    worker.signal(signal.SIGINT)
    worker.line("stopping: ")
    workflow_id = free.start({"params": {}})
    assert worker.exit_code() == 0
    _nothing_left_of(worker)
    assert free.conductor.statuses(workflow_id) == ["SCHEDULED"]
    free.worker(1)
    free.conductor.completed(workflow_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_the_second_signal_cancels_and_nothing_is_sent(
    deploy: Deploy, seeded: Seeded, gate: Gate, number: signal.Signals
) -> None:
    workspace = deploy("workspace")
    worker = workspace.worker(1)
    workflow_id, running = _held(workspace, seeded, gate)
    worker.signal(number)
    worker.line("stopping: ")
    worker.signal(number)
    assert worker.exit_code() == 128 + number
    _nothing_left_of(worker)
    assert _is_gone(running.child)
    worker.line(f"lost {workspace.task} {running.task_id}.*second signal")
    assert workspace.conductor.statuses(workflow_id) == ["IN_PROGRESS"]
    _check_untouched(seeded)
    assert workspace.environment.attempt_directories() == []


# ------------------------------------------------------------------------------- leases


def test_a_function_can_run_longer_than_its_response_timeout(deploy: Deploy, seeded: Seeded) -> None:
    repository, ref = seeded
    workspace = deploy("workspace", LIVE_RESPONSE_SECONDS="8")
    workspace.worker()
    workflow_id = workspace.start(input_of(repository, ref, {"write": {"out.txt": "o"}, "sleep": 11}))
    (task,) = workspace.conductor.completed(workflow_id, driven=True)["tasks"]
    assert (task["responseTimeoutSeconds"], task["pollCount"]) == (8, 1)
    assert len(repository.since(ref)) == 1


def test_the_end_of_a_workflow_ends_user_code_without_a_publication(deploy: Deploy, seeded: Seeded, gate: Gate) -> None:
    repository, ref = seeded
    workspace = deploy("workspace", LIVE_RESPONSE_SECONDS="9")
    worker = workspace.worker()
    workflow_id, running = _held(workspace, seeded, gate)
    workspace.conductor.terminate(workflow_id)
    worker.line(f"lost {workspace.task} {running.task_id}")
    wait_for("the end of the function", lambda: _is_gone(running.pid) or _is_gone(running.child))
    gate.open()
    wait_for("the end of the function's child", lambda: _is_gone(running.child))
    next_one = workspace.start(input_of(repository, ref))
    workspace.conductor.completed(next_one)
    _check_untouched(seeded)
    assert workspace.conductor.statuses(workflow_id) == ["CANCELED"]
    workspace.environment.wait_for_removal_of_directories()


def test_a_lost_slot_s_successor_never_sees_the_first_one_publish(deploy: Deploy, seeded: Seeded, gate: Gate) -> None:
    """All processes of the worker are stopped until Conductor delivers its task again. Then they must not publish."""
    repository, ref = seeded
    workspace = deploy("workspace", LIVE_RESPONSE_SECONDS="6")
    worker = workspace.worker()
    workflow_id, _ = _held(workspace, seeded, gate, child=False)
    frozen = worker.environment.processes()
    for process in frozen:
        process.suspend()
    workspace.conductor.time_out(workflow_id)
    gate.open()
    successor = workspace.worker()
    output = workspace.conductor.output(workflow_id)
    for process in frozen:
        process.resume()
    first = workspace.conductor.tasks(workflow_id)[0]
    worker.line(f"lost {workspace.task} {first['taskId']}")
    successor.line(f"completed {workspace.task}")
    assert output["result"]["retry_count"] == 1
    assert [commit["id"] for commit in repository.since(ref)] == [output["workspace"]["ref"]]
    repository.wait_for_removal_of_staging()
