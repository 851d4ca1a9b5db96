"""The console: what Conductor and lakeFS hold, readable in any browser, with JavaScript or without.

Server-rendered, read-only, nothing external. Everything that comes from payloads, keys, logs and commits is taken for
hostile: it is escaped, made visible and cut before a template sees it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from perago.embedded.http.services import EmbeddedServices

__all__ = ["console_of"]


def console_of(services: EmbeddedServices, *, worker_logs: Path | None = None) -> ASGIApp:
    """The console of embedded services; with the steps of attempts whose workers log below `worker_logs`."""
    from perago.console.app import page_app
    from perago.console.models import no_steps
    from perago.console.worker_logs import WorkerLogs

    steps = no_steps if worker_logs is None else WorkerLogs(worker_logs)
    return page_app(services.conductor, services.lakefs.server, steps=steps, prefix=f"/{services.keys.token}")
