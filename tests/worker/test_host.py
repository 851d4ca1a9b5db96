"""The host of a worker: its threads, the markers of workers, the cache and the staging branches that it looks after."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perago.cache import ObjectCache, trim, usage
from perago.cache.objects import SEAL_BYTES
from perago.driver import Limits
from perago.settings import Upkeep, take_from_environment
from perago.worker import attempts, events, host
from perago.worker import presence as presence_module
from perago.worker.host import Pool, sweep_branches
from perago.worker.logs import describe
from perago.worker.plan import ExportContext, is_worker_id, parted_id
from perago.worker.presence import DIRECTORY, dead_workers, id_clashes, presence, worker_processes, workers_here
from perago.workspace.directory import AttemptDirectory
from tests.cache.shelves import put
from tests.deliveries import make_delivery

from .bench import LIMIT, make_plan, outcome, running, wait_for
from .site import Site
from .small_queue import SmallQueue


def fail() -> None:
    raise KeyError("x")


def test_results_and_errors_come_back_from_as_many_threads_as_there_may_be() -> None:
    async def calls() -> None:
        pool, barrier = Pool("test", 3), threading.Barrier(3)
        names = await asyncio.gather(*(pool.run(meet, barrier) for _ in range(9)))
        assert len(set(names)) <= 3
        with pytest.raises(KeyError):
            await pool.run(fail)
        assert await pool.run(int, "7", base=8) == 7
        pool.close()
        with pytest.raises(RuntimeError, match="closed"):
            await pool.run(fail)

    def meet(barrier: threading.Barrier) -> int:
        barrier.wait(LIMIT)
        return threading.get_ident()

    asyncio.run(calls())


def test_calls_one_after_the_other_take_one_thread() -> None:
    async def calls() -> set[int]:
        pool, threads = Pool("test", 3), set()
        for _ in range(20):
            threads.add(await pool.run(threading.get_ident))
            await asyncio.sleep(0.01)  # so long a thread may take to say that it is free
        pool.close()
        return threads

    assert len(asyncio.run(calls())) < 3


def test_threads_without_calls_end_and_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def meet(barrier: threading.Barrier) -> None:
        barrier.wait(LIMIT)

    def threads() -> int:
        return sum(thread.name == "perago-idle-test" for thread in threading.enumerate())

    async def calls() -> None:
        pool = Pool("idle-test", 3)
        for _ in range(2):
            await asyncio.gather(*(pool.run(meet, barrier) for _ in range(3)))
            assert threads() == 3
            while threads():
                await asyncio.sleep(0.01)
        pool.close()

    barrier = threading.Barrier(3)
    monkeypatch.setattr(host, "IDLE_SECONDS", 0.5)
    asyncio.run(asyncio.wait_for(calls(), LIMIT))


def test_calls_that_meet_the_end_of_idle_threads_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async def calls() -> int:
        pool = Pool("test", 3)
        numbers = [await pool.run(int, number) async for number in pauses()]
        pool.close()
        return len(numbers)

    async def pauses() -> AsyncIterator[int]:
        for number in range(200):
            await asyncio.sleep(0.001 + number % 5 * 0.0002)  # about as long as a thread waits
            yield number

    monkeypatch.setattr(host, "IDLE_SECONDS", 0.0015)
    assert asyncio.run(asyncio.wait_for(calls(), LIMIT)) == 200


def test_a_call_that_nothing_waits_for_any_more_is_not_made() -> None:
    async def calls() -> list[str]:
        made: list[str] = []
        pool, gate = Pool("test", 1), threading.Event()
        first = asyncio.ensure_future(pool.run(gate.wait, LIMIT))
        second = asyncio.ensure_future(pool.run(made.append, "second"))
        third = asyncio.ensure_future(pool.run(made.append, "third"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        gate.set()
        await asyncio.gather(first, third)
        pool.close()
        return made

    assert asyncio.run(calls()) == ["third"]


def test_a_process_ends_without_waiting_for_a_call() -> None:
    program = """
import asyncio, threading
from perago.worker.host import Pool

async def main():
    pool, begun = Pool("test", 1), asyncio.Event()
    loop = asyncio.get_running_loop()

    def never_ends():
        loop.call_soon_threadsafe(begun.set)
        threading.Event().wait()

    asyncio.ensure_future(pool.run(never_ends))
    await begun.wait()
    pool.close()

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=LIMIT, check=False).returncode == 0


READY = events.WorkerReady("my_tasks.features", "features.build", "mytasks0000", 2, 0.1)

HOLDS = """
import sys
from pathlib import Path
from perago.worker.presence import presence
from perago.worker.plan import ExportContext
from {module} import READY, make_plan

with presence(ExportContext(plan=make_plan(Path(sys.argv[1])))) as listener:
    listener(READY)
    print("ready", flush=True)
    sys.stdin.read()
"""


