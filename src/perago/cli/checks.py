"""The checks of `perago doctor`: which there are, and what they are given."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from perago.adapters.http import CallPolicy
from perago.cli import messages
from perago.cli.boundary import advice
from perago.cli.configuration import Configuration, limits_of, look_at_configuration, namesake
from perago.cli.loading import masked
from perago.diagnosis import forks, machine, servers, tasks, workspaces
from perago.diagnosis.findings import Cause, Check, Finding, Level, run_checks
from perago.diagnosis.tasks import Declared
from perago.ports import ServiceError
from perago.settings import ConfigurationError, Problem, state_directory
from perago.settings.effective import settings_in_effect
from perago.workspace.text import listing

if TYPE_CHECKING:
    from perago.adapters.conductor import ConductorOverview, ConductorQueue
    from perago.adapters.lakefs import LakeFSStore
    from perago.cli.probe import Probed
    from perago.settings import Settings

_POLICY = CallPolicy(connect=5.0, answer=10.0, merge=20.0, tries=2, largest=64 * 1024 * 1024)
_NO_CONDUCTOR = "no worker gets work, and none reports a result"
_NO_LAKEFS = "no task with a workspace can read or publish"


class Doctor:
    """One examination.

    Args:
        branches: repositories with their branches; empty: those that `PERAGO_ALLOWED_WORKSPACES` names in full.
        write: also try a publication on a hidden branch.
        tell: hears what is being done.
    """

    def __init__(self, branches: Sequence[tuple[str, str]], *, write: bool, tell: Callable[[str], None]) -> None:
        self._branches = branches
        self._write = write
        self._tell = tell
        self._now = time.time()

    def examine(self, modules: Sequence[str], seconds: float) -> list[Finding]:
        """Everything that was found: the machine first, then the servers, then what needs them.

        Args:
            modules: task modules and packages, whose TaskDefs and queues are looked at.
            seconds: how long importing one of them may take.
        """
        from perago.cli.probe import probing

        with contextlib.ExitStack() as stack:
            results = stack.enter_context(probing(modules, seconds, packages=True)) if modules else _none
            configuration = look_at_configuration()
            findings = [*_installed(), *_configured(configuration)]
            if (settings := configuration.settings) is None:
                return [*findings, *_modules(results())]
            clients = _Clients(settings, stack)
            findings += run_checks([*self._of_machine(settings), *clients.checks()], _explain)
            self._tell("looking at task modules")
            probed = results()
            findings += _modules(probed)
            findings += _missing(clients, probed, self._branches)
            away = {found.area for found in findings if found.cause is Cause.SERVER}
            declared = [Declared(one.module, one.task.name, one.task.definition) for one in probed if one.task]
            self._tell("looking at TaskDefs, queues and branches")
            further = [*self._of_branches(clients, away), *self._of_tasks(clients, declared if modules else None, away)]
            return findings + run_checks(further, _explain)

    def _of_machine(self, settings: Settings) -> list[Check]:
        root, why = settings.workspace_root, "attempts need this disk"
        return [
            Check("disk", why, partial(machine.disk, "PERAGO_WORKSPACE_ROOT", root)),
            Check("disk", "logs need this disk", partial(machine.disk, "PERAGO_LOG_ROOT", settings.log_root)),
            Check("open files", why, machine.open_files),
            Check("cache", "attempts fetch every object from lakeFS", partial(machine.cache, settings)),
            Check("leftovers", why, partial(machine.leftovers, root, self._now)),
        ]

    def _of_branches(self, clients: _Clients, away: set[str]) -> Iterator[Check]:
        settings, store = clients.settings, clients.store
        if store is None or "lakeFS" in away or settings.lakefs is None:
            return
        named = self._branches or _named_in_full(settings.allowed_workspaces or ())
        for repository, name in named:
            look = partial(workspaces.branch, store, limits_of(settings), repository, name, write=self._write)
            yield Check(f"{repository}/{name}", "attempts on this branch fail in the same way", look)
        check = None if "Conductor" in away else clients.queue
        for repository in dict.fromkeys(repository for repository, _ in named):
            look = partial(_leftovers, store, check, settings.lakefs.endpoint_url, repository, self._now)
            yield Check(repository, "branches that attempts left are not removed", look)

    def _of_tasks(self, clients: _Clients, declared: Sequence[Declared] | None, away: set[str]) -> Iterator[Check]:
        if clients.queue is None or clients.overview is None or "Conductor" in away:
            return
        for task in declared or ():
            yield Check(task.name, _NO_CONDUCTOR, partial(tasks.drift, clients.queue, task))
        if declared != []:
            why = "forks may fail while an attempt is retried"
            yield Check("forks", why, partial(forks.forks, clients.overview, declared))
            look = partial(tasks.queues, clients.overview, clients.settings.workspace_root, declared, self._now)
            yield Check("queues", _NO_CONDUCTOR, look)


class _Clients:
    """The configured servers, each None where it is not configured. Closed by the stack."""

    def __init__(self, settings: Settings, stack: contextlib.ExitStack) -> None:
        self.settings = settings
        self.queue: ConductorQueue | None = None
        self.overview: ConductorOverview | None = None
        self.store: LakeFSStore | None = None
        if settings.conductor is not None:
            from perago.adapters.conductor import ConductorOverview, ConductorQueue

            self.queue = stack.enter_context(contextlib.closing(ConductorQueue(settings.conductor, policy=_POLICY)))
            self.overview = stack.enter_context(contextlib.closing(ConductorOverview(settings.conductor)))
        if settings.lakefs is not None:
            from perago.adapters.lakefs import LakeFSStore

            store = LakeFSStore(settings.lakefs, threads=1, policy=_POLICY)
            self.store = stack.enter_context(contextlib.closing(store))

    def checks(self) -> Iterator[Check]:
        """Whether they answer and let us in."""
        if self.queue is not None and self.overview is not None and self.settings.conductor is not None:
            address, about = self.settings.conductor.shown, self.overview.about
            yield Check(
                "Conductor", _NO_CONDUCTOR, partial(servers.server, "Conductor", address, self.queue.ping, about)
            )
        if self.store is not None and self.settings.lakefs is not None:
            address, ping = self.settings.lakefs.shown, self.store.ping
            yield Check("lakeFS", _NO_LAKEFS, partial(servers.server, "lakeFS", address, ping, self.store.about))


def _none() -> list[Probed]:
    return []


def _explain(error: ServiceError) -> tuple[str, str]:
    return messages.service_words(error), advice(error)


def _installed() -> Iterator[Finding]:
    from perago import __version__

    parts = [
        f"perago {__version__}",
        f"Python {platform.python_version()}",
        f"{platform.system()} {platform.release()}",
    ]
    parts += [f"{name} {version(name)}" for name in ("conductor-python", "lakefs-sdk")]
    yield Finding("installed", Level.OK, ", ".join(parts))
    if other := namesake():
        what, _, fix = other.partition("\n")
        yield Finding(
            "installed", Level.WARNING, what, "commands of the other one fail", fix.strip().removeprefix("fix: ")
        )


def _configured(configuration: Configuration) -> Iterator[Finding]:
    for text in configuration.warnings:
        yield Finding(
            "configuration", Level.WARNING, text, "it may not mean what was meant", "perago config shows all of it"
        )
    for problem in configuration.problems:
        yield _of_problem(problem)
    if configuration.settings is not None and not configuration.problems:
        settings = settings_in_effect(configuration.settings)
        origins = dict.fromkeys(one.source for one in settings if one.source not in ("", "default"))
        given = [f"{origin}: {listing([one.name for one in settings if one.source == origin])}" for origin in origins]
        yield Finding("configuration", Level.OK, "; ".join(given) or "everything is left to its default")


def _of_problem(problem: Problem) -> Finding:
    place = f" ({problem.where})" if problem.where else ""
    what = f"{problem.variable}{place}: {problem.message}"
    why = "workers refuse to start"
    return Finding(
        "configuration", Level.PROBLEM, what, why, problem.fix or "see docs/configuration.md", Cause.CONFIGURATION
    )


def _modules(probed: Sequence[Probed]) -> Iterator[Finding]:
    for one in probed:
        if one.problem is not None:
            place = f"{one.problem.where}: " if one.problem.where else ""
            what = masked(f"{place}{one.problem.message}")
            why, fix = "workers for it refuse to start", one.problem.fix or "correct the module"
            yield Finding(one.module, Level.PROBLEM, what, why, fix, Cause.MODULE)
        elif one.task is not None and one.task.missing:
            what, command = one.task.missing[0]
            yield Finding(one.module, Level.PROBLEM, what, "its attempts fail on this machine", command, Cause.MODULE)


def _missing(clients: _Clients, probed: Sequence[Probed], branches: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Servers that are not configured: a problem where what was named needs them."""
    settings = clients.settings
    needs_lakefs = bool(branches) or any(one.task is not None and one.task.workspace for one in probed)
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
                what = f"{name} is not configured, so nothing about it was looked at"
                yield Finding("configuration", Level.WARNING, what, "workers need it", "see docs/configuration.md")


def _named_in_full(patterns: Sequence[str]) -> list[tuple[str, str]]:
    """Those that are no patterns: `my-data/main`."""
    plain = [pattern for pattern in patterns if not set("*?[") & set(pattern)]
    return [(repository, branch) for repository, _, branch in (one.partition("/") for one in plain)]


def _leftovers(
    store: LakeFSStore, check: ConductorQueue | None, server: str, repository: str, now: float
) -> Iterator[Finding]:
    from perago.driver.first_seen import FirstSeenStore

    seen = FirstSeenStore(state_directory() / "gc.json", server)
    yield from workspaces.leftovers(store, check, seen, repository, now)
