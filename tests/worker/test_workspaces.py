"""Workers on versioned workspaces: publications, leftovers of a dead slot, guardrails of authors, lost deliveries."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perago.attempt.events import FenceState
from perago.driver import delivery
from perago.embedded.faults import FaultScript, Moment
from perago.embedded.lakefs import InMemoryLakeFS, references
from perago.embedded.remote import StoreServer
from perago.ports import TaskStatus, Unavailable
from perago.worker import attempts
from perago.worker.events import Ending, FenceNotEnforced, SlotReady, SlotReplaced, WaitingForLakeFS
from perago.worker.logs import describe

from .bench import LIMIT, RunningWorker, attempt_directories, has_ended, make_plan, planned, running, wait_for
from .site import WRITES, Site, opened


@pytest.fixture
def worker(site: Site, tmp_path: Path, frequent_beats: None) -> Iterator[RunningWorker]:
    with running(make_plan(tmp_path, planned(WRITES, store_factory=site.server.factory)), site.conductor) as worker:
        yield worker


def test_a_slot_publishes_the_files_of_the_function(site: Site, worker: RunningWorker) -> None:
    workflow = site.finish_one(site.start_on_head("writes"))
    assert workflow["status"] == "COMPLETED"
    assert site.tree()["out/a.csv"] == b"x\n1\n"
    reported = wait_for("the line about it", lambda: worker.ended(Ending.REPORTED))[0]
    assert reported.published_commit == site.lakefs.get_commit("data", "main").id
    usage = reported.usage
    assert (usage.objects, usage.downloaded, usage.uploaded, usage.changed) == (1, 4, 4, 1)
    assert workflow["tasks"][0]["workerId"].startswith(f"test0001@{socket.gethostname()}:")
    wait_for("the end of its directory", lambda: not attempt_directories(worker.plan.workspace_root))
    logs = wait_for("the task log", lambda: site.conductor.task_logs(workflow["tasks"][0]["taskId"]))
    assert [entry["log"] for entry in logs] == ["in the author's format: writing"], "once, as the module set it up"


def test_a_forked_child_that_returns_as_well_does_not_touch_the_attempt(site: Site, worker: RunningWorker) -> None:
    workflow = site.finish_one(site.start_on_head("forks"))
    assert [(task["status"], task["outputData"]["result"]) for task in workflow["tasks"]] == [
        ("COMPLETED", {"text": "run 1"})
    ]
    assert site.tree()["out/a.csv"] == b"x\n1\n"


def test_a_server_that_runs_no_hooks_is_warned_about_once(
    site: Site, worker: RunningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.lakefs.server, "fence", lambda _: None)  # as with `actions.enabled: false`
    for number in range(2):
        site.lakefs.seed("data", "main", {"out/a.csv": f"{number}"})
        done = site.finish_one(site.start_on_head("writes"))
        assert done["status"] == "COMPLETED", done["tasks"]
    reported = wait_for("both reports", lambda: worker.ended(Ending.REPORTED)[1:] and worker.ended(Ending.REPORTED))
    assert [event.fence for event in reported] == [FenceState.NOT_ENFORCED] * 2
    assert worker.saw(FenceNotEnforced) == [FenceNotEnforced("data")]


@pytest.fixture
def guarded_site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path, retries=0, task="worker.guarded") as site:
        for branch, file in (("main", "a"), ("hanging", "hang"), ("waiting", "wait")):
            site.lakefs.seed("data", branch, {file: str(tmp_path / "marker")})
        yield site


@pytest.fixture
def guarded_worker(guarded_site: Site, tmp_path: Path, frequent_beats: None) -> Iterator[RunningWorker]:
    plan = make_plan(tmp_path, planned(f"{__package__}.tasks.guarded", store_factory=guarded_site.server.factory))
    with running(plan, guarded_site.conductor) as worker:
        yield worker


def finish(site: Site, workflow: str) -> dict[str, Any]:
    """The first task of the workflow once it is over."""
    task: dict[str, Any] = site.finish_one(workflow)["tasks"][0]
    return task


def test_a_guardrail_that_hangs_fails_its_attempt_and_its_slot_is_replaced(
    guarded_site: Site, guarded_worker: RunningWorker
) -> None:
    failed = finish(guarded_site, guarded_site.start_on_head(branch="hanging"))
    assert failed["status"] == "FAILED"
    assert failed["reasonForIncompletion"].startswith("pre guardrail brief: did not end within 0.3 s (")
    wait_for("the new slot", lambda: guarded_worker.saw(SlotReplaced))
    done = finish(guarded_site, guarded_site.start_on_head(branch="main"))
    assert done["status"] == "COMPLETED"
    logs = wait_for("the task log", lambda: guarded_site.conductor.task_logs(done["taskId"]))
    assert [entry["log"] for entry in logs] == ["looking at the workspace"]
    assert len(guarded_worker.saw(SlotReplaced)) == 1


def test_a_cancelled_attempt_does_not_wait_for_its_guardrail(
    guarded_site: Site, guarded_worker: RunningWorker, tmp_path: Path
) -> None:
    workflow = guarded_site.start_on_head(branch="waiting")
    guarded_site.conductor.decide(workflow)
    wait_for("the guardrail to run", (tmp_path / "marker").exists)
    guarded_site.conductor.terminate_workflow(workflow, "enough")
    wait_for("the end of the attempt", lambda: guarded_worker.ended(Ending.LOST))
    assert finish(guarded_site, guarded_site.start_on_head(branch="main"))["status"] == "COMPLETED"


# ----------------------------------------------------------------------------------------------------
# A delivery is lost in the middle of a step: everything of it stops, nothing more is sent, nothing is left behind.


NEVER = 3600.0
"""A grace that nothing here waits for: what ends, ends for another reason."""
GRACE = 1.0


class Journal:
    """A store that keeps the names of its calls, in the order in which they arrive."""

    def __init__(self, store: InMemoryLakeFS) -> None:
        self._store = store
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            return method(*arguments, **options)

        return call


class Hold:
    """Stops a call of the store half-way, until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        self.released.wait(LIMIT)


