"""The configuration of this machine for commands, the clients of its servers, and the installed packages."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from perago import DISTRIBUTION

if TYPE_CHECKING:
    from perago.adapters.conductor import ConductorQueue
    from perago.adapters.conductor.overview import ConductorOverview, ConductorWorkflows
    from perago.adapters.http import CallPolicy
    from perago.adapters.lakefs import LakeFSBrowser, LakeFSStore
    from perago.cache import ObjectCache
    from perago.settings import Problem, Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, with all problems and warnings. `settings` is None if they are not valid."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()


def read_configuration(*, local: bool = False) -> Configuration:
    """Read the environment and `.env`, and check the roots. It creates nothing and asks no server.

    With `local`, variables that a command on embedded services does not need cannot be a problem.
    """
    from perago.settings import ConfigurationError, check_roots, load_settings

    try:
        settings = load_settings(local=local)
    except ConfigurationError as error:
        return Configuration(None, error.details, error.warnings)
    return Configuration(settings, check_roots(settings), settings.warnings)


def missing_services(configuration: Configuration, *, lakefs: bool) -> tuple[Problem, ...]:
    """Return the missing settings for Conductor and, if requested, for publications to lakeFS."""
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


def cache_of(settings: Settings) -> ObjectCache:
    """Return the cache for attempts on the configured lakeFS. The workspace root must exist."""
    from perago.cache import CacheUnusable, ObjectCache, default_limit

    limit = settings.cache_max_bytes
    if limit is None:
        try:
            limit = default_limit(settings.workspace_root)
        except (CacheUnusable, OSError):  # the worker reports it whenever it checks the cache
            limit = 0
    return ObjectCache(settings.workspace_root, limit, settings.require_lakefs().endpoint_url)


class _Client(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Client)


class Servers:
    """Clients of the configured Conductor and lakeFS, each opened when it is first used. Use it as a context manager.

    Each client raises a ConfigurationError if its server is not configured.

    Args:
        settings: where the servers are; None: where the configuration says.
        policy: time limits and repetitions of all clients; None for those of each client.
        cached: read objects of lakeFS as workers do, with the cache of this machine.
    """

    def __init__(
        self, settings: Settings | None = None, *, policy: CallPolicy | None = None, cached: bool = False
    ) -> None:
        from perago.settings import load_settings

        self.settings: Settings = settings or load_settings()
        self._options: dict[str, Any] = {} if policy is None else {"policy": policy}
        self._cached = cached
        self._open = ExitStack()

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    @cached_property
    def queue(self) -> ConductorQueue:
        """The queues of tasks, and their TaskDefs."""
        from perago.adapters.conductor import ConductorQueue

        return self._opened(ConductorQueue(self.settings.require_conductor(), **self._options))

    @cached_property
    def workflows(self) -> ConductorWorkflows:
        """The workflows and their attempts."""
        from perago.adapters.conductor.overview import ConductorWorkflows

        return self._opened(ConductorWorkflows(self.settings.require_conductor(), **self._options))

    @cached_property
    def overview(self) -> ConductorOverview:
        """The queues and the last polls."""
        from perago.adapters.conductor.overview import ConductorOverview

        return self._opened(ConductorOverview(self.settings.require_conductor(), **self._options))

    @cached_property
    def store(self) -> LakeFSStore:
        """The workspaces."""
        from perago.adapters.lakefs import LakeFSStore

        options = dict(self._options)
        if self._cached:
            options |= {"threads": self.settings.transfer_threads, "cache": cache_of(self.settings)}
        return self._opened(LakeFSStore(self.settings.require_lakefs(), **options))

    @cached_property
    def browser(self) -> LakeFSBrowser:
        """The repositories, page by page."""
        from perago.adapters.lakefs import LakeFSBrowser

        return self._opened(LakeFSBrowser(self.settings.require_lakefs(), **self._options))

    def _opened(self, client: C) -> C:
        self._open.callback(client.close)
        return client


def namesake() -> str:
    """Return a warning if the `perago` that is installed is the one of the package index, which is another project."""
    try:
        installed = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return ""
    if any(point.group == "pytest11" for point in installed.entry_points):
        return ""
    return (
        f"the {DISTRIBUTION} {installed.version} that is installed here is another project of the same name; the code "
        f"that runs is in {Path(__file__).parent}\n"
        f"  fix: pip uninstall {DISTRIBUTION}, and install this one again (perago help install)"
    )
