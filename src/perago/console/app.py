"""The console's addresses, their pages, and the stream that makes open pages reload."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perago.console import forms, links, overview, repositories, search, workflow
from perago.console.source import News, NoSuchPage, Source
from perago.console.text import PageView, block, commands_for, duration, line, link, moment, status_view, unquoted
from perago.ports import AccessDenied, NotFound, ServiceError, Unavailable
from perago.text import count, plain_reason, short, size, visible, zone


class ServiceMissing(Exception):
    """The page needs data from a service that does not answer."""


View = Callable[[Source, Request], PageView]
Answer = Callable[[Request, bytes], Response]
"""Makes the answer to a request and its body, in a thread."""

_REPOSITORY = f"{links.REPOSITORIES}/{{repository}}"
_SIGNAL = "/workflows/{workflow}/signals/{step}"
_COMMIT = f"{_REPOSITORY}/commits/{{commit}}"

PAGES: tuple[tuple[str, str, View], ...] = (
    (links.OVERVIEW, "overview.html", overview.overview),
    ("/workflows/{workflow}", "workflow.html", workflow.workflow),
    (links.SEARCH, "search.html", search.search),
    (links.RUNNING, "running.html", overview.running),
    (links.WORKERS, "workers.html", overview.workers),
    (links.TASK_TYPES, "task_types.html", overview.task_types),
    ("/task-types/definition", "task_type.html", overview.task_type),
    ("/workflow-types/definition", "workflow_type.html", overview.workflow_type),
    (links.REPOSITORIES, "repositories.html", repositories.repositories),
    (_REPOSITORY, "repository.html", repositories.repository),
    (f"{_REPOSITORY}/branches/{{branch}}", "branch.html", repositories.branch),
    (_COMMIT, "commit.html", repositories.commit),
    (f"{_COMMIT}/files", "directory.html", repositories.directory),
    (f"{_COMMIT}/file", "file.html", repositories.file),
    (f"{_COMMIT}/diff", "diff.html", repositories.diff),
)
"""Address, template, and the function that makes the template's values."""

PAGES_AT_ONCE = 16
"""Maximum number of pages that are made at the same time. They have their own threads, because embedded servers need
Starlette's threads."""
DOWNLOADS_AT_ONCE = 8
"""Maximum number of chunks of downloads that are read at the same time."""
MAX_STREAMS = 32
"""Maximum number of windows with a stream at the same time."""
STREAM_SECONDS = 600.0
"""The longest life of a stream; a window that is still open begins another one."""
_BURST_INTERVAL = 0.25
"""Seconds between two messages of a stream, so that a burst of changes is one message."""

_PAGE_ADDRESS = re.compile(r"""( (?:href|src|action)=")/""")
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
"""Headers of every answer. They forbid foreign content, frames, sniffing and referrers."""


def page_app(source: Source, *, root: str = "") -> ASGIApp:
    """Return an ASGI application for a server that only accepts authorized clients.

    `root` is the beginning of each path in the browser. The server removes it before the application gets the path.
    """
    renderer = Renderer(source.place, root)
    pages, downloads = CapacityLimiter(PAGES_AT_ONCE), CapacityLimiter(DOWNLOADS_AT_ONCE)

    def route(path: str, answer: Answer, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            body = await _body(request)
            source.refresh()
            return await run_sync(answer, request, body, limiter=pages)

        return Route(path, endpoint, methods=[method])

    def download(request: Request, body: bytes) -> Response:  # noqa: ARG001 - as `Answer`
        content, headers = repositories.download(source, request)
        return StreamingResponse(_chunks(content, downloads), headers=headers)

    async def news(request: Request) -> Response:  # noqa: ARG001 - the shape of an endpoint
        event = source.news.join(MAX_STREAMS)
        if event is None:
            return PlainTextResponse("too many windows are open, or the server stops\n", 503)
        return StreamingResponse(_messages(source.news, event), media_type="text/event-stream")

    routes: list[BaseRoute] = [
        route(path, partial(_page, source, renderer, template, view)) for path, template, view in PAGES
    ]
    embedded = source.embedded
    if embedded is not None:

        def answered(submit: Callable[[Request, bytes], Response | PageView]) -> Answer:
            """Show the form again if it has errors."""

            def answer(request: Request, body: bytes) -> Response:
                outcome = submit(request, body)
                if isinstance(outcome, Response):
                    return outcome
                return HTMLResponse(renderer.render("start.html", outcome), 422)

            return answer

        routes += [
            route("/start", partial(_page, source, renderer, "start.html", partial(forms.form, embedded))),
            route("/start", answered(partial(forms.start, source, embedded)), "POST"),
            route(_SIGNAL, partial(_page, source, renderer, "start.html", partial(forms.signal_form, embedded))),
            route(_SIGNAL, answered(partial(forms.signal, embedded)), "POST"),
            route("/workflows/{workflow}/terminate", partial(forms.terminate, embedded), "POST"),
        ]
    routes += [
        route(f"{_COMMIT}/download", download),
        route(f"{_COMMIT}/image", lambda request, _: repositories.image(source, request)),
        Route("/news", news, methods=["GET"]),
        Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
    ]
    errors = (HTTPException, ServiceMissing, NoSuchPage, ServiceError, Exception)
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys(errors, partial(_problem, renderer)))
    return _with_headers(app, root.encode())


