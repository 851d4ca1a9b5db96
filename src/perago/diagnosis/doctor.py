"""`perago doctor`: its checks of this machine, both servers, task types, workflows and branches, and their findings."""

from __future__ import annotations

import contextlib
import json
import platform
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.adapters.conductor import ConductorOverview
from perago.adapters.http import CallPolicy, ServerAbout
from perago.attempt.events import FenceState
from perago.attempt.publication import FENCE_PATH, fence_in
from perago.cache import CacheUnusable, default_limit, usage
from perago.configuration import Configuration, Servers, namesake, read_configuration
from perago.diagnosis.queues import TaskTypeStatus, read_queues
from perago.driver import Limits
from perago.driver.fencing import try_publishing
from perago.driver.gc import BranchAges, BranchClearing, Fate, Policy, clear_directories
from perago.ports import AccessDenied, DeliveryCheck, NotFound, ServiceError, TaskQueue, Unavailable, WorkspaceStore
from perago.settings import ConfigurationError, Problem, Settings, mask_secrets, state_directory
from perago.settings.sources import PublishFence
from perago.settings.variables import settings_in_effect
from perago.taskdef.compatibility import Impact, classify
from perago.taskdef.definition import comparable
from perago.text import age, count, listing, one_line, short, size
from perago.worker import presence
from perago.worker.export_settings import exporter_problems
from perago.worker.plan import limits_of, too_few_files
from perago.workspace.layout import RESERVE, disk_problem, free_space

if TYPE_CHECKING:
    from perago.probe import Probed

LIMIT = 30.0
"""Seconds for one check."""
_CONCURRENT_CHECKS = 8


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    UNTRIED = "untried"
    """Cannot be checked without a change."""
    WARNING = "warning"
    """Attempts work, but something should be repaired."""
    PROBLEM = "problem"
    """Attempts fail, or are not safe."""


