"""Faults on the wire: what goes wrong with which request, whatever the model would have answered.

`perago.embedded.faults` scripts the port; this scripts HTTP, so that an adapter meets real broken connections.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perago.embedded.services import EmbeddedServices


class HttpMoment(StrEnum):
    """Whether the application sees the request."""

    BEFORE = "before it took effect"
    AFTER = "after it took effect"


class _Kind(StrEnum):
    DROP = "drop the connection"
    ANSWER = "answer"
    DELAY = "delay"
    TRUNCATE = "truncate the body"


@dataclass(slots=True)
class HttpFault:
    """What happens to the `nth` request (from 1) whose method is `method` and whose path matches `pattern`."""

    kind: _Kind
    method: str
    pattern: re.Pattern[str]
    nth: int
    moment: HttpMoment = HttpMoment.BEFORE
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    keep: int = 0
    seen: int = 0
    met: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.pattern.pattern} #{self.nth}: {self.kind}"


class HttpFaultScript:
    """The wire's faults of one run. Methods return the script; `path` is a regular expression searched for in the
    request's path without its query. At most one fault happens to a request: the first that fits."""

    def __init__(self) -> None:
        self._faults: list[HttpFault] = []
        self._lock = threading.Lock()

    def drop(self, method: str, path: str, *, nth: int = 1, moment: HttpMoment = HttpMoment.BEFORE) -> HttpFaultScript:
        """Cut the connection instead of answering."""
        return self._add(HttpFault(_Kind.DROP, method, re.compile(path), nth, moment))

    def answer(
        self,
        method: str,
        path: str,
        *,
        status: int,
        nth: int = 1,
        moment: HttpMoment = HttpMoment.BEFORE,
        headers: Mapping[str, str] | None = None,
    ) -> HttpFaultScript:
        """Answer `status` with a JSON message instead of the real answer."""
        fault = HttpFault(_Kind.ANSWER, method, re.compile(path), nth, moment, status, headers or {})
        return self._add(fault)

    def delay(self, method: str, path: str, *, seconds: float, nth: int = 1) -> HttpFaultScript:
        """Let real time pass before the request reaches the application."""
        return self._add(HttpFault(_Kind.DELAY, method, re.compile(path), nth, seconds=seconds))

    def truncate(self, method: str, path: str, *, keep: int, nth: int = 1) -> HttpFaultScript:
        """Send headers and the first `keep` bytes of the body, then cut the connection."""
        return self._add(HttpFault(_Kind.TRUNCATE, method, re.compile(path), nth, keep=keep))

    def unused(self) -> tuple[HttpFault, ...]:
        """The faults that no request has met."""
        with self._lock:
            return tuple(fault for fault in self._faults if not fault.met)

    def meet(self, method: str, path: str) -> HttpFault | None:
        """Count a request, and give the fault that happens to it."""
        with self._lock:
            fitting = [fault for fault in self._faults if fault.method == method and fault.pattern.search(path)]
            due = None
            for fault in fitting:
                fault.seen += 1
                if fault.seen == fault.nth and due is None:
                    fault.met = True
                    due = fault
            return due

    def _add(self, fault: HttpFault) -> HttpFaultScript:
        with self._lock:
            self._faults.append(fault)
        return self


class FaultyApplication:
    """An ASGI application in front of which the script stands. Must be the outermost one under uvicorn."""

    def __init__(self, app: ASGIApp, script: HttpFaultScript) -> None:
        self._app = app
        self._script = script

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or what the script makes of it."""
        fault = self._script.meet(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.kind is _Kind.DELAY:
            await asyncio.sleep(fault.seconds)
            await self._app(scope, receive, send)
            return
        if fault.kind is _Kind.TRUNCATE:
            await self._app(scope, receive, _Truncated(send, fault.keep))
            return
        if fault.moment is HttpMoment.AFTER:
            await self._app(scope, receive, _swallow)
        if fault.kind is _Kind.DROP:
            await _cut(receive, send)
        else:
            await _answer(fault, receive, send)


class FaultyServices(EmbeddedServices):
    """The embedded services behind a script."""

    def __init__(self, script: HttpFaultScript) -> None:
        super().__init__()
        self._script = script

    def _app(self) -> ASGIApp:
        return FaultyApplication(super()._app(), self._script)


class _Truncated:
    """Passes the head of a response and the first bytes of its body on, then cuts the connection."""

    def __init__(self, send: Send, keep: int) -> None:
        self._send = send
        self._left = keep

    async def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        body = message.get("body", b"")
        if len(body) < self._left:
            self._left -= len(body)
            await self._send({**message, "more_body": True})
            return
        await self._send({"type": "http.response.body", "body": body[: self._left], "more_body": True})
        self._left = 0
        _transport(self._send).close()


async def _swallow(message: Message) -> None:
    """A response that never reaches the client."""


async def _cut(receive: Receive, send: Send) -> None:
    _transport(send).abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(fault: HttpFault, receive: Receive, send: Send) -> None:
    while fault.moment is HttpMoment.BEFORE and (await receive()).get("more_body"):
        pass  # a client that is still sending would see a reset instead of the answer
    body = json.dumps({"message": f"injected fault: {fault.status}"}).encode() + b"\n"
    headers = {"content-type": "application/json", "content-length": str(len(body)), **fault.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _transport(send: Send) -> Any:
    """uvicorn's transport behind `send`: ASGI itself has no word for cutting a connection."""
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("FaultyApplication must be served directly by uvicorn to be able to cut connections")
    return transport
