"""The checks of `perago doctor` and their findings: this machine, both servers, task types, workflows and branches."""

from __future__ import annotations

import json
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from perago.adapters.conductor import ConductorOverview
from perago.adapters.http import ServerAbout
from perago.attempt.events import FenceState
from perago.attempt.publication import FENCE_PATH, fence_in
from perago.cache import CacheUnusable, default_limit, usage
from perago.diagnosis.queues import TaskTypeStatus, read_queues
from perago.driver import Limits
from perago.driver.fencing import try_publishing
from perago.driver.gc import BranchAges, BranchClearing, Fate, Policy, clear_directories
from perago.ports import AccessDenied, DeliveryCheck, NotFound, ServiceError, TaskQueue, Unavailable, WorkspaceStore
from perago.settings import Settings
from perago.settings.sources import PublishFence
from perago.taskdef.compatibility import Impact, classify
from perago.taskdef.definition import comparable
from perago.text import age, count, listing, one_line, size
from perago.worker.host import workers_here
from perago.worker.plan import too_few_files
from perago.workspace.layout import RESERVE, disk_problem, free_space

LIMIT = 30.0
"""Seconds for one check."""
_AT_A_TIME = 8


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """Attempts work, and something is not as it should be."""
    PROBLEM = "problem"
    """Attempts fail, or are not safe."""


class Cause(StrEnum):
    """The origin of a problem: it decides the exit code."""

    MODULE = "module"
    CONFIGURATION = "configuration"
    SERVER = "server"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `why` says what it leads to, `advice` what to do next; both are empty for `OK`."""

    area: str
    level: Level
    what: str
    why: str = ""
    advice: str = ""
    cause: Cause = Cause.OTHER


Explain = Callable[[ServiceError], tuple[str, str]]
"""Returns in one sentence what a service did not do, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Check:
    """Looks at one area. `look` may raise any `ServiceError` after its first findings: that is one more, and `why` says
    what it leads to."""

    area: str
    why: str
    look: Callable[[], Iterable[Finding]]


@dataclass(slots=True)
class _Running:
    check: Check
    thread: threading.Thread = field(init=False)
    found: list[Finding] = field(default_factory=list)
    started: float | None = None


def run_checks(checks: Sequence[Check], explain: Explain, limit: float = LIMIT) -> list[Finding]:
    """The findings of all checks, in their order. One that does not end in time is a problem, and left behind: its
    thread ends with the time limits of its requests, or with the process.

    Args:
        checks: what to look at.
        explain: words for what a service did not do.
        limit: seconds for each, from its start.
    """
    free = threading.Semaphore(_AT_A_TIME)
    running = [_Running(check) for check in checks]
    for one in running:
        one.thread = threading.Thread(
            target=_run, args=(one, free, explain, limit), name=f"check-{one.check.area}", daemon=True
        )
        one.thread.start()
    return [finding for one in running for finding in _awaited(one, limit)]


def _run(one: _Running, free: threading.Semaphore, explain: Explain, limit: float) -> None:
    """Look when it is this check's turn, or after `limit` seconds: who has all places then is left behind."""
    has_place = free.acquire(timeout=limit)
    try:
        _look(one, explain)
    finally:
        if has_place:
            free.release()


def _look(one: _Running, explain: Explain) -> None:
    check = one.check
    one.started = time.monotonic()
    try:
        for finding in check.look():
            one.found.append(finding)
    except ServiceError as error:
        what, advice = explain(error)
        cause = Cause.SERVER if isinstance(error, Unavailable | AccessDenied) else Cause.OTHER
        one.found.append(Finding(check.area, Level.PROBLEM, what, check.why, advice, cause))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        one.found.append(Finding(check.area, Level.PROBLEM, what, check.why, "look at this file or directory"))
    except Exception as error:  # noqa: BLE001 - a check with a mistake must not look like one that found nothing
        what = f"this could not be looked at: {type(error).__name__}: {error}"
        one.found.append(Finding(check.area, Level.PROBLEM, what, check.why, "report this as a mistake of perago"))


