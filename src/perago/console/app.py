"""The console's addresses, the page for each of them, and the stream that tells pages to read again."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perago.console import overview, repositories, starting, workflow
from perago.console import overview as task_types
from perago.console import text as links
from perago.console.commits import commit
from perago.console.source import Actions, Conductor, LakeFS, News, NoSuchPage, Source
from perago.console.text import Link, Shown, block, unquoted, zone
from perago.ports import AccessDenied, NotFound, ServiceError, Unavailable
from perago.text import count, visible

_NO_PAGE: Any = ((), None)
_OF_CONDUCTOR: Mapping[str, Any] = {
    "workflow_counts": {},
    "workflows": (),
    "knows": True,  # the page behind the link will say
    "history": (),
    "task_log": (),
    "task_definition": None,
    "task_definitions": (),
    "workflow_versions": (),
    "queue_sizes": {},
    "queued": (),
    "last_polls": (),
}
_OF_LAKEFS: Mapping[str, Any] = {
    "repositories": _NO_PAGE,
    "branches": _NO_PAGE,
    "tags": _NO_PAGE,
    "changes": _NO_PAGE,
    "uncommitted": _NO_PAGE,
}


class Away(Exception):
    """A page is about something that only a service could tell which does not answer."""


def without(source: Source, error: ServiceError) -> Source:
    """The same, without the half of the service that `error` is about."""
    missing = {**source.missing, error.service: str(error)}
    if error.service == "lakeFS":
        return replace(source, lakefs=cast("LakeFS", _Nothing(error, _OF_LAKEFS)), missing=missing)
    return replace(source, conductor=cast("Conductor", _Nothing(error, _OF_CONDUCTOR)), missing=missing)


class _Nothing:
    """Tells nothing: lists are empty, and a single thing is not there."""

    def __init__(self, error: ServiceError, empty: Mapping[str, Any]) -> None:
        self._error = error
        self._empty = empty

    def now(self) -> int:
        """By this machine's clock."""
        return round(time.time() * 1000)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any, **options: Any) -> Any:  # noqa: ARG001 - whatever is asked
            if name in self._empty:
                return self._empty[name]
            raise NoSuchPage(str(self._error)) from self._error

        return answer


View = Callable[[Source, Request], Any]

_REPOSITORY = f"{links.REPOSITORIES}/{{repository}}"
_COMMIT = f"{_REPOSITORY}/commits/{{commit}}"

PAGES: tuple[tuple[str, str, View], ...] = (
    (links.OVERVIEW, "overview.html", overview.overview),
    ("/workflows/{workflow}", "workflow.html", workflow.workflow),
    (links.TASK_TYPES, "task_types.html", task_types.task_types),
    ("/task-types/definition", "task_type.html", task_types.task_type),
    ("/workflow-types/definition", "workflow_type.html", task_types.workflow_type),
    (links.REPOSITORIES, "repositories.html", repositories.repositories),
    (_REPOSITORY, "repository.html", repositories.repository),
    (f"{_REPOSITORY}/branches/{{branch}}", "branch.html", repositories.branch),
    (_COMMIT, "commit.html", commit),
    (f"{_COMMIT}/files", "directory.html", repositories.directory),
    (f"{_COMMIT}/file", "file.html", repositories.file),
)
"""Address, template, and the function that makes the template's values."""

MAX_STREAMS = 32
"""Windows that are told of news at the same time."""
STREAM_SECONDS = 600.0
"""The longest life of a stream; a window that is still open begins another one."""
_PAUSE = 0.25
"""Seconds between two messages of a stream: a burst of changes is one."""

_LOCAL = re.compile(r"""( (?:href|src|action)=")/""")
"""An address of a page. Quotes in text from elsewhere are escaped, so that no such text looks like one."""

HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with no-referrer our own forms would come from the origin "null"
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer: nothing foreign is loaded, framed, sniffed or told."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A page that says why there is no other."""

    text: Shown
    title: str
    crumbs: tuple[Link, ...] = ()
    live: bool = False


def page_app(source: Source, *, root: str = "") -> ASGIApp:
    """An ASGI application for a server that lets in only who may see and do everything.

    `root` is the beginning of each path in the browser. The server removes it before the application sees the path.
    """
    renderer = Renderer(source.place, root)
    problems = _Problems(renderer)
    routes: list[BaseRoute] = [
        Route(path, _answer(source, renderer, template, view), methods=["GET"]) for path, template, view in PAGES
    ]
    if source.actions is not None:
        routes += _changing(source, source.actions, renderer)
    routes += [
        Route(f"{_COMMIT}/download", lambda request: repositories.download(source, request), methods=["GET"]),
        Route(f"{_COMMIT}/image", lambda request: repositories.image(source, request), methods=["GET"]),
        Route("/news", _stream_of(source.news), methods=["GET"]),
        Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: problems.http,
            Away: problems.away,
            NoSuchPage: problems.missing,
            NotFound: problems.missing,
            ServiceError: problems.refused,
            Exception: problems.broken,
        },
    )
    return _Headers(app, root)


