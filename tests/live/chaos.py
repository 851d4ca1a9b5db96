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
from subprocess import TimeoutExpired

import psutil
import pytest

from .commands import Worker, advised, described, perago
from .deploying import Deployment
from .histories import Family
from .proxy import Cut, Proxy
from .repositories import Repository
from .waiting import wait_for
from .workflows import OVER

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
            assert worker.exit_code() == 0, worker.output()
        self._workers.clear()
        environment = self._deployment.environment
        wait_for(
            "the end of every process",
            lambda: not environment.processes(),
            context=lambda: "\n".join(map(described, environment.processes())),
        )

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
    **{f"raw/many/{number:02}.bin": f"{number:02}".encode() * 35_000 for number in range(5)},
}
"""What workflows begin with: enough to be killed in a transfer of it."""
REVIVALS = 12
STALLED_SECONDS = 60.0
"""Longer than Conductor needs to hand out again what it has lost (about 35 seconds)."""
STUCK_SECONDS = 5.0
RESTARTS_OF_A_STUCK_ONE = 2
"""Restarts in a row after which a workflow that always gets stuck is given up: Conductor never schedules one of its
steps again (docs/dev/servers/conductor.md, section 10)."""
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
    rebases: bool
    """Whether its tasks publish beside others. Otherwise somebody else's commits end the workflow."""
    is_line: bool
    """Whether its steps follow one another."""
    outside: list[str] = field(default_factory=list)
    """Commits that somebody else has made to the branch."""
    stuck: int = 0
    """How often in a row the workflow was RUNNING, and nothing but a JOIN was open."""

    @property
    def is_given_up(self) -> bool:
        return self.stuck > RESTARTS_OF_A_STUCK_ONE


