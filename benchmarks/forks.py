"""The branches of a fork end at the same moment and publish to one branch: all of them get there.

Each branch is an attempt in a process of its own, on 100 files of which it changes ten of its own. Conductor is left
out: every delivery is current. One base is such an attempt alone. The other one is as many attempts at the same moment
on branches of their own, which no race can slow down, with the time added that the publications to one branch take one
after the other: from an attempt's turn to its merge. Requests are counted by a proxy, in a run of their own; those that
a lost race costs are all that go beyond an attempt alone, divided by the races that were lost.

Whether every branch's changes are there once, on a linear history, is read from the server. The benchmark ends with
exit code 1 if they are not. It runs on the lakeFS of the usual variables, or on an embedded one if none is named.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from benchmarks import servers
from benchmarks.harness import Row, Target, arguments, at_most, print_table, ratio, seconds, under
from benchmarks.proxy import counting
from benchmarks.tasks import sibling
from perago.adapters.lakefs import LakeFSStore
from perago.authoring import Task
from perago.authoring.task import get_task
from perago.driver import AttemptRuntime, SystemClock, run_attempt
from perago.driver.fencing import FenceProofs, install_fence
from perago.ports import AttemptRow, Commit, Delivery, TaskStatus, Upload, WorkflowRow
from perago.settings import LakeFSSettings

FILES, CHANGED, SIZE = 100, 10, 4096
TASK = cast("Task", get_task(sibling.sibling))
WIDTHS = (1, 8, 32)


class Living:
    """Every delivery is the one that Conductor waits for, and so are all siblings'."""

    def is_current(self, delivery: Delivery) -> bool:
        """Yes."""
        return bool(delivery.task_id)

    def read_attempt(self, delivery: Delivery, task_id: str) -> AttemptRow | None:
        """The row of an attempt that began when all did."""
        return AttemptRow(task_id, delivery.start_time, None)

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:
        """A workflow without a parent."""
        nothing = frozenset[str]()
        return WorkflowRow(workflow_id, delivery.start_time, None, "", nothing, nothing, nothing, is_starting=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one branch of the fork did. `wall` is in seconds."""

    status: str
    reason: str
    wall: float
    steps: Mapping[str, int]
    serial: float
    """Seconds from the end of the wait for its turn to the answer of the merge."""
    commit: str


@dataclass(frozen=True, slots=True)
class Fork:
    """One fork, and what is wrong with what it left."""

    wall: float
    attempts: Sequence[Attempt]
    requests: int
    wrong: Sequence[str]

    @property
    def lost(self) -> int:
        """Races that were lost."""
        return sum(
            attempt.steps.get("CarryChanges", 0) + attempt.steps.get("StageChanges", 0) - 1 for attempt in self.attempts
        )


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=3).rounds
    timed: dict[int, list[Fork]] = {width: [] for width in WIDTHS}
    apart: dict[int, list[Fork]] = {width: [] for width in WIDTHS}
    counted: dict[int, Fork] = {}
    with ExitStack() as stack:
        settings, kind = stack.enter_context(servers.lakefs_or_embedded())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for _ in range(rounds):
            for width in WIDTHS:
                timed[width].append(run(settings, scratch, width))
                apart[width].append(run(settings, scratch, width, apart=True))
        for width in WIDTHS:
            counted[width] = run(settings, scratch, width, count=True)
    print_table(
        f"forks on the {kind}: {FILES} files, {CHANGED} changed by each branch, {rounds} rounds",
        [f"{width} branches" if width > 1 else "alone" for width in WIDTHS],
        list(table(timed, apart, counted)),
        depends_on="cores shared with the server, and how long the server waits before it tries a merge again",
    )
    wrong = [
        words
        for forks in (*timed.values(), *apart.values(), list(counted.values()))
        for fork in forks
        for words in fork.wrong
    ]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    sys.exit(1 if wrong else 0)


def table(
    timed: Mapping[int, Sequence[Fork]], apart: Mapping[int, Sequence[Fork]], counted: Mapping[int, Fork]
) -> Iterator[Row]:
    """Times, races and requests."""
    best = {width: min(forks, key=lambda found: found.wall) for width, forks in timed.items()}
    bases = {width: min(fork.wall for fork in forks) for width, forks in apart.items()}
    serial = {width: sum(attempt.serial for attempt in fork.attempts) for width, fork in best.items()}
    over = {width: fork.wall / (bases[width] + serial[width]) for width, fork in best.items()}
    alone = counted[1].requests
    yield Row("time", [seconds(fork.wall) for fork in best.values()])
    yield Row("on branches of their own", [seconds(base) for base in bases.values()])
    yield Row("publications in turn", [seconds(value) for value in serial.values()])
    yield Row(
        "time over both together", [f"{value:.2f} x" for value in over.values()], under(1.5, over[8], "8 within 1.5")
    )
    yield Row("time over alone", [ratio(fork.wall, best[1].wall) for fork in best.values()])
    yield Row("races lost", [str(fork.lost) for fork in best.values()])
    extra = {width: (fork.requests - width * alone) / fork.lost if fork.lost else 0 for width, fork in counted.items()}
    yield Row("requests, alone", [str(alone), "", ""])
    yield Row(
        "extra requests for a lost race",
        [f"{value:.1f}" for value in extra.values()],
        at_most(12, max(extra.values()), "at most 12"),
    )
    again = sum(
        attempt.steps.get("StageChanges", 0) - 1
        for forks in timed.values()
        for fork in forks
        for attempt in fork.attempts
    )
    yield Row("uploads that were repeated", [str(again), "", ""], Target("none", again == 0))


def run(settings: LakeFSSettings, scratch: Path, width: int, *, count: bool = False, apart: bool = False) -> Fork:
    """One fork on a repository of its own. `apart`: each attempt has a branch of its own, too."""
    with ExitStack() as stack:
        repository = stack.enter_context(servers.repository(settings))
        ref = _seed(settings, repository, scratch)
        proxy = stack.enter_context(counting(settings.endpoint_url)) if count else None
        branches = [f"apart{number}" if apart else "main" for number in range(width)]
        if apart:
            with closing(LakeFSStore(settings)) as store:
                for branch in branches:
                    store.create_branch(repository, branch, ref)
        used = servers.through(settings, proxy.url) if proxy else settings
        context = multiprocessing.get_context("fork")
        barrier, results = context.Barrier(width), context.SimpleQueue()
        sibling.START[:] = [barrier]
        processes = [
            context.Process(target=_branch, args=(used, scratch, repository, branch, ref, number, results), daemon=True)
            for number, branch in enumerate(branches)
        ]
        start = time.perf_counter()
        for process in processes:
            process.start()
        attempts = [cast("Attempt", results.get()) for _ in processes]
        wall = time.perf_counter() - start
        for process in processes:
            process.join(30)
        requests = proxy.counts.requests if proxy else 0
        return Fork(wall, attempts, requests, list(_wrong(settings, repository, branches, ref, attempts)))


def _branch(
    settings: LakeFSSettings, scratch: Path, repository: str, branch: str, ref: str, number: int, results: Any
) -> None:
    block = {"repository": repository, "branch": branch, "ref_type": "commit", "ref": ref}
    paths = [f"part{number:02}/{index:03}" for index in range(CHANGED)]
    delivery = Delivery(
        task_id=f"{repository}-{number}",
        poll_count=1,
        start_time=1000,
        task_name=TASK.name,
        workflow_id=repository,
        workflow_name="",
        reference_name=f"branch{number}",
        iteration=0,
        retry_count=0,
        retried_task_id=None,
        retried=False,
        retry_output=None,
        input={"workspace": block, "params": {"paths": paths}},
        input_is_too_deep=False,
        external_input=False,
        response_timeout_seconds=600,
        timeout_seconds=0,
        spent_seconds=0,
        waited_seconds=0,
        trace=None,
    )
    clock = SystemClock()
    proofs = FenceProofs(clock)
    proofs.note(repository, enforced=True)
    with closing(LakeFSStore(settings, threads=4)) as store:
        start = time.perf_counter()
        runtime = AttemptRuntime(
            store=store, delivery_check=Living(), workspace_root=scratch, clock=clock, proofs=proofs
        )
        record = run_attempt(TASK, delivery, runtime)
        wall = time.perf_counter() - start
    steps: dict[str, int] = {}
    for step in record.steps:
        steps[step.name] = steps.get(step.name, 0) + 1
    names = [step.name for step in record.steps]
    has_published = "ReadPublication" in names
    in_turn = record.steps[names.index("AwaitTurn") + 1 : names.index("ReadPublication")] if has_published else ()
    report = record.report
    results.put(
        Attempt(
            report.status.value if report else "lost",
            str(report.reason if report else record.lost_reason),
            wall,
            steps,
            sum(step.seconds for step in in_turn),
            record.published_commit or "",
        )
    )


def _seed(settings: LakeFSSettings, repository: str, scratch: Path) -> str:
    file = scratch / "seed"
    keys = [f"part{number:02}/{index:03}" for number in range(FILES // CHANGED) for index in range(CHANGED)]
    file.write_bytes(b"0" * SIZE)
    digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    servers.commit_files(settings, repository, [Upload(key, file, SIZE, digest) for key in keys])
    with closing(LakeFSStore(settings)) as store:
        return install_fence(store, repository, "main").head


def _wrong(
    settings: LakeFSSettings, repository: str, branches: Sequence[str], ref: str, attempts: Sequence[Attempt]
) -> Iterator[str]:
    yield from (attempt.reason for attempt in attempts if attempt.status != TaskStatus.COMPLETED)
    with closing(LakeFSStore(settings)) as store:
        histories = [store.history(repository, branch, until=ref, limit=1000) for branch in dict.fromkeys(branches)]
        history: list[Commit] = [commit for found in histories for commit in found]
        ids = [commit.id for commit in history]
        if sorted(ids) != sorted(attempt.commit for attempt in attempts):
            yield "the history is not what the branches of the fork have reported"
        for commit in history:
            changed = store.diff(repository, commit.parents[0], commit.id)
            number = commit.metadata["perago.reference_name"].removeprefix("branch")
            if set(changed) != {f"part{int(number):02}/{index:03}" for index in range(CHANGED)}:
                yield f"{commit.id} has changed {sorted(changed)}"


if __name__ == "__main__":
    main()
