"""The same services as of `LocalServices`, reached as in production: by the adapters, over HTTP."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from pydantic import SecretStr

from perago.adapters.conductor import ConductorQueue
from perago.adapters.lakefs import LakeFSStore
from perago.embedded.http.services import EmbeddedServices
from perago.local.conductor import HttpConductor
from perago.local.services import BRANCH, LONGEST_POLL, REPOSITORY
from perago.ports import TaskQueue
from perago.settings import ConductorSettings, LakeFSSettings
from perago.worker.plan import StoreFactory


class ServedServices:
    """Both services, from entering the context to leaving it. Needs the extra `embedded`."""

    preload = ("perago.driver", "perago.adapters.lakefs", "lakefs_sdk")

    def __init__(self) -> None:
        self._services = EmbeddedServices(longest_poll=LONGEST_POLL)
        self.clock = self._services.clock
        self.lakefs = self._services.lakefs

    def __enter__(self) -> ServedServices:
        self._services.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._services.__exit__(kind, error, traceback)

    @property
    def conductor(self) -> HttpConductor:
        """Where workflows are defined, started and watched."""
        return HttpConductor(self._services.conductor_url)

    def queue(self) -> TaskQueue:
        """A connection for one worker, to be closed by whoever asked for it."""
        return ConductorQueue(ConductorSettings(self._services.conductor_url, None, None))

    @property
    def store_factory(self) -> StoreFactory:
        """Makes a slot's connection to lakeFS."""
        services = self._services
        keys = services.keys
        settings = LakeFSSettings(services.lakefs_url, keys.access_key_id, SecretStr(keys.secret_access_key))
        return functools.partial(LakeFSStore, settings)

    def seed(self, files: Mapping[str, str | bytes | Path | None], message: str) -> str:
        """Commit files to the workspace branch; returns the commit id."""
        return self.lakefs.seed(REPOSITORY, BRANCH, files, message=message).id
