"""A worker whose disk is full or read-only takes no work, hands back what it has, and resumes once that is repaired."""

from __future__ import annotations

import contextlib
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perago.driver.attempt import MOST_HAND_BACKS
from perago.ports import Delivery, Unavailable
from perago.retry import BackOff
from perago.worker import attempts, host, poller
from perago.worker.events import AttemptReceived, Ending, HandedBack, PollingPaused, PollingResumed
from perago.worker.plan import LogPlan, WorkerPlan
from perago.workspace.layout import RESERVE, free_space, occupied

from .bench import RunningWorker, make_plan, running, wait_for
from .outside import mounted
from .site import Site, opened
from .small_queue import SmallQueue

MEBIBYTE = 2**20
REDELIVERY = attempts.REDELIVERY
"""Without the change of `soon`."""


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Site]:
    """A site whose workflows do not retry a failed attempt."""
    with opened(tmp_path, retries=0) as services:
        yield services


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks are checked every few milliseconds, whether the worker takes work or not."""
    monkeypatch.setattr(host, "CHECK_INTERVAL", 0.02)
    monkeypatch.setattr("perago.retry.RESTARTS", BackOff(0.02, 0.05))
    monkeypatch.setattr(attempts, "REDELIVERY", BackOff(0.0, 0.0))


@contextlib.contextmanager
def crowded(site: Site) -> Iterator[Path]:
    """A root that another attempt has filled, so that the input has no room: the root, with that attempt's file."""
    with mounted(site.directory / "disk", 3 * RESERVE // MEBIBYTE) as disk:
        root = disk / "root"
        root.mkdir(mode=0o700)
        (root / "attempt").mkdir()
        (root / "attempt/file").write_bytes(bytes(100 * MEBIBYTE))
        site.lakefs.seed("data", "main", {"large": bytes(40 * MEBIBYTE)})
        yield root


def below_a_file(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "file").touch()
    return directory / "file" / "root"


def break_disk(root: Path) -> Callable[[], None]:
    """Put a file where the root was, as no user may write below it; returns what repairs the root."""
    away = root.with_suffix(".away")
    root.rename(away)
    root.touch()

    def repair() -> None:
        root.unlink()
        away.rename(root)

    return repair


@contextlib.contextmanager
def starting(plan: WorkerPlan, site: Site) -> Iterator[RunningWorker]:
    """A worker that need not become ready."""
    worker = RunningWorker(plan, site.conductor)
    try:
        yield worker
    finally:
        worker.end()


def assert_only(prefix: str, workflows: list[dict[str, Any]]) -> None:
    for workflow in workflows:
        (attempt,) = workflow["tasks"]
        assert (workflow["status"], attempt["retryCount"]) == ("COMPLETED", 0)
        assert attempt["workerId"].startswith(prefix)


# --------------------------------------------------------------- next to a healthy worker


def unusable(kind: str, directory: Path) -> str | None:
    """The problem of a worker with such a disk."""
    root, logs = directory / "disk/root", LogPlan(root=directory / "logs")
    with contextlib.ExitStack() as stack:
        if "disk" in kind:
            root.parent.mkdir(exist_ok=True)
            disk = stack.enter_context(mounted(root.parent / "mount", 2 * RESERVE // MEBIBYTE))
            root = disk / "root"
            root.mkdir(mode=0o700)
        if kind == "root that others may write to":
            root.mkdir(parents=True)
            root.chmod(0o777)
        elif kind.startswith("log root below a file"):
            logs = LogPlan(root=below_a_file(directory / "broken"), files="unused" not in kind)
        elif kind == "read-only disk":
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        elif kind == "disk full of the cache":
            (root / ".cache").mkdir(mode=0o700)
            (root / ".cache/entry").write_bytes(bytes(RESERVE + MEBIBYTE))
        elif kind == "full disk":
            (disk / "filler").write_bytes(bytes(RESERVE + MEBIBYTE))
        return host.roots_problem(make_plan(directory, workspace_root=root, logs=logs))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("root that others may write to", "PERAGO_WORKSPACE_ROOT"),
        ("log root below a file", "PERAGO_LOG_ROOT"),
        ("log root below a file, unused", None),
        ("full disk", "less than the reserve"),
        ("read-only disk", "PERAGO_WORKSPACE_ROOT"),
        ("disk full of the cache", None),
    ],
)
def test_a_disk_is_unusable_for_a_reason(tmp_path: Path, kind: str, reason: str | None) -> None:
    problem = unusable(kind, tmp_path)
    assert problem is None if reason is None else reason in str(problem)


def test_no_workflow_runs_on_the_worker_whose_disk_is_unusable(site: Site) -> None:
    with starting(site.plan("broken", below_a_file(site.directory / "broken")), site) as broken:
        wait_for("the pause", lambda: broken.saw(PollingPaused))
        started = site.start(4)
        with running(site.plan("healthy", slots=2), site.conductor) as healthy:
            assert_only("healthy", site.finish(started))
            assert not broken.saw(AttemptReceived)
            assert not broken.saw(HandedBack)
            assert not healthy.saw(PollingPaused)


def test_a_disk_that_breaks_at_work_costs_no_attempt_a_retry(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check does not find it: the attempt that the long poll brings meets the disk first."""
    monkeypatch.setattr(host, "CHECK_INTERVAL", 600.0)
    plan = site.plan("breaking")
    with running(plan, site.conductor) as worker:
        assert_only("breaking", site.finish(site.start()))
        repair = break_disk(plan.workspace_root)
        started = site.start(6)
        wait_for("the pause", lambda: worker.saw(PollingPaused))
        with running(site.plan("healthy", slots=2), site.conductor):
            assert_only("healthy", site.finish(started))
        assert worker.ended(Ending.HANDED_BACK)
        assert site.runs() == 7
        repair()
        wait_for("the end of the pause", lambda: worker.saw(PollingResumed))
        assert_only("breaking", site.finish(site.start(2)))
    logs = [site.conductor.task_logs(workflow["tasks"][0]["taskId"]) for workflow in site.finish(started)]
    assert any("handed this attempt back before its function was called" in str(entries) for entries in logs)


def test_a_full_disk_is_not_used_until_it_has_space_again(site: Site) -> None:
    with mounted(site.directory / "disk", 3 * RESERVE // MEBIBYTE) as disk:
        plan = site.plan("small", disk / "root")
        with running(plan, site.conductor) as worker:
            assert_only("small", site.finish(site.start()))
            filler = disk / "filler"
            filler.write_bytes(bytes(free_space(disk).size - RESERVE // 2))
            (paused,) = wait_for("the pause", lambda: worker.saw(PollingPaused))
            assert "less than the reserve of 64.0 MiB" in paused.reason
            started = site.start(2)
            filler.unlink()
            assert_only("small", site.finish(started))
            assert worker.saw(PollingResumed)


# ------------------------------------------------------------------- inputs without room


def test_an_input_that_fits_no_empty_root_fails_with_both_sizes(site: Site) -> None:
    with mounted(site.directory / "disk", 2 * RESERVE // MEBIBYTE) as disk:
        site.lakefs.seed("data", "main", {"large": bytes(70 * MEBIBYTE)})
        with running(site.plan("small", disk / "root"), site.conductor) as worker:
            (workflow,) = site.finish(site.start())
            reasons = [task["reasonForIncompletion"] for task in workflow["tasks"]]
            assert [task["status"] for task in workflow["tasks"]] == ["FAILED", "FAILED"]
            assert all("needs 134.0 MiB on disk" in reason and "128.0 MiB" in reason for reason in reasons)
            assert not worker.ended(Ending.HANDED_BACK)
            assert not worker.saw(PollingPaused)


def test_an_input_waits_for_the_room_that_another_attempt_has(site: Site) -> None:
    with crowded(site) as root, running(site.plan("small", root), site.conductor) as worker:
        started = site.start()
        handed_back = wait_for("a hand-back", lambda: worker.ended(Ending.HANDED_BACK))
        assert "left; nothing was downloaded" in str(handed_back[0].reason)
        (root / "attempt/file").unlink()
        assert_only("small", site.finish(started))
        assert not worker.saw(PollingPaused)


def test_a_handed_back_attempt_returns_after_growing_delays_and_fails(
    single: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []
    take_back = single.conductor.hand_back

    def note(delivery: Delivery, seconds: int = 0) -> None:
        pauses.append(seconds)
        take_back(delivery)

    monkeypatch.setattr(attempts, "REDELIVERY", REDELIVERY)
    monkeypatch.setattr(attempts, "MOST_DELIVERIES", 10)
    monkeypatch.setattr(single.conductor, "hand_back", note)
    with crowded(single) as root, running(single.plan("small", root), single.conductor):
        (workflow,) = single.finish(single.start())
    assert [task["status"] for task in workflow["tasks"]] == ["FAILED"]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_an_input_that_does_not_fit_on_the_disk_fails_with_both_sizes(single: Site) -> None:
    with mounted(single.directory / "disk", 3 * RESERVE // MEBIBYTE) as disk:
        (disk / "of another program").write_bytes(bytes(100 * MEBIBYTE))
        single.lakefs.seed("data", "main", {"large": bytes(40 * MEBIBYTE)})
        with running(single.plan("small", disk / "root"), single.conductor) as worker:
            (workflow,) = single.finish(single.start())
            reasons = [task["reasonForIncompletion"] for task in workflow["tasks"]]
            assert [task["status"] for task in workflow["tasks"]] == ["FAILED"]
            assert all("needs 104.0 MiB on disk" in reason and "than the 92.0 MiB" in reason for reason in reasons)
            assert len(worker.ended(Ending.HANDED_BACK)) == MOST_HAND_BACKS - 1


def test_a_disk_that_the_function_fills_costs_the_attempt_a_retry(site: Site) -> None:
    with (
        mounted(site.directory / "disk", 3 * RESERVE // MEBIBYTE) as disk,
        running(site.plan("small", disk / "root"), site.conductor) as worker,
    ):
        (workflow,) = site.finish(site.start(what="fills_the_disk_once"))
        assert [task["status"] for task in workflow["tasks"]] == ["FAILED", "COMPLETED"]
        reason = workflow["tasks"][0]["reasonForIncompletion"]
        assert f"No space left on device; the attempt ran below {disk / 'root'}" in reason
        assert not worker.ended(Ending.HANDED_BACK)


def test_a_retry_waits_until_a_disk_that_others_fill_has_more_space(site: Site) -> None:
    with mounted(site.directory / "disk", 4 * RESERVE // MEBIBYTE) as disk:
        filler = disk / "of another program"
        filler.write_bytes(bytes(free_space(disk).size - RESERVE - 20 * MEBIBYTE))
        with running(site.plan("small", disk / "root"), site.conductor) as worker:
            started = site.start(what="needs_much_space")
            handed_back = wait_for("a hand-back of the retry", lambda: worker.saw(HandedBack))
            assert handed_back[0].delivery.retry_count == 1
            assert "and the attempt before ran out of space with" in handed_back[0].reason
            assert str(disk / "root") in handed_back[0].reason
            filler.unlink()
            (workflow,) = site.finish(started)
            assert [task["status"] for task in workflow["tasks"]] == ["FAILED", "COMPLETED"]
        assert site.runs() == 2


# -------------------------------------------------------------------------------- details


def test_a_task_without_a_workspace_is_handed_back_too(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "CHECK_INTERVAL", 600.0)
    plan = make_plan(tmp_path)
    plan.workspace_root.mkdir(mode=0o700)
    with running(plan, queue) as worker:
        repair = break_disk(plan.workspace_root)
        task_id = queue.put(what="returns")
        wait_for("the hand-back", lambda: worker.ended(Ending.HANDED_BACK))
        wait_for("the pause", lambda: worker.saw(PollingPaused))
        assert queue.handed_back[0] == task_id
        assert not queue.reports
        repair()
        wait_for("the report", lambda: queue.reports)


def test_a_hand_back_that_conductor_does_not_take_is_reported_in_the_log(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "CHECK_INTERVAL", 600.0)
    monkeypatch.setattr("perago.worker.attempts.HAND_BACK_DELAYS", BackOff(0.0, 0.0))
    plan = make_plan(tmp_path)
    plan.workspace_root.mkdir(mode=0o700)
    with running(plan, queue) as worker:
        break_disk(plan.workspace_root)
        queue.fault = lambda operation: Unavailable("Conductor", operation, "down") if "back" in operation else None
        queue.put(what="returns")
        (ended,) = wait_for("the end", lambda: worker.ended(Ending.UNREPORTED))
        assert "down" in str(ended.reason)


def test_deliveries_of_open_polls_are_handed_back_when_the_disk_breaks(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "LONG_POLL_SECONDS", 30.0)
    plan = make_plan(tmp_path)
    plan.workspace_root.mkdir(mode=0o700)
    with running(plan, queue) as worker:
        wait_for("a long poll", lambda: queue.polls and queue.polls[-1] == (1, 30.0))
        break_disk(plan.workspace_root)
        wait_for("the pause", lambda: worker.saw(PollingPaused))
        task_id = queue.put(what="returns")
        wait_for("the hand-back", lambda: worker.saw(HandedBack))
        assert queue.handed_back[0] == task_id
        wait_for("the end of all polls", lambda: queue.waiting() == [task_id])
        assert not worker.saw(AttemptReceived)


def test_a_disk_that_does_not_answer_is_not_used(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def hang(root: Path, reserve: int) -> str | None:
        asked.append(root)
        wait_for("the pause", lambda: worker.saw(PollingPaused))
        return None

    monkeypatch.setattr(host, "root_problem", hang)
    monkeypatch.setattr(host, "ANSWER_LIMIT", 0.05)
    worker = RunningWorker(make_plan(tmp_path), queue)
    try:
        (paused,) = wait_for("the pause", lambda: worker.saw(PollingPaused))
        assert "have not answered for 0.05 s" in paused.reason
        wait_for("the end of the pause", lambda: worker.saw(PollingResumed))
    finally:
        worker.end()


def test_the_log_root_is_private_and_links_in_a_root_are_not_followed(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    assert host.roots_problem(plan) is None
    assert stat.S_IMODE(plan.logs.root.stat().st_mode) == 0o700
    (plan.logs.root / "file").write_bytes(bytes(MEBIBYTE))
    (plan.logs.root / "link").symlink_to("/")
    size = occupied(plan.logs.root)
    assert (size.size >= MEBIBYTE, size.inodes, occupied(tmp_path / "missing").size) == (True, 2, 0)
