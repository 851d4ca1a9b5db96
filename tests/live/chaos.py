"""Everything that can go wrong, at random and at the same time, for the workflows of one round; and their recovery.

The workers of a round are a `Fleet`, whose processes are killed, stopped and continued.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import pytest

from .commands import Worker
from .deploying import Deployment, block
from .proxy import Cut, Proxy
from .repositories import Repository
from .waiting import wait_for
from .workflows import OVER, Conductor, told

VERSIONS = [sys.executable, *filter(None, [os.environ.get("PERAGO_LIVE_BEFORE")])]
"""Interpreters of the workers in turn: with this version and, in `make mixed-versions`, with the one before."""


class Fleet:
    """Workers that come and go. Whatever is stopped is continued at its time, or with `resume`."""

    def __init__(self, deployment: Deployment, dice: random.Random) -> None:
        self._deployment = deployment
        self._dice = dice
        self._workers: list[Worker] = []
        self._stopped: list[tuple[float, psutil.Process]] = []
        self._orphans: list[psutil.Process] = []
        self._versions = itertools.cycle(VERSIONS)

    def add(self) -> Worker:
        """Start a worker with two slots without waiting for it; it waits itself for servers that are away just then."""
        worker = self._deployment.starting("-j", "2", "--wait", python=next(self._versions))
        self._workers.append(worker)
        return worker

    def kill_supervisor(self) -> str:
        """The sudden end of a worker; another one takes its place."""
        worker = self._dice.choice(self._workers)
        self._workers.remove(worker)
        self._orphans += worker.slots()
        worker.signal(signal.SIGKILL)
        self.add()
        return f"killed supervisor {worker.pid}"

    def stop_supervisor(self) -> str:
        """A supervisor stands still for a while, so nobody answers its slots and no lease is extended."""
        process = psutil.Process(self._dice.choice(self._workers).pid)
        return self._send(process, signal.SIGSTOP)

    def stop_worker(self) -> str:
        """A whole worker stands still for a while, as its machine may: nobody in it can notice."""
        supervisor = psutil.Process(self._dice.choice(self._workers).pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = [supervisor, *supervisor.children(recursive=True)]
            seconds = self._dice.uniform(0.2, 5.0)
            for process in processes:
                self._stop(process, seconds)
            return f"stopped all {len(processes)} processes of {supervisor.pid} for {seconds:.1f} s"
        return f"worker {supervisor.pid} is gone"

    def resume_due(self) -> None:
        """Continue what has stood still long enough."""
        now = time.monotonic()
        for entry in [entry for entry in self._stopped if entry[0] <= now]:
            self._continue(entry)

    def resume(self) -> None:
        """Continue everything."""
        for entry in list(self._stopped):
            self._continue(entry)

    def bury(self) -> None:
        """Wait until the slots of killed supervisors have ended, so that the next worker finds what they left."""
        wait_for("the end of orphaned slots", lambda: not any(map(_is_alive, self._orphans)))
        self._orphans.clear()

    def retire(self) -> None:
        """End all workers as an operator does; nothing of them may be left."""
        for worker in self._workers:
            worker.ready().signal(signal.SIGTERM)
        for worker in self._workers:
            assert worker.exit_code() == 0, worker.said()
        self._workers.clear()
        environment = self._deployment.environment
        wait_for("the end of every process", lambda: not environment.processes())

    def signal_slot(self, number: signal.Signals) -> str:
        """The sudden end of a slot, whatever it does, or a stop for a while."""
        # Before it is ready, a worker imports its module in such a process; if that is killed, it ends with a message.
        ready = [worker for worker in self._workers if worker.has_line(r"^ready: ")]
        slots = [slot for worker in ready for slot in worker.slots()]
        return self._send(self._dice.choice(slots), number) if slots else "no slot is there"

    def _send(self, process: psutil.Process, number: signal.Signals) -> str:
        seconds = self._dice.uniform(0.2, 5.0)
        if number is signal.SIGSTOP:
            self._stop(process, seconds)
            return f"stopped {process.pid} for {seconds:.1f} s"
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        return f"sent {number.name} to {process.pid}"

    def _stop(self, process: psutil.Process, seconds: float) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
            self._stopped.append((time.monotonic() + seconds, process))

    def _continue(self, entry: tuple[float, psutil.Process]) -> None:
        self._stopped.remove(entry)
        with contextlib.suppress(psutil.NoSuchProcess):
            entry[1].resume()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


CALLS = {
    "lakefs": (
        "GET .*/branches/main ",
        "GET .*/objects",
        "POST .*/branches ",
        "POST .*/objects",
        "POST .*/commits",
        "POST .*/merge/",
        "POST .*/revert",
        "GET .*/commits/",
        "GET .*/diff",
        "DELETE .*/branches/",
    ),
    "store": ("GET ", "PUT "),
    "conductor": ("GET /api/tasks/[0-9a-f-]{36} ", "POST /api/tasks "),
}
LARGE = 1_500_000
"""Bytes of a file that goes to the block store by a signed address, where lakeFS gives one."""
SEED = {
    "raw/a.txt": b"a",
    "raw/b.txt": b"b",
    "raw/large.bin": bytes(LARGE),
    **{f"raw/many/{number:02}.bin": f"{number:02}".encode() * 35_000 for number in range(25)},
}
"""What workflows begin with: enough to be killed in a transfer of it."""
REVIVALS = 12
RAGE_SECONDS = 6.0
RECOVERY_SECONDS = 200.0
CHAOTIC = [
    pytest.mark.live,
    # The embedded lakeFS is in this process. A client that is killed in mid-request leaves it a connection to collect.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Marks of a module with rounds of chaos."""


