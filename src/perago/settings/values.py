"""The validated configuration, as everything else receives it.

All values are frozen and picklable, because spawned slot processes get them through a pipe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr

from perago.settings.mask import shown_address
from perago.settings.sources import ConfigurationError, Problem


class PublishFence(StrEnum):
    """How strictly a publication insists on the server-side publish fence (docs/design/contract.md 6)."""

    AUTO = "auto"
    """The first publication to a branch without the fence brings it along. A server that does not run hooks is warned
    about."""
    REQUIRED = "required"
    """The same, and nothing is published through a server that does not run hooks."""
    OFF = "off"
    """Nothing is brought along, and no server is tried. A fence that is there still works."""


class LogFormat(StrEnum):
    """How a worker writes its log to standard error (docs/logs.md)."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """One JSON object a line, with the fields of the log files."""


class Upkeep(StrEnum):
    """What a worker looks after on the side (docs/configuration.md)."""

    DIRECTORIES = "directories"
    """Attempt directories of workers that were killed."""
    BRANCHES = "branches"
    """Staging branches of attempts that are over, as `perago gc` finds them."""
    CACHE = "cache"
    """The cache of objects is kept to its limit."""
    LOGS = "logs"
    """Log files past their time, or too many of them."""


ALL_UPKEEP = frozenset(Upkeep)


@dataclass(frozen=True, slots=True)
class ConductorSettings:
    """How to reach Conductor. The two credentials are both set or both None."""

    server_url: str = field(repr=False)
    auth_key: str | None = field(default=None, repr=False)
    auth_secret: SecretStr | None = None

    @property
    def shown(self) -> str:
        """The address for people."""
        return shown_address(self.server_url)


@dataclass(frozen=True, slots=True)
class LakeFSSettings:
    """How to reach lakeFS."""

    endpoint_url: str = field(repr=False)
    access_key_id: str = field(repr=False)
    secret_access_key: SecretStr

    @property
    def shown(self) -> str:
        """The address for people."""
        return shown_address(self.endpoint_url)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration (docs/design/contract.md 6; docs/configuration.md lists the variables)."""

    conductor: ConductorSettings | None
    """None: `CONDUCTOR_SERVER_URL` is not set."""
    lakefs: LakeFSSettings | None
    """None: none of the `LAKECTL_` variables is set."""
    workspace_root: Path
    log_root: Path
    log_file_max_size: int
    """In bytes."""
    log_retention: int
    """In days."""
    worker_id_prefix: str | None
    """None: `default_worker_id_prefix` of the task module."""
    worker_id: str | None
    """What the supervisor wrote into the environment of a slot."""
    publish_fence: PublishFence
    shutdown_grace: float
    """In seconds."""
    transfer_threads: int
    max_result_bytes: int
    max_workspace_bytes: int | None
    max_workspace_objects: int
    cache_max_bytes: int | None = None
    """What the cache of objects may have on disk; 0: there is none. None: a tenth of what is free at the start."""
    log_format: LogFormat | None = None
    """None: standard error gets no log."""
    log_files: bool = True
    allowed_workspaces: tuple[str, ...] | None = None
    """Glob patterns `repository/branch` that an input may name; None: any."""
    maintenance: frozenset[Upkeep] = ALL_UPKEEP
    """What workers look after on the side."""
    warnings: tuple[str, ...] = ()
    """What looks like a mistake but stops nothing: unknown `PERAGO_` variables, credentials sent in the clear."""

    def require_conductor(self) -> ConductorSettings:
        """The Conductor settings of a command that cannot do without them.

        Raises:
            ConfigurationError: they are not set.
        """
        if self.conductor is None:
            raise ConfigurationError([_not_set("CONDUCTOR_SERVER_URL", "http://localhost:8080/api")])
        return self.conductor

    def require_lakefs(self) -> LakeFSSettings:
        """The lakeFS settings of a command that cannot do without them.

        Raises:
            ConfigurationError: they are not set.
        """
        if self.lakefs is None:
            raise ConfigurationError(
                [
                    _not_set("LAKECTL_SERVER_ENDPOINT_URL", "http://localhost:8000"),
                    _not_set("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "<access key id>"),
                    _not_set("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "<secret access key>"),
                ]
            )
        return self.lakefs


def _not_set(variable: str, example: str) -> Problem:
    return Problem(variable, "", "not set", f"Set it in the environment or in .env: {variable}={example}")


def default_worker_id_prefix(module: str) -> str:
    """The worker id prefix of a task module: its import path reduced to ASCII letters and digits
    (docs/design/contract.md 6)."""
    return re.sub(r"[^A-Za-z0-9]", "", module) or "worker"
