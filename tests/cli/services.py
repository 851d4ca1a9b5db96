"""A Conductor and a lakeFS that know just enough for the command line, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..adapters.conductor_script import conductor_error
from ..adapters.scripted import Action, Reply, Request, ScriptedServer, reply_json

HEAD = "a" * 64
LINE = (HEAD, "b" * 64, "c" * 64)
"""The history of branch main, newest first. The beginning of that of another branch is ELSEWHERE."""
ELSEWHERE = "e" * 64
SECRET = "secret-of-lakefs"


class Services:
    """Both services behind one port. Tests change the attributes to say how they answer."""

    def __init__(self) -> None:
        self.definitions: dict[str, dict[str, Any]] = {}
        self.conductor_status = 200
        self.definitions_status = 200
        """Of Conductor too, for questions about definitions alone."""
        self.lakefs_status = 200
        self.silent_path: str | None = None
        """Requests for it wait for `release`."""
        self.looked = threading.Event()
        """A worker has asked for the depths of queues."""
        self._released = threading.Event()
        self.server = ScriptedServer(self._answer)

    @property
    def variables(self) -> dict[str, str]:
        """The environment that leads here."""
        return {
            "CONDUCTOR_SERVER_URL": f"{self.server.url}/api",
            "LAKECTL_SERVER_ENDPOINT_URL": self.server.url,
            "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": SECRET,
        }

    @property
    def writes(self) -> list[Request]:
        """Everything that was sent to change something."""
        return [request for request in self.server.requests if request.method != "GET"]

    def release(self) -> None:
        """Answer what has been waiting."""
        self._released.set()

    def _answer(self, request: Request) -> Action:
        if request.path == self.silent_path:
            self._released.wait(60)
        if request.path.startswith("/api/v1/"):
            return self._lakefs(request)
        return self._conductor(request)

    def _conductor(self, request: Request) -> Action:
        if not request.path.startswith("/api/"):
            return conductor_error(404, f"No static resource {request.path[1:]}.")
        path = request.path.removeprefix("/api")
        if self.conductor_status != 200:
            return reply_json({"message": "no"}, self.conductor_status)
        if path == "/tasks/queue/sizes":
            names = parse_qs(urlsplit(request.target).query)["taskType"]
            if names != ["perago.ping"]:
                self.looked.set()
            return reply_json(dict.fromkeys(names, 0))
        if path == "/tasks/queue/all":
            return reply_json({})
        if path == "/tasks/queue/polldata/all":
            return reply_json([])
        if path == "/metadata/taskdefs" and request.method == "GET":
            return reply_json(list(self.definitions.values()))
        if path.startswith("/tasks/poll/"):
            return reply_json([])
        if self.definitions_status != 200:
            return reply_json({"message": "not now"}, self.definitions_status)
        if request.method == "GET":
            name = path.removeprefix("/metadata/taskdefs/")
            definition = self.definitions.get(name)
            missing = conductor_error(404, f"No such taskType found by name: {name}")
            return missing if definition is None else reply_json(definition)
        self.definitions |= {definition["name"]: definition for definition in json.loads(request.body)}
        return Reply()

    def _lakefs(self, request: Request) -> Action:
        if self.lakefs_status != 200:
            return reply_json({"message": "error authenticating request"}, self.lakefs_status)
        path = request.path.removeprefix("/api/v1")
        commit = commit_json(HEAD)
        known: dict[str, object] = {
            "/user": {"user": {"id": "admin", "creation_date": 1}},
            "/repositories/my-data/branches/main": {"id": "main", "commit_id": HEAD},
            f"/repositories/my-data/commits/{HEAD}": commit,
        }
        for commit_id in (*LINE, ELSEWHERE):
            line = LINE[LINE.index(commit_id) :] if commit_id in LINE else (commit_id,)
            pagination = {"has_more": False, "next_offset": "", "results": len(line), "max_per_page": 1000}
            log = {"pagination": pagination, "results": [commit_json(*line[at : at + 2]) for at in range(len(line))]}
            known[f"/repositories/my-data/refs/{commit_id}/commits"] = log
        if path in known:
            return reply_json(known[path])
        message = "branch not found" if path.startswith("/repositories/my-data/") else "repository not found"
        return reply_json({"message": message}, 404)


def commit_json(commit_id: str, *parents: str) -> dict[str, object]:
    """A commit as lakeFS shows it."""
    shown: dict[str, object] = {"committer": "", "message": "m", "creation_date": 1, "meta_range_id": ""}
    return {"id": commit_id, "parents": list(parents), **shown}


@contextmanager
def running_services() -> Iterator[Services]:
    """Both services until the end of the block."""
    services = Services()
    with services.server:
        yield services
