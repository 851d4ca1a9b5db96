"""A scripted lakeFS: the happy path of the transfer calls, to be overridden where a test wants trouble."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import SecretStr

from perago.adapters.http import CallPolicy
from perago.adapters.lakefs import LakeFSStore
from perago.cache import ObjectCache
from perago.ports import ObjectEntry
from perago.retry import BackOff
from perago.settings import LakeFSSettings

from .scripted import Action, Drop, Hang, Reply, Request, Script, ScriptedServer, object_reply, reply_json

SECRET = "a-secret-that-must-not-show"
COMMIT = "c0" * 32
HEAD = "ab" * 32
API = "/api/v1/repositories/repo"
QUICK = CallPolicy(connect=1, answer=0.3, merge=0.3, tries=2, delays=BackOff(0.01, 0.02))
"""Limits for tests that wait for one to pass."""
CALM = CallPolicy(connect=10, answer=60, merge=60, tries=3, delays=BackOff(0.01, 0.02))
"""Limits that must not matter."""


def policy_for(answer: Action) -> CallPolicy:
    """Short limits where one must pass, and none that could where there is an answer."""
    return QUICK if isinstance(answer, Hang) else CALM


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass
class Tree:
    """The objects of one commit, served page by page; `trouble` may answer instead."""

    objects: Mapping[str, bytes]
    trouble: Callable[[Request], Action | None] = lambda _: None
    listed: dict[str, dict[str, object]] = field(default_factory=dict)
    """Changes to what the listing says about a key."""
    page: int = 1000
    mtime: int = 1_700_000_000

    def __call__(self, request: Request) -> Action:
        action = self.trouble(request)
        if action is not None:
            return action
        if request.path == "/api/v1/config":
            return reply_json({"storage_config": {"pre_sign_support": False}})
        if request.path.endswith("/objects/ls"):
            return self._list(request.query.get("prefix", ""), request.query.get("after", ""))
        if request.path.endswith(f"{COMMIT}/objects/stat"):
            stat = {"path_type": "object", "physical_address": "s3://bucket/1"}
            return reply_json({**stat, **self._entry(request.query["path"])})
        if request.method == "GET" and request.path == f"{API}/refs/{COMMIT}/objects":
            content = self.objects[request.query["path"]]
            return object_reply(request, content, md5(content))
        if request.method == "POST" and request.path.endswith("/objects"):
            return reply_json({"checksum": md5(request.body), "size_bytes": len(request.body)}, 201)
        raise AssertionError(f"the test did not expect {request.method} {request.target}")

    def _list(self, prefix: str, after: str) -> Action:
        keys = [key for key in sorted(self.objects, key=str.encode) if key.startswith(prefix) and key > after]
        results = [self._entry(key) for key in keys[: self.page]]
        more = len(keys) > self.page
        return reply_json(
            {"pagination": {"has_more": more, "next_offset": keys[self.page - 1] if more else ""}, "results": results}
        )

    def _entry(self, key: str) -> dict[str, object]:
        content = self.objects[key]
        entry = {"path": key, "size_bytes": len(content), "checksum": md5(content), "mtime": self.mtime}
        return {**entry, **self.listed.get(key, {})}


@contextmanager
def lakefs(
    script: Callable[[Request], Action],
    policy: CallPolicy = CALM,
    *,
    tls: ssl.SSLContext | None = None,
    threads: int = 8,
    cache: ObjectCache | None = None,
    access_key: str = "key",
) -> Iterator[tuple[LakeFSStore, ScriptedServer]]:
    """A store on a scripted server. Afterwards no thread of a transfer may be left."""
    before = threading.enumerate()
    with ScriptedServer(script, tls=tls) as server:
        settings = LakeFSSettings(server.url, access_key, SecretStr(SECRET))
        store = LakeFSStore(settings, threads=threads, policy=policy, cache=cache)
        try:
            yield store, server
        finally:
            store.close()
            left = [thread for thread in threading.enumerate() if thread not in before]
            assert [thread.name for thread in left if thread.name.startswith("perago-")] == []


def entry_of(key: str, content: bytes) -> ObjectEntry:
    return ObjectEntry(key, len(content), md5(content), 0, "application/octet-stream", {}, "")


def failure(status: int, message: str) -> Reply:
    return reply_json({"message": message}, status)


PASSING: dict[str, Action] = {
    "500": failure(500, "boom"),
    "503 with Retry-After": reply_json({"message": "busy"}, 503, Retry_After="0"),
    "423": failure(423, "locked"),
    "proxy page": Reply(502, b"<html>bad gateway</html>"),
    "dropped after the request was read": Drop(),
    "cut off": Reply(200, b"{", length=50),
}
"""Answers after which a transfer is tried again."""


def branch_json(commit_id: str) -> Action:
    return reply_json({"id": "main", "commit_id": commit_id})


def routes(**answers: Action | list[Action]) -> Script:
    """Answer by method and the end of the path, e.g. `GET_main`; of a list each answer once, the last for ever."""

    def script(request: Request) -> Action:
        for name, answer in answers.items():
            method, _, end = name.partition("_")
            if request.method == method and request.path.endswith(end):
                if isinstance(answer, list):
                    return answer.pop(0) if len(answer) > 1 else answer[0]
                return answer
        raise AssertionError(f"the test did not expect {request.method} {request.target}")

    return script
