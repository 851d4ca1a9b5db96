"""A plain REST client that notes every exchange."""

from __future__ import annotations

import json as jsonlib
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import urllib3

from ..http_answer import Answer

TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    operation: str
    """Method and path template, as `GET /repositories/{repository}`."""
    path: str
    query: Mapping[str, Any]
    body: Any
    """JSON value, bytes or None."""
    headers: Mapping[str, str]
    answer: Answer
    unordered: bool
    shown: frozenset[str] = frozenset()
    """Members of the answer that are shown although recordings hide them otherwise."""


@dataclass(frozen=True)
class Note:
    """What a scenario found out from answers that are not comparable by themselves, as which of two times is later."""

    about: str
    value: Any


@dataclass
class Rest:
    """One server. Paths are templates below `url`; their `{parts}` are given by name and quoted here."""

    url: str
    sleep: Callable[[float], None]
    """Lets time pass on the server: really, or on its virtual clock."""
    headers: Mapping[str, str] = field(default_factory=dict)
    works_at_once: bool = False
    """Whether the server does its background work before it answers, as the embedded one does."""
    exchanges: list[Exchange | Note] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """Each unique name that the scenario made, and how a transcript shows it."""
    _noting: bool = True
    _afterwards: list[Callable[[], object]] = field(default_factory=list)
    _pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=TIMEOUT_SECONDS, maxsize=8)
    )

    def name(self, label: str, separator: str = "-") -> str:
        """A name that no other run has used on this server; transcripts show it as `<label>`."""
        made = f"{label}{separator}{uuid.uuid4().hex[:10]}"
        self.names[made] = f"<{label}>"
        return made

    def call(
        self,
        method: str,
        template: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        unordered: bool = False,
        show: Collection[str] = (),
        own: bool = False,
        **parts: str,
    ) -> Answer:
        """Send one request and note it.

        `unordered`: lists in the answer's body are compared as sets. `show`: members that are hidden otherwise. `own`:
        of a list or map of everything on the server, only what names something of this scenario is noted.
        """
        path = template.format(**{name: urllib.parse.quote(value, safe="") for name, value in parts.items()})
        sent = dict(self.headers) | dict(headers or {})
        content = body
        if json is not None:
            content = jsonlib.dumps(json).encode()
            sent.setdefault("Content-Type", "application/json")
        shown = f"?{urllib.parse.urlencode(query, doseq=True)}" if query else ""
        response = self._pool.request(method, self.url + path + shown, body=content, headers=sent)
        answer = Answer.of(response)
        if own:
            answer = replace(answer, data=jsonlib.dumps(self._own(answer.json)).encode())
        if self._noting:
            self.exchanges.append(
                Exchange(
                    f"{method} {template}",
                    template.format(**parts),
                    dict(query or {}),
                    json if json is not None else body,
                    dict(headers or {}),
                    answer,
                    unordered,
                    frozenset(show),
                )
            )
        return answer

    def _own(self, listing: Any) -> Any:
        if isinstance(listing, list):
            return [row for row in listing if any(name in jsonlib.dumps(row) for name in self.names)]
        return {
            key: row for key, row in listing.items() if any(name in f"{key}{jsonlib.dumps(row)}" for name in self.names)
        }

    def get(self, template: str, **options: Any) -> Answer:
        """Send a GET; the options are those of `call`."""
        return self.call("GET", template, **options)

    def post(self, template: str, json: Any = None, **options: Any) -> Answer:
        """Send a POST of a JSON value; the options are those of `call`."""
        return self.call("POST", template, json=json, **options)

    def put(self, template: str, json: Any = None, **options: Any) -> Answer:
        """Send a PUT of a JSON value; the options are those of `call`."""
        return self.call("PUT", template, json=json, **options)

    def delete(self, template: str, **options: Any) -> Answer:
        """Send a DELETE; the options are those of `call`."""
        return self.call("DELETE", template, **options)

    @property
    def silent(self) -> Rest:
        """The same client. Its requests set the stage and are no part of the transcript."""
        return replace(self, _noting=False)

    def posing(self, authorization: str | None) -> Rest:
        """The same client with another `Authorization`, which the transcript does not show."""
        return replace(self, headers={} if authorization is None else {"Authorization": authorization})

    def unique(self, label: str) -> str:
        """Return the one name with this label, which the first call makes."""
        return next((made for made, shown in self.names.items() if shown == f"<{label}>"), None) or self.name(label)

    def note(self, about: str, value: Any) -> None:
        """Put a finding of the scenario into the transcript."""
        if self._noting:
            self.exchanges.append(Note(about, value))

    @contextmanager
    def unnoted(self) -> Iterator[None]:
        """Exchanges in this block set the stage and are no part of the transcript."""
        before, self._noting = self._noting, False
        try:
            yield
        finally:
            self._noting = before

    def race(self, about: str, calls: Sequence[Callable[[], Answer]]) -> list[Answer]:
        """Send requests at the same time; the transcript shows how often each status came."""
        with self.unnoted(), ThreadPoolExecutor(len(calls)) as threads:
            answers = list(threads.map(lambda call: call(), calls))
        statuses = Counter(str(answer.status) for answer in answers)
        self.note(about, {"at once": len(calls), "statuses": dict(statuses)})
        return answers

    def afterwards(self, tidy: Callable[[], object]) -> None:
        """Have this done once the scenario has been told, whatever came of it; it is no part of the transcript."""
        self._afterwards.append(tidy)

    def close(self) -> None:
        """Tidy up and close the connections."""
        with self.unnoted():
            for tidy in reversed(self._afterwards):
                tidy()
        self._pool.clear()
