"""`perago doctor`: runs the checks that the rooms offer, and checks the configuration and both servers itself."""

from __future__ import annotations

import contextlib
import json
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from perago.adapters.http import CallPolicy, ServerAbout
from perago.cache.upkeep import check_cache
from perago.configuration import Configuration, Servers, namesake, read_configuration
from perago.diagnosis.queues import check_queues
from perago.driver.fencing import check_branch
from perago.driver.gc import BranchAges, check_branches, check_directories
from perago.failure import Cause, Finding, Level
from perago.ports import AccessDenied, ServiceError, Unavailable
from perago.settings import ConfigurationError, Problem, Settings, mask_secrets, state_directory
from perago.settings.variables import settings_in_effect
from perago.taskdef.compatibility import check_definition
from perago.taskdef.definition import Declared
from perago.text import listing
from perago.worker.export_settings import exporter_problems
from perago.worker.plan import check_open_files, limits_of
from perago.worker.presence import check_workers
from perago.workflows.registered import check_forks, check_workflow
from perago.workspace.layout import check_disk

if TYPE_CHECKING:
    from perago.probe import Probed

LIMIT = 30.0
"""Seconds for one check."""
_CONCURRENT_CHECKS = 8


Explain = Callable[[ServiceError], tuple[str, str]]
"""Describes in one sentence what a service did not do, and what to do about it."""


@dataclass(slots=True)
class Check:
    """A check of one area. If `run` raises a `ServiceError`, that is a further finding, whose consequence is `why`."""

    area: str
    why: str
    run: Callable[[], Iterable[Finding]]
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
        for finding in check.run():
            check.findings.append(finding)
    except ServiceError as error:
        check.fail(*explain(error), Cause.SERVER if isinstance(error, Unavailable | AccessDenied) else Cause.OTHER)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        check.fail(what, "check the owner and the mode of this file or directory")
    except Exception as error:  # noqa: BLE001 - a defect of the check must not run like a check without findings
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


SMALL_SKEW = 30.0
LARGE_SKEW = 600.0
"""Seconds. Block stores refuse requests that were signed 15 minutes ago or in the future."""


def check_server(
    name: str, address: str, ping: Callable[[], None], about: Callable[[], ServerAbout]
) -> Iterator[Finding]:
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


# ----------------------------------------------------------------------------------- the examination

_POLICY = CallPolicy(connect=5.0, answer=10.0, merge=20.0, tries=2, largest=64 * 1024 * 1024)
_NO_CONDUCTOR = "no worker gets work or reports a result"
_NO_LAKEFS = "no task with a workspace can read or publish"


def examine(
    modules: Sequence[str],
    seconds: float,
    branches: Sequence[tuple[str, str]],
    explain: Explain,
    progress: Callable[[str], None],
    *,
    write: bool,
) -> list[Finding]:
    """Run all checks once, and return all findings: the machine first, then the servers, then everything that needs
    them.

    Args:
        modules: task modules and packages, whose TaskDefs and queues are checked.
        seconds: the limit for the import of one of them.
        branches: repositories and branches; empty: those that `PERAGO_ALLOWED_WORKSPACES` names in full.
        explain: describes what a server did not do, and what to do about it.
        progress: called with the current step.
        write: also try a publication on a hidden branch.
    """
    from perago.probe import probing

    now = time.time()
    with contextlib.ExitStack() as stack:
        results = stack.enter_context(probing(modules, seconds, packages=True, workflows=True)) if modules else list
        configuration = read_configuration()
        findings = [*_installed(), *_configured(configuration), *_exporters()]
        if (settings := configuration.settings) is None:
            return [*findings, *_modules([*results()])]
        servers = stack.enter_context(Servers(settings, policy=_POLICY))
        patient = stack.enter_context(Servers(settings))  # lists of attempts may be long
        first = [*_of_machine(settings, now), *_of_servers(settings, servers, patient)]
        findings += run_checks(first, explain)
        progress("checking task modules")
        probed = [*results()]
        findings += _modules(probed)
        findings += _missing(settings, probed, branches)
        away = {finding.area for finding in findings if finding.cause is Cause.SERVER}
        declared = [
            Declared(module.module, module.task.name, module.task.definition) for module in probed if module.task
        ]
        progress("checking TaskDefs, queues and branches")
        further: list[Check] = []
        has_conductor = settings.conductor is not None and "Conductor" not in away
        if settings.lakefs is not None and "lakeFS" not in away:
            further += _of_branches(settings, servers, branches, now, write=write, has_conductor=has_conductor)
        if has_conductor:
            further += _of_workflows(servers, probed)
            further += _of_tasks(settings, servers, patient, declared if modules else None, now)
        return findings + run_checks(further, explain)