def present(directory: Path) -> AbstractContextManager[events.Listener]:
    plan = make_plan(directory)
    plan.workspace_root.mkdir(mode=0o700, exist_ok=True)
    return presence(ExportContext(plan=plan))


def test_a_worker_is_listed_with_its_tasks_from_ready_until_it_is_down(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    assert workers_here(root) == ()
    with present(tmp_path) as listener:
        with present(tmp_path) as other:
            listener(READY)
            other(READY)
            first, _ = workers_here(root)
            assert (first.worker_id, first.task_name, first.slots) == ("mytasks0000", "features.build", 2)
            assert first.pid == os.getpid()
        assert len(workers_here(root)) == 1
        listener(replace(READY, task_name="features.check"))
        assert [worker.task_name for worker in workers_here(root)] == ["features.build", "features.check"]
    assert workers_here(root) == ()
    assert list(root.iterdir()) == []


def test_a_killed_worker_is_not_there_and_the_next_one_removes_its_file(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    root.mkdir(mode=0o700)
    program = HOLDS.format(module=__name__)
    killed = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"ready\n"
        assert [worker.pid for worker in workers_here(root)] == [killed.pid]
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert workers_here(root) == ()
    assert dead_workers(root) == {f"mytasks0000@{socket.gethostname()}:{killed.pid}"}
    assert len(list((root / DIRECTORY).iterdir())) == 1
    with present(tmp_path) as listener:
        listener(READY)
        assert [worker.pid for worker in workers_here(root)] == [os.getpid()]
        assert dead_workers(root) == set()
        assert len(list((root / DIRECTORY).iterdir())) == 1


def test_foreign_files_are_skipped(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    with present(tmp_path) as worker:
        worker(READY)
        (root / DIRECTORY / "text.json").write_text("{}")
        (root / DIRECTORY / "link.json").symlink_to("/etc/hostname")
        assert len(workers_here(root)) == 1


def test_a_worker_whose_root_was_removed_is_there_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "CHECK_INTERVAL", 0.01)
    root = make_plan(tmp_path).workspace_root
    with present(tmp_path) as worker:
        worker(READY)
        shutil.rmtree(root)
        wait_for("the marker", lambda: workers_here(root))
        worker(events.Pulse(2, 1, 1, 0, 0.0))
        (process,) = wait_for(
            "the busy slot", lambda: [process for process in worker_processes(workers_here(root)) if process.busy]
        )
        assert (process.worker_id, process.slots, process.busy, process.shared) == ("mytasks0000", 1, 1, True)
    assert list(root.iterdir()) == []


def test_a_marker_of_an_earlier_version_names_a_worker(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    with present(tmp_path) as worker:
        worker(READY)
        (path,) = (root / DIRECTORY).iterdir()
        fields = json.loads(path.read_text())
        del fields["total"], fields["busy"]
        path.write_text(json.dumps(fields))
        (process,) = worker_processes(workers_here(root))
        assert (process.slots, process.busy, process.tasks) == (2, None, ("features.build",))


def test_two_workers_with_one_id_are_named(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    with present(tmp_path) as first:
        first(READY)
        (mine,) = workers_here(root)
        both = worker_processes([mine, replace(mine, pid=mine.pid + 1, host="node-7")])
    (clash,) = id_clashes(both)
    assert clash.startswith("2 workers of this workspace root use the worker id mytasks0000: process ")
    assert f"process {mine.pid + 1} on node-7" in clash
    assert id_clashes(both[:1]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("features0001", ("features0001", "", True)),
        ("features-7d9f.a0001@node-7:4711", ("features-7d9f.a0001", "node-7", True)),
        ("ip-10-0-0-1234", ("ip-10-0-0-1234", "", False)),
        ("../../etc0001@x:1", ("../../etc0001@x:1", "", False)),
    ],
)
def test_worker_ids_of_both_forms_differ_from_those_of_other_sdks(text: str, expected: tuple[str, str, bool]) -> None:
    assert (*parted_id(text), is_worker_id(text)) == expected


def test_a_disk_that_refuses_does_not_disturb_the_worker(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    root.write_text("no directory")
    with presence(ExportContext(plan=make_plan(tmp_path))) as worker:
        worker(READY)
        assert workers_here(root) == ()


BLOCK = 4096


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "CACHE_INTERVAL", 0.02)


def test_surplus_log_files_are_removed_while_the_worker_runs(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path, cache_bytes=5 * BLOCK)
    plan.workspace_root.mkdir(mode=0o700)
    cache = ObjectCache(plan.workspace_root, 100 * BLOCK)
    with running(plan, queue) as worker:
        for number in range(10):
            put(cache, bytes(BLOCK - SEAL_BYTES), f"s3://bucket/{number}")
        wait_for(
            "the eviction", lambda: usage(plan.workspace_root).entries <= 5
        )  # 4 or 5, as it began earlier or later

        def deleted() -> int:
            return sum(event.objects for event in worker.saw(events.CacheTrimmed))

        wait_for("its report", lambda: deleted() + usage(plan.workspace_root).entries == 10)
    assert describe(events.CacheTrimmed(6)) == "deleted from the cache to keep to its limit: 6 objects"


@pytest.mark.parametrize(
    "changes",
    [{"cache_bytes": 5 * BLOCK, "maintenance": frozenset({Upkeep.DIRECTORIES})}, {}],
    ids=["outside of its maintenance", "without a limit"],
)
def test_a_cache_that_a_worker_does_not_look_after_stays(
    tmp_path: Path, queue: SmallQueue, changes: dict[str, Any]
) -> None:
    plan = make_plan(tmp_path, **changes)
    plan.workspace_root.mkdir(mode=0o700)
    cache = ObjectCache(plan.workspace_root, 100 * BLOCK)
    for number in range(10):
        put(cache, bytes(BLOCK), f"s3://bucket/{number}")
    old = make_delivery(task_id="old", task_name="worker.behaves")
    AttemptDirectory.create(plan.workspace_root, old).close()
    with running(plan, queue) as worker:
        wait_for("the sweep, which is wanted", lambda: worker.saw(events.DirectoriesSwept))
        queue.put(what="returns")
        wait_for("an attempt", lambda: worker.ended(events.Ending.REPORTED))
        assert not worker.saw(events.CacheTrimmed)
    assert usage(plan.workspace_root).entries == 10


def test_a_problem_is_reported_once_and_again_when_it_returns(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path, cache_bytes=5 * BLOCK)
    plan.workspace_root.mkdir(mode=0o700)
    place = plan.workspace_root / ".cache"
    place.touch()
    looks: list[Path] = []
    real = trim

    def counted(root: Path, limit: int) -> int:
        looks.append(root)
        return real(root, limit)

    with pytest.MonkeyPatch.context() as patch, running(plan, queue) as worker:
        patch.setattr(host, "trim", counted)
        wait_for("several looks", lambda: len(looks) > 3)
        assert len(worker.saw(events.CacheFailed)) == 1
        place.unlink()
        before = len(looks)
        wait_for("a look without trouble", lambda: len(looks) > before + 1)
        place.touch()
        wait_for("the second word", lambda: len(worker.saw(events.CacheFailed)) == 2)
    message = describe(worker.saw(events.CacheFailed)[0])
    assert message.startswith(f"warning: the cache is not used: {place} must be the cache's directory")


def test_a_disk_that_refuses_the_cache_is_named_with_the_next_step(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(root: Path, limit: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(host, "trim", full)
    plan = make_plan(tmp_path, cache_bytes=5 * BLOCK)
    with running(plan, queue) as worker:
        (failed,) = wait_for("the event", lambda: worker.saw(events.CacheFailed))
    message = f"warning: the cache is not used: {plan.workspace_root / '.cache'}: No space left on device; "
    assert describe(failed) == f"{message}free or repair its disk, or clear it: perago cache --clear"


REPORT = """
import json, sys, pathlib
names = sys.argv[sys.argv.index("--") + 1 :]
asked = pathlib.Path({asked!r})
unfinished = asked.with_suffix(".new")
unfinished.write_text(" ".join(names))
unfinished.replace(asked)
found = [("removed", "old"), ("kept", "young")]
branch = {{"kind": "branch", "reason": ""}}
leftovers = [{{**branch, "repository": n, "branch": b, "fate": f}} for n in names for f, b in found]
directory = {{"kind": "directory", "path": "x", "bytes": 1, "fate": "removed", "reason": ""}}
print(json.dumps({{"leftovers": [*leftovers, directory]}}))
"""
BROKEN = """
import sys
sys.exit("error: lakeFS does not answer\\n  fix: wait\\nerror: nor does Conductor")
"""
ENDLESS = "import os, pathlib, time; pathlib.Path({asked!r}).write_text(str(os.getpid())); time.sleep(600)"


def sweeper(tmp_path: Path, code: str) -> tuple[tuple[str, ...], Path]:
    """A command in the place of `perago gc`, and the file in which it says that it runs."""
    asked = tmp_path / "asked"
    return (sys.executable, "-c", code.format(asked=str(asked)), "--"), asked


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SWEEP_INTERVAL", 0.05)


def test_the_repositories_that_attempts_have_read_are_swept(tmp_path: Path, site: Site) -> None:
    """lakeFS has no repository `no-such`, so only its attempt hears of it."""
    command, asked = sweeper(tmp_path, REPORT)
    site.lakefs.seed("my-data", "main", {"raw/a.csv": "1"})
    with running(site.plan("test", branch_sweep=command), site.conductor) as worker:
        names = ("--older-than=0s", "../x", "no-such")
        refused = [site.start_on(name, "main", "0" * 64) for name in names]
        site.finish([*site.start(2), *site.start(repository="my-data"), *refused])
        wait_for("all reports", lambda: len(worker.ended(events.Ending.REPORTED)) == 6)
        both = ("data/old", "my-data/old")
        wait_for("a sweep of both", lambda: any(event.branches == both for event in worker.saw(events.BranchesSwept)))
        assert not worker.saw(events.BranchSweepFailed)
    assert asked.read_text() == "data my-data"


def test_nothing_is_swept_before_an_attempt_has_read_a_repository(tmp_path: Path, queue: SmallQueue) -> None:
    command, asked = sweeper(tmp_path, REPORT)
    with running(make_plan(tmp_path, branch_sweep=command), queue):
        for _ in range(2):
            task_id = queue.put(what="returns", workspace={"repository": "my-data", "branch": "main", "ref": "0" * 64})
            outcome(queue, task_id)
    assert not asked.exists()


def test_the_repositories_that_were_used_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST_REPOSITORIES", 3)
    known: dict[str, None] = {}
    for name in "abcabda":
        attempts.remember(known, name)
    assert list(known) == ["b", "d", "a"]


def test_a_sweep_that_fails_is_noted_and_tried_again(tmp_path: Path, site: Site) -> None:
    command, _ = sweeper(tmp_path, BROKEN)
    with running(site.plan("test", branch_sweep=command), site.conductor) as worker:
        site.finish(site.start())
        wait_for("two tries", lambda: len(worker.saw(events.BranchSweepFailed)) >= 2)
    both = "error: lakeFS does not answer; error: nor does Conductor"
    assert worker.saw(events.BranchSweepFailed)[0] == events.BranchSweepFailed(("data",), both)


def test_a_sweep_that_takes_too_long_is_given_up(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "BRANCH_SWEEP_LIMIT", 0.5)
    command, _ = sweeper(tmp_path, ENDLESS)
    with running(site.plan("test", branch_sweep=command), site.conductor) as worker:
        site.finish(site.start())
        wait_for("the end of patience", lambda: worker.saw(events.BranchSweepFailed))


def test_a_sweep_ends_with_its_worker(tmp_path: Path, site: Site) -> None:
    command, asked = sweeper(tmp_path, ENDLESS)
    with running(site.plan("test", branch_sweep=command), site.conductor):
        site.finish(site.start())
        pid = int(wait_for("the sweep", lambda: asked.read_text() if asked.exists() else None))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_sweep_that_the_end_of_the_loop_cancels_again_is_awaited(tmp_path: Path) -> None:
    command, asked = sweeper(tmp_path, ENDLESS)

    async def cancel_twice() -> int:
        busy = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, busy.wait)
        sweep = asyncio.create_task(sweep_branches(command))
        while not (asked.exists() and asked.read_text()):
            await asyncio.sleep(0.01)
        for _ in range(2):
            sweep.cancel()
            await asyncio.sleep(0)
        busy.set()
        return int(asked.read_text())

    pid = asyncio.run(cancel_twice())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"workspace": None},
        {"workspace": "my-data"},
        {"workspace": {"repository": 7}},
        {"workspace": {"repository": "A"}},
    ],
)
def test_an_input_without_a_repository_causes_no_request(tmp_path: Path, value: dict[str, Any]) -> None:
    assert make_plan(tmp_path).repository_of(make_delivery(input=value)) is None


def test_no_sweep_looks_into_a_repository_that_inputs_may_not_name(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, limits=Limits(allowed_workspaces=("my-data/main",)))
    for branch, expected in (("main", "my-data"), ("other", None)):
        block = {"workspace": {"repository": "my-data", "branch": branch}}
        assert plan.repository_of(make_delivery(input=block)) == expected


def test_only_the_process_that_sweeps_has_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.settings.sources._taken", {})
    monkeypatch.setenv("LAKECTL_TAKEN", "my-data")
    take_from_environment(["LAKECTL_TAKEN"])
    assert "LAKECTL_TAKEN" not in os.environ
    leftover = "{'kind': 'branch', 'fate': 'removed', 'repository': os.environ['LAKECTL_TAKEN'], 'branch': 'b'}"
    command = (sys.executable, "-c", f"import json, os; print(json.dumps({{'leftovers': [{leftover}]}}))")
    assert asyncio.run(sweep_branches(command)) == (("my-data/b",), "")