class Cause(StrEnum):
    """The origin of a problem, which decides the exit code."""

    MODULE = "module"
    CONFIGURATION = "configuration"
    SERVER = "server"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `why` names the consequence, `advice` the next step; both are empty for `OK`."""

    area: str
    level: Level
    what: str
    why: str = ""
    advice: str = ""
    cause: Cause = Cause.OTHER


Explain = Callable[[ServiceError], tuple[str, str]]
"""Describes in one sentence what a service did not do, and what to do about it."""


@dataclass(slots=True)
class Check:
    """A check of one area. If `look` raises a `ServiceError`, that is a further finding, whose consequence is `why`."""

    area: str
    why: str
    look: Callable[[], Iterable[Finding]]
    findings: list[Finding] = field(default_factory=list)
    started: float | None = None
    """By the monotonic clock."""

    def fail(self, what: str, advice: str, cause: Cause = Cause.OTHER) -> None:
        """Add the finding that the check itself failed."""
        self.findings.append(Finding(self.area, Level.PROBLEM, what, self.why, advice, cause))


def run_checks(checks: Sequence[Check], explain: Explain, limit: float = LIMIT) -> list[Finding]:
    """Run the checks at the same time, and return their findings in the order of the checks.

    A check that does not end in time is a problem. Its thread is abandoned: it ends with the time limits of its
    requests, or with the process.

    Args:
        checks: the checks.
        explain: describes what a service did not do.
        limit: seconds for each check, from its start.
    """
    free = threading.Semaphore(_CONCURRENT_CHECKS)
    threads = [
        threading.Thread(target=_run, args=(check, free, explain, limit), name=f"check-{check.area}", daemon=True)
        for check in checks
    ]
    for thread in threads:
        thread.start()
    awaited = zip(checks, threads, strict=True)
    return [finding for check, thread in awaited for finding in _awaited(check, thread, limit)]


def _run(check: Check, free: threading.Semaphore, explain: Explain, limit: float) -> None:
    """Run a check when a place is free. After `limit` seconds run it anyway, because the checks in all places are late
    then."""
    has_place = free.acquire(timeout=limit)
    check.started = time.monotonic()
    try:
        for finding in check.look():
            check.findings.append(finding)
    except ServiceError as error:
        check.fail(*explain(error), Cause.SERVER if isinstance(error, Unavailable | AccessDenied) else Cause.OTHER)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        check.fail(what, "check the owner and the mode of this file or directory")
    except Exception as error:  # noqa: BLE001 - a defect of the check must not look like a check without findings
        check.fail(f"the check failed: {type(error).__name__}: {error}", "report this as a defect of perago")
    finally:
        if has_place:
            free.release()


def _awaited(check: Check, thread: threading.Thread, limit: float) -> list[Finding]:
    """Return the findings of a check once it has ended or its time is up. The time begins with its turn."""
    while thread.is_alive():
        left = limit if check.started is None else check.started + limit - time.monotonic()
        if left <= 0:
            what = f"the check did not end within {limit:g} s"
            advice = "run perago doctor again; if it is still late, check the load of this machine and of the servers"
            return [*check.findings, Finding(check.area, Level.PROBLEM, what, check.why, advice, Cause.SERVER)]
        thread.join(left)
    return check.findings


MIN_FREE_SPACE = 1024**3
MIN_OPEN_FILES = 1024
LEFTOVER_AGE = 86_400.0
"""Seconds after which the leftovers of a killed attempt are reported."""


def disk(variable: str, root: Path) -> Iterator[Finding]:
    """Check, as a worker does, whether a root has room and takes a file with a lock. The file is removed, and a missing
    root is not created."""
    advice = f"free or repair this disk, or set {variable} to a directory on another disk"
    if (problem := disk_problem(root, RESERVE)) is not None:
        yield Finding("disk", Level.PROBLEM, problem, "workers here take no work until this is repaired", advice)
        return
    free = free_space(next(path for path in (root, *root.parents) if path.exists())).size
    text = f"{root} has {size(free)} free"
    if free < MIN_FREE_SPACE:
        why = f"workers stop taking work below {size(RESERVE)}"
        yield Finding("disk", Level.WARNING, text, why, advice)
    else:
        yield Finding("disk", Level.OK, text)


def open_files() -> Iterator[Finding]:
    """Check the limit of open files."""
    if (problem := too_few_files(MIN_OPEN_FILES)) is not None:
        why = "transfers and functions that open many files can fail: too many open files"
        yield Finding("open files", Level.WARNING, problem.what, why, problem.advice)
    else:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        number = "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        yield Finding("open files", Level.OK, f"a process can have {number} open files")


def cache(settings: Settings) -> Iterator[Finding]:
    """Check the object cache."""
    root = settings.workspace_root
    try:
        cached = usage(root)
        limit = settings.cache_max_bytes
        if limit is None and root.exists():
            limit = default_limit(root)
    except CacheUnusable as error:
        why = "attempts fetch every object from lakeFS"
        yield Finding("cache", Level.WARNING, f"the cache cannot be used: {error}", why, f"remove {root / '.cache'}")
        return
    held = f"{count(cached.entries, 'object')}, {size(cached.size)}"
    yield Finding("cache", Level.OK, "off" if limit == 0 else f"holds {held}")


def left_directories(root: Path, now: float) -> Iterator[Finding]:
    """Look for directories of killed attempts, and list the workers on this machine."""
    policy = Policy(LEFTOVER_AGE, now, dry_run=True)
    dead = [leftover for leftover in clear_directories(root, policy) if leftover.fate is Fate.REMOVED]
    if dead:
        held = size(sum(leftover.size or 0 for leftover in dead))
        what = f"{count(len(dead), 'directory', 'directories')} of killed attempts: {held}"
        yield Finding("leftovers", Level.WARNING, what, "they fill the disk", "perago gc")


def workers(root: Path) -> Iterator[Finding]:
    """List the workers of a workspace root, their stopped processes, and worker ids that several of them use."""
    processes = presence.worker_processes(presence.workers_here(root))
    for line in [f"here: {worker}" for worker in processes] or ["no worker runs here"]:
        yield Finding("workers", Level.OK, line)
    for worker in processes:
        if worker.stopped:
            what = f"worker {worker.worker_id}: {worker.stopped_words}"
            yield Finding("workers", Level.PROBLEM, what, presence.STOPPED_WHY, worker.stopped_fix)
    for worker_id in sorted(presence.dead_workers(root)):
        yield Finding("workers", Level.WARNING, f"killed worker {worker_id}", presence.KILLED_WHY, presence.KILLED_FIX)
    for clash in presence.id_clashes(processes):
        yield Finding("workers", Level.WARNING, clash, presence.CLASH_WHY, presence.CLASH_FIX)


SMALL_SKEW = 30.0
LARGE_SKEW = 600.0
"""Seconds. Block stores refuse requests that were signed 15 minutes ago or in the future."""


def server(name: str, address: str, ping: Callable[[], None], about: Callable[[], ServerAbout]) -> Iterator[Finding]:
    """Check whether a server accepts the credentials, and its version and clock.

    Raises:
        ServiceError: it did not answer, or rejects the credentials.
    """
    ping()
    server_about = about()
    version = f"version {server_about.version}" if server_about.version else "version unknown"
    what = f"{address} accepts the credentials and answers in {server_about.seconds * 1000:.0f} ms; {version}"
    yield Finding(name, Level.OK, what)
    if server_about.ahead is None:
        return
    apart = abs(server_about.ahead)
    if apart < SMALL_SKEW:
        yield Finding(name, Level.OK, "its clock agrees with the clock of this machine")
        return
    text = f"its clock is {apart:,.0f} s {'ahead of' if server_about.ahead > 0 else 'behind'} the clock of this machine"
    why = "ages in messages and for perago gc are wrong, and signed addresses of objects expire early"
    level = Level.PROBLEM if apart >= LARGE_SKEW else Level.WARNING
    yield Finding(name, level, text, why, "synchronize both clocks with NTP; compare them with: date -u")


@dataclass(frozen=True, slots=True)
class Declared:
    """A task that a module here declares, with its TaskDef as JSON text."""

    module: str
    name: str
    definition: str


def drift(queue: TaskQueue, task: Declared) -> Iterator[Finding]:
    """Compare the TaskDef on the server with that of the module.

    Raises:
        ServiceError: Conductor did not answer.
    """
    registered = queue.get_task_definition(task.name)
    register = f"perago register {task.module}"
    if registered is None:
        why = "Conductor uses its own defaults: 3 retries, and an hour until it notices a dead worker"
        yield Finding(task.name, Level.PROBLEM, "the server has no TaskDef of this name", why, register)
        return
    changes = classify(*comparable(registered, json.loads(task.definition)))
    breaking = [change for change in changes if change.impact is Impact.BREAKING]
    if not changes:
        yield Finding(task.name, Level.OK, "the TaskDef on the server is the same as in the module")
        return
    level = Level.PROBLEM if breaking else Level.WARNING
    shown = listing([one_line(change.difference) for change in breaking or changes], 3)
    what = f"the TaskDef on the server differs in {count(len(changes), 'place')}: {shown}"
    fails = "workflows that were written for one of the two can fail"
    why = fails if breaking else "running workflows are not affected"
    yield Finding(task.name, level, what, why, f"perago diff {task.module}; then perago register {task.module}")


def queues(overview: ConductorOverview, root: Path, tasks: Sequence[Declared] | None, now: float) -> Iterator[Finding]:
    """Check whether attempts wait and no worker takes them. `tasks`: None for all task types in use.

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
    silent = f"{count(len(row.silent), 'attempt')} of {row.task_name} with a silent worker"
    since = age(now - first.since / 1000)
    what = f"{silent}, the first for {since}: task {first.task_id}, worker {first.worker_id}"
    left = first.freed / 1000 - now
    freed = f"in {age(left)}" if left > 0 else "when it checks this workflow next"
    why = f"the worker was killed or does not reach Conductor; Conductor delivers the attempt again {freed}"
    advice = f"perago show {one_line(first.task_id)}; start a worker"
    return Finding("queues", Level.PROBLEM, one_line(what), why, advice)


