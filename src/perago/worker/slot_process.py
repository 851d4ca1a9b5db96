"""Inside a slot process: one delivery at a time, from the pipe through the driver and back.

The main thread runs attempts, as author's code can expect. Another thread listens to the supervisor. The slot leads its
own session and process group, so that everything that an attempt starts can be ended with it. If the supervisor has
ended (its end of the pipe is closed), the attempt is lost: the delivery check says "no", the function is interrupted,
and after the grace the complete group is killed, including this process.

A function that forks and returns in both processes would run the rest of the attempt twice. So a forked child loses the
pipe immediately, and ends when the function returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from pydantic import BaseModel

from perago.attempt.outcome import fitted
from perago.authoring import Task
from perago.authoring.context import Current, with_hooks
from perago.authoring.task import withheld
from perago.driver import (
    AttemptRecord,
    AttemptRuntime,
    Interrupted,
    Raised,
    Returned,
    SystemClock,
    call_function,
    run_attempt,
)
from perago.driver.fencing import FenceProofs
from perago.driver.runtime import CleanUp, KnownRoots
from perago.guardrails.evaluation import Finding
from perago.hanging import HANGS
from perago.ports import Delivery, Report, StoreNotes, TaskStatus, Unavailable, WorkflowRow, WorkspaceStore
from perago.processes import (
    ENDING,
    Process,
    adopt_orphans,
    descendants,
    end_processes,
    release_signals,
    running_processes,
)
from perago.retry import REPEATS
from perago.taskdef import load_task
from perago.text import listing
from perago.worker import channel
from perago.worker.attempt_log import (
    SENTENCE_BYTES,
    TRACEBACK_BYTES,
    AttemptLog,
    LineBudget,
    OutputPipe,
    cut,
    flush_streams,
    logging_to,
)
from perago.worker.events import MOST_VERDICTS, JudgedRule, Logged, Usage
from perago.worker.logs import JsonLog, workspace_fields
from perago.worker.plan import SERVICE_MANAGER, WorkerPlan, located

REASON_BYTES = 1000
"""The largest size of a slot's message about itself."""
_THREADS = 3
VERDICT_BYTES = 500
"""The largest size of the rule and of the message of a guardrail's verdict."""


def slot_main(plan: WorkerPlan, worker_id: str, connection: Connection) -> None:
    """Run a slot process. `plan` has one task, the slot's."""
    os.setsid()
    for name in SERVICE_MANAGER:
        os.environ.pop(name, None)
    for name in withheld(tuple(os.environ)):  # a fork server or a parent that has not withheld them itself
        del os.environ[name]
    os.environ["PERAGO_WORKER_ID"] = worker_id
    adopt_orphans()
    _release_fork_server()
    pipe = channel.SlotChannel(connection)
    os.set_inheritable(connection.fileno(), False)  # not for what the function starts
    os.register_at_fork(after_in_child=pipe.close)
    logging.getLogger().setLevel(logging.INFO)  # before the task module, which may decide otherwise
    if "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = functools.partial(_no_breakpoint, plan.tasks[0].module)
    try:
        _SlotMain(plan, worker_id, pipe).run()
    except channel.ChannelError:
        os.killpg(os.getpid(), signal.SIGKILL)


def _release_fork_server() -> None:
    """The fork server ends when it reads anything from the pipe that shows that it is needed. A function can write to
    every descriptor of its process, so that descriptor must not be one of them."""
    server = getattr(forkserver, "_forkserver", None)
    descriptor = getattr(server, "_forkserver_alive_fd", None)
    if server is not None and descriptor is not None:
        os.close(descriptor)
        server._forkserver_alive_fd = None


def _no_breakpoint(module: str, *_: object, **__: object) -> None:
    raise RuntimeError(f"breakpoint() in a worker process, which has no terminal; use: perago run --pdb {module}")


