"""The hosts of a simulation: real supervisors, whose slots are threads that take turns instead of processes."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from benchmarks.simulated.servers import ConductorLine, LakeFSLine
from benchmarks.simulated.turns import Turn, Turns
from perago.authoring import Task
from perago.driver import AttemptRecord, AttemptRuntime, FunctionCaller, Limits, run_attempt
from perago.driver.fencing import FenceProofs
from perago.driver.publisher import TURN_SECONDS
from perago.ports import Clock, Delivery, Unavailable, WorkflowRow
from perago.worker.channel import (
    Cancel,
    Deliver,
    DeliveryAnswer,
    DeliveryQuestion,
    Finished,
    FromSlot,
    Ready,
    Stop,
    ToSlot,
)
from perago.worker.plan import LogPlan, TaskPlan, WorkerPlan
from perago.worker.supervisor import Supervisor

SLOT_START = 0.3
"""Seconds until a new slot has imported its task module."""


@dataclass(frozen=True)
class Setup:
    """The parts that all hosts of a simulation share."""

    turns: Turns
    conductor: ConductorLine
    lakefs: LakeFSLine
    tasks: dict[str, Task]
    run: FunctionCaller
    """Called for the function of every task."""
    ended: Callable[[WorkerPlan, AttemptRecord], object]
    """Called with every attempt before its report."""


class SlotThread:
    """Takes the place of `perago.worker.processes.SlotProcess`."""

    def __init__(self, setup: Setup, plan: WorkerPlan, worker_id: str, on_message: Callable[[FromSlot], None]) -> None:
        self.pid = 0
        self.exit: asyncio.Future[None] = setup.turns.loop.create_future()
        self._setup, self._plan, self._worker_id, self._on_message = setup, plan, worker_id, on_message
        self._task = setup.tasks[plan.tasks[0].name]
        self._proofs = FenceProofs(setup.turns)
        self._turn: Turn | None = None
        self._closed = False
        self._numbers = itertools.count(1)
        self._asking: dict[int, Turn] = {}
        self._answers: dict[int, DeliveryAnswer] = {}
        setup.turns.loop.call_later(SLOT_START, self._say, Ready())

    async def ended(self) -> str:
        """Wait for the end, and return its description."""
        await self.exit
        return "killed"

    def send(self, message: ToSlot) -> bool:
        """Handle a message of the supervisor."""
        match message:
            case Deliver(delivery):
                self._turn = self._setup.turns.start(lambda: self._attempt(delivery))
            case DeliveryAnswer():
                self._answered(message)
            case Cancel():
                self._closed = True
            case Stop():
                self.kill()
        return True

    def terminate(self, grace: float) -> None:
        """End after `grace` seconds."""
        self._setup.turns.loop.call_later(grace, self.kill)

    def kill(self) -> None:
        """End now."""
        if not self.exit.done():
            self.exit.set_result(None)
            if self._turn is not None:
                self._turn.kill()

    def _say(self, message: FromSlot) -> None:
        """For the loop."""
        if not self.exit.done():
            self._on_message(message)

    def _attempt(self, delivery: Delivery) -> None:
        setup = self._setup
        runtime = AttemptRuntime(
            store=setup.lakefs,
            delivery_check=self,
            workspace_root=self._plan.workspace_root,
            clock=setup.turns,
            limits=self._plan.limits,
            call=setup.run,
            worker_id=self._worker_id,
            proofs=self._proofs,
        )
        record = run_attempt(self._task, delivery, runtime)
        setup.ended(self._plan, record)
        self._turn = None
        finished = Finished(
            delivery.identity,
            record.report,
            lost_reason=record.lost_reason,
            published_commit=record.published_commit,
            fence=record.fence,
        )
        setup.turns.loop.call_soon(self._say, finished)

    # ------------------------------------------------------------------ the delivery check

    def is_current(self, delivery: Delivery) -> bool:
        """Ask the supervisor."""
        return self._ask(delivery, None).current

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:
        """Ask the supervisor for a workflow."""
        answer = self._ask(delivery, workflow_id)
        if not answer.current:
            raise Unavailable("Conductor", f"read {workflow_id}", "the delivery that asked is lost")
        return answer.row

    def _ask(self, delivery: Delivery, read: str | None) -> DeliveryAnswer:
        if self._closed:
            return DeliveryAnswer(0)
        turns, number = self._setup.turns, next(self._numbers)
        self._asking[number] = turns.mine
        turns.loop.call_soon(self._say, DeliveryQuestion(number, delivery.identity, read))
        turns.mine.wait()
        answer = self._answers.pop(number)
        if answer.error is not None:
            raise answer.error
        return answer

    def _answered(self, answer: DeliveryAnswer) -> None:
        turn = self._asking.pop(answer.number, None)
        if turn is not None and not self.exit.done():
            self._answers[answer.number] = answer
            turn.move()


class Pool:
    """Takes the place of `perago.worker.host.Pool`."""

    def __init__(self, turns: Turns, threads: int) -> None:
        self.threads = threads
        self._turns = turns

    async def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function in a thread of the simulation. A canceled wait does not cancel the call."""
        return await asyncio.shield(self._turns.run(function, *args, **options))


