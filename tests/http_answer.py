"""What an HTTP server answered, as the clients of the tests show it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

import urllib3


@dataclass(frozen=True)
class Answer:
    """Status, headers with names in lower case, and the bytes of the body."""

    status: int
    headers: dict[str, str]
    data: bytes

    @classmethod
    def of(cls, response: urllib3.BaseHTTPResponse) -> Self:
        """The answer that a response brings."""
        return cls(response.status, {name.lower(): value for name, value in response.headers.items()}, response.data)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.data.decode()

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.data)

    @property
    def message(self) -> str:
        """What an error says."""
        return str(self.json["message"])
