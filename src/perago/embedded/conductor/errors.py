"""The answers of a Conductor that is not content, as the ports' errors.

Each class carries the HTTP status that the real server sends with the same words, so that the model can be served
over REST. Many permanent errors are 500 there (`docs/servers/conductor.md` 1 and 7.11).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from perago.ports import NotFound, Refused, Unavailable

SERVICE = "Conductor"

VALIDATION_FAILED = "Validation failed, check below errors for detail."


class NoSuchEntity(NotFound):
    """404: the task, workflow or definition does not exist, or cannot be acted on in the way that was asked."""

    status: ClassVar[int] = 404


class InvalidRequest(Refused):
    """400. `problems` are the server's `validationErrors`, empty for a plain bad request."""

    status: ClassVar[int] = 400

    def __init__(self, service: str, operation: str, detail: str, problems: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(service, operation, detail)
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.service, self.operation, self.detail, self.problems))


class Conflict(Refused):
    """409: the entity exists, in a state that does not allow the call."""

    status: ClassVar[int] = 409


class ServerError(Unavailable):
    """500: nothing was done."""

    status: ClassVar[int] = 500


class Malformed(Refused):
    """500: a request that the server's JSON reader cannot take. Repeating it is pointless, so it is a refusal."""

    status: ClassVar[int] = 500


def not_found(operation: str, detail: str) -> NoSuchEntity:
    """A 404 with the server's words."""
    return NoSuchEntity(SERVICE, operation, detail)


def bad_request(operation: str, detail: str) -> InvalidRequest:
    """A 400 without validation errors."""
    return InvalidRequest(SERVICE, operation, detail)


def validation_failed(operation: str, problems: Sequence[dict[str, str]]) -> InvalidRequest:
    """A 400 that lists what the bean validation found."""
    listed = "; ".join(f"{problem['path']}: {problem['message']}" for problem in problems)
    return InvalidRequest(SERVICE, operation, f"{VALIDATION_FAILED} {listed}", problems)


def conflict(operation: str, detail: str) -> Conflict:
    """A 409 with the server's words."""
    return Conflict(SERVICE, operation, detail)


def server_error(operation: str, detail: str) -> ServerError:
    """A 500 with the server's words."""
    return ServerError(SERVICE, operation, detail)


def malformed(operation: str, detail: str) -> Malformed:
    """A 500 of the JSON reader."""
    return Malformed(SERVICE, operation, f"JSON parse error: {detail}")