class Chaos:
    """One round. `journal` tells what was done, in order."""

    def __init__(
        self, dice: random.Random, deployment: Deployment, fleet: Fleet, proxies: dict[str, Proxy], run: Run
    ) -> None:
        self._dice = dice
        self._deployment = deployment
        self._conductor = deployment.conductor
        self._fleet = fleet
        self._proxies = proxies
        self._run = run
        self._seen: tuple[tuple[str, str], ...] = ()
        self._seen_at = 0.0
        self._began = time.monotonic()
        self.journal: list[str] = []

    def rage(self, seconds: float, *, outside: bool) -> None:
        """Do harm for a while. `outside`: somebody else also commits to the branch."""
        actions: list[Callable[[], str]] = [
            *[lambda: self._fleet.signal_slot(signal.SIGKILL)] * 4,
            *[lambda: self._fleet.signal_slot(signal.SIGSTOP)] * 4,
            self._fleet.kill_supervisor,
            *[self._fleet.stop_supervisor] * 2,
            *[self._fleet.stop_worker] * 3,
            *[self._cut] * 5,
            *[self._outage] * 2,
            *[self._give_away] * 2,
            *[self._end_and_operate] * 4,
            *[self._decide] * 2,
            *([self._commit_outside] * 2 if outside else []),
        ]
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            self._fleet.resume_due()
            self._note(self._dice.choice(actions)())
            time.sleep(self._dice.uniform(0.05, 0.5))

    def operate(self) -> None:
        """An operation on the workflow that has ended: the first that Conductor accepts."""
        assert any(not self._note(self._end_and_operate()).startswith("refused") for _ in range(30)), self.journal

    def recover(self, limit: float) -> Family:
        """Put everything in order and see the workflow through as an operator would. Return it once nothing of it is
        open; unless somebody else's commits stand in its way, it has completed."""
        self._fleet.resume()
        self._fleet.bury()
        for proxy in self._proxies.values():
            proxy.disarm()
            proxy.restore()
        self._fleet.add().ready()
        revivals = iter(range(REVIVALS))
        return wait_for(
            f"the end of workflow {self._run.workflow_id}",
            lambda: self._see_through(revivals),
            limit=limit,
            context=lambda: "\n".join([*self.journal, self._family().described()]),
        )

    # ------------------------------------------------------------------------- recovery

    def _family(self) -> Family:
        return Family(self._conductor, self._run.workflow_id)

    def _see_through(self, revivals: Iterator[int]) -> Family | None:
        family, root_id = self._family(), self._run.workflow_id
        status, is_open = family.root["status"], bool(family.open)
        if not is_open and (status == "COMPLETED" or (self._run.outside and not self._run.rebases and status in OVER)):
            return family
        running = [name for name, workflow in family.workflows.items() if workflow["status"] == "RUNNING"]
        if running and not self._stands_still(family, STALLED_SECONDS if is_open else STUCK_SECONDS):
            for workflow_id in running:
                self._conductor.decide(workflow_id)
            time.sleep(0.3)
            return None
        if next(revivals, None) is None:
            raise AssertionError(f"it fails again and again:\n{family.described()}")
        has_work = any(row["taskType"] != "JOIN" for row in family.open)
        self._run.stuck = self._run.stuck + 1 if running and not has_work else 0
        if self._run.is_given_up:
            self._note(f"given up, because no restart helps: {running}")
            return family
        if running:
            self._note(f"{'stalled' if is_open else 'stuck'}: {running}")
            for workflow_id in [root_id, *running]:
                self._terminate(workflow_id)
            if is_open:
                self._command("undo", root_id, "--wait", "20")
            if status != "COMPLETED":
                self._command(*(["retry", root_id] if is_open else ["rerun", root_id]))
        elif commands := advised(family.reasons):
            for command in commands:
                self._command(*command)
        else:
            self._command(*self._dice.choice([["retry", root_id], ["retry", root_id], ["rerun", root_id]]))
        self._seen = ()
        return None

    def _stands_still(self, family: Family, seconds: float) -> bool:
        """Whether no row has changed its status for so long."""
        seen, now = tuple((row["taskId"], row["status"]) for row in family.rows), time.monotonic()
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now - self._seen_at > seconds

    def _command(self, *arguments: str) -> str:
        """Run a command of operators. If it refuses, do what it says."""
        try:
            done = perago(self._deployment.environment, *arguments)
        except TimeoutExpired:
            return self._note(f"perago {' '.join(arguments)}: no answer")
        said = (done.stdout + done.stderr).strip()
        self._note(f"perago {' '.join(arguments)}: {done.returncode} {said}")
        if done.returncode and (commands := advised(done.stderr)) and commands[0] != arguments[:2]:
            return self._command(*commands[0])
        return said

    def _terminate(self, workflow_id: str) -> None:
        if self._conductor.workflow(workflow_id)["status"] not in OVER:
            self._conductor.terminate(workflow_id)

    def _note(self, text: str) -> str:
        self.journal.append(f"{time.monotonic() - self._began:6.2f} {text}")
        return text

    # ---------------------------------------------------------------------------- actions

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
        held = [row for row in self._family().open if row["status"] == "IN_PROGRESS"]
        for row in held:
            with contextlib.suppress(AssertionError):
                self._conductor.redeliver(row["workflowInstanceId"], row["taskId"])
        return f"gave away {[row['taskId'] for row in held]}"

    def _end_and_operate(self) -> str:
        """One of the ways in which operators begin again; the server may know better meanwhile."""
        self._terminate(self._run.workflow_id)
        family = self._family()
        workflow_id = self._dice.choice(list(family.workflows))
        rows = family.workflows[workflow_id]["tasks"]
        if not rows:
            return f"nothing has begun: {workflow_id}"
        row, call = self._dice.choice(rows), self._conductor
        rerun = f"rerun from {row['referenceTaskName']} {row['taskId']}"
        ways: dict[str, Callable[[], object]] = {
            "retry": lambda: call.retry(workflow_id),
            "restart": lambda: call.restart(workflow_id),
        }
        if len(VERSIONS) == 1 or self._run.is_line:  # the version before cannot undo in a fork
            ways[rerun] = lambda: call.rerun(workflow_id, row["taskId"])
        if len(VERSIONS) == 1:  # nor does it know operations
            ways |= {
                "perago retry": lambda: self._command("retry", workflow_id),
                "perago rerun": lambda: self._command("rerun", workflow_id),
                f"perago {rerun}": lambda: self._command("rerun", workflow_id, "--from", row["taskId"]),
                "perago undo": lambda: self._command("undo", workflow_id, "--wait", "5"),
            }
        way = self._dice.choice(list(ways))
        try:
            ways[way]()
        except AssertionError as error:
            return f"refused: {way} of {workflow_id}: {error}"
        return f"{way}: {workflow_id}"

    def _decide(self) -> str:
        with contextlib.suppress(AssertionError):
            self._conductor.decide(self._run.workflow_id)
        return "decided"

    def _commit_outside(self) -> str:
        name = f"outside/{self._dice.getrandbits(32):08x}.txt"
        with contextlib.suppress(AssertionError):  # the branch moved under it: lakeFS says so, and nothing is committed
            self._run.outside.append(self._run.repository.commit({name: name.encode()}, f"outside {name}"))
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
