"""How Conductor writes what it says."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from perago.embedded.conductor.errors import VALIDATION_FAILED, HalfDone, InvalidRequest
from perago.ports import AccessDenied, NotFound, Refused, ServiceError

INSTANCE = "perago"
"""What stands where the real server names its host."""

_STATUS_OF_INJECTED = {AccessDenied: 401, NotFound: 404, Refused: 400}
"""Statuses of port errors that a fault script raises; the model's own errors carry theirs."""


class JsonAnswer(Response):
    """Compact JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode `content`."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def text(content: str) -> Response:
    """A text such as an id, whatever the client accepts."""
    return Response(content, headers={"content-type": "text/plain;charset=UTF-8"})


def done(content: str | None = None) -> Response:
    """Success, with an id if there is one."""
    return Response(status_code=200) if content is None else text(content)


def no_content() -> Response:
    """Success, or nothing there."""
    return Response(status_code=204)


def json_or_no_content(content: Any) -> Response:
    """What was found; 204 for None."""
    return no_content() if content is None else JsonAnswer(content)


def error(status: int, message: str, *, retryable: bool = False) -> Response:
    """The body of every error but those of the bean validation."""
    return JsonAnswer({"status": status, "message": message, "instance": INSTANCE, "retryable": retryable}, status)


def refusal(problem: ServiceError) -> Response:
    """The answer for an error of the model, or of its fault script."""
    if isinstance(problem, InvalidRequest) and problem.problems:
        body = {
            "status": problem.status,
            "message": VALIDATION_FAILED,
            "retryable": False,
            "validationErrors": list(problem.problems),
        }
        return JsonAnswer(body, problem.status)
    injected = next((code for kind, code in _STATUS_OF_INJECTED.items() if isinstance(problem, kind)), 503)
    return error(getattr(problem, "status", injected), problem.detail, retryable=isinstance(problem, HalfDone))
