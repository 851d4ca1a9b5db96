"""The servers of a benchmark, by the variables that perago itself reads, and plain REST calls to them."""

from __future__ import annotations

import base64
import contextlib
import json
import multiprocessing
import os
import secrets
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from pydantic import SecretStr

from perago.adapters.lakefs import LakeFSStore
from perago.ports import Upload
from perago.settings import ConfigurationError, LakeFSSettings, Settings, load_settings

START_SECONDS = 30
"""Most seconds that an embedded service takes to start, and to end."""


def settings() -> Settings:
    """Return the configuration of the environment; end the benchmark if it is invalid."""
    try:
        return load_settings()
    except ConfigurationError as error:
        raise SystemExit(str(error)) from error


def lakefs() -> LakeFSSettings:
    """Return the lakeFS of the environment; end the benchmark if it names none."""
    try:
        return settings().require_lakefs()
    except ConfigurationError as error:
        raise SystemExit(f"this benchmark needs a real lakeFS\n{error}") from error


def conductor() -> str:
    """Return the Conductor of the environment; end the benchmark if it names none."""
    try:
        return settings().require_conductor().server_url.rstrip("/")
    except ConfigurationError as error:
        raise SystemExit(f"this benchmark needs a real Conductor\n{error}") from error


@contextlib.contextmanager
def lakefs_or_embedded() -> Iterator[tuple[LakeFSSettings, str]]:
    """Yield the lakeFS of the environment, otherwise an embedded one, and its name in a title."""
    if (configured := settings().lakefs) is not None:
        yield configured, "real lakeFS"
        return
    key, secret = "benchmark", secrets.token_hex(16)
    with _in_process(_serve_lakefs, key, secret) as url:
        yield LakeFSSettings(url, key, SecretStr(secret)), "embedded lakeFS"


@contextlib.contextmanager
def conductor_or_embedded() -> Iterator[str]:
    """Yield the Conductor of the environment, otherwise an embedded one."""
    if (configured := settings().conductor) is not None:
        yield configured.server_url.rstrip("/")
        return
    with _in_process(_serve_conductor) as url:
        yield f"{url}/api"


@contextlib.contextmanager
def _in_process(serve: Callable[..., None], *arguments: str) -> Iterator[str]:
    """Run an embedded service in a process of its own. `serve` gets a pipe, to which it sends its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
    process.start()
    try:
        if not ours.poll(START_SECONDS):
            raise SystemExit(f"the embedded service did not start within {START_SECONDS} s")
        yield ours.recv()
    finally:
        ours.send("end")
        process.join(START_SECONDS)


def _serve_lakefs(pipe: Connection, key: str, secret: str) -> None:
    from perago.driver import SystemClock
    from perago.embedded.http.lakefs import lakefs_app
    from perago.embedded.http.loopback import serve
    from perago.embedded.lakefs import LakeFSServer

    server = LakeFSServer(SystemClock())
    with serve(lakefs_app(server, access_key_id=key, secret_access_key=secret)) as url:
        pipe.send(url)
        pipe.recv()
    server.close()


def _serve_conductor(pipe: Connection) -> None:
    from perago.driver import SystemClock
    from perago.embedded.conductor import InMemoryConductor
    from perago.embedded.http.conductor import conductor_app
    from perago.embedded.http.loopback import serve

    with serve(conductor_app(InMemoryConductor(SystemClock()))) as url:
        pipe.send(url)
        pipe.recv()


def call(url: str, method: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
    """Send one plain REST call."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, content, {"Content-Type": "application/json", **(headers or {})}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        text = response.read().decode()
    try:
        return json.loads(text)
    except ValueError:
        return text


def credentials(settings: LakeFSSettings) -> dict[str, str]:
    """Return the header that authenticates a call to lakeFS."""
    pair = f"{settings.access_key_id}:{settings.secret_access_key.get_secret_value()}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def api(settings: LakeFSSettings) -> str:
    """Return the root of the REST interface of lakeFS."""
    return settings.endpoint_url.rstrip("/").removesuffix("/api/v1") + "/api/v1"


@contextlib.contextmanager
def repository(settings: LakeFSSettings) -> Iterator[str]:
    """Create a repository with a `main` branch for the block. Its storage is lakeFS's local block store, or what
    `BENCHMARK_NAMESPACE` names, such as `s3://bucket/`."""
    name = f"perago-benchmark-{uuid.uuid4().hex[:12]}"
    namespace = f"{os.environ.get('BENCHMARK_NAMESPACE', 'local://')}{name}"
    body = {"name": name, "storage_namespace": namespace, "default_branch": "main"}
    call(f"{api(settings)}/repositories", "POST", body, credentials(settings))
    try:
        yield name
    finally:
        call(f"{api(settings)}/repositories/{name}?force=true", "DELETE", None, credentials(settings))


def commit_files(settings: LakeFSSettings, repository: str, uploads: list[Upload]) -> str:
    """Commit files to `main`, and return the commit."""
    with contextlib.closing(LakeFSStore(settings)) as store:
        store.upload(repository, "main", uploads)
        return store.commit(repository, "main", "files of the benchmark", {}).id