def _awaited(one: _Running, limit: float) -> list[Finding]:
    """The findings of a check, once it has ended or its time is over. The time of one that waits for its turn has not
    begun."""
    while one.thread.is_alive():
        left = limit if one.started is None else one.started + limit - time.monotonic()
        if left <= 0:
            what = f"this was not looked at to its end within {limit:g} s"
            advice = "try it again; if it stays so, look at the load of this machine and of the servers"
            return [*one.found, Finding(one.check.area, Level.PROBLEM, what, one.check.why, advice, Cause.SERVER)]
        one.thread.join(left)
    return one.found


LITTLE_FREE = 1024**3
FEW_FILES = 1024
LEFT_FOR = 86_400.0
"""Seconds after which what a killed attempt left counts as left behind."""


def disk(variable: str, root: Path) -> Iterator[Finding]:
    """Check the disk of a root as a worker does: room, and whether a file can be written and locked there. Nothing is
    left. A root that does not exist yet is not made."""
    advice = f"free space there, or set {variable} to another disk"
    if (problem := disk_problem(root, RESERVE)) is not None:
        yield Finding("disk", Level.PROBLEM, problem, "workers here take no work until that is repaired", advice)
        return
    free = free_space(next(path for path in (root, *root.parents) if path.exists())).size
    text = f"{root} has {size(free)} free"
    if free < LITTLE_FREE:
        why = f"workers take no work with less than {size(RESERVE)}"
        yield Finding("disk", Level.WARNING, text, why, advice)
    else:
        yield Finding("disk", Level.OK, text)


def open_files() -> Iterator[Finding]:
    """The limit of open files."""
    if (problem := too_few_files(FEW_FILES)) is not None:
        why = "transfers and functions that open many files fail with: Too many files are open here"
        yield Finding("open files", Level.WARNING, problem.what, why, problem.advice)
    else:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        number = "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        yield Finding("open files", Level.OK, f"a process may have {number} files open")


def cache(settings: Settings) -> Iterator[Finding]:
    """The cache of objects."""
    root = settings.workspace_root
    try:
        found = usage(root)
        limit = settings.cache_max_bytes
        if limit is None and root.exists():
            limit = default_limit(root)
    except CacheUnusable as error:
        why = "attempts fetch every object from lakeFS"
        yield Finding("cache", Level.WARNING, f"it is not used: {error}", why, f"remove {root / '.cache'}")
        return
    held = f"{count(found.entries, 'object')}, {size(found.size)}"
    yield Finding("cache", Level.OK, "switched off" if limit == 0 else f"holds {held}")


def left_directories(root: Path, now: float) -> Iterator[Finding]:
    """Directories of attempts that were killed, and the workers that are here."""
    policy = Policy(LEFT_FOR, now, dry_run=True)
    dead = [found for found in clear_directories(root, policy) if found.fate is Fate.REMOVED]
    if dead:
        held = size(sum(found.size or 0 for found in dead))
        what = f"{count(len(dead), 'directory', 'directories')} of attempts that no process holds: {held}"
        yield Finding("leftovers", Level.WARNING, what, "they take room on the disk", "perago gc")
    workers = workers_here(root)
    names = [f"{worker.task_name} ({count(worker.slots, 'slot')}, pid {worker.pid})" for worker in workers]
    yield Finding("workers", Level.OK, f"here: {listing(names)}" if names else "none runs here")


SMALL_SKEW = 30.0
LARGE_SKEW = 600.0
"""Seconds. Block stores refuse requests that were signed 15 minutes ago, or are to be signed in the future."""