def _stuck(row: TaskTypeStatus, now: float, module: str) -> Finding:
    since = f", the oldest for {age(now - row.oldest.since / 1000)}" if row.oldest else ""
    waits = f"{count(row.waiting, 'attempt')} of {row.task_name} {'waits' if row.waiting == 1 else 'wait'}{since}"
    if row.domain:
        what = f"{waits}, in the domain {row.domain}"
        advice = "start the workflow without a taskToDomain for this task"
        return Finding("queues", Level.PROBLEM, one_line(what), "perago workers do not poll domains", advice)
    why = "no worker runs for this task type, or it polls another Conductor"
    return Finding("queues", Level.PROBLEM, one_line(f"{waits}, and {row.absence(now)}"), why, f"perago start {module}")


_WHY = "the JOIN can fail the workflow while such a step is retried (perago help fork-and-join)"
_ADVICE = 'add "permissive": true to these steps, and register the workflow as a new version'
_ONE_FORM = "; a dynamic fork takes it only in the form dynamicForkTasksParam"


def forks(overview: ConductorOverview, tasks: Sequence[Declared] | None) -> Iterator[Finding]:
    """Warn about each workflow with a JOIN that does not wait for the retries of one of these tasks.

    Args:
        overview: Conductor.
        tasks: None for all that perago has registered there.

    Raises:
        ServiceError: Conductor did not answer.
    """
    if tasks is None:
        definitions = [definition for definition in overview.task_definitions() if _is_of_perago(definition)]
    else:
        definitions = [json.loads(task.definition) for task in tasks]
    retries = {definition["name"]: definition["retryCount"] for definition in definitions}
    warned = False
    for definition in overview.workflow_definitions():
        steps = _steps(definition.get("tasks"))
        inputs = [step.get("inputParameters") for step in steps if step.get("type") == "FORK_JOIN_DYNAMIC"]
        lacking = [
            step["taskReferenceName"] for step in steps if _lacks_permissive(step, _joined(steps, inputs), retries)
        ]
        unable = [name for name in _tasks_without_a_step(inputs) if retries.get(name)]
        if lacking or unable:
            warned = True
            which = f'{count(len(lacking) + len(unable), "step")} without "permissive": {listing([*lacking, *unable])}'
            what = f"workflow {definition['name']}, version {definition.get('version')}: a JOIN waits for {which}"
            yield Finding("forks", Level.WARNING, one_line(what), _WHY, _ADVICE + (_ONE_FORM if unable else ""))
    if not warned:
        yield Finding("forks", Level.OK, "every JOIN waits for retries of perago tasks")


