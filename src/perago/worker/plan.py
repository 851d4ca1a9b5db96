"""The plan of a worker: one frozen value that travels to every slot process."""

from __future__ import annotations

import os
import re
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from perago.driver import Limits
from perago.failure import Finding, Level
from perago.ports import Delivery, WorkflowEnd, WorkspaceStore
from perago.settings import ALL_UPKEEP, Upkeep
from perago.settings.mask import Mask
from perago.taskdef.payload import name_problem
from perago.text import DEFAULT_ZONE
from perago.worker.events import Event
from perago.worker.health import Incidents, LakeFSCheck

if TYPE_CHECKING:
    from perago.settings import Settings

StoreFactory = Callable[[], WorkspaceStore]
"""Makes a slot's connection to lakeFS, inside the slot. Must be picklable: a module-level function, a class, or a
`functools.partial` of one."""

OTHER_FILES = 100
"""Number of open files of a supervisor: 40 connections to Conductor, 32 to clients of its pages, and its own files."""

SERVICE_MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables by which a service manager asks for reports of the worker. Functions cannot report in its name, because
slots do not have these variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlan:
    """The place of the JSONL logs, and the time for which they stay."""

    root: Path
    max_bytes: int = 100_000_000
    """A file that reaches this size is rotated."""
    retention_days: int = 30
    files: bool = True
    """Whether there are files at all."""
    forward: bool = False
    """Slots also pass each of their lines on to the supervisor (`events.Logged`)."""
    time_zone: str = DEFAULT_ZONE
    """The zone of the times in lines and of the days in paths (`text.parse_zone`)."""

    @property
    def max_total_bytes(self) -> int:
        """Bytes of all log files of one module together. It can be a little more while files are being written."""
        return 10 * self.max_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One task type of a worker. The process of a slot gets only its own."""

    module: str
    """The import path of the task module. Only slots import it."""
    name: str
    """The name that the module declares."""
    limit: int | None = None
    """The number of its attempts that may run at the same time. None: as many as the worker has slots."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that the task asks for and that slots would not have otherwise (`perago.authoring.task`)."""
    store_factory: StoreFactory | None = None
    """Needed by a task with a workspace; a task without one never calls it."""
    prefix: str | None = None
    """The prefix of its workspace; None: unknown, or it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """One worker: a supervisor and its slots. Durations are seconds.

    Everything in it is picklable, because spawned slots get it by pickle.
    """

    name: str
    """The directory of its log, below the root of the logs: the module or package that the worker was started with."""
    tasks: tuple[TaskPlan, ...]
    worker_prefix: str
    """The supervisor polls as `<prefix>0000`, slots report as `<prefix>0001` and so on."""
    workspace_root: Path
    logs: LogPlan
    slots: int = 1
    """Attempts that run at a time, of all tasks together."""
    limits: Limits
    shutdown_grace: float = 30.0
    """Seconds between TERM and KILL of a canceled attempt. It also limits each step of a shutdown."""
    preload: tuple[str, ...] = ("perago.driver",)
    """Modules that the fork server loads once for all slots. Never the task module."""
    branch_sweep: tuple[str, ...] = ()
    """The command that removes dead staging branches in the repositories that are appended to it (`perago gc`), run
    once an hour for those that attempts of this worker have read. Empty: this worker does not sweep branches."""
    cache_bytes: int | None = None
    """Bytes of the cache on disk to which this worker trims it. None: it does not trim the cache."""
    maintenance: frozenset[Upkeep] = ALL_UPKEEP
    """The maintenance that this worker does in the background."""
    mask: Mask = field(default_factory=Mask)
    """Redacts the configured secrets in the log, output and reasons of a slot."""
    watch: bool = False
    """Whether to emit events inside attempts (steps, transfers, output, the record). This is for one person at a
    terminal, not for production, because all events go through the pipe."""
    start_limit: float = 60.0
    """Seconds after which a slot that has not imported the task module is killed and replaced."""
    start_method: Literal["forkserver", "spawn"] = "forkserver" if sys.platform == "linux" else "spawn"
    """The start method of slot processes, because fork is not safe on macOS."""
    lease_check_interval: float = 60.0
    """Maximum seconds between two checks whether an attempt was canceled. Heartbeats can be less frequent."""

    @property
    def supervisor_id(self) -> str:
        """The worker id that polls, without its host."""
        return worker_id(self.worker_prefix, 0)

    def limit_of(self, task: TaskPlan) -> int:
        """Return the number of attempts of `task` that may run at a time."""
        return min(task.limit or self.slots, self.slots)

    @property
    def is_shared(self) -> bool:
        """Whether tasks share slots, because together they may run more attempts than there are slots."""
        return sum(map(self.limit_of, self.tasks)) > self.slots

    @property
    def open_files(self) -> int:
        """Maximum number of open files of the supervisor: for each slot its pipe and two files of multiprocessing."""
        return OTHER_FILES + 3 * self.slots + len(self.tasks)

    @property
    def slot_ids(self) -> tuple[str, ...]:
        """The worker ids of results, one for each possible slot."""
        return tuple(worker_id(self.worker_prefix, number) for number in range(1, self.slots + 1))

    def repository_of(self, delivery: Delivery) -> str | None:
        """Return the repository of a delivery, if its name can be one. The input has not been checked yet."""
        workspace = delivery.input.get("workspace")
        if not isinstance(workspace, Mapping):
            return None
        name, branch = workspace.get("repository"), workspace.get("branch")
        if not isinstance(name, str) or name_problem("repository", name):
            return None
        return name if self.limits.allows(name, branch if isinstance(branch, str) else "") else None

    def for_slot(self, task: TaskPlan) -> WorkerPlan:
        """Return the plan for the slot's process, without other tasks, because their variables can be secrets."""
        return replace(self, name=task.module, tasks=(task,))


