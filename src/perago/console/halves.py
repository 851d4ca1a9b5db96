"""The pages while a service does not answer: its half is empty, and they say why; the other half is whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from perago.console.source import Conductor, LakeFS, NoSuchPage, Source
from perago.ports import ServiceError

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