def _is_of_perago(definition: Mapping[str, Any]) -> bool:
    """Whether a TaskDef is one that `perago register` writes, by the name of its input schema."""
    schema = definition.get("inputSchema")
    return isinstance(schema, Mapping) and schema.get("name") == f"{definition['name']}.input"


def _lacks_permissive(step: Mapping[str, Any], joined: Set[str], retries: Mapping[str, int]) -> bool:
    """Whether a JOIN waits for this step, which is retried and is neither permissive nor optional."""
    override = step.get("retryCount")
    retried = step["name"] in retries and (retries[step["name"]] if override is None else override)
    waits = step.get("type", "SIMPLE") == "SIMPLE" and step["taskReferenceName"] in joined
    return bool(waits and retried and not step.get("permissive") and not step.get("optional"))


def _joined(steps: Iterable[Mapping[str, Any]], inputs: Iterable[Any]) -> Set[str]:
    """Return the reference names that a JOIN waits for: those in `joinOn`, and the steps in inputs of dynamic forks."""
    named = [name for step in steps if isinstance(names := step.get("joinOn"), list) for name in names]
    listed = [step["taskReferenceName"] for task_input in inputs for step in _steps(task_input)]
    return {name for name in (*named, *listed) if isinstance(name, str)}


def _tasks_without_a_step(inputs: Iterable[Any]) -> Iterator[str]:
    """Yield the task types that dynamic forks name in the two forms that have no place for `permissive`."""
    for fork in (fork for task_input in inputs for fork in _objects(task_input)):
        name = fork.get("forkTaskName") or fork.get("taskName")
        if isinstance(name, str):
            yield name


