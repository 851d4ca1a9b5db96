"""What a command finds before it does anything: the settings, what workers take from them, and what is installed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from perago.cache import ObjectCache
    from perago.cli.probe import TaskSummary
    from perago.driver import Limits
    from perago.settings import LogFormat, Problem, Settings
    from perago.worker import LogPlan


_EMBEDDED = ("starlette", "uvicorn", "jinja2")
"""Packages of the extra `embedded` that serving needs."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, unless they are not valid, with everything that is wrong or looks like a mistake."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()


def look_at_configuration() -> Configuration:
    """Read the environment and `.env` and dry-run the roots; it creates nothing and asks no server."""
    from perago.settings import ConfigurationError, check_roots, load_settings

    try:
        settings = load_settings()
    except ConfigurationError as error:
        return Configuration(None, error.details)
    return Configuration(settings, check_roots(settings), settings.warnings)


def with_log_format(configuration: Configuration, given: LogFormat | None) -> Configuration:
    """The configuration of a worker that logs to standard error in the format that was `given`, or else configured;
    from now on messages do so, too."""
    from perago.settings import Problem

    settings = configuration.settings
    form = given or (settings.log_format if settings else None)
    if form is not None:
        messages.write_as(form)
    if settings is None:
        return configuration
    problems = configuration.problems
    if form is None and not settings.log_files:
        fix = "Set PERAGO_LOG_FORMAT=json, or leave PERAGO_LOG_FILES on."
        problems += (
            Problem("PERAGO_LOG_FILES", "", "off, and PERAGO_LOG_FORMAT is not set: there would be no log", fix),
        )
    return replace(configuration, settings=replace(settings, log_format=form), problems=problems)


def look_at_services(configuration: Configuration, *, lakefs: bool) -> tuple[Problem, ...]:
    """What is missing to reach Conductor and, if asked, to publish to lakeFS as it was configured."""
    from perago.settings import ConfigurationError

    settings = configuration.settings
    if settings is None:
        return ()
    problems: list[Problem] = []
    for require in (settings.require_conductor, *([settings.require_lakefs] if lakefs else [])):
        try:
            require()
        except ConfigurationError as error:
            problems += error.details
    return tuple(problems)


def valid_settings() -> Settings:
    """The configuration, with its roots made; processes that start from now on do not inherit its credentials.

    Raises:
        CommandError: it is not valid, and everything that is wrong has been said.
    """
    from perago.settings import prepare_roots

    configuration = look_at_configuration()
    for text in configuration.warnings:
        messages.warning(text)
    if configuration.settings is None or configuration.problems:
        messages.configuration_errors(configuration.problems)
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
    prepare_roots(configuration.settings)
    withhold_credentials()
    return configuration.settings


def withhold_credentials() -> None:
    """From now on, no process that this one starts inherits a variable that is withheld from task functions."""
    from perago.authoring.environment import withheld
    from perago.settings import take_from_environment

    take_from_environment(withheld(os.environ))


def environment_of(task: TaskSummary) -> dict[str, str]:
    """The withheld variables that the task asks for."""
    from perago.authoring.environment import asked_for
    from perago.settings import whole_environment

    return asked_for(whole_environment(), task.environment)


def logs_of(settings: Settings) -> LogPlan:
    """Where and how its logs are written."""
    from perago.worker import LogPlan

    return LogPlan(root=settings.log_root, max_bytes=settings.log_file_max_size, retention_days=settings.log_retention)


def limits_of(settings: Settings) -> Limits:
    """What its attempts are allowed."""
    from perago.driver import Limits

    return Limits(
        max_result_bytes=settings.max_result_bytes,
        max_workspace_bytes=settings.max_workspace_bytes,
        max_workspace_objects=settings.max_workspace_objects,
        publish_fence=settings.publish_fence,
        allowed_workspaces=settings.allowed_workspaces,
    )


def cache_of(settings: Settings) -> ObjectCache:
    """The cache that attempts on the configured lakeFS use. The workspace root exists."""
    from perago.cache import CacheUnusable, ObjectCache, default_limit

    limit = settings.cache_max_bytes
    if limit is None:
        try:
            limit = default_limit(settings.workspace_root)
        except (CacheUnusable, OSError):  # the worker says it, each time that it looks after the cache
            limit = 0
    return ObjectCache(settings.workspace_root, limit, settings.require_lakefs().endpoint_url)


def require_embedded(command: str) -> None:
    """Make sure that services can be served over HTTP.

    Raises:
        CommandError: the extra `embedded` is not installed.
    """
    missing = [name for name in _EMBEDDED if find_spec(name) is None]
    if missing:
        message = f"perago {command} serves over HTTP, but {' and '.join(missing)} cannot be found"
        raise CommandError(ExitCode.FAILURE, message, f"pip install {' '.join(missing)}")


def namesake() -> str:
    """What to say if the `perago` that is installed is the one of the package index, which is another project."""
    try:
        installed = distribution("perago")
    except PackageNotFoundError:
        return ""
    if any(point.group == "pytest11" for point in installed.entry_points):
        return ""
    return (
        f"the perago {installed.version} that is installed here is another project of the same name; the code that "
        f"runs is in {Path(__file__).parents[1]}\n"
        "  fix: pip uninstall perago, and install this one again (README.md, Install)"
    )