@dataclass(slots=True)
class Run:
    """One workflow on a branch of its own."""

    workflow_id: str
    repository: Repository
    ref: str
    outside: list[str] = field(default_factory=list)
    """Commits that somebody else has made to the branch."""


class Chaos:
    """One round. `journal` tells what was done, in order.

    `forked`: the steps are branches of a fork that rebase, so commits of others end no workflow. None is rerun alone:
    Conductor then forgets the rows of the branches behind it, and its JOIN waits for them for ever.
    """

    def __init__(
        self,
        dice: random.Random,
        conductor: Conductor,
        fleet: Fleet,
        proxies: dict[str, Proxy],
        runs: list[Run],
        *,
        forked: bool = False,
    ) -> None:
        self._dice = dice
        self._conductor = conductor
        self._fleet = fleet
        self._proxies = proxies
        self._runs = runs
        self._forked = forked
        self.journal: list[str] = []

    def rage(self, seconds: float, *, outside: bool) -> None:
        """Do harm for a while. `outside`: somebody else also commits to the branches."""
        deeds: list[Callable[[], str]] = [
            *[lambda: self._fleet.signal_slot(signal.SIGKILL)] * 4,
            *[lambda: self._fleet.signal_slot(signal.SIGSTOP)] * 4,
            self._fleet.kill_supervisor,
            *[self._fleet.stop_supervisor] * 2,
            *[self._fleet.stop_worker] * 3,
            *[self._cut] * 5,
            *[self._outage] * 2,
            *[self._give_away] * 2,
            *[self._end_and_begin_again] * 2,
            *[self._decide] * 2,
            *([self._commit_outside] * 2 if outside else []),
        ]
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            self._fleet.resume_due()
            deed = self._dice.choice(deeds)()
            self.journal.append(f"{now:5.2f} {deed}")
            time.sleep(self._dice.uniform(0.05, 0.5))

    def recover(self, limit: float) -> None:
        """Put everything in order and see the workflows through: as an operator would, who retries what has failed,
        unless somebody else's commits stand in the way."""
        self._fleet.resume()
        self._fleet.bury()
        for proxy in self._proxies.values():
            proxy.disarm()
            proxy.restore()
        self._fleet.add().ready()
        for run in self._runs:
            revivals = iter(range(REVIVALS))
            wait_for(
                f"the end of workflow {run.workflow_id}",
                lambda run=run, revivals=revivals: self._see_through(run, revivals),  # type: ignore[misc]
                limit=limit,
                context=lambda run=run: told(self._conductor.workflow(run.workflow_id)),  # type: ignore[misc]
            )

    def _see_through(self, run: Run, revivals: Iterator[int]) -> bool:
        found = self._conductor.workflow(run.workflow_id)
        if found["status"] == "COMPLETED":
            return True
        if found["status"] == "RUNNING":
            self._conductor.decide(run.workflow_id)
            return False
        if run.outside and found["status"] == "FAILED" and not self._forked:
            return True
        if next(revivals, None) is None:
            raise AssertionError(f"it fails again and again: {told(found)}")
        self._revive(run)
        return False

    # ---------------------------------------------------------------------------- deeds

    def _cut(self) -> str:
        name = self._dice.choice(list(self._proxies))
        pattern, cut = self._dice.choice(CALLS[name]), self._dice.choice([Cut.REQUEST, Cut.ANSWER])
        self._proxies[name].trap(pattern, cut)
        return f"cut the next {pattern} {cut}"

    def _outage(self) -> str:
        name, seconds = self._dice.choice(list(self._proxies)), self._dice.uniform(0.1, 0.8)
        proxy, is_refusing = self._proxies[name], self._dice.random() < 0.5
        with _away(proxy, refusing=is_refusing):
            time.sleep(seconds)
        return f"{name} {'was away' if is_refusing else 'said nothing'} for {seconds:.1f} s"

    def _give_away(self) -> str:
        run = self._dice.choice(self._runs)
        held = [task for task in self._conductor.tasks(run.workflow_id) if task["status"] == "IN_PROGRESS"]
        for task in held:
            self._conductor.redeliver(run.workflow_id, task["taskId"])
        return f"gave away {[task['taskId'] for task in held]}"

    def _end_and_begin_again(self) -> str:
        run = self._dice.choice(self._runs)
        if self._conductor.workflow(run.workflow_id)["status"] not in OVER:
            self._conductor.terminate(run.workflow_id)
        return self._revive(run)

    def _revive(self, run: Run) -> str:
        """One of the ways in which operators begin again; the server may know better meanwhile."""
        tasks = self._conductor.tasks(run.workflow_id)
        if not tasks:
            return f"nothing has begun: {run.workflow_id}"
        task = self._dice.choice(tasks)
        ways: dict[str, Callable[[], object]] = {
            "retried": lambda: self._conductor.retry(run.workflow_id),
            "restarted": lambda: self._conductor.restart(run.workflow_id),
        }
        if not self._forked:
            named = f"rerun from {task['referenceTaskName']} {task['taskId']}"
            ways[named] = lambda: self._conductor.rerun(run.workflow_id, task["taskId"])
        way = self._dice.choice(list(ways))
        with contextlib.suppress(AssertionError):
            ways[way]()
            return f"{way}: {run.workflow_id}"
        return f"not {way}: {run.workflow_id}"

    def _decide(self) -> str:
        for run in self._runs:
            self._conductor.decide(run.workflow_id)
        return "decided"

    def _commit_outside(self) -> str:
        run, name = self._dice.choice(self._runs), f"outside/{self._dice.getrandbits(32):08x}.txt"
        with contextlib.suppress(AssertionError):  # the branch moved under it: lakeFS says so, and nothing is committed
            run.outside.append(run.repository.commit({name: name.encode()}, f"outside {name}"))
            return f"committed {name}"
        return f"could not commit {name}"