def _steps(value: Any) -> list[Mapping[str, Any]]:
    """Return all steps in a part of a definition, including those in branches, cases, loops and inputs of dynamic
    forks."""
    named = ("name", "taskReferenceName")
    return [step for step in _objects(value) if all(isinstance(step.get(key), str) for key in named)]


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
    """Check one branch.

    Args:
        store: the lakeFS.
        limits: the limits of workers here.
        repository: the repository.
        name: the branch.
        write: also try a publication on a hidden branch, and remove that branch.

    Raises:
        ServiceError: lakeFS refused, for example because a permission is missing.
    """
    area = f"{repository}/{name}"
    if not limits.allows(repository, name):
        why, advice = "workers here refuse attempts on it", f"add {repository}/{name} to PERAGO_ALLOWED_WORKSPACES"
        yield Finding(area, Level.PROBLEM, "PERAGO_ALLOWED_WORKSPACES does not allow this branch", why, advice)
    try:
        head = store.get_commit(repository, name)
    except NotFound as error:
        advice = "check both names and LAKECTL_SERVER_ENDPOINT_URL"
        yield Finding(area, Level.PROBLEM, error.detail, "attempts on it fail for good", advice)
        return
    state = fence_in(store.stat_objects(repository, head.id, [FENCE_PATH]))
    dirty = store.has_uncommitted_changes(repository, name)
    yield Finding(area, Level.OK, f"readable; its head is {short(head.id)}")
    if dirty:
        why = "lakeFS refuses to merge into a branch with uncommitted changes, so no result is published"
        advice = "commit or reset these changes in lakeFS; perago did not make them"
        yield Finding(area, Level.PROBLEM, "it has uncommitted changes", why, advice)
    yield from _fence(area, state, limits.publish_fence, install=f"perago fence install {repository} {name}")
    if write:
        yield from _tried(store, area, repository, head.id)
    elif limits.publish_fence is not PublishFence.OFF:
        what = "not tried: staging, committing and merging with these credentials, and whether the server runs hooks"
        yield Finding(area, Level.UNTRIED, what, "a publication can still fail", f"perago doctor -b {area} --write")


def _fence(area: str, state: FenceState, setting: PublishFence, install: str) -> Iterator[Finding]:
    if state is FenceState.INSTALLED:
        yield Finding(area, Level.OK, "the publish fence is installed")
    elif state is FenceState.ABSENT and setting is not PublishFence.OFF:
        yield Finding(area, Level.OK, "no publish fence yet; the first publication installs it")
    else:
        why = "two workers can publish on one head; perago notices it only afterwards"
        what = f"{FENCE_PATH} differs from the text of this version"
        if state is FenceState.ABSENT:
            what = "no publish fence, and PERAGO_PUBLISH_FENCE is off"
        yield Finding(area, Level.WARNING, what, why, install)


def _tried(store: WorkspaceStore, area: str, repository: str, head: str) -> Iterator[Finding]:
    if try_publishing(store, repository, head):
        yield Finding(area, Level.OK, "a publication on a hidden branch worked, and the server runs the publish fence")
        return
    why = "publications are not guarded: two workers can publish on one head, and perago notices it only afterwards"
    advice = "set actions.enabled in the configuration of the lakeFS server"
    yield Finding(area, Level.PROBLEM, "the server runs no hooks", why, advice)


def left_branches(
    store: WorkspaceStore, check: DeliveryCheck | None, ages: BranchAges, repository: str, now: float
) -> Iterator[Finding]:
    """Look for staging branches that no delivery needs. `branch` reports a repository that does not exist.

    `check` is Conductor, None if it does not answer.

    Raises:
        ServiceError: lakeFS did not answer.
    """
    clearing = BranchClearing(store, check, ages, Policy(LEFTOVER_AGE, now, dry_run=True))
    try:
        stray = [leftover.name for leftover in clearing.clear(repository) if leftover.fate is Fate.REMOVED]
    except NotFound:
        return
    if stray:
        what = f"{count(len(stray), 'leftover staging branch', 'leftover staging branches')}: {listing(stray, 3)}"
        why = "each search for leftovers takes longer"
        yield Finding(repository, Level.WARNING, what, why, f"perago gc {repository}")
    else:
        yield Finding(repository, Level.OK, "no leftover staging branches")


# ----------------------------------------------------------------------------------- the examination

_POLICY = CallPolicy(connect=5.0, answer=10.0, merge=20.0, tries=2, largest=64 * 1024 * 1024)
_NO_CONDUCTOR = "no worker gets work or reports a result"
_NO_LAKEFS = "no task with a workspace can read or publish"


