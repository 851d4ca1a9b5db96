"""The lakeFS that a port scenario is played on, and what a scenario needs beside the port."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from perago.adapters.lakefs import LakeFSStore
from perago.driver import SystemClock
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import InMemoryLakeFS, LakeFSServer
from perago.ports import WorkspaceStore
from perago.settings import LakeFSSettings

from ...live import repositories


@dataclass(frozen=True)
class LakeFSService:
    """A store, and a repository in it that has one commit on `main`."""

    store: WorkspaceStore
    repository: str


@contextmanager
def on_the_model() -> Iterator[LakeFSService]:
    """The model itself, as tests of attempts use it."""
    with InMemoryLakeFS(SystemClock()) as lakefs:
        lakefs.server.create_repository("perago-test")
        yield LakeFSService(lakefs, "perago-test")


@contextmanager
def over_http(settings: LakeFSSettings) -> Iterator[LakeFSService]:
    """The adapter that production uses, on the server that `settings` name."""
    secret = settings.secret_access_key.get_secret_value()
    server = repositories.LakeFSServer(settings.endpoint_url, settings.access_key_id, secret, real=True)
    made = repositories.created(server)
    with closing(LakeFSStore(settings)) as store:
        yield LakeFSService(store, made.name)
    made.delete()


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
