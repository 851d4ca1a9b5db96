"""The lakeFS that a port scenario is played on, and what a scenario needs beside the port."""

from __future__ import annotations

import base64
import json
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from pydantic import SecretStr

from perago.adapters.lakefs import LakeFSStore
from perago.driver import SystemClock
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import InMemoryLakeFS, LakeFSServer
from perago.ports import WorkspaceStore
from perago.settings import LakeFSSettings


class LakeFSService(Protocol):
    """A store, and repositories for it."""

    @property
    def store(self) -> WorkspaceStore: ...

    def create_repository(self, name: str) -> None:
        """One with a first commit on `main`."""
        ...

    def delete_repository(self, name: str) -> None: ...


class _Model:
    def __init__(self, lakefs: InMemoryLakeFS) -> None:
        self.store: WorkspaceStore = lakefs
        self._server = lakefs.server

    def create_repository(self, name: str) -> None:
        self._server.create_repository(name)

    def delete_repository(self, name: str) -> None:
        self._server.delete_repository(name)


class _OverHttp:
    def __init__(self, store: LakeFSStore, settings: LakeFSSettings) -> None:
        self.store: WorkspaceStore = store
        self._settings = settings

    def create_repository(self, name: str) -> None:
        scheme = os.environ.get("PERAGO_LIVE_STORAGE", "local://")
        body = {"name": name, "storage_namespace": scheme + name, "default_branch": "main"}
        self._administer("POST", "/repositories", body)

    def delete_repository(self, name: str) -> None:
        self._administer("DELETE", f"/repositories/{name}")

    def _administer(self, method: str, path: str, body: object = None) -> None:
        pair = f"{self._settings.access_key_id}:{self._settings.secret_access_key.get_secret_value()}"
        headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        headers |= {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        url = f"{self._settings.endpoint_url.rstrip('/')}/api/v1{path}"
        with urllib.request.urlopen(urllib.request.Request(url, content, headers, method=method), timeout=60):
            pass


@contextmanager
def on_the_model() -> Iterator[LakeFSService]:
    """The model itself, as tests of attempts use it."""
    with InMemoryLakeFS(SystemClock()) as lakefs:
        yield _Model(lakefs)


@contextmanager
def over_http(settings: LakeFSSettings) -> Iterator[LakeFSService]:
    """The adapter that production uses, on the server that `settings` name."""
    with closing(LakeFSStore(settings)) as store:
        yield _OverHttp(store, settings)


@contextmanager
def embedded() -> Iterator[LakeFSSettings]:
    """The embedded server."""
    server = LakeFSServer(SystemClock())
    with serve(lakefs_app(server, access_key_id="key", secret_access_key="secret")) as url:
        yield LakeFSSettings(url, "key", SecretStr("secret"))
    server.close()


def settings_of(address: str) -> LakeFSSettings:
    """Of `http://KEY:SECRET@HOST:PORT`."""
    parts = urllib.parse.urlsplit(address)
    key, secret = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
    return LakeFSSettings(f"{parts.scheme}://{parts.hostname}:{parts.port or 80}", key, SecretStr(secret))