@dataclass(slots=True)
class Doctor:
    """Run all checks once.

    Args:
        branches: repositories and branches; empty: those that `PERAGO_ALLOWED_WORKSPACES` names in full.
        write: also try a publication on a hidden branch.
        explain: describes what a server did not do, and what to do about it.
        tell: called with the current step.
    """

    branches: Sequence[tuple[str, str]]
    write: bool
    explain: Explain
    tell: Callable[[str], None]
    _now: float = field(default_factory=time.time)

    def examine(self, modules: Sequence[str], seconds: float) -> list[Finding]:
        """Return all findings: the machine first, then the servers, then everything that needs them.

        Args:
            modules: task modules and packages, whose TaskDefs and queues are checked.
            seconds: the limit for the import of one of them.
        """
        from perago.probe import probing

        with contextlib.ExitStack() as stack:
            results = stack.enter_context(probing(modules, seconds, packages=True)) if modules else list
            configuration = read_configuration()
            findings = [*_installed(), *_configured(configuration), *_exporters()]
            if (settings := configuration.settings) is None:
                return [*findings, *_modules([*results()])]
            servers = stack.enter_context(Servers(settings, policy=_POLICY))
            patient = stack.enter_context(Servers(settings))  # lists of attempts may be long
            first = [*self._of_machine(settings), *_of_servers(settings, servers, patient)]
            findings += run_checks(first, self.explain)
            self.tell("checking task modules")
            probed = [*results()]
            findings += _modules(probed)
            findings += _missing(settings, probed, self.branches)
            away = {finding.area for finding in findings if finding.cause is Cause.SERVER}
            declared = [
                Declared(module.module, module.task.name, module.task.definition) for module in probed if module.task
            ]
            self.tell("checking TaskDefs, queues and branches")
            further: list[Check] = []
            has_conductor = settings.conductor is not None and "Conductor" not in away
            if settings.lakefs is not None and "lakeFS" not in away:
                further += self._of_branches(settings, servers, has_conductor=has_conductor)
            if has_conductor:
                further += self._of_tasks(settings, servers, patient, declared if modules else None)
            return findings + run_checks(further, self.explain)

    def _of_machine(self, settings: Settings) -> list[Check]:
        root, why = settings.workspace_root, "attempts need this disk"
        return [
            Check("disk", why, partial(disk, "PERAGO_WORKSPACE_ROOT", root)),
            Check("disk", "logs need this disk", partial(disk, "PERAGO_LOG_ROOT", settings.log_root)),
            Check("open files", why, open_files),
            Check("cache", "attempts fetch every object from lakeFS", partial(cache, settings)),
            Check("leftovers", why, partial(left_directories, root, self._now)),
            Check("workers", why, partial(workers, root)),
        ]

    def _of_branches(self, settings: Settings, servers: Servers, *, has_conductor: bool) -> Iterator[Check]:
        plain = [pattern for pattern in settings.allowed_workspaces or () if not set("*?[") & set(pattern)]
        named = self.branches or [
            (repository, name) for repository, _, name in (pattern.partition("/") for pattern in plain)
        ]
        for repository, name in named:
            look = partial(branch, servers.store, limits_of(settings), repository, name, write=self.write)
            yield Check(f"{repository}/{name}", "attempts on this branch fail the same way", look)
        for repository in dict.fromkeys(repository for repository, _ in named):
            ages = BranchAges(state_directory() / "gc.json", settings.require_lakefs().endpoint_url)
            check = servers.queue if has_conductor else None
            look = partial(left_branches, servers.store, check, ages, repository, self._now)
            yield Check(repository, "leftover staging branches are not removed", look)

    def _of_tasks(
        self, settings: Settings, servers: Servers, patient: Servers, declared: Sequence[Declared] | None
    ) -> Iterator[Check]:
        for task in declared or ():
            yield Check(task.name, _NO_CONDUCTOR, partial(drift, servers.queue, task))
        if declared != []:
            why = "forks may fail while an attempt is retried"
            yield Check("forks", why, partial(forks, patient.overview, declared))
            look = partial(queues, patient.overview, settings.workspace_root, declared, self._now)
            yield Check("queues", _NO_CONDUCTOR, look)