def server(name: str, address: str, ping: Callable[[], None], about: Callable[[], ServerAbout]) -> Iterator[Finding]:
    """One server.

    Args:
        name: of the service.
        address: where it is.
        ping: asks whether it lets us in.
        about: asks for version and clock.

    Raises:
        ServiceError: it does not.
    """
    ping()
    found = about()
    version = f"version {found.version}" if found.version else "it does not tell its version"
    yield Finding(name, Level.OK, f"{address} lets us in and answers in {found.seconds * 1000:.0f} ms; {version}")
    if found.ahead is None:
        return
    apart = abs(found.ahead)
    text = f"its clock is {apart:,.0f} s {'ahead of' if found.ahead > 0 else 'behind'} the one of this machine"
    if apart < SMALL_SKEW:
        yield Finding(name, Level.OK, "its clock is that of this machine")
        return
    why = "ages and times in messages are wrong, perago gc judges by them, and signed addresses of objects expire early"
    level = Level.PROBLEM if apart >= LARGE_SKEW else Level.WARNING
    yield Finding(name, level, text, why, "synchronise both clocks (NTP); compare with: date -u")


@dataclass(frozen=True, slots=True)
class Declared:
    """A task of a module here, with its TaskDef as JSON text."""

    module: str
    name: str
    definition: str


def drift(queue: TaskQueue, task: Declared) -> Iterator[Finding]:
    """Compare the TaskDef on the server with the module's.

    Raises:
        ServiceError: Conductor did not answer.
    """
    registered = queue.get_task_definition(task.name)
    register = f"perago register {task.module}"
    if registered is None:
        why = "Conductor then uses its own retries and timeouts: 3 retries, and an hour until a dead worker is noticed"
        yield Finding(task.name, Level.PROBLEM, "the server has no TaskDef of this name", why, register)
        return
    changes = classify(*comparable(registered, json.loads(task.definition)))
    breaking = [change for change in changes if change.impact is Impact.BREAKING]
    if not changes:
        yield Finding(task.name, Level.OK, "the TaskDef on the server is that of the module")
        return
    level = Level.PROBLEM if breaking else Level.WARNING
    shown = listing([one_line(change.difference) for change in breaking or changes], 3)
    what = f"the TaskDef on the server differs in {count(len(changes), 'place')}: {shown}"
    why = "workflows that were written for one of both may fail" if breaking else "workflows that run do not notice"
    yield Finding(task.name, level, what, why, f"perago diff {task.module}, then perago register {task.module}")


def queues(overview: ConductorOverview, root: Path, tasks: Sequence[Declared] | None, now: float) -> Iterator[Finding]:
    """Whether anything waits for a worker that does not come. `tasks`: None for all that are in use.

    Raises:
        ServiceError: Conductor did not answer.
    """
    names = None if tasks is None else [task.name for task in tasks]
    modules = {task.name: task.module for task in tasks or ()}
    report = read_queues(overview, root, names, now)
    stuck = [row for row in report.rows if row.is_unattended(now) or (row.domain and row.waiting)]
    for row in stuck:
        yield _stuck(row, now, modules.get(row.task_name, "MODULE"))
    silent = [row for row in report.rows if row.silent]
    for row in silent:
        yield _silent(row, now)
    if not stuck and not silent:
        waiting, running = sum(row.waiting for row in report.rows), sum(row.running or 0 for row in report.rows)
        types = count(len(report.rows), "task type")
        yield Finding("queues", Level.OK, f"{types}: {count(waiting, 'attempt')} waiting, {running:,} running")


def _silent(row: TaskTypeStatus, now: float) -> Finding:
    first = row.silent[0]
    what = (
        f"{count(len(row.silent), 'attempt')} of {row.task_name} with a worker that is silent, the first for "
        f"{age(now - first.since / 1000)}: task {first.task_id}, worker {first.worker_id}"
    )
    left = first.freed / 1000 - now
    freed = f"in {age(left)}" if left > 0 else "when it looks at this workflow the next time"
    why = f"the worker was killed, or does not reach Conductor, which hands the attempt out again {freed}"
    return Finding(
        "queues", Level.WARNING, one_line(what), why, f"perago show {one_line(first.task_id)}; start a worker"
    )


def _stuck(row: TaskTypeStatus, now: float, module: str) -> Finding:
    since = f", the oldest for {age(now - row.oldest.since / 1000)}" if row.oldest else ""
    waits = f"{count(row.waiting, 'attempt')} of {row.task_name} {'waits' if row.waiting == 1 else 'wait'}{since}"
    if row.domain:
        what = f"{waits}, in the domain {row.domain}"
        advice = "start the workflow without taskToDomain for this task"
        return Finding("queues", Level.PROBLEM, one_line(what), "perago's workers poll no domain", advice)
    why = "there is no worker, or it is down, or it polls another Conductor"
    return Finding("queues", Level.PROBLEM, one_line(f"{waits}, and {row.absence(now)}"), why, f"perago start {module}")