def chaotic(deploy: Callable[..., Deployment], module: str, proxies: dict[str, Proxy]) -> Deployment:
    """Deploy a task whose ways to both servers can be disturbed."""
    return deploy(
        module,
        CONDUCTOR_SERVER_URL=proxies["conductor"].url,
        LAKECTL_SERVER_ENDPOINT_URL=proxies["lakefs"].url,
        LIVE_RESPONSE_SECONDS="3",
        LIVE_RETRIES="5",
    )


def rage_and_recover(
    deployment: Deployment,
    dice: random.Random,
    proxies: dict[str, Proxy],
    runs: list[Run],
    *,
    outside: bool,
    forked: bool = False,
) -> None:
    """Do harm to these workflows for a while with two workers, see the workflows through, and print what was done."""
    fleet = Fleet(deployment, dice)
    for worker in [fleet.add(), fleet.add()]:
        worker.ready()
    chaos = Chaos(dice, deployment.conductor, fleet, proxies, runs, forked=forked)
    chaos.rage(RAGE_SECONDS, outside=outside)
    print("\n".join(chaos.journal))
    chaos.recover(RECOVERY_SECONDS)
    fleet.retire()
    assert deployment.environment.attempt_directories() == []


@contextmanager
def _away(proxy: Proxy, *, refusing: bool) -> Iterator[None]:
    if refusing:
        proxy.refuse()
    else:
        proxy.stall()
    try:
        yield
    finally:
        proxy.restore()


def payload(repository: Repository, ref: str, dice: random.Random) -> dict[str, object]:
    """An input for a chain of steps: each leaves a stamp; one of them changes nothing when it is retried."""
    steps = {
        name: {
            "stamp": f"{name}.stamp",
            "stamp_once": name == "second",
            "padding": dice.choice([0, LARGE]),
            "sleep": dice.uniform(0.0, 0.6),
        }
        for name in STEPS
    }
    return {"workspace": block(repository, ref), **steps}


STEPS = ("first", "second", "third")