class _SlotMain:
    def __init__(self, plan: WorkerPlan, worker_id: str, pipe: channel.SlotChannel) -> None:
        def forward(line: dict[str, Any]) -> None:
            pipe.send(Logged(worker_id, line))

        self._plan = plan
        (self._planned,) = plan.tasks
        self._worker_id = worker_id
        self._pipe = pipe
        self._pid = os.getpid()
        self._log = JsonLog(plan, worker_id, forward if plan.logs.forward else lambda _: None)
        self._budget = LineBudget()
        self._delivery_check = PipeDeliveryCheck(pipe)
        self._proofs, self._roots = FenceProofs(SystemClock()), KnownRoots()
        self._cancellation = Cancellation()
        self._output = OutputPipe(plan.mask)
        self._inbox: SimpleQueue[channel.Deliver | channel.Stop] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._unfit: str | None = None
        self._current: AttemptLog | None = None
        self._clean_ups: list[CleanUp] = []
        self._has_published = False
        """Whether the last attempt has."""
        self._threads: ThreadPoolExecutor | None = None
        """Help the main thread with a workspace."""
        self._cleaning: list[Future[None]] = []
        self._sending = threading.Lock()
        """Held while a message about the current attempt is sent. None is sent once the attempt has finished."""

    def run(self) -> None:
        """Get ready, then run deliveries until `Stop` arrives.

        Raises:
            ChannelError: the supervisor has ended.
        """
        self._cancellation.install()
        REPEATS.listener = lambda service, waits: self._log_to_attempt(lambda log: log.repeating(service, waits=waits))
        threading.Thread(target=self._listen, name="perago-supervisor", daemon=True).start()
        try:
            with self._output.capture(lambda line: self._log.write("INFO", line, source="start")):
                task = self._load()
                os.environ.update(self._planned.environment)
                store = self._open_store(task)
                self._threads = ThreadPoolExecutor(_THREADS, "perago-helper") if store is not None else None
        except BaseException as error:  # noqa: BLE001 - a module may raise SystemExit, too
            self._log.write("ERROR", cut(traceback.format_exc(), TRACEBACK_BYTES), source="start")
            self._pipe.send_now(
                channel.StartFailed(cut(self._plan.mask(f"{type(error).__name__}: {error}"), REASON_BYTES))
            )
            return
        HANGS.report_to(lambda text, is_over: self._log_to_attempt(lambda log: log.waiting(text, is_over)))
        self._pipe.send(channel.Ready())
        while isinstance(message := self._inbox.get(), channel.Deliver):
            finished = self._attempt(task, store, message.delivery)
            with self._sending:
                self._current = None
            self._idle.set()
            self._pipe.send_now(finished)
            self._begin_clean_up()
        if self._threads is not None:
            self._threads.shutdown()
        if store is not None:
            store.close()
        self._log.close()

    def _begin_clean_up(self) -> None:
        """Remove what no publication needs, while the supervisor reports and polls."""
        self._cleaning = [cleaning for cleaning in self._cleaning if not cleaning.done()]
        if self._threads is None:
            self._clean_up()
        elif self._clean_ups:
            try:
                self._cleaning.append(self._threads.submit(self._clean_up))
            except RuntimeError:  # no thread can be started
                self._clean_up()

    def _finish_clean_up(self) -> None:
        """Remove the rest, because the process is about to be ended."""
        self._clean_up()
        wait(self._cleaning, CLEAN_UP_LIMIT)

    def _clean_up(self) -> None:
        while True:
            try:
                clean_up = self._clean_ups.pop(0)
            except IndexError:  # another thread may have taken the last one
                return
            try:
                problem = clean_up()
            except Exception as error:  # noqa: BLE001 - a defect of perago must not cost the slot
                problem = f"{type(error).__name__}: {error}"
            if problem is not None:
                self._log.write("WARNING", f"perago could not clean up after an attempt. {problem}")

    def _log_to_attempt(self, write: Callable[[AttemptLog], None]) -> None:
        """Send a message about the current attempt, if there is one."""
        with self._sending:
            if self._current is not None:
                write(self._current)

    def _load(self) -> Task:
        """Load the task. Its module may have been edited since the start of the worker, which polls with the former
        name."""
        module, name = self._planned.module, self._planned.name
        task = load_task(module)
        if task.name != name:
            raise ValueError(f"{module} declares {task.name} now, not {name}; restart the worker")
        return task

    def _open_store(self, task: Task) -> WorkspaceStore | None:
        if task.workspace is None:
            return None
        if self._planned.store_factory is None:
            raise ValueError(f"task {task.name} has a workspace, but no lakeFS is configured")
        return self._planned.store_factory()

    # --------------------------------------------------------------------- one attempt

    def _attempt(self, task: Task, store: WorkspaceStore | None, delivery: Delivery) -> channel.Finished:
        attempt_log = self._current = AttemptLog(
            self._plan, self._worker_id, self._log, delivery, self._budget, self._pipe, self._output.catch_up
        )
        self._unfit = None

        def call(task: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
            with self._cancellation.interrupting():  # a clean-up that hangs harms no function, not even one that forks
                wait(self._cleaning, CLEAN_UP_LIMIT)
            self._pipe.send_now(channel.Calling(delivery.identity))  # the function can keep back what has not been sent
            return self._call(attempt_log, task, workspace, params, current)

        try:
            record = run_attempt(
                task,
                delivery,
                AttemptRuntime(
                    store=store,
                    delivery_check=self._delivery_check,
                    workspace_root=self._plan.workspace_root,
                    clock=SystemClock(),
                    limits=self._plan.limits,
                    call=call,
                    observer=attempt_log,
                    worker_id=self._worker_id,
                    worker=located(self._worker_id),
                    interruptible=self._cancellation.interrupting,
                    store_notes=getattr(store, "take_notes", StoreNotes),  # the one that speaks to lakeFS has some
                    is_likely_to_publish=self._has_published,
                    proofs=self._proofs,
                    roots=self._roots,
                    around_guardrails=lambda: self._around_guardrails(attempt_log),
                    later=self._clean_ups.append,
                    threads=self._threads,
                ),
            )
        except BaseException as error:  # noqa: BLE001 - a defect of perago must not cost the slot
            attempt_log.traceback(traceback.format_exc())
            self._finish_clean_up()
            reason = fitted(self._plan.mask(f"perago failed: {type(error).__name__}: {error}"))
            report = Report(TaskStatus.FAILED, reason=reason)
            return channel.Finished(delivery.identity, report, log_chunks=attempt_log.finish(), unfit=reason)
        finally:
            self._delivery_check.end(delivery)
        self._has_published = record.published_commit not in (None, record.input_ref)
        if self._unfit is not None or record.report is None or self._cancellation.announced():
            self._finish_clean_up()
        return self._finished(record, attempt_log)

    def _finished(self, record: AttemptRecord, attempt_log: AttemptLog) -> channel.Finished:
        mask, report = self._plan.mask, record.report
        if report is not None and report.reason is not None:
            report = dataclasses.replace(report, reason=mask(report.reason))
        record = dataclasses.replace(record, report=report, notes=tuple(map(mask, record.notes)))
        for note in record.notes:
            attempt_log.note("WARNING", note)
        log_chunks = attempt_log.finish()[: channel.MOST_CHUNKS]
        attempt_log.recorded(record)
        steps, changes = tuple((step.name, step.seconds) for step in record.steps), record.changes
        first, last = channel.MOST_STEPS // 2, len(steps) - channel.MOST_STEPS // 2
        status = record.report.status.value if record.report else "LOST"
        level, took = "INFO", {name: round(seconds, 4) for name, seconds in steps}
        if status == TaskStatus.FAILED_WITH_TERMINAL_ERROR:
            level = "ERROR"
        fields = {"status": status, "steps": took, **workspace_fields(record)}
        attempt_log.note(level, f"attempt over: {status.lower()}", **fields)
        return channel.Finished(
            record.delivery.identity,
            record.report,
            lost_reason=record.lost_reason,
            published_commit=record.published_commit,
            fence=record.fence,
            remarks=tuple(cut(remark, SENTENCE_BYTES) for remark in record.remarks[: channel.MOST_REMARKS]),
            steps=steps if len(steps) <= channel.MOST_STEPS else steps[:first] + steps[last:],
            usage=Usage(
                record.objects,
                record.from_cache,
                attempt_log.meter.total("download"),
                attempt_log.meter.total("upload"),
                record.fence_refusals,
                record.metrics,
                sum(map(len, (changes.added, changes.changed, changes.removed))),
                sum(file.size for file in (*changes.added, *changes.changed)),
                record.input_ref,
                tuple(self._judged(finding) for finding in record.findings[:MOST_VERDICTS]),
                record.failed_step,
                cut(record.error_type, SENTENCE_BYTES),
                record.cache_damaged,
            ),
            log_chunks=log_chunks,
            hand_back=record.hand_back,
            unfit=self._unfit,
        )

    def _judged(self, finding: Finding) -> JudgedRule:
        rule, message = (cut(self._plan.mask(text), VERDICT_BYTES) for text in (finding.rule or "", finding.message))
        return JudgedRule(finding.phase, rule, finding.satisfied, message)

    def _call(
        self, attempt_log: AttemptLog, task: Task, workspace: Path | None, params: BaseModel, current: Current
    ) -> Returned | Raised:
        """Call the function with its output captured, and end everything that it leaves running."""
        current = with_hooks(current, is_cancelled=self._cancellation.announced)
        threads, lasting = set(threading.enumerate()), list[str]()
        with self._output.capture(attempt_log.output), logging_to(attempt_log):
            with self._cancellation.interrupting():
                outcome = call_function(task, workspace, params, current, on_lasting=lasting.append)
            if os.getpid() != self._pid:
                flush_streams()
                os._exit(0)
        left = end_strays(threads)
        if left.description:
            self._unfit = cut(f"the function left {left.description}", REASON_BYTES)
            attempt_log.log(f"perago: {self._unfit}; perago ended them" if not left.alive else f"perago: {self._unfit}")
        elif self._output.clogged:
            self._unfit = "the function's output could not be read to its end"
        elif lasting:
            self._unfit = lasting[0]
        if left.alive and isinstance(outcome, Returned):
            problem = f"The function left {left.description}, which may still write to the workspace."
            outcome = Raised("failed", f"{problem} The function must end them.")
        if isinstance(outcome, Raised) and outcome.kind == "error":
            attempt_log.traceback(outcome.traceback)
        if isinstance(outcome, Raised):  # before the reason is cut, which may cut a secret
            outcome = dataclasses.replace(outcome, message=self._plan.mask(outcome.message))
        return outcome

    @contextlib.contextmanager
    def _around_guardrails(self, attempt_log: AttemptLog) -> Iterator[None]:
        """Run guardrails in the block. Their output belongs to the attempt, they end with it, and they leave no
        process."""
        threads = set(threading.enumerate())
        try:
            with self._output.capture(attempt_log.output), logging_to(attempt_log), self._cancellation.interrupting():
                yield
        finally:
            if left := end_strays(threads).description:
                self._unfit = cut(f"a guardrail left {left}", REASON_BYTES)

    # ------------------------------------------------------------- the listening thread

    def _listen(self) -> None:
        while True:
            try:
                message: channel.ToSlot = self._pipe.receive()
            except channel.ChannelError:
                self._lose_supervisor()
                return
            match message:
                case channel.Deliver():
                    self._idle.clear()
                    self._inbox.put(message)
                case channel.Stop():
                    self._inbox.put(message)
                case channel.DeliveryAnswer():
                    self._delivery_check.answered(message)
                case channel.AskLog():
                    self._log_to_attempt(AttemptLog.send_new_lines)
                case channel.Cancel():
                    self._delivery_check.close()
                    self._cancellation.announce()
                    self._cancellation.insist()

    def _lose_supervisor(self) -> None:
        """Publish nothing from now on. Give a running function the grace period to end. Then end everything."""
        self._delivery_check.close()
        if not self._idle.is_set():
            self._cancellation.announce()
            os.killpg(self._pid, signal.SIGTERM)
            self._cancellation.insist()
            self._idle.wait(self._plan.shutdown_grace)
            end_descendants()
        os.killpg(self._pid, signal.SIGKILL)


SETTLE_SECONDS = 0.1
"""Seconds that an ending thread or process gets."""
KILL_SECONDS = 2.0
"""Seconds that a killed process gets, which it needs on a busy machine."""


@dataclass(frozen=True, slots=True)
class Strays:
    """A description of the threads and processes that the function left; empty if it left nothing. `alive`: some
    processes still run, and may write to the workspace."""

    description: str = ""
    alive: bool = False


def end_strays(threads_before: set[threading.Thread]) -> Strays:
    """Kill the processes that the function left, and name them.

    They are killed before the workspace is read, because they could still write to it. Threads cannot be ended, so the
    process must end with them.
    """
    leftovers = []
    alive = False
    if not _becomes_true(lambda: not _has_children(), SETTLE_SECONDS):
        left = _descendants()
        who = listing([f"{process.name} with pid {process.pid}" for process in left], 5)
        leftovers.append(f"child processes ({who})" if left else "child processes")
        alive = not _becomes_true(_ended, KILL_SECONDS)
    if not _becomes_true(lambda: not _new_threads(threads_before), SETTLE_SECONDS):
        names = ", ".join(sorted(thread.name for thread in _new_threads(threads_before)))
        leftovers.append(f"threads ({names})")
    return Strays(" and ".join(leftovers), alive)


def end_descendants() -> None:
    """Kill every process that descends from this one."""
    end_processes(_descendants)


def _ended() -> bool:
    end_processes(_descendants)
    return not _has_children()


def _descendants() -> list[Process]:
    return descendants(os.getpid(), running_processes())


def _becomes_true(condition: Callable[[], bool], limit: float) -> bool:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def _new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread not in before and thread.is_alive()}


