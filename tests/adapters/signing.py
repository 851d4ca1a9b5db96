"""A scripted lakeFS that signs addresses, and the block store that they lead to."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from perago.adapters.http import CallPolicy
from perago.adapters.lakefs import LakeFSStore
from perago.cache import ObjectCache

from .lakefs_script import API, CALM, COMMIT, Tree, lakefs, md5
from .scripted import Action, Reply, Request, ScriptedServer, object_reply, reply_json

STAGING = f"{API}/branches/staging/staging"


@dataclass
class Signing(Tree):
    """lakeFS with a block store at `store`."""

    store: str = ""
    lasts: float = 900.0
    """Seconds for which an address is good."""
    offers: dict[str, object] = field(
        default_factory=lambda: {"pre_sign_support": True, "pre_sign_multipart_upload": True}
    )
    linked: dict[str, dict[str, object]] = field(default_factory=dict)
    """What was linked, by path."""
    completed: list[dict[str, object]] = field(default_factory=list)
    aborted: int = 0
    signed: int = 0
    """How many times an address was asked for; it is part of each address."""

    def __call__(self, request: Request) -> Action:
        if (action := self.trouble(request)) is not None:
            return action
        if request.path == "/api/v1/config":
            return reply_json({"storage_config": self.offers})
        if request.path.startswith(STAGING):
            return self._stage(request, request.path.removeprefix(STAGING))
        if request.query.get("presign") == "true":
            self.signed += 1
        if request.path == f"{API}/refs/{COMMIT}/objects/stat":
            return reply_json(self._signed(self._entry(request.query["path"])))
        answer = super().__call__(request)
        if request.path.endswith("/ls") and request.query.get("presign") == "true" and isinstance(answer, Reply):
            page = Request("", "", {}, answer.body).json
            return reply_json({**page, "results": [self._signed(entry) for entry in page["results"]]})
        return answer

    def _signed(self, entry: dict[str, object]) -> dict[str, object]:
        address = f"{self.store}/data/{quote(str(entry['path']))}?signature={self.signed}"
        return {**entry, "physical_address": address, "physical_address_expiry": int(time.time() + self.lasts)}

    def _stage(self, request: Request, target: str) -> Action:
        path = request.query["path"]
        address = f"{self.store}/new/{quote(path)}?signature={self.signed}"
        place = {"physical_address": f"s3://bucket/{path}"}
        match request.method, target.split("/")[1:]:
            case "GET", ["backing"]:
                self.signed += 1
                return reply_json({**place, "presigned_url": address})
            case "PUT", ["backing"]:
                link = self.linked[path] = request.json
                known = {name: link[name] for name in ("checksum", "size_bytes")}
                return reply_json({**known, **place})
            case "POST", ["pmpu"]:
                return reply_json({**place, "upload_id": "id/1", "presigned_urls": []}, 201)
            case "PUT", ["pmpu", "id", "1", "parts", number]:
                self.signed += 1
                return reply_json({"presigned_url": f"{address}&part={number}"})
            case "PUT", ["pmpu", "id", "1"]:
                self.completed.append(request.json)
                return reply_json({"checksum": "composite-2", "size_bytes": 1, **place})
            case "DELETE", ["pmpu", "id", "1"]:
                self.aborted += 1
                return Reply(204)
        raise AssertionError(f"the test did not expect {request.method} {request.target}")


@dataclass
class Store:
    """The block store: gives what it has, and takes what it is sent."""

    objects: dict[str, bytes]
    trouble: Callable[[Request], Action | None] = lambda _: None
    taken: list[bytes] = field(default_factory=list)

    def __call__(self, request: Request) -> Action:
        assert "Authorization" not in request.headers
        if (action := self.trouble(request)) is not None:
            return action
        if request.method == "PUT":
            self.taken.append(request.body)
            return Reply(200, headers={"ETag": f'"{md5(request.body)}"'})
        content = self.objects[request.path.removeprefix("/data/")]
        return object_reply(request, content, md5(content))


@contextmanager
def signing(
    tree: Signing,
    store: Store,
    policy: CallPolicy = CALM,
    *,
    cache: ObjectCache | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[tuple[LakeFSStore, list[Request], list[Request]]]:
    """perago's store on both; and what lakeFS and the block store were asked."""
    with ScriptedServer(store, tls=tls) as server:
        tree.store = tree.store or server.url
        with lakefs(tree, policy, cache=cache, tls=tls) as (ours, asked):
            yield ours, asked.requests, server.requests
