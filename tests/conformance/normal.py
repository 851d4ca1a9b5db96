"""Makes the transcripts of two servers comparable: ids, times and unique names become the order of appearance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .rest import Exchange, Note

LONG_TEXT = 2000


@dataclass(frozen=True)
class Rules:
    """What one kind of server may answer differently each time."""

    ids: Mapping[str, re.Pattern[str]]
    """Label of an id, and what such ids look like anywhere in a text."""
    times: frozenset[str]
    """Members whose numbers are points in time or durations; only zero and not zero are told apart."""
    hidden: frozenset[str] = frozenset()
    """Members of answers that repeat what was sent and would only make recordings long; or that mean nothing."""
    headers: frozenset[str] = frozenset(("content-type",))
    """Answer headers that are compared."""
    replaced: Sequence[tuple[re.Pattern[str], str]] = ()
    """Other texts that differ each time, and what stands for them."""
    lucky: Callable[[Mapping[str, Any]], Collection[str]] = lambda _: ()
    """Members of one object in an answer that are a matter of luck, down to their presence, given the object."""


@dataclass
class Normal:
    """Normalises one transcript; the same id gets the same number wherever it appears."""

    rules: Rules
    names: Mapping[str, str]
    _known: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _hidden: frozenset[str] = frozenset()

    def copy(self) -> Normal:
        """One that knows the same ids; what it learns from now on is its own."""
        return Normal(self.rules, self.names, dict(self._known), dict(self._counts))

    def transcript(self, exchanges: Sequence[Exchange | Note]) -> list[dict[str, Any]]:
        """All exchanges as JSON values."""
        return [self.exchange(one) if isinstance(one, Exchange) else self._note(one) for one in exchanges]

    def _note(self, note: Note) -> dict[str, Any]:
        self._hidden = self.rules.hidden
        return {"noted": note.about, "value": self.value(note.value)}

    def exchange(self, exchange: Exchange) -> dict[str, Any]:
        """One exchange as a JSON value; to be called in the order in which they took place."""
        self._hidden = frozenset()
        request: dict[str, Any] = {"operation": exchange.operation, "path": self.text(exchange.path)}
        if exchange.query:
            request["query"] = self.value(exchange.query)
        if exchange.headers:
            request["headers"] = self.value(exchange.headers)
        if exchange.body is not None:
            body = exchange.body
            request["body"] = self._bytes(body) if isinstance(body, bytes) else self.value(body)
        self._hidden = self.rules.hidden - exchange.shown
        response: dict[str, Any] = {"status": exchange.answer.status}
        shown = {key: value for key, value in exchange.answer.headers.items() if key in self.rules.headers}
        if shown:
            response["headers"] = self.value(dict(sorted(shown.items())))
        if exchange.answer.data:
            response["body"] = self._received(exchange)
        return {"request": request, "response": response}

    def _received(self, exchange: Exchange) -> Any:
        try:
            body = json.loads(exchange.answer.data)
        except ValueError:
            return self._bytes(exchange.answer.data)
        found = self.value(body)
        return _sorted(found) if exchange.unordered else found

    def _bytes(self, data: bytes) -> Any:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return {"hex": data.hex() if len(data) <= LONG_TEXT else f"<{len(data)} bytes>"}
        return self.text(text)

    def value(self, value: Any, key: str | None = None) -> Any:
        """A comparable copy of a JSON value; `key` is the member that holds it."""
        if key in self._hidden:
            return "<hidden>"
        if isinstance(value, Mapping):
            luck = self.rules.lucky(value)
            shown = {**value, **dict.fromkeys(luck, "<luck>")}
            return {self.text(name): self.value(item, name) for name, item in sorted(shown.items())}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if key in self.rules.times and isinstance(value, int | float) and not isinstance(value, bool):
            return "<time>" if value else value
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """A comparable copy of a text."""
        for label, pattern in self.rules.ids.items():
            text = pattern.sub(lambda match, label=label: self._numbered(label, match[0]), text)  # type: ignore[misc]
        for name, shown in self.names.items():
            text = text.replace(name, shown)
        for pattern, shown in self.rules.replaced:
            text = pattern.sub(shown, text)
        return text if len(text) <= LONG_TEXT else f"<{len(text)} characters>"

    def _numbered(self, label: str, found: str) -> str:
        if found not in self._known:
            self._counts[label] = self._counts.get(label, 0) + 1
            self._known[found] = f"<{label} {self._counts[label]}>"
        return self._known[found]


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value
