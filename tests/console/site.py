"""A served page, and a small client for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import urllib3
from starlette.types import ASGIApp

from perago.console.app import page_app
from perago.console.embedded import source_of
from perago.console.source import Traces
from perago.console.worker_logs import no_traces
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.serve import serve
from perago.embedded.lakefs.server import LakeFSServer

from ..http_answer import Answer
from .markup import Element, read


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
def page_of(conductor: ConductorModel, lakefs: LakeFSServer, traces: Traces = no_traces) -> Iterator[Site]:
    """Serve the page of two models, which hears of what changes in Conductor."""
    source = source_of(conductor, lakefs, traces)
    conductor.on_change = source.news.ring
    with site_of(page_app(source)) as site:
        try:
            yield site
        finally:
            source.news.close()