class DeclaredTask(Protocol):
    """A task as a check of its module reports it (`perago.probe.TaskSummary`)."""

    @property
    def name(self) -> str:
        """The name that the module declares."""
        ...

    @property
    def workspace(self) -> str | None:
        """The prefix of its workspace; None if it has none."""
        ...

    @property
    def environment(self) -> tuple[str, ...]:
        """The variables that it asks for."""
        ...


BRANCH_SWEEP = (sys.executable, "-m", "perago", "gc", "--json", "--")
"""The command that removes leftover branches, with the configuration of the worker."""
EMBEDDED_CHECK_INTERVAL = 1.0
"""Seconds between two checks whether an attempt was canceled, by a worker of `perago dev`. Its Conductor is on this
machine and has nothing else to do."""


def planned_worker(
    limits: Mapping[str, int | None],
    tasks: Mapping[str, DeclaredTask],
    settings: Settings,
    *,
    slots: int | None = None,
    watch: bool = False,
    embedded: bool = False,
    store_factory: StoreFactory | None = None,
    cache_bytes: int | None = None,
) -> WorkerPlan:
    """Plan a worker from its settings, tasks and options.

    Args:
        limits: The limit of each module or package that was named, the first of which names the worker.
        tasks: The tasks by module.
        settings: Give roots, logs and limits.
        slots: The number of slots; None: the largest limit, or one.
        watch: Whether the worker emits events inside attempts.
        embedded: Whether it works for `perago dev`.
        store_factory: Opens lakeFS for tasks with a workspace; None if there is no such task.
        cache_bytes: The bytes to which it trims the cache; None: it does not.
    """
    from perago.settings import configured_mask, default_worker_id_prefix
    from perago.worker.fork_server import preloaded

    name = next(iter(limits))
    plan = WorkerPlan(
        name=name,
        tasks=tuple(
            TaskPlan(
                module=module,
                name=task.name,
                limit=selected_limit(module, limits),
                environment=environment_of(task),
                store_factory=store_factory if task.workspace is not None else None,
                prefix=task.workspace,
            )
            for module, task in tasks.items()
        ),
        worker_prefix=settings.worker_id_prefix or default_worker_id_prefix(name),
        workspace_root=settings.workspace_root,
        logs=replace(logs_of(settings), files=settings.log_files, forward=settings.log_format is not None),
        slots=slots or max([1, *filter(None, limits.values())]),
        mask=configured_mask(),
        limits=limits_of(settings),
        shutdown_grace=settings.shutdown_grace,
        maintenance=settings.maintenance,
        cache_bytes=cache_bytes or None,
        branch_sweep=BRANCH_SWEEP if store_factory is not None else (),
        preload=preloaded(settings),
        watch=watch,
    )
    return replace(plan, lease_check_interval=EMBEDDED_CHECK_INTERVAL) if embedded else plan


def selected_limit(module: str, limits: Mapping[str, int | None]) -> int | None:
    """Return the limit of the longest name that selects a module."""
    return limits[max((name for name in limits if f"{module}.".startswith(f"{name}.")), key=len)]


def environment_of(task: DeclaredTask) -> dict[str, str]:
    """Return the withheld variables that the task asks for."""
    from perago.authoring.task import asked_for
    from perago.settings import whole_environment

    return asked_for(whole_environment(), task.environment)