def _of_machine(settings: Settings, now: float) -> Iterator[Check]:
    root, why = settings.workspace_root, "attempts need this disk"
    yield Check("disk", why, partial(check_disk, "PERAGO_WORKSPACE_ROOT", root))
    yield Check("disk", "logs need this disk", partial(check_disk, "PERAGO_LOG_ROOT", settings.log_root))
    yield Check("open files", why, check_open_files)
    cache = partial(check_cache, root, settings.cache_max_bytes)
    yield Check("cache", "attempts fetch every object from lakeFS", cache)
    yield Check("leftovers", why, partial(check_directories, root, now))
    yield Check("workers", why, partial(check_workers, root))


def _of_branches(
    settings: Settings,
    servers: Servers,
    branches: Sequence[tuple[str, str]],
    now: float,
    *,
    write: bool,
    has_conductor: bool,
) -> Iterator[Check]:
    if not branches:
        plain = [pattern for pattern in settings.allowed_workspaces or () if not set("*?[") & set(pattern)]
        branches = [(repository, name) for repository, _, name in (pattern.partition("/") for pattern in plain)]
    limits = limits_of(settings)
    for repository, name in branches:
        run = partial(
            check_branch,
            servers.store,
            repository,
            name,
            is_allowed=limits.allows(repository, name),
            publish_fence=limits.publish_fence,
            write=write,
        )
        yield Check(f"{repository}/{name}", "attempts on this branch fail the same way", run)
    for repository in dict.fromkeys(repository for repository, _ in branches):
        ages = BranchAges(state_directory() / "gc.json", settings.require_lakefs().endpoint_url)
        check = servers.queue if has_conductor else None
        run = partial(check_branches, servers.store, check, ages, repository, now)
        yield Check(repository, "leftover staging branches are not removed", run)


def _of_workflows(servers: Servers, probed: Sequence[Probed]) -> Iterator[Check]:
    for module in probed:
        for definition in (json.loads(flow.definition) for flow in module.workflows):
            run = partial(check_workflow, servers.workflows, module.module, definition)
            yield Check(definition["name"], "no client can start it by its name", run)


def _of_tasks(
    settings: Settings, servers: Servers, patient: Servers, declared: Sequence[Declared] | None, now: float
) -> Iterator[Check]:
    for task in declared or ():
        yield Check(task.name, _NO_CONDUCTOR, partial(check_definition, servers.queue, task))
    if declared != []:
        why = "forks may fail while an attempt is retried"
        yield Check("forks", why, partial(check_forks, patient.overview, declared))
        run = partial(check_queues, patient.overview, settings.workspace_root, declared, now)
        yield Check("queues", _NO_CONDUCTOR, run)


def _of_servers(settings: Settings, servers: Servers, patient: Servers) -> Iterator[Check]:
    """Check whether the configured servers answer and accept the credentials."""
    if settings.conductor is not None:
        run = partial(check_server, "Conductor", settings.conductor.shown, servers.queue.ping, patient.overview.about)
        yield Check("Conductor", _NO_CONDUCTOR, run)
    if settings.lakefs is not None:
        run = partial(check_server, "lakeFS", settings.lakefs.shown, servers.store.ping, servers.store.about)
        yield Check("lakeFS", _NO_LAKEFS, run)


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
