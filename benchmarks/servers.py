"""The real servers that a benchmark needs, by the variables that perago itself reads; plain REST for the rest."""

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
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from pydantic import SecretStr

from perago.ports import Upload
from perago.settings import ConfigurationError, LakeFSSettings, Settings, load_settings

START_SECONDS = 30
"""How long a server of our own may take to start, and to end."""


def settings() -> Settings:
    """The configuration of the environment; says what is missing and ends the benchmark otherwise."""
    try:
        return load_settings()
    except ConfigurationError as error:
        raise SystemExit(str(error)) from error


def lakefs() -> LakeFSSettings:
    """Where lakeFS is; ends the benchmark if nothing says so."""
    try:
        return settings().require_lakefs()
    except ConfigurationError as error:
        raise SystemExit(f"this benchmark needs a real lakeFS\n{error}") from error


@contextlib.contextmanager
def lakefs_or_embedded() -> Iterator[tuple[LakeFSSettings, str]]:
    """The lakeFS that the environment names, otherwise an embedded one; and what to call it."""
    found = settings().lakefs
    if found is not None:
        yield found, "real lakeFS"
        return
    with embedded_lakefs() as found:
        yield found, "embedded lakeFS"


@contextlib.contextmanager
def embedded_lakefs() -> Iterator[LakeFSSettings]:
    """An embedded lakeFS over HTTP in a process of its own, as `perago dev` has it; ends the benchmark if it does not
    start."""
    key, secret = "benchmark", secrets.token_hex(16)
    with _served(_lakefs_until_told, key, secret) as url:
        yield LakeFSSettings(url, key, SecretStr(secret))


@contextlib.contextmanager
def _served(serve: Callable[..., None], *more: str) -> Iterator[str]:
    """The URL of an embedded service in a process of its own; `serve` gets a pipe to send it to."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, *more), daemon=True)
    process.start()
    try:
        if not ours.poll(START_SECONDS):
            raise SystemExit(f"the embedded service did not start within {START_SECONDS} s")
        yield ours.recv()
    finally:
        ours.send("end")
        process.join(START_SECONDS)


def _lakefs_until_told(pipe: Connection, key: str, secret: str) -> None:
    from perago.driver import SystemClock
    from perago.embedded.http.lakefs import lakefs_app
    from perago.embedded.http.loopback import serve
    from perago.embedded.lakefs import LakeFSServer

    server = LakeFSServer(SystemClock())
    with serve(lakefs_app(server, access_key_id=key, secret_access_key=secret)) as url:
        pipe.send(url)
        pipe.recv()
    server.close()


def conductor() -> str:
    """Where Conductor is; ends the benchmark if nothing says so."""
    try:
        return settings().require_conductor().server_url.rstrip("/")
    except ConfigurationError as error:
        raise SystemExit(f"this benchmark needs a real Conductor\n{error}") from error


@contextlib.contextmanager
def conductor_or_embedded() -> Iterator[tuple[str, str]]:
    """The Conductor that the environment names, otherwise an embedded one; and what to call it."""
    found = settings().conductor
    if found is not None:
        yield found.server_url.rstrip("/"), "real Conductor"
        return
    with _served(_conductor_until_told) as url:
        yield f"{url}/api", "embedded Conductor"


def _conductor_until_told(pipe: Connection) -> None:
    from perago.driver import SystemClock
    from perago.embedded.conductor import InMemoryConductor
    from perago.embedded.http.conductor import conductor_app
    from perago.embedded.http.loopback import serve

    with serve(conductor_app(InMemoryConductor(SystemClock()))) as url:
        pipe.send(url)
        pipe.recv()


def through(found: LakeFSSettings, url: str) -> LakeFSSettings:
    """The same server at another URL."""
    return replace(found, endpoint_url=url)


def call(url: str, method: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
    """One plain REST call."""
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


def credentials(found: LakeFSSettings) -> dict[str, str]:
    """The header that lets us in."""
    pair = f"{found.access_key_id}:{found.secret_access_key.get_secret_value()}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def api(found: LakeFSSettings) -> str:
    """The root of the REST interface."""
    return found.endpoint_url.rstrip("/").removesuffix("/api/v1") + "/api/v1"


@contextlib.contextmanager
def repository(found: LakeFSSettings) -> Iterator[str]:
    """A repository with a `main` branch, gone afterwards. Its storage is lakeFS's local block store, or what
    `BENCHMARK_NAMESPACE` names, such as `s3://bucket/`."""
    name = f"perago-benchmark-{uuid.uuid4().hex[:12]}"
    body = {
        "name": name,
        "storage_namespace": f"{os.environ.get('BENCHMARK_NAMESPACE', 'local://')}{name}",
        "default_branch": "main",
    }
    call(f"{api(found)}/repositories", "POST", body, credentials(found))
    try:
        yield name
    finally:
        call(f"{api(found)}/repositories/{name}?force=true", "DELETE", None, credentials(found))


def commit_files(found: LakeFSSettings, name: str, uploads: list[Upload]) -> str:
    """Put files on `main`; returns the commit."""
    from perago.adapters.lakefs import LakeFSStore

    store = LakeFSStore(found)
    try:
        store.upload(name, "main", uploads)
        return store.commit(name, "main", "what the benchmark works on", {}).id
    finally:
        store.close()
