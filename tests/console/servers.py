"""Models behind HTTP, and the console's page of them, read as it reads real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from perago.console.app import page_app
from perago.console.remote import source_of_servers
from perago.console.worker_logs import no_traces
from perago.embedded.http.serve import serve
from perago.embedded.http.services import embedded_app
from perago.embedded.keys import KeyPair
from perago.settings import Settings, load_settings
from perago.testing import InMemoryServices

from .site import Site, site_of

NOWHERE = "http://127.0.0.1:9"
KEYS = KeyPair.random()


@contextmanager
def servers_of(services: InMemoryServices) -> Iterator[dict[str, str]]:
    """Serve the models; gives the variables that lead to them."""
    with serve(embedded_app(services.conductor, services.lakefs.server, keys=KEYS)) as url:
        yield variables(f"{url}/{KEYS.token}/api", url)


def variables(conductor: str, lakefs: str) -> dict[str, str]:
    """What names these addresses."""
    return {
        "CONDUCTOR_SERVER_URL": conductor,
        "LAKECTL_SERVER_ENDPOINT_URL": lakefs,
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": KEYS.access_key_id,
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": KEYS.secret_access_key,
    }


def settings_of(environment: dict[str, str], directory: Path) -> Settings:
    """The settings of an environment that has no other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name in (*variables("", ""), "PERAGO_LOG_ROOT"):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        return load_settings()


@contextmanager
def page_of_servers(services: InMemoryServices, settings: Settings) -> Iterator[Site]:
    """The page of what `settings` lead to, by the clock of the models."""
    with ExitStack() as stack:
        source = stack.enter_context(source_of_servers(settings, no_traces, now=services.clock.now))
        yield stack.enter_context(site_of(page_app(source)))
