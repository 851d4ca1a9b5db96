"""Plain REST calls to a real lakeFS or to the embedded one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from .waiting import wait_for

BRANCH = "main"


@dataclass(frozen=True, slots=True)
class LakeFSServer:
    """The address of a lakeFS, and whether it is a real one."""

    url: str
    key: str
    secret: str
    real: bool

    def environment(self) -> dict[str, str]:
        """Return the variables with which a command uses this server."""
        return {
            "LAKECTL_SERVER_ENDPOINT_URL": self.url,
            "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": self.key,
            "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": self.secret,
        }


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, with the fields that show whether it was written again."""

    size: int
    checksum: str
    mtime: int
    physical_address: str


@contextmanager
def started(program: str) -> Iterator[LakeFSServer]:
    """A real lakeFS of this block's own, which the binary `program` runs with a new database."""
    with tempfile.TemporaryDirectory(prefix="perago-lakefs-") as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        variables = {
            "LAKEFS_DATABASE_TYPE": "local",
            "LAKEFS_DATABASE_LOCAL_PATH": f"{directory}/metadata",
            "LAKEFS_BLOCKSTORE_TYPE": "local",
            "LAKEFS_BLOCKSTORE_LOCAL_PATH": f"{directory}/objects",
            "LAKEFS_AUTH_ENCRYPT_SECRET_KEY": "perago",
            "LAKEFS_STATS_ENABLED": "false",
            "LAKEFS_LISTEN_ADDRESS": address,
            "LAKEFS_INSTALLATION_USER_NAME": "admin",
            "LAKEFS_INSTALLATION_ACCESS_KEY_ID": "AKIAPERAGO",
            "LAKEFS_INSTALLATION_SECRET_ACCESS_KEY": "secret",
        }
        with (Path(directory) / "log").open("wb") as log:
            server = subprocess.Popen(
                [program, "run"], env={**os.environ, **variables}, cwd=directory, stdout=log, stderr=log
            )
        try:
            http = urllib3.PoolManager(retries=False)

            def is_healthy() -> bool:
                assert server.poll() is None, (Path(directory) / "log").read_text("utf-8", "replace")
                with suppress(urllib3.exceptions.HTTPError):
                    return http.request("GET", f"http://{address}/_health", timeout=5).status == 200
                return False

            wait_for("a lakeFS that answers", is_healthy, limit=120.0)
            http.clear()
            yield LakeFSServer(f"http://{address}", "AKIAPERAGO", "secret", real=True)
        finally:
            server.terminate()
            server.wait(60)


def created(server: LakeFSServer) -> Repository:
    """Create a repository with an empty branch `main`."""
    name = f"perago-live-{uuid.uuid4().hex[:12]}"
    repository = Repository(server, name)
    repository.create(os.environ.get("PERAGO_LIVE_STORAGE", "local://") + name)
    return repository


class Repository:
    """One repository and its branch `main`."""

    def __init__(self, server: LakeFSServer, name: str) -> None:
        self.name = name
        self._url = f"{server.url.rstrip('/')}/api/v1/repositories"
        headers = urllib3.make_headers(basic_auth=f"{server.key}:{server.secret}")
        self._http = urllib3.PoolManager(maxsize=8, retries=False, headers=headers)

    def create(self, storage_namespace: str) -> None:
        """Create the repository with an empty first commit."""
        body = {"name": self.name, "storage_namespace": storage_namespace, "default_branch": BRANCH}
        self._call("POST", "", body)

    def delete(self) -> None:
        """Delete the repository and close the connections."""
        self._call("DELETE", f"/{quote(self.name)}")
        self._http.clear()

    # -------------------------------------------------------------------------- writing

    def stage(self, path: str, content: bytes, branch: str = BRANCH) -> None:
        """Upload an object and leave it uncommitted."""
        query = urlencode({"path": path})
        self._send("POST", f"/{self.name}/branches/{branch}/objects?{query}", content, "application/octet-stream")

    def commit(self, files: Mapping[str, bytes], message: str = "seed", branch: str = BRANCH) -> str:
        """Upload files and commit them, and return the commit id."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: self.stage(path, files[path], branch), files))
        body = {"message": message, "metadata": {}}
        return str(self._call("POST", f"/{self.name}/branches/{branch}/commits", body)["id"])

    # -------------------------------------------------------------------------- reading

    def head(self, branch: str = BRANCH) -> str:
        """Return the commit at the head of a branch."""
        return str(self._call("GET", f"/{self.name}/branches/{branch}")["commit_id"])

    def get(self, commit: str) -> dict[str, Any]:
        """Return one commit."""
        answer: dict[str, Any] = self._call("GET", f"/{self.name}/commits/{commit}")
        return answer

    def since(self, commit: str, branch: str = BRANCH) -> list[dict[str, Any]]:
        """Return the first-parent commits of a branch after `commit`, newest first."""
        commits: list[dict[str, Any]] = []
        parent = self.head(branch)
        while parent != commit:
            commits.append(self.get(parent))
            parent = commits[-1]["parents"][0]
        return commits

    def tree(self, ref: str = f"{BRANCH}@") -> dict[str, Stored]:
        """Return every committed object of a ref except the hooks, which are not part of a workspace."""
        objects = self._pages(f"/{self.name}/refs/{quote(ref)}/objects/ls")
        return {item["path"]: _stored(item) for item in objects if not item["path"].startswith("_lakefs_actions/")}

    def read(self, path: str, ref: str = f"{BRANCH}@") -> bytes:
        """Return the bytes of an object."""
        return self._send("GET", f"/{self.name}/refs/{quote(ref)}/objects?{urlencode({'path': path})}")

    def branches(self) -> set[str]:
        """Return all branches, including hidden ones."""
        return {item["id"] for item in self._pages(f"/{self.name}/branches", show_hidden="true")}

    def wait_for_removal_of_staging(self) -> None:
        """Wait until `main` is the only branch. A worker removes that of a publication while it reports."""
        wait_for("the removal of the staging branches", lambda: self.branches() == {BRANCH})

    def uncommitted(self, branch: str = BRANCH) -> set[str]:
        """Return the paths of uncommitted changes."""
        return {item["path"] for item in self._pages(f"/{self.name}/branches/{branch}/diff")}

    def _pages(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self._call("GET", f"{path}?{urlencode({**parameters, 'after': after, 'amount': '1000'})}")
            results += page["results"]
            if not page["pagination"]["has_more"]:
                return results
            after = page["pagination"]["next_offset"]

    def _call(self, method: str, path: str, body: object = None) -> Any:
        text = self._send(method, path, None if body is None else json.dumps(body).encode())
        return json.loads(text) if text else None

    def _send(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        headers = {**self._http.headers, "Content-Type": kind}
        answer = self._http.request(method, self._url + path, body=body, headers=headers, timeout=60)
        assert 200 <= answer.status < 300, f"{method} {path}: {answer.status} {answer.data!r}"
        return answer.data


def _stored(item: Mapping[str, Any]) -> Stored:
    return Stored(item["size_bytes"], item["checksum"], item["mtime"], item["physical_address"])