class Scene:
    """Both services in memory, a worker on them, and one workflow."""

    def __init__(self, site: Site, journal: Journal, worker: RunningWorker) -> None:
        self.lakefs, self.conductor, self.journal, self.worker = site.lakefs, site.conductor, journal, worker
        self.marker = site.directory / "marker"
        self.ref = self.head()
        self.workflow = ""
        self._site = site

    def start(self, what: str = "writes", branch: str = "main") -> None:
        self.workflow = self._site.start_on("data", branch, self.ref, what)

    def lose(self) -> int:
        """End the workflow; returns how many calls lakeFS had seen by then."""
        self.conductor.terminate_workflow(self.workflow, "no longer needed")
        return len(self.journal.calls)

    def pid(self) -> int:
        """Of the slot, which leads the process group of the attempt."""
        return self.worker.saw(SlotReady)[0].pid

    def head(self) -> str:
        return self.lakefs.get_commit("data", "main").id

    def branches(self) -> list[str]:
        """Those that attempts made."""
        branches = references.list_branches(self.lakefs.server.repository("data"), show_hidden=True).results
        return [branch.name for branch in branches if branch.name not in ("main", "second")]

    def leftovers(self) -> list[object]:
        return [*attempt_directories(self.worker.plan.workspace_root), *self.branches()]


@pytest.fixture
def faults() -> FaultScript:
    return FaultScript()


@pytest.fixture
def shutdown_grace() -> float:
    return NEVER


@pytest.fixture
def scene(tmp_path: Path, faults: FaultScript, shutdown_grace: float, frequent_beats: None) -> Iterator[Scene]:
    with opened(tmp_path, retries=2, faults=faults) as site:
        journal: Any = Journal(site.lakefs)
        with StoreServer(journal) as server:
            plan = make_plan(tmp_path, planned(WRITES, store_factory=server.factory), shutdown_grace=shutdown_grace)
            with running(plan, site.conductor) as worker:
                yield Scene(site, journal, worker)


CHALLENGE, MERGE = 1, 2
"""The first merge of a slot is the challenge that tries the publish fence."""

# Operation, its number in an attempt, and the moment within it at which the delivery is lost.
HELD = {
    "while downloading": ("download", 1, Moment.BEFORE),
    "while the staging branch is made": ("create_branch", 1, Moment.AFTER),
    "while uploading": ("upload", 1, Moment.BEFORE),
    "while committing": ("commit", 1, Moment.AFTER),
    "right before the merge": ("history", 2, Moment.BEFORE),
    "while the server is tried": ("merge", CHALLENGE, Moment.BEFORE),
    "with the merge on the wire": ("merge", MERGE, Moment.BEFORE),
    "with the merge done and its answer on the wire": ("merge", MERGE, Moment.AFTER),
    "while reading the publication": ("get_commit", 1, Moment.BEFORE),
}


