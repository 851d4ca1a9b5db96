"""Models behind HTTP, their served page, and a small client for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urldefrag, urlencode, urljoin

import urllib3
from pydantic import SecretStr
from starlette.types import ASGIApp

from perago.console.app import page_app
from perago.console.source import Embedded, Source, Traces, source_of
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.http.loopback import embedded_app, serve
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.values import KeyPair
from perago.settings import ConductorSettings, LakeFSSettings, Settings
from perago.testing.services import InMemoryServices
from perago.worker.log_reader import no_traces

from ..http_answer import Answer
from .markup import Element, read

NOWHERE = "http://127.0.0.1:9"
KEYS = KeyPair.random()


class PageAnswer(Answer):
    """An answer that is a page."""

    @property
    def page(self) -> Element:
        """The parsed document."""
        return read(self.text)

    @property
    def main(self) -> Element:
        """What the page is about, without its frame."""
        return self.page.one("main")


@dataclass(frozen=True)
class Site:
    """One served page."""

    url: str
    pool: urllib3.PoolManager

    def request(self, method: str, path: str, form: Mapping[str, str] | None = None) -> PageAnswer:
        """Any request, redirects not followed."""
        body = None if form is None else urlencode(form)
        answer = self.pool.request(method, self.url + path, body=body, redirect=False, timeout=30, retries=False)
        return PageAnswer.of(answer)

    def get(self, path: str) -> PageAnswer:
        """A page that must be there."""
        answer = self.request("GET", path)
        assert answer.status == 200, f"{path}: {answer.status} {answer.main.text[:500]}"
        return answer


@contextmanager
def site_of(app: ASGIApp) -> Iterator[Site]:
    """Serve `app` for the length of the block."""
    with serve(app) as url, urllib3.PoolManager() as pool:
        yield Site(url, pool)


@contextmanager
def source_of_models(
    conductor: InMemoryConductor,
    lakefs: LakeFSServer,
    traces: Traces = no_traces,
    samples: Mapping[str, Any] | None = None,
) -> Iterator[Source]:
    """Serve two models, and read them as `console_of` does."""
    with serve(embedded_app(conductor, lakefs, keys=KEYS)) as url:
        settings = settings_of(conductor_at(f"{url}/{KEYS.token}"), lakefs_at(url))
        embedded = Embedded(conductor, {} if samples is None else samples)
        with source_of(settings, traces, embedded=embedded, now=lambda: conductor.now() / 1000) as source:
            yield source


@contextmanager
def page_of(
    conductor: InMemoryConductor,
    lakefs: LakeFSServer,
    traces: Traces = no_traces,
    samples: Mapping[str, Any] | None = None,
) -> Iterator[Site]:
    """Serve the page of two models, which hears of what changes in Conductor."""
    with source_of_models(conductor, lakefs, traces, samples) as source:
        conductor.on_change = source.news.ring
        with site_of(page_app(source)) as site:
            yield site
            source.news.close()


def settings_of(conductor: ConductorSettings | None = None, lakefs: LakeFSSettings | None = None) -> Settings:
    """The configuration of a machine that knows these servers, if any."""
    fields: dict[str, Any] = {}
    if conductor is not None:
        fields["conductor_server_url"] = conductor.server_url
    if lakefs is not None:
        fields |= {f"lakefs_{name}": getattr(lakefs, name) for name in LakeFSSettings.__slots__}
    return Settings.model_construct(**fields)


def conductor_at(url: str) -> ConductorSettings:
    """The settings of a Conductor below a URL."""
    return ConductorSettings(f"{url}/api")


def lakefs_at(url: str, secret: str = KEYS.secret_access_key) -> LakeFSSettings:
    """The settings of a lakeFS that lets `KEYS` in."""
    return LakeFSSettings(url, KEYS.access_key_id, SecretStr(secret))


@contextmanager
def servers_of(services: InMemoryServices) -> Iterator[tuple[ConductorSettings, LakeFSSettings]]:
    """Serve the models as configured servers."""
    with serve(embedded_app(services.conductor, services.lakefs.server, keys=KEYS)) as url:
        yield conductor_at(f"{url}/{KEYS.token}"), lakefs_at(url)


@contextmanager
def page_of_servers(
    services: InMemoryServices, conductor: ConductorSettings | None, lakefs: LakeFSSettings | None
) -> Iterator[Site]:
    """The page of configured servers, by the clock of the models."""
    settings = settings_of(conductor, lakefs)
    with source_of(settings, no_traces, now=services.clock.now) as source, site_of(page_app(source)) as site:
        yield site


_CARRY_ADDRESSES = ("href", "src", "poster", "srcset")


def crawl(site: Site) -> dict[str, PageAnswer]:
    """Every page that can be reached from the root, by its path and query."""
    pages: dict[str, PageAnswer] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        if path in pages:
            continue
        pages[path] = site.get(path)
        if pages[path].headers["content-type"].startswith("text/html"):
            waiting.extend(urldefrag(urljoin(path, address)).url for address in addresses(pages[path].page))
    return pages


def addresses(page: Element) -> Iterator[str]:
    for element in page.walk():
        for name in _CARRY_ADDRESSES:
            if name in element.attributes and not element.attributes[name].startswith("data:"):
                yield element.attributes[name]
