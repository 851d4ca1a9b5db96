"""A small HTTP client for Conductor's REST API, for the embedded one and for a real one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import urllib3

from ..http_answer import Answer


@dataclass
class Http:
    """One server; paths are below its `/api` unless they are whole URLs."""

    url: str
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30, maxsize=80, block=False)
    )

    def __call__(
        self, method: str, path: str, body: object = None, *, raw: bytes | None = None, content_type: str | None = None
    ) -> Answer:
        """Send `body` as JSON, or `raw` as it is."""
        content = raw if raw is not None or body is None else json.dumps(body).encode()
        headers = {} if content is None else {"content-type": content_type or "application/json"}
        target = path if path.startswith("http") else f"{self.url}/api{path}"
        response = self.pool.request(method, target, body=content, headers=headers)
        return Answer.of(response)

    def close(self) -> None:
        self.pool.clear()