@pytest.mark.parametrize(("operation", "nth", "moment"), HELD.values(), ids=HELD.keys())
def test_a_delivery_that_is_lost_during_a_lakefs_call_stops_immediately(
    scene: Scene, faults: FaultScript, operation: str, nth: int, moment: Moment
) -> None:
    hold = Hold()
    faults.between(operation, hold, nth=faults.calls(operation) + nth, moment=moment)
    pid = scene.pid()
    scene.start()
    wait_for("the step", hold.reached.is_set)
    calls = scene.lose()
    wait_for("the loss", lambda: scene.worker.ended(Ending.LOST))
    wait_for("the end of the process", has_ended(pid))
    is_merge = (operation, nth) == ("merge", MERGE)
    branches = scene.branches() if is_merge else []
    assert len(branches) == is_merge, "the sign of a merge that was not answered stays"
    wait_for("everything else to be gone", lambda: scene.leftovers() == branches)
    hold.released.set()

    may_be_published = is_merge or operation == "get_commit"
    (lost,) = scene.worker.ended(Ending.LOST)
    assert ("on branch main" in str(lost.reason)) == may_be_published, "what may have been published"
    if may_be_published:
        wait_for("what was on the wire", lambda: scene.head() != scene.ref)
    else:
        assert scene.head() == scene.ref
    staged = "create_branch" in scene.journal.calls[:calls]
    looks = ["get_commit"] * (operation == "create_branch")  # the branch could appear later
    assert scene.journal.calls[calls:] == looks + ["delete_branch"] * (staged and not branches)
    assert not scene.worker.ended(Ending.REPORTED)


@pytest.mark.parametrize("shutdown_grace", [GRACE])
def test_a_function_that_ignores_term_is_killed_with_its_children(scene: Scene) -> None:
    scene.start("stubborn")
    file = scene.marker.with_name("marker.pids")
    wait_for("the function", file.exists)
    pids = [int(pid) for pid in file.read_text().split()]
    lost_at, calls = time.monotonic(), scene.lose()
    for pid in pids:
        wait_for("the end of the process", has_ended(pid))
    assert time.monotonic() - lost_at >= GRACE
    wait_for("the loss", lambda: scene.worker.ended(Ending.LOST))
    wait_for("everything to be gone", lambda: not scene.leftovers())
    assert scene.journal.calls[calls:] == []
    assert not scene.worker.ended(Ending.REPORTED)


def test_the_worker_continues_after_a_loss_and_the_publication_is_adopted(scene: Scene, faults: FaultScript) -> None:
    """Lost with the merge done: a later attempt of the step finds the publication, and does not run the function."""
    hold = Hold()
    faults.between("merge", hold, nth=MERGE, moment=Moment.AFTER)
    scene.start()
    wait_for("the merge", hold.reached.is_set)
    (task,) = scene.conductor.workflow(scene.workflow)["tasks"]
    scene.lose()
    wait_for("the loss", lambda: scene.worker.ended(Ending.LOST))
    hold.released.set()
    scene.conductor.retry_workflow(scene.workflow)
    reported = wait_for("the retry", lambda: scene.worker.ended(Ending.REPORTED))[0]
    assert reported.delivery.retried_task_id == task["taskId"]
    assert reported.completed
    assert scene.marker.read_text().count("run") == 1


def test_a_report_does_not_wait_for_the_removal_of_the_staging_branch(scene: Scene, faults: FaultScript) -> None:
    removal = Hold()
    faults.between("delete_branch", removal)
    scene.start()
    wait_for("the removal", removal.reached.is_set)
    assert wait_for("the report", lambda: scene.worker.ended(Ending.REPORTED))[0].completed
    removal.released.set()
    wait_for("the clean-up", lambda: not scene.leftovers())


@pytest.mark.parametrize("is_lost", [False, True], ids=["to its end", "lost"])
def test_a_slot_that_has_published_creates_the_next_staging_branch_ahead(
    scene: Scene, faults: FaultScript, *, is_lost: bool
) -> None:
    creation = Hold()
    scene.lakefs.create_branch("data", "second", scene.ref)
    scene.start()
    wait_for("the first publication", lambda: scene.worker.ended(Ending.REPORTED))
    faults.between("create_branch", creation, nth=faults.calls("create_branch") + 1, moment=Moment.AFTER)
    scene.start("waits", branch="second")
    wait_for("the creation before the end of the function", creation.reached.is_set)
    if is_lost:
        scene.lose()
    creation.released.set()
    scene.marker.with_suffix(".go").touch()
    reported, lost = (1, 1) if is_lost else (2, 0)
    wait_for("the end", lambda: len(scene.worker.ended(Ending.REPORTED)) == reported)
    wait_for("the loss", lambda: len(scene.worker.ended(Ending.LOST)) == lost)
    wait_for("everything to be gone", lambda: not scene.leftovers())
    assert (scene.lakefs.get_commit("data", "second").id == scene.ref) is is_lost