_WHY = "the JOIN can fail the workflow while an attempt of such a step is retried (perago help fork-and-join)"
_ADVICE = 'add "permissive": true to these steps, and register the workflow as a new version'
_ONE_FORM = "; of the forms of a dynamic fork, only dynamicForkTasksParam takes it"


def forks(overview: ConductorOverview, tasks: Sequence[Declared] | None) -> Iterator[Finding]:
    """Warn about each workflow with a JOIN that does not wait for the retries of one of these tasks.

    Args:
        overview: Conductor.
        tasks: None for all that perago has registered there.

    Raises:
        ServiceError: Conductor did not answer.
    """
    if tasks is None:
        definitions = [one for one in overview.task_definitions() if _is_of_perago(one)]
    else:
        definitions = [json.loads(task.definition) for task in tasks]
    retries = {one["name"]: one["retryCount"] for one in definitions}
    warned = False
    for definition in overview.workflow_definitions():
        steps = _steps(definition.get("tasks"))
        inputs = [step.get("inputParameters") for step in steps if step.get("type") == "FORK_JOIN_DYNAMIC"]
        hasty = [step["taskReferenceName"] for step in steps if _is_hasty(step, _joined(steps, inputs), retries)]
        unable = [name for name in _tasks_without_a_step(inputs) if retries.get(name)]
        if hasty or unable:
            warned = True
            what = (
                f"workflow {definition['name']}, version {definition.get('version')}: a JOIN waits for "
                f'{count(len(hasty) + len(unable), "step")} without "permissive": {listing([*hasty, *unable])}'
            )
            yield Finding("forks", Level.WARNING, one_line(what), _WHY, _ADVICE + (_ONE_FORM if unable else ""))
    if not warned:
        yield Finding("forks", Level.OK, "every JOIN waits for the retries of perago's tasks")


def _is_of_perago(definition: Mapping[str, Any]) -> bool:
    """Whether a TaskDef is one that `perago register` writes, by the name of its input schema."""
    schema = definition.get("inputSchema")
    return isinstance(schema, Mapping) and schema.get("name") == f"{definition['name']}.input"


def _is_hasty(step: Mapping[str, Any], joined: Set[str], retries: Mapping[str, int]) -> bool:
    """Whether a JOIN waits for this step, which is retried and is neither permissive nor optional."""
    override = step.get("retryCount")
    retried = step["name"] in retries and (retries[step["name"]] if override is None else override)
    waits = step.get("type", "SIMPLE") == "SIMPLE" and step["taskReferenceName"] in joined
    return bool(waits and retried and not step.get("permissive") and not step.get("optional"))


def _joined(steps: Iterable[Mapping[str, Any]], inputs: Iterable[Any]) -> Set[str]:
    """Return the reference names that a JOIN waits for: those in `joinOn`, and the steps in inputs of dynamic forks."""
    named = [name for step in steps if isinstance(names := step.get("joinOn"), list) for name in names]
    listed = [step["taskReferenceName"] for given in inputs for step in _steps(given)]
    return {name for name in (*named, *listed) if isinstance(name, str)}


def _tasks_without_a_step(inputs: Iterable[Any]) -> Iterator[str]:
    """Yield the task types that dynamic forks name in the two forms that have no place for `permissive`."""
    for one in (one for given in inputs for one in _objects(given)):
        name = one.get("forkTaskName") or one.get("taskName")
        if isinstance(name, str):
            yield name


def _steps(value: Any) -> list[Mapping[str, Any]]:
    """Return all steps in a part of a definition: those in branches, cases, loops and inputs of dynamic forks, too."""
    named = ("name", "taskReferenceName")
    return [one for one in _objects(value) if all(isinstance(one.get(key), str) for key in named)]


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every JSON object in a value, at any depth."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(reversed(value))