def _has_children() -> bool:
    """Whether a child is alive. Ended children are reaped."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


CLEAN_UP_LIMIT = 5.0
"""Seconds for which a function, or the end of a process, waits for clean-ups."""
ANSWER_LIMIT = 120.0
"""Seconds to wait for an answer. The calls of the supervisor have shorter limits."""


class PipeDeliveryCheck:
    """A `DeliveryCheck`. Once it is closed, no delivery is current."""

    def __init__(self, pipe: channel.SlotChannel) -> None:
        self._pipe = pipe
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False
        self._ended: tuple[str, int, int] | None = None
        """The identity of the last delivery whose attempt has ended."""
        self._waiting: dict[int, Future[channel.DeliveryAnswer]] = {}

    def is_current(self, delivery: Delivery) -> bool:
        """Ask, and wait for the answer.

        Raises:
            ServiceError: as Conductor's adapter raised it, or `Unavailable` when no answer came in time.
        """
        return self._ask(delivery, None).current

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:
        """Ask for a workflow, on behalf of the current delivery.

        Raises:
            ServiceError: as `is_current`.
            AttemptCancelled: the current delivery is lost, so the workflow was not read.
        """
        answer = self._ask(delivery, workflow_id)
        if not answer.current:
            raise AttemptCancelled
        return answer.row

    def _ask(self, delivery: Delivery, read: str | None) -> channel.DeliveryAnswer:
        number, answer = next(self._numbers), Future[channel.DeliveryAnswer]()
        try:
            with self._lock:
                if self._closed or delivery.identity == self._ended:
                    return channel.DeliveryAnswer(number)
                self._waiting[number] = answer
                self._pipe.send(channel.DeliveryQuestion(number, delivery.identity, read))
            reply = answer.result(ANSWER_LIMIT)
        except channel.ChannelError:
            return channel.DeliveryAnswer(number)  # without a supervisor no attempt may publish
        except FutureTimeoutError:
            raise Unavailable("Conductor", "read the task", f"no answer within {ANSWER_LIMIT:.0f} s") from None
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if reply.error is not None:
            raise reply.error
        return reply

    def answered(self, answer: channel.DeliveryAnswer) -> None:
        """Handle an answer, on the listening thread."""
        with self._lock:
            waiting = self._waiting.pop(answer.number, None)
        if waiting is not None:
            waiting.set_result(answer)

    def end(self, delivery: Delivery) -> None:
        """Answer "no" to all waiting questions and to later ones about a delivery, whose attempt has ended."""
        with self._lock:
            self._ended = delivery.identity
        self._refuse_waiting()

    def close(self) -> None:
        """Answer "no" to all waiting and later questions, because there is no supervisor."""
        with self._lock:
            self._closed = True
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = dict(self._waiting), {}
        for number, future in waiting.items():
            future.set_result(channel.DeliveryAnswer(number, current=False))


# ------------------------------------------------------------- cancellation

SIGNAL_DELAYS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds before each further signal to an attempt that the last signal has not interrupted."""