def test_the_report_is_checked_while_the_publication_is_read(
    tmp_path: Path, faults: FaultScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FRESH", LIMIT)
    checks, reading = FaultScript(), Hold()
    with (
        opened(tmp_path, faults=faults, conductor_faults=checks) as site,
        running(make_plan(tmp_path, planned(WRITES, store_factory=site.server.factory)), site.conductor) as worker,
    ):
        ref = site.lakefs.get_commit("data", "main").id
        faults.between("get_commit", reading, nth=faults.calls("get_commit") + 1)
        site.start_on("data", "main", ref)
        wait_for("the read of the publication", reading.reached.is_set)
        wait_for("the check meanwhile", lambda: checks.calls("is_current") == 2)
        reading.released.set()
        wait_for("the report", lambda: worker.ended(Ending.REPORTED))
        assert checks.calls("is_current") == 2, "before the merge, and after it"


# ------------------------------------------------------------------- a slot that dies in its merge

DEATHS = {
    "before its merge": ("commit", 1, Moment.BEFORE, "while it ran the attempt"),
    "while its merge is sent": (
        "merge",
        MERGE,
        Moment.BEFORE,
        "may still appear on branch main; a retry will recognize it.",
    ),
    "before it gets the answer of its merge": (
        "merge",
        MERGE,
        Moment.AFTER,
        "while it published. Commit {head} is on branch main of data; a retry",
    ),
    "after its merge": (
        "get_commit",
        1,
        Moment.BEFORE,
        "while it published. Commit {head} is on branch main of data",
    ),
}
"""Where the slot stops, and what its report says."""


@pytest.mark.parametrize(("operation", "nth", "moment", "reason_part"), DEATHS.values(), ids=DEATHS.keys())
def test_the_report_of_a_killed_slot_names_a_possible_publication(
    scene: Scene, faults: FaultScript, operation: str, nth: int, moment: Moment, reason_part: str
) -> None:
    hold = Hold()
    faults.between(operation, hold, nth=faults.calls(operation) + nth, moment=moment)
    scene.start()
    wait_for("the step", hold.reached.is_set)
    os.kill(scene.pid(), signal.SIGKILL)
    reason = str(wait_for("the report", lambda: scene.worker.ended(Ending.REPORTED))[0].reason)
    hold.released.set()

    assert reason.startswith("the slot's process was killed by SIGKILL")
    assert reason_part.format(head=scene.head()[:12]) in reason
    wait_for("the retry", lambda: len(scene.worker.ended(Ending.REPORTED)) == 2)
    assert scene.worker.ended(Ending.REPORTED)[1].status is TaskStatus.COMPLETED


def test_a_death_is_reported_although_lakefs_says_nothing(
    scene: Scene, faults: FaultScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "PUBLICATION_LIMIT", 0.2)
    merge, look = Hold(), Hold()
    faults.between("merge", merge, nth=MERGE, moment=Moment.AFTER)
    faults.between("history", look, nth=3)
    scene.start()
    wait_for("the merge", merge.reached.is_set)
    os.kill(scene.pid(), signal.SIGKILL)
    wait_for("the look", look.reached.is_set)
    reason = str(wait_for("the report", lambda: scene.worker.ended(Ending.REPORTED))[0].reason)
    for hold in (merge, look):
        hold.released.set()
    assert "while it published. A merge of staging commit" in reason
    assert "may still appear on branch main" in reason


# ----------------------------------------------------------------- an attempt that waits for lakeFS


def test_an_attempt_that_waits_for_lakefs_reports_that_and_can_be_ended(scene: Scene, faults: FaultScript) -> None:
    for nth in range(1, 10):
        faults.before("upload", nth=nth, error=Unavailable)
    pid = scene.pid()
    scene.start()
    (said,) = wait_for("the line", lambda: scene.worker.saw(WaitingForLakeFS))
    assert describe(said).startswith("test0001: lakeFS does not answer (upload: injected fault")
    assert describe(said).endswith("; trying again for up to 45 min")
    scene.lose()
    wait_for("the loss", lambda: scene.worker.ended(Ending.LOST))
    wait_for("the end of the process", has_ended(pid))
    wait_for("everything to be gone", lambda: not scene.leftovers())
    assert faults.calls("upload") < 9


def test_a_wait_is_reported_to_conductor_too(scene: Scene, faults: FaultScript) -> None:
    faults.before("upload", error=Unavailable)
    scene.start()
    wait_for("the report", lambda: scene.worker.ended(Ending.REPORTED))
    (task,) = scene.conductor.workflow(scene.workflow)["tasks"]
    (entry,) = wait_for("the task log", lambda: scene.conductor.task_logs(task["taskId"]))
    assert "lakeFS does not answer (upload" in entry["log"]
    assert "lakeFS answers again" in entry["log"]
