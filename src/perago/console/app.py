"""The page's addresses and what answers at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from perago.console import branch, commit, files, links, overview, repositories, task_types, workflow
from perago.console.headers import SecurityHeaders
from perago.console.links import Link
from perago.console.models import Models, NoSuchPage, StepSource, no_steps
from perago.console.rendering import Renderer
from perago.console.text import Shown, block
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.lakefs.errors import LakeFSError
from perago.embedded.lakefs.server import LakeFSServer
from perago.ports import NotFound, ServiceError

View = Callable[[Models, Request], Any]

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
    (f"{_REPOSITORY}/branches/{{branch}}", "branch.html", branch.branch),
    (_COMMIT, "commit.html", commit.commit),
    (f"{_COMMIT}/files", "directory.html", files.directory),
    (f"{_COMMIT}/file", "file.html", files.file),
)
"""Address, template, and the function that makes the template's values."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A page that says why there is no other."""

    text: Shown
    title: str
    crumbs: tuple[Link, ...] = ()
    refresh_seconds: int = 0


def page_app(
    conductor: ConductorModel, lakefs: LakeFSServer, *, steps: StepSource = no_steps, prefix: str = ""
) -> ASGIApp:
    """An ASGI application for the root of a server. It answers GET and HEAD only and changes nothing.

    `prefix` is what Conductor's paths begin with in the shell lines that it shows.
    `steps` tells the steps of attempts, for example a `perago.console.worker_logs.WorkerLogs`.
    """
    models, renderer = Models(conductor, lakefs, steps, prefix), Renderer()
    problems = _Problems(renderer)
    routes: list[BaseRoute] = [
        Route(path, _answer(models, renderer, template, view), methods=["GET"]) for path, template, view in PAGES
    ]
    routes.append(Route(f"{_COMMIT}/download", lambda request: files.download(models, request), methods=["GET"]))
    routes.append(Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")))
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: problems.http,
            NoSuchPage: problems.missing,
            NotFound: problems.missing,
            LakeFSError: problems.missing,
            ServiceError: problems.unavailable,
            Exception: problems.broken,
        },
    )
    return SecurityHeaders(app)


def _answer(models: Models, renderer: Renderer, template: str, view: View) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        """Not a coroutine: it runs in a thread, so that a large page holds up nobody."""
        return HTMLResponse(renderer.render(template, view(models, request)))

    return answer


class _Problems:
    """Error pages, in the look of the others."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def http(self, request: Request, error: Exception) -> Response:
        """An address or a method that is not served."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 405:
            text = f"This page is read-only: it does not answer {request.method}."
        else:
            text = f"There is no page {request.url.path}."
        headers = getattr(error, "headers", None)
        return self._page("Not found" if status == 404 else "Not allowed", text, status, headers)

    def missing(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - the handler's signature
        """Something that the models do not have, or no longer."""
        return self._page("Not found", str(error), 404)

    def unavailable(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - the handler's signature
        """The model does not answer in time."""
        return self._page("Not available", f"{error}. Try again in a moment.", 503)

    def broken(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - the handler's signature
        """A mistake of ours, or something that the models do not have. The server's log gets the traceback."""
        return self._page("Something went wrong", f"This page could not be made: {type(error).__name__}: {error}", 500)

    def _page(self, title: str, text: str, status: int, headers: dict[str, str] | None = None) -> Response:
        view = Problem(block(text, 1000), title)
        return HTMLResponse(self._renderer.render("problem.html", view), status, headers)
