"""The examination of `perago doctor`: which checks there are, and what each needs."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from perago.adapters.http import CallPolicy
from perago.configuration import Configuration, Servers, limits_of, namesake, read_configuration
from perago.diagnosis import checks
from perago.diagnosis.checks import Cause, Check, Declared, Explain, Finding, Level, run_checks
from perago.settings import ConfigurationError, Problem, mask_secrets, state_directory
from perago.settings.variables import settings_in_effect
from perago.text import listing

if TYPE_CHECKING:
    from perago.probe import Probed
    from perago.settings import Settings

_POLICY = CallPolicy(connect=5.0, answer=10.0, merge=20.0, tries=2, largest=64 * 1024 * 1024)
_NO_CONDUCTOR = "no worker gets work, and none reports a result"
_NO_LAKEFS = "no task with a workspace can read or publish"


class Doctor:
    """One examination.

    Args:
        branches: repositories with their branches; empty: those that `PERAGO_ALLOWED_WORKSPACES` names in full.
        write: also try a publication on a hidden branch.
        explain: says what a server did not do, and what to do about it.
        tell: hears what is being done.
    """

    def __init__(
        self, branches: Sequence[tuple[str, str]], *, write: bool, explain: Explain, tell: Callable[[str], None]
    ) -> None:
        self._branches = branches
        self._write = write
        self._explain = explain
        self._tell = tell
        self._now = time.time()

    def examine(self, modules: Sequence[str], seconds: float) -> list[Finding]:
        """Return all findings: the machine first, then the servers, then what needs them.

        Args:
            modules: task modules and packages, whose TaskDefs and queues are checked.
            seconds: how long importing one of them may take.
        """
        from perago.probe import probing

        with contextlib.ExitStack() as stack:
            results = stack.enter_context(probing(modules, seconds, packages=True)) if modules else list
            configuration = read_configuration()
            findings = [*_installed(), *_configured(configuration)]
            if (settings := configuration.settings) is None:
                return [*findings, *_modules(results())]
            servers = stack.enter_context(Servers(settings, policy=_POLICY))
            patient = stack.enter_context(Servers(settings))  # lists of attempts may be long
            findings += run_checks(
                [*self._of_machine(settings), *_of_servers(settings, servers, patient)], self._explain
            )
            self._tell("looking at task modules")
            probed = results()
            findings += _modules(probed)
            findings += _missing(settings, probed, self._branches)
            away = {found.area for found in findings if found.cause is Cause.SERVER}
            declared = [Declared(one.module, one.task.name, one.task.definition) for one in probed if one.task]
            self._tell("looking at TaskDefs, queues and branches")
            further: list[Check] = []
            has_conductor = settings.conductor is not None and "Conductor" not in away
            if settings.lakefs is not None and "lakeFS" not in away:
                further += self._of_branches(settings, servers, has_conductor=has_conductor)
            if has_conductor:
                further += self._of_tasks(settings, servers, patient, declared if modules else None)
            return findings + run_checks(further, self._explain)

    def _of_machine(self, settings: Settings) -> list[Check]:
        root, why = settings.workspace_root, "attempts need this disk"
        return [
            Check("disk", why, partial(checks.disk, "PERAGO_WORKSPACE_ROOT", root)),
            Check("disk", "logs need this disk", partial(checks.disk, "PERAGO_LOG_ROOT", settings.log_root)),
            Check("open files", why, checks.open_files),
            Check("cache", "attempts fetch every object from lakeFS", partial(checks.cache, settings)),
            Check("leftovers", why, partial(checks.left_directories, root, self._now)),
        ]

    def _of_branches(self, settings: Settings, servers: Servers, *, has_conductor: bool) -> Iterator[Check]:
        plain = [pattern for pattern in settings.allowed_workspaces or () if not set("*?[") & set(pattern)]
        named = self._branches or [(repository, name) for repository, _, name in (one.partition("/") for one in plain)]
        for repository, name in named:
            look = partial(checks.branch, servers.store, limits_of(settings), repository, name, write=self._write)
            yield Check(f"{repository}/{name}", "attempts on this branch fail in the same way", look)
        for repository in dict.fromkeys(repository for repository, _ in named):
            look = partial(self._left_branches, settings, servers, repository, has_conductor=has_conductor)
            yield Check(repository, "branches that attempts left are not removed", look)

    def _left_branches(
        self, settings: Settings, servers: Servers, repository: str, *, has_conductor: bool
    ) -> Iterator[Finding]:
        from perago.driver.gc import BranchAges

        ages = BranchAges(state_directory() / "gc.json", settings.require_lakefs().endpoint_url)
        check = servers.queue if has_conductor else None
        yield from checks.left_branches(servers.store, check, ages, repository, self._now)

    def _of_tasks(
        self, settings: Settings, servers: Servers, patient: Servers, declared: Sequence[Declared] | None
    ) -> Iterator[Check]:
        for task in declared or ():
            yield Check(task.name, _NO_CONDUCTOR, partial(checks.drift, servers.queue, task))
        if declared != []:
            why = "forks may fail while an attempt is retried"
            yield Check("forks", why, partial(checks.forks, patient.overview, declared))
            look = partial(checks.queues, patient.overview, settings.workspace_root, declared, self._now)
            yield Check("queues", _NO_CONDUCTOR, look)


def _of_servers(settings: Settings, servers: Servers, patient: Servers) -> Iterator[Check]:
    """Check whether the configured servers answer and let us in."""
    if settings.conductor is not None:
        look = partial(checks.server, "Conductor", settings.conductor.shown, servers.queue.ping, patient.overview.about)
        yield Check("Conductor", _NO_CONDUCTOR, look)
    if settings.lakefs is not None:
        look = partial(checks.server, "lakeFS", settings.lakefs.shown, servers.store.ping, servers.store.about)
        yield Check("lakeFS", _NO_LAKEFS, look)


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
        "configuration", Level.PROBLEM, what, why, problem.fix or "perago help configuration", Cause.CONFIGURATION
    )


def _modules(probed: Sequence[Probed]) -> Iterator[Finding]:
    for one in probed:
        if one.problem is not None:
            place = f"{one.problem.where}: " if one.problem.where else ""
            what = mask_secrets(f"{place}{one.problem.message}")
            why, fix = "workers for it refuse to start", one.problem.fix or "correct the module"
            yield Finding(one.module, Level.PROBLEM, what, why, fix, Cause.MODULE)
        elif one.task is not None and one.task.missing:
            what, command = one.task.missing[0]
            yield Finding(one.module, Level.PROBLEM, what, "its attempts fail on this machine", command, Cause.MODULE)


def _missing(settings: Settings, probed: Sequence[Probed], branches: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Servers that are not configured: a problem where what was named needs them."""
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
                yield Finding("configuration", Level.WARNING, what, "workers need it", "perago help configuration")
