"""A small HTTP client for lakeFS's REST API, for the embedded one and for a real one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import urllib3

from ..http_answer import Answer


@dataclass
class Http:
    """One server's repository; paths are below it unless they start with a slash."""

    url: str
    credentials: str
    repository: str = "repo"
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30))

    def __call__(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, **extra: Any
    ) -> Answer:
        sent = urllib3.make_headers(basic_auth=self.credentials) | (headers or {})
        if isinstance(body, dict):
            body = json.dumps(body)
            sent.setdefault("content-type", "application/json")
        target = path if path.startswith("/") else f"/api/v1/repositories/{self.repository}/{path}"
        response = self.pool.request(method, self.url + target, body=body, headers=sent, **extra)  # type: ignore[arg-type]
        return Answer.of(response)
