"""The console: the data of Conductor and lakeFS in any browser, with or without JavaScript.

Pages are rendered on the server, without external resources. Everything from payloads, keys, logs and commits is
untrusted: its length is limited, and templates escape it. On embedded services two requests
change something: a form starts a workflow, a button ends one. On real servers nothing does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from perago.embedded.services import EmbeddedServices
    from perago.settings import Settings

__all__ = ["console_of", "console_of_servers"]


def console_of(
    services: EmbeddedServices, *, worker_logs: Path | None = None, samples: Mapping[str, Any] | None = None
) -> ASGIApp:
    """Return the console of embedded services.

    Args:
        services: the services. They report changes, and their end.
        worker_logs: the directory of the logs of their workers, with output, progress, guardrails, changed files and
            steps.
        samples: initial parameters of forms, by the name of the workflow; read whenever a form is made.
    """
    from pydantic import SecretStr

    from perago.console.app import page_app
    from perago.console.source import Embedded, source_of
    from perago.settings import Settings
    from perago.worker.log_reader import WorkerLogs, no_traces

    keys = services.keys
    stack = ExitStack()
    source = stack.enter_context(
        source_of(
            Settings.model_construct(
                conductor_server_url=services.conductor_url,
                lakefs_endpoint_url=services.lakefs_url,
                lakefs_access_key_id=keys.access_key_id,
                lakefs_secret_access_key=SecretStr(keys.secret_access_key),
            ),
            no_traces if worker_logs is None else WorkerLogs(worker_logs),
            embedded=Embedded(services.conductor, {} if samples is None else samples),
            now=services.clock.now,
        )
    )
    services.watch(source.news.ring, stack.close)
    return page_app(source, root=f"/{keys.token}")


@contextmanager
def console_of_servers(settings: Settings, token: str) -> Iterator[ASGIApp]:
    """Return the console of the configured servers, read-only, for requests of this machine with the token.

    Args:
        settings: the addresses of the servers; one of them can be missing. Logs of workers are read below its log root.
        token: the first part of the address of each page.
    """
    from perago.console.app import page_app
    from perago.console.source import source_of
    from perago.embedded.http.loopback import Admission
    from perago.worker.log_reader import WorkerLogs

    with source_of(settings, WorkerLogs(settings.log_root)) as source:
        yield Admission(page_app(source, root=f"/{token}"), token, apis=False)