class Renderer:
    """The templates of this package. Whatever is printed is escaped, and its invisible characters are spelled out.

    `place` says in the foot of each page where its servers are. `root` is the beginning of each path.
    """

    def __init__(self, place: str, root: str) -> None:
        self._place = place
        self._root = root
        self._environment = Environment(
            loader=PackageLoader("perago.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_printed,
        )
        self._environment.filters["plural"] = count
        self._environment.filters["unquoted"] = unquoted
        self._environment.filters["exact"] = lambda value: Markup(escape(value))  # noqa: S704 - it is escaped

    def render(self, template: str, view: Any, missing: Mapping[str, str] | None = None) -> str:
        """The page `template` with the values of `view`. `missing` says why a service told nothing, by its name."""
        found = self._environment.get_template(template)
        page = found.render(view=view, zone=zone(), place=self._place, missing=missing or {})
        return _LOCAL.sub(lambda match: f"{match[1]}{self._root}/", page)


def _printed(value: Any) -> Any:
    """Plain text only: what a template made of it already (`Markup`) has been through here."""
    return visible(value) if type(value) is str else value


def _answer(source: Source, renderer: Renderer, template: str, view: View) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        """Not a coroutine: it runs in a thread, so that a large page holds up no other request.

        A service that does not answer takes nothing from the page but its own part.
        """
        seen = source
        while True:
            try:
                return HTMLResponse(renderer.render(template, view(seen, request), seen.missing))
            except (Unavailable, AccessDenied) as error:
                if error.service in seen.missing:
                    raise
                seen = without(seen, error)
            except NoSuchPage as error:
                if not seen.missing:
                    raise
                raise Away("; ".join(seen.missing.values())) from error

    return answer


# ---------------------------------------------------------------------- what changes something


def _changing(source: Source, actions: Actions, renderer: Renderer) -> list[BaseRoute]:
    def form(request: Request) -> Response:
        return HTMLResponse(renderer.render("start.html", starting.form(source, actions, request)))

    return [
        Route("/start", form, methods=["GET"]),
        Route("/start", _starter(source, actions, renderer), methods=["POST"]),
        Route("/workflows/{workflow}/terminate", _terminator(actions), methods=["POST"]),
    ]


def _starter(source: Source, actions: Actions, renderer: Renderer) -> Callable[[Request], Awaitable[Response]]:
    def act(request: Request, body: bytes) -> Response:
        found = starting.start(source, actions, request, body)
        return found if isinstance(found, Response) else HTMLResponse(renderer.render("start.html", found), 422)

    async def answer(request: Request) -> Response:
        return await run_in_threadpool(act, request, await _body(request))

    return answer


def _terminator(actions: Actions) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await run_in_threadpool(starting.terminate, actions, request, await _body(request))

    return answer


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > starting.MAX_BODY:
            raise HTTPException(413)
    return body


# ------------------------------------------------------------------------------------ live


def _stream_of(news: News) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:  # noqa: ARG001 - the shape of an endpoint
        event = news.join(MAX_STREAMS)
        if event is None:
            return PlainTextResponse("too many windows are open, or the server stops\n", 503)
        return StreamingResponse(_messages(news, event), media_type="text/event-stream")

    return answer


async def _messages(news: News, event: asyncio.Event) -> AsyncIterator[str]:
    """A message whenever something has changed, or may have. Ends with the server, the window, and its time."""
    try:
        async with asyncio.timeout(STREAM_SECONDS):
            yield "retry: 1000\n\n"
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), news.every)
                if news.closed:
                    return
                event.clear()
                yield "data: changed\n\n"
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        return
    finally:
        news.leave(event)


# ------------------------------------------------------------------------------ every answer


class _Headers:
    """Adds `HEADERS` to the answers of an application that do not have their own, and its root to redirects."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root.encode()
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                own = [(name, self._located(value) if name == b"location" else value) for name, value in given]
                names = {name for name, _ in own}
                message = {**message, "headers": own + [each for each in self._headers if each[0] not in names]}
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _located(self, address: bytes) -> bytes:
        """Return the address of a redirect with the root. Starlette's own redirects have a host."""
        return self._root + urlsplit(address)._replace(scheme=b"", netloc=b"").geturl()


class _Problems:
    """Error pages, in the look of the others."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def http(self, request: Request, error: Exception) -> Response:
        """An address or a method that is not served."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        title, text = {
            404: ("Not found", f"There is no page {request.url.path}."),
            405: ("Not allowed", f"Nothing here answers {request.method}."),
            413: ("Too large", f"A form has at most {starting.MAX_BODY:,} bytes."),
        }.get(status, ("Refused", getattr(error, "detail", str(error))))
        return self._page(title, text, status, getattr(error, "headers", None))

    def missing(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - the handler's signature
        """Something that the services do not have, or no longer."""
        return self._page("Not found", str(error), 404)

    def away(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - the handler's signature
        """What the page is about is known to a service that does not answer."""
        return self._page("Not available", f"{error}. Try again in a moment.", 503)

    def refused(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - the handler's signature
        """The service does not answer in time, or does not do it."""
        if isinstance(error, Unavailable):
            return self._page("Not available", f"{error}. Try again in a moment.", 503)
        return self._page("Refused", str(error), 409)

    def broken(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - the handler's signature
        """A mistake of ours. The server's log gets the traceback."""
        return self._page("Something went wrong", f"This page could not be made: {type(error).__name__}: {error}", 500)

    def _page(self, title: str, text: str, status: int, headers: dict[str, str] | None = None) -> Response:
        view = Problem(block(text, 1000), title)
        return HTMLResponse(self._renderer.render("problem.html", view), status, headers)