def branch(store: WorkspaceStore, limits: Limits, repository: str, name: str, *, write: bool) -> Iterator[Finding]:
    """One branch.

    Args:
        store: the lakeFS.
        limits: what workers here are allowed.
        repository: the repository.
        name: the branch.
        write: try a publication on a hidden branch, which is removed.

    Raises:
        ServiceError: lakeFS does not do it: without the right to, for example.
    """
    area = f"{repository}/{name}"
    if not limits.allows(repository, name):
        why, advice = "workers here refuse work on it", "extend PERAGO_ALLOWED_WORKSPACES"
        yield Finding(area, Level.PROBLEM, "PERAGO_ALLOWED_WORKSPACES does not have it", why, advice)
    try:
        head = store.get_commit(repository, name)
    except NotFound as error:
        advice = "check both names, and that lakeFS is the right one"
        yield Finding(area, Level.PROBLEM, error.detail, "inputs that name it are refused for good", advice)
        return
    state = fence_in(store.stat_objects(repository, head.id, [FENCE_PATH]))
    dirty = store.has_uncommitted_changes(repository, name)
    yield Finding(area, Level.OK, f"can be read; its head is {head.id[:12]}")
    if dirty:
        why = "lakeFS refuses every merge into a branch on which something is staged, so no result is published"
        advice = "commit or reset in lakeFS what is staged there; perago stages nothing on it"
        yield Finding(area, Level.PROBLEM, "it has uncommitted changes", why, advice)
    yield from _fence(area, state, limits.publish_fence, install=f"perago fence install {repository} {name}")
    if write:
        yield from _tried(store, area, repository, head.id)
    elif limits.publish_fence is not PublishFence.OFF:
        yield Finding(
            area, Level.OK, "whether the server runs the fence, a hook, was not tried: perago doctor --write does"
        )


def _fence(area: str, state: FenceState, wanted: PublishFence, install: str) -> Iterator[Finding]:
    if state is FenceState.INSTALLED:
        yield Finding(area, Level.OK, "the publish fence is installed")
    elif state is FenceState.ABSENT and wanted is not PublishFence.OFF:
        yield Finding(area, Level.OK, "no publish fence yet; the first publication brings it along")
    else:
        why = "two workers could publish on one head; perago notices that only afterwards"
        what = (
            "no publish fence, and PERAGO_PUBLISH_FENCE is off"
            if state is FenceState.ABSENT
            else (f"{FENCE_PATH} has another text than this version ships")
        )
        yield Finding(area, Level.WARNING, what, why, install)


def _tried(store: WorkspaceStore, area: str, repository: str, head: str) -> Iterator[Finding]:
    if try_publishing(store, repository, head):
        yield Finding(
            area, Level.OK, "a hidden branch could be made, written, committed and removed; the fence was obeyed"
        )
        return
    why = "publications are not guarded: two workers can publish on one head, and it is noticed only afterwards"
    advice = "switch hooks on in lakeFS's configuration: actions.enabled"
    yield Finding(area, Level.PROBLEM, "the server runs no hooks", why, advice)


def left_branches(
    store: WorkspaceStore, check: DeliveryCheck | None, ages: BranchAges, repository: str, now: float
) -> Iterator[Finding]:
    """Staging branches that no delivery needs any more. `check` is Conductor, None if it cannot be asked. Nothing for
    a repository that is not there: `branch` says so.

    Raises:
        ServiceError: lakeFS did not answer.
    """
    clearing = BranchClearing(store, check, ages, Policy(LEFT_FOR, now, dry_run=True))
    try:
        stray = [found.name for found in clearing.clear(repository) if found.fate is Fate.REMOVED]
    except NotFound:
        return
    if stray:
        what = f"{count(len(stray), 'staging branch', 'staging branches')} left over: {listing(stray, 3)}"
        why = "they cost little, and each look for leftovers takes longer"
        yield Finding(repository, Level.WARNING, what, why, f"perago gc {repository}")
    else:
        yield Finding(repository, Level.OK, "no staging branch is left over")