class Renderer:
    """Return the templates of this package. They escape all values and invisible characters.

    `place` names the servers in the footer of each page. `root` is the beginning of each path.
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
            # Plain text only: the texts that a template made (`Markup`) have been made visible already.
            finalize=lambda value: visible(value) if type(value) is str else value,
        )
        self._environment.globals["links"] = links
        self._environment.filters |= {
            "line": line,
            "link": link,
            "short": short,
            "moment": moment,
            "duration": duration,
            "size": size,
            "status": status_view,
            "worker": workflow.worker_link,
            "commands": commands_for,
            "plain_reason": plain_reason,
            "plural": count,
            "unquoted": unquoted,
            "exact": lambda value: Markup(escape(value)),  # noqa: S704 - it is escaped
        }

    def render(self, template: str, view: Any, missing: Mapping[str, str] | None = None) -> str:
        """Return the page `template` with the values of `view`. `missing` has the reasons of services without data, by
        name."""
        source = self._environment.get_template(template)
        page = source.render(view=view, zone=zone(), place=self._place, missing=missing or {})
        return _PAGE_ADDRESS.sub(lambda match: f"{match[1]}{self._root}/", page)


def _page(source: Source, renderer: Renderer, template: str, view: View, request: Request, body: bytes) -> Response:  # noqa: ARG001 - as `Answer`
    """Make a page. If a service does not answer, only its part is missing."""
    while True:
        try:
            return HTMLResponse(renderer.render(template, view(source, request), source.missing))
        except (Unavailable, AccessDenied) as error:
            if error.service in source.missing:
                raise
            source = source.without(error)
        except NoSuchPage as error:
            if not source.missing:
                raise
            raise ServiceMissing("; ".join(source.missing.values())) from error


async def _chunks(content: Iterator[bytes], limiter: CapacityLimiter) -> AsyncIterator[bytes]:
    """Read in the threads of `limiter`, one for each chunk, so that downloads do not take those of pages."""
    while (chunk := await run_sync(next, content, None, limiter=limiter)) is not None:
        yield chunk


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > forms.MAX_BODY:
            raise HTTPException(413)
    return body


# ------------------------------------------------------------------------------------ live


async def _messages(news: News, event: asyncio.Event) -> AsyncIterator[str]:
    """Send a message whenever something may have changed. The stream ends with the server, the window, or its time
    limit."""
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
                await asyncio.sleep(_BURST_INTERVAL)
    except TimeoutError:
        return
    finally:
        news.leave(event)


# ------------------------------------------------------------------------------ every answer


def _with_headers(app: ASGIApp, root: bytes) -> ASGIApp:
    """Add `HEADERS` to the answers of an application that do not have their own, and its root to redirects."""
    usual = {name.encode(): value.encode() for name, value in HEADERS.items()}

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = []
                for name, value in message.get("headers", ()):
                    if name == b"location":  # Starlette's own redirects have a host
                        value = root + urlsplit(value)._replace(scheme=b"", netloc=b"").geturl()
                    own.append((name, value))
                names = {name for name, _ in own}
                message = {**message, "headers": own + [header for header in usual.items() if header[0] not in names]}
            await send(message)

        await app(scope, receive, send_with_headers)

    return answer


def _problem(renderer: Renderer, request: Request, error: Exception) -> Response:
    """Make an error page, in the look of the others."""
    headers = None
    match error:
        case HTTPException(status_code=status):
            headers = error.headers
            title, text = {
                404: ("Not found", f"There is no page {request.url.path}."),
                405: ("Not allowed", f"This page does not accept {request.method}."),
                413: ("Too large", f"A form has at most {forms.MAX_BODY:,} bytes."),
            }.get(status, ("Refused", error.detail))
        case NoSuchPage() | NotFound():
            status, title, text = 404, "Not found", str(error)
        case ServiceMissing() | Unavailable():
            status, title, text = 503, "Not available", f"{error}. Try again in a moment."
        case ServiceError():
            status, title, text = 409, "Refused", str(error)
        case _:  # a mistake of ours, with a traceback in the server's log
            text = f"This page could not be made: {type(error).__name__}: {error}"
            status, title = 500, "Something went wrong"
    view = PageView(title, text=block(text, 1000))
    return HTMLResponse(renderer.render("problem.html", view), status, headers)