def _of_servers(settings: Settings, servers: Servers, patient: Servers) -> Iterator[Check]:
    """Check whether the configured servers answer and accept the credentials."""
    if settings.conductor is not None:
        look = partial(server, "Conductor", settings.conductor.shown, servers.queue.ping, patient.overview.about)
        yield Check("Conductor", _NO_CONDUCTOR, look)
    if settings.lakefs is not None:
        look = partial(server, "lakeFS", settings.lakefs.shown, servers.store.ping, servers.store.about)
        yield Check("lakeFS", _NO_LAKEFS, look)


def _installed() -> Iterator[Finding]:
    from perago import __version__

    system = f"{platform.system()} {platform.release()}"
    yield Finding("installed", Level.OK, f"perago {__version__}, Python {platform.python_version()}, {system}")
    if other := namesake():
        what, _, fix = other.partition("\n")
        yield Finding("installed", Level.WARNING, what, "some commands fail", fix.strip().removeprefix("fix: "))


def _configured(configuration: Configuration) -> Iterator[Finding]:
    for text in configuration.warnings:
        why, fix = "the setting may not do what you expect", "perago config shows all settings"
        yield Finding("configuration", Level.WARNING, text, why, fix)
    for problem in configuration.problems:
        yield _of_problem(problem)
    if configuration.settings is not None and not configuration.problems:
        settings = settings_in_effect(configuration.settings)
        origins = dict.fromkeys(setting.source for setting in settings if setting.source not in ("", "default"))
        by_origin = [
            f"{origin}: {listing([setting.name for setting in settings if setting.source == origin])}"
            for origin in origins
        ]
        yield Finding("configuration", Level.OK, "; ".join(by_origin) or "every setting has its default")
    if configuration.settings is not None and configuration.settings.allowed_workspaces is None:
        what = "PERAGO_ALLOWED_WORKSPACES is not set"
        why = "workers here publish to every repository and branch that a workflow names and the credentials reach"
        fix = "set it to patterns, such as PERAGO_ALLOWED_WORKSPACES=my-data/main,team-*/*"
        yield Finding("configuration", Level.WARNING, what, why, fix)


def _exporters() -> Iterator[Finding]:
    """Check the variables of OpenTelemetry and OpenLineage."""
    for text in map(mask_secrets, exporter_problems()):
        why = "workers run, and send less than these variables request"
        yield Finding("exporters", Level.WARNING, text, why, "perago help troubleshooting explains this message")


def _of_problem(problem: Problem) -> Finding:
    place = f" ({problem.where})" if problem.where else ""
    what, fix = f"{problem.variable}{place}: {problem.message}", problem.fix or "perago help configuration"
    return Finding("configuration", Level.PROBLEM, what, "workers do not start", fix, Cause.CONFIGURATION)


def _modules(probed: Sequence[Probed]) -> Iterator[Finding]:
    for module in probed:
        if module.problem is not None:
            place = f"{module.problem.where}: " if module.problem.where else ""
            what = mask_secrets(f"{place}{module.problem.message}")
            why, fix = "workers for it do not start", module.problem.fix or "correct the module"
            yield Finding(module.module, Level.PROBLEM, what, why, fix, Cause.MODULE)
        elif module.task is not None and module.task.missing:
            what, command = module.task.missing[0]
            yield Finding(
                module.module, Level.PROBLEM, what, "its attempts fail on this machine", command, Cause.MODULE
            )


def _missing(settings: Settings, probed: Sequence[Probed], branches: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Report servers that are not configured. It is a problem if the named modules or branches need them."""
    needs_lakefs = bool(branches) or any(module.task is not None and module.task.workspace for module in probed)
    for name, require, needed in (
        ("Conductor", settings.require_conductor, bool(probed)),
        ("lakeFS", settings.require_lakefs, needs_lakefs),
    ):
        try:
            require()
        except ConfigurationError as error:
            if needed:
                yield from map(_of_problem, error.details)
            else:
                what = f"{name} is not configured and was not checked"
                yield Finding("configuration", Level.WARNING, what, "workers need it", "perago help configuration")