class Polls(Pool):
    """The pool for requests for work, which `ConductorLine` answers without a thread."""

    async def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Await the function."""
        return await function(*args, **options)


class Pools:
    """Takes the place of `perago.worker.host.Pools`, with enough threads for everything."""

    def __init__(self, turns: Turns, slots: int) -> None:
        self.polls = Polls(turns, 2 * slots + 2)
        self.questions = self.reports = self.processes = self.maintenance = self.host = Pool(turns, 2 * slots + 2)

    def close(self) -> None:
        """Nothing to close."""


class HostTurns:
    """Takes the place of `perago.driver.publisher.HostTurn`, whose lock is per process: all hosts share this one."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.holders: dict[tuple[Path, str], HostTurn] = {}
        self.queues: dict[tuple[Path, str], deque[HostTurn]] = defaultdict(deque)

    def __call__(self, root: Path) -> HostTurn:
        return HostTurn(self, self._turns, root)


class HostTurn:
    """The turn of one attempt."""

    def __init__(self, host_turns: HostTurns, turns: Turns, root: Path) -> None:
        self._all, self._turns, self._root = host_turns, turns, root
        self._place: tuple[Path, str] | None = None
        self._waiting: Turn | None = None

    def take(self, branch: str, clock: Clock) -> None:  # noqa: ARG002 - as the real one
        """Wait for the turn, at most `TURN_SECONDS`."""
        place = self._root, branch
        if place in self._all.holders and not self._wait_in(self._all.queues[place]):
            return
        self._all.holders[place], self._place = self, place

    def _wait_in(self, queue: deque[HostTurn]) -> bool:
        self._waiting = self._turns.mine
        timer = self._turns.loop.call_later(TURN_SECONDS, self.wake)
        queue.append(self)
        try:
            self._waiting.wait()
        finally:
            timer.cancel()
            self._waiting = None
            is_mine = self not in queue
            if not is_mine:
                queue.remove(self)
        return is_mine

    def end(self) -> None:
        """Pass the turn to the next attempt in the queue."""
        place, self._place = self._place, None
        if place is None:
            return
        if self._all.queues[place]:
            following = self._all.holders[place] = self._all.queues[place].popleft()
            self._turns.loop.call_soon(following.wake)
        else:
            del self._all.holders[place]

    def wake(self) -> None:
        """End the wait."""
        if self._waiting is not None:
            self._waiting.move()


@contextmanager
def virtual_workers(setup: Setup) -> Iterator[None]:
    """Keep the time, slots and threads of supervisors within the simulation during the block. Generated names follow
    from the seed of `random`."""
    turns = setup.turns
    turns.join()

    async def start(plan: WorkerPlan, worker_id: str, on_message: Callable[[FromSlot], None], _: Pool) -> SlotThread:
        return SlotThread(setup, plan, worker_id, on_message)

    replaced: dict[str, Any] = {
        "time.monotonic": turns.monotonic,
        "secrets.token_hex": lambda size: f"{random.getrandbits(8 * size):0{2 * size}x}",
        "perago.worker.slots.SlotProcess": SimpleNamespace(start=start),
        "perago.worker.supervisor.Pools": lambda slots: Pools(turns, slots),
        "perago.driver.publisher.HostTurn": HostTurns(turns),
    }
    with ExitStack() as stack:
        for name, replacement in replaced.items():
            stack.enter_context(patch(name, replacement))
        yield


def supervisor(setup: Setup, number: int, root: Path, slots: int) -> Supervisor:
    """Return the supervisor of host `number`, for all tasks."""
    root = root / f"host{number:03}"
    root.mkdir()
    plan = WorkerPlan(
        name=f"host{number:03}",
        tasks=tuple(TaskPlan(module="benchmarks.simulated.work", name=name) for name in setup.tasks),
        worker_prefix=f"host{number:03}x",
        workspace_root=root,
        logs=LogPlan(root=root / "logs", files=False),
        slots=slots,
        limits=Limits(),
        maintenance=frozenset(),
    )
    return Supervisor(plan, setup.conductor, clock=setup.turns)  # type: ignore[arg-type] # it passes everything on
