"""The embedded services over HTTP, for tests that speak to them with real clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.embedded.http.services import EmbeddedServices


@contextmanager
def serve() -> Iterator[EmbeddedServices]:
    """A Conductor and a lakeFS in real time on a free port of 127.0.0.1, until the end of the `with` block.

    `conductor_url`, `lakefs_url` and `environment()` lead clients there; `url` is a page to look at; `conductor` and
    `lakefs` are the models behind it.

    Raises:
        ImportError: the extra `embedded` is not installed.
        TimeoutError: the server did not start within 20 s.
    """
    try:
        from perago.console import console_of
        from perago.embedded.http.services import EmbeddedServices
    except ImportError as error:
        raise ImportError(f"serving needs more packages: pip install jinja2 starlette uvicorn ({error})") from error
    with EmbeddedServices(page=console_of) as services:
        yield services