def logs_of(settings: Settings) -> LogPlan:
    """Plan the place and the form of the logs of a worker."""
    return LogPlan(
        root=settings.log_root,
        max_bytes=settings.log_file_max_size,
        retention_days=settings.log_retention,
        time_zone=settings.time_zone,
    )


def limits_of(settings: Settings) -> Limits:
    """Return the limits of a worker's attempts."""
    return Limits(
        max_result_bytes=settings.max_result_bytes,
        max_workspace_bytes=settings.max_workspace_bytes,
        max_workspace_objects=settings.max_workspace_objects,
        publish_fence=settings.publish_fence,
        allowed_workspaces=settings.allowed_workspaces,
    )


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """An address to listen on. Port 0: any free one."""

    host: str
    port: int


class Notices(Protocol):
    """Messages for the person who starts a worker."""

    def note(self, message: str, /) -> None:
        """Report useful information."""
        ...

    def warning(self, message: str, /) -> None:
        """Report a problem. The worker continues."""
        ...

    def warning_text(self, message: str, /) -> str:
        """Return a warning as it is written, without its end, for messages that must not wait for a reader."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """The arguments of an exporter (`perago.worker.exporters.EXPORTERS`)."""

    plan: WorkerPlan
    settings: Settings | None = None
    """The settings; None: the worker runs inside another program, and prints and sends nothing."""
    notices: Notices | None = None
    http: HttpAddress | None = None
    """The address of the pages. None: no pages."""
    signals: frozenset[str] = frozenset()
    """The signals that OpenTelemetry sends: `traces`, `metrics` or both."""
    read_end: Callable[[str, int], WorkflowEnd | None] | None = None
    """Reads the end of the run of a workflow after a time. Returns None if it has not ended, or is unknown."""
    lakefs: LakeFSCheck | None = None
    """Checks whether lakeFS answers; None: the tasks do not need lakeFS."""
    incidents: Incidents = field(default_factory=Incidents)
    """The record that all exporters read. It hears each event before them."""
    log_line: Callable[[Event], Mapping[str, Any] | None] = lambda _: None
    """`ExporterContext.log_line`, for exporters of other packages."""
    warn: Callable[[str], None] = lambda _: None
    """`ExporterContext.warn`, for exporters of other packages."""

    @property
    def worker_id(self) -> str:
        """The worker id of the supervisor."""
        return self.plan.supervisor_id

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that the worker polls for."""
        return tuple(task.name for task in self.plan.tasks)


def worker_id(prefix: str, number: int) -> str:
    """The id of the supervisor (number 0) or of slot `number`."""
    return f"{prefix}{number:04d}"


def located(worker: str, pid: int | None = None) -> str:
    """Return a worker id with its host and process, as Conductor and commits get it: `features0001@node-7:4711`.

    Args:
        worker: the worker id.
        pid: the process on this host; None: this one.
    """
    return f"{worker}@{socket.gethostname()}:{os.getpid() if pid is None else pid}"


_WORKER_ID = re.compile(r"[A-Za-z0-9]+[0-9]{4}|(?P<id>[A-Za-z0-9][A-Za-z0-9._-]*[0-9]{4})@(?P<host>[^@]+):[0-9]+")
"""Workers before 0.1 name neither host nor process, and their ids have no dashes."""


def is_worker_id(text: str) -> bool:
    """Whether `text` looks like a worker id of perago. Other SDKs use the name of the host by default."""
    return _WORKER_ID.fullmatch(text) is not None


def parted_id(text: str) -> tuple[str, str]:
    """Return the worker id and the host in a text of `located`. The host is empty if the text names none."""
    match = _WORKER_ID.fullmatch(text)
    return (match["id"], match["host"]) if match is not None and match["id"] else (text, "")


def too_few_files(needed: int) -> tuple[str, str] | None:
    """Return the problem of a limit that is too low for so many open files, and what to do; None: it is high enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    most = "" if hard == resource.RLIM_INFINITY else f" (at most {hard:,} here)"
    advice = f"ulimit -n {max(4096, needed)}{most}, or LimitNOFILE= of the systemd unit"
    return f"a process may have {soft:,} files open", advice


MIN_OPEN_FILES = 1024
"""The limit of open files below which `check_open_files` warns."""


def check_open_files() -> Iterator[Finding]:
    """Check the limit of open files."""
    if (problem := too_few_files(MIN_OPEN_FILES)) is not None:
        why = "transfers and functions that open many files can fail: too many open files"
        what, advice = problem
        yield Finding("open files", Level.WARNING, what, why, advice)
    else:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        number = "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        yield Finding("open files", Level.OK, f"a process can have {number} open files")
