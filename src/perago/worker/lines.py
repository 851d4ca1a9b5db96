"""The supervisor's events as plain text, one line each: for the terminal, and as the message of the JSONL log."""

from __future__ import annotations

from collections.abc import Callable

from perago.ports import Delivery
from perago.worker import events
from perago.worker.events import Event
from perago.workspace.text import count, listing, one_line


def _which(delivery: Delivery) -> str:
    text = f"{delivery.task_name} {delivery.task_id}"
    return f"{text} (retry {delivery.retry_count})" if delivery.retry_count else text


def _ended(event: events.AttemptEnded) -> str:
    what = (event.status or "").lower()
    if event.ending is events.Ending.LOST:
        return f"lost {_which(event.delivery)} after {event.seconds:.2f} s, nothing was sent: {event.reason}"
    if event.ending is events.Ending.UNREPORTED:
        which = f"report {_which(event.delivery)} as {what}" if what else f"hand back {_which(event.delivery)}"
        return f"could not {which}: {event.reason}"
    if event.ending is events.Ending.HANDED_BACK:
        return f"handed back {_which(event.delivery)} after {event.seconds:.2f} s, before its function: {event.reason}"
    text = f"{what} {_which(event.delivery)} in {event.seconds:.2f} s"
    if event.published_commit is not None:
        text += f", workspace at {event.published_commit[:12]}"
    if event.remarks:
        text += f" ({', '.join(event.remarks)})"
    return f"{text}: {event.reason}" if event.reason and not event.completed else text


def _handed_back(event: events.HandedBack) -> str:
    if event.error is None:
        return f"handed back {_which(event.delivery)}"
    return f"could not hand back {_which(event.delivery)}: {event.error}; its response time-out will free it"


def describe(event: Event) -> str:
    """`event` as one line, ids included, without a time. What it quotes cannot make it two, or hide anything."""
    return one_line(_words(event))


def _words(event: Event) -> str:
    match event:
        case events.WorkerReady(module, task_name, worker_id, slots, seconds, shared):
            what = f"{slots} {'slot' if slots == 1 else 'slots'}"
            what = f"up to {what} when there is work" if shared else what
            return f"ready: {task_name} ({module}), {what}, polling as {worker_id}, after {seconds:.2f} s"
        case events.SlotReady(worker_id, pid, task_name):
            return f"{worker_id}: ready for {task_name} (process {pid})"
        case events.SlotStartFailed(worker_id, reason, task_name):
            return f"{worker_id}: cannot start for {task_name}: {reason}"
        case events.SlotDied(worker_id, pid, reason, restart_seconds):
            which = f" (process {pid})" if pid else ""
            return f"{worker_id}: {reason}{which}; restart in {restart_seconds:g} s"
        case events.SlotReplaced(worker_id, pid, reason):
            return f"{worker_id}: process {pid} replaced: {reason}"
        case events.SlotEnded(worker_id, pid, reason):
            return f"{worker_id}: process {pid} ended: {reason}"
        case events.AttemptReceived(delivery, worker_id):
            return f"{worker_id}: received {_which(delivery)}"
        case events.AttemptEnded():
            return f"{event.worker_id}: {_ended(event)}"
        case events.HandedBack():
            return _handed_back(event)
        case events.LeaseDoubtful(delivery, worker_id, reason):
            return f"{worker_id}: no heartbeat of {_which(delivery)} gets through, its delivery is in doubt: {reason}"
        case events.FenceNotEnforced(repository):
            return (
                f"warning: lakeFS does not run the hooks of {repository}, so no publish fence guards it: a late merge "
                "may still appear there. Switch hooks on in the server's configuration (actions.enabled: true)"
            )
        case events.WaitingForLakeFS(worker_id, text):
            return f"{worker_id}: {text}"
        case events.ConductorUnreachable(reason, denied, task_name):
            what = "Conductor rejects the credentials" if denied else "Conductor is unreachable"
            what = f"Conductor refuses polls for {task_name}" if task_name else what
            return f"{what}, trying on: {reason}"
        case events.ConductorBack(seconds, task_name):
            what = f"accepts polls for {task_name}" if task_name else "answers"
            return f"Conductor {what} again after {seconds:.0f} s"
        case events.PollingPaused(reason):
            return f"no further polls until this host can take work: {reason}"
        case events.PollingResumed(seconds):
            return f"polling again after {seconds:.0f} s because this host can take work"
        case events.DirectoriesSwept(paths):
            return f"removed {len(paths)} attempt directories of an earlier worker"
        case events.BranchesSwept(branches):
            return f"removed staging branches of attempts that are over: {', '.join(branches)}"
        case events.BranchSweepFailed(repositories, error):
            return f"could not remove all dead staging branches of {listing(repositories)}: {error}"
        case events.CleanUpFailed(path, error):
            return f"could not remove {path}: {error}"
        case events.CacheFailed(error):
            return f"warning: the cache is not used: {error}"
        case events.CacheTrimmed(objects):
            return f"deleted from the cache to keep to its limit: {count(objects, 'object')}"
        case events.LogsTrimmed(files):
            return f"removed old logs: {count(files, 'file')}"
        case events.Draining(running):
            return f"stopping: no further polls, {running} running; signal again to cancel"
        case events.Cancelling(signal, running):
            return f"{signal} again: cancelling {running} running; a third signal kills"
        case events.Stopped(exit_code):
            return f"stopped with exit code {exit_code}"
        case _:
            return f"{getattr(event, 'worker_id', 'worker')}: {type(event).__name__}"


_SHORT_ID = 8
QUIET = (
    events.AttemptReceived,
    events.SlotReady,
    events.SlotEnded,
    events.DirectoriesSwept,
    events.BranchesSwept,
    events.BranchSweepFailed,
    events.CacheTrimmed,
    events.LogsTrimmed,
    *events.UNLOGGED,
)
"""Events that a terminal need not show: the log has them."""


class PlainLines:
    """A `Listener` that passes on one line per event of interest, at most one per attempt. What functions say in
    watched attempts follows at once, a line each, with the attempt in front."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._attempts: dict[str, str] = {}
        """What stands in front of the lines of each slot's present attempt."""

    def __call__(self, event: Event) -> None:
        """Pass on the lines about `event`."""
        match event:
            case events.AttemptReceived(delivery, worker_id):
                short = f"{delivery.task_name} {delivery.task_id[:_SHORT_ID]}"
                self._attempts[worker_id] = f"{short} attempt {delivery.retry_count + 1} | "
            case events.FunctionSaid(worker_id, text):
                for line in text.rstrip("\n").split("\n"):
                    self._write(one_line(self._attempts.get(worker_id, "") + line))
            case events.FunctionProgress(worker_id, done, total):
                self._write(one_line(f"{self._attempts.get(worker_id, '')}progress {done:,} of {total:,}"))
            case _ if not isinstance(event, QUIET):
                self._write(describe(event))


def missing(number: int) -> str:
    """The line that stands for so many that were left out."""
    return f"{count(number, 'line')} left out: the terminal took no more"
