"""Several workers of one deployment, and what can be done to their processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
import time

import psutil

from .commands import Worker
from .deploying import Deployment
from .waiting import wait_for

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

    def kill_slot(self) -> str:
        """The sudden end of a slot, whatever it does."""
        return self._to_slot(signal.SIGKILL)

    def stop_slot(self) -> str:
        """A slot stands still for a while."""
        return self._to_slot(signal.SIGSTOP)

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

    def _to_slot(self, number: signal.Signals) -> str:
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