class AttemptCancelled(Interrupted):
    """Raised inside the author's function, so that its `finally` blocks and context managers still run, and inside a
    transfer or a question, so that nothing more is sent."""


class Cancellation:
    """The cancellation of a slot's attempt. `announce` and `insist` may be called by any thread, the other
    methods by the main thread."""

    def __init__(self) -> None:
        self._announced = threading.Event()
        self._is_interruptible = False
        self._was_interrupted = False

    def install(self) -> None:
        """Handle the signals of this process, which was started with them blocked."""
        for number in ENDING:  # a handler, not SIG_IGN, which the function's child processes would inherit
            signal.signal(number, self._on_signal)
        release_signals()

    def announced(self) -> bool:
        """Whether the attempt has been canceled."""
        return self._announced.is_set()

    def announce(self) -> None:
        """Cancel: interrupt the attempt, now or as soon as it releases the interpreter."""
        self._announced.set()
        self._signal()

    def insist(self) -> None:
        """Signal again, a few times, if the first signal has interrupted nothing, because a signal right before the
        main thread waits in the kernel does not wake it. Outside of `interrupting` this is not needed, because the next
        block raises automatically, and a handler of the function is not called more often."""
        for pause in SIGNAL_DELAYS:
            time.sleep(pause)
            is_ours = signal.getsignal(signal.SIGTERM) == self._on_signal
            if self._was_interrupted or not self._is_interruptible or not is_ours:
                return
            self._signal()

    def _signal(self) -> None:
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """In this block a cancellation raises `AttemptCancelled`: once, and again at the beginning of each later block.
        Outside of such blocks it raises nothing. The process of a canceled attempt is replaced, so it cannot be
        reused."""
        before, self._is_interruptible = self._is_interruptible, True
        try:
            if self._announced.is_set():
                self._was_interrupted = True
                raise AttemptCancelled
            yield
        finally:
            self._is_interruptible = before

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        if self._is_interruptible and self._announced.is_set() and not self._was_interrupted:
            self._was_interrupted = True
            raise AttemptCancelled
