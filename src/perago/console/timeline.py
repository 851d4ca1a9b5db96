"""When things happened, drawn: the attempts of a workflow, and the steps of an attempt.

Everything is drawn in percent of a whole, so it fits every width. The same is always there in words as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from perago.console import text
from perago.console.source import Json
from perago.console.text import Link, Shown, duration, line, link, status_view
from perago.console.worker_logs import AttemptTrace

_THINNEST = 0.5
"""Percent: what is shorter is drawn as long as this."""
_CAPITAL = re.compile(r"(?<=[a-z])[A-Z]")


@dataclass(frozen=True, slots=True)
class Span:
    """A place and a length, in percent of the whole."""

    at: float
    length: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt: how long it waited, and how long it ran."""

    waited: Span
    ran: Span
    tone: str
    url: str
    words: str


@dataclass(frozen=True, slots=True)
class Row:
    """The attempts of one step side by side, called by its task type, or by its reference name where several steps have
    that type."""

    name: Link
    bars: tuple[Bar, ...]
    elapsed: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The attempts of a workflow. `half` and `whole` are the times at the middle and at the end."""

    rows: tuple[Row, ...]
    half: str
    whole: str


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step of a delivery."""

    name: Shown
    elapsed: str
    span: Span
    words: str


@dataclass(frozen=True, slots=True)
class Steps:
    """What one delivery did when, or what Conductor knows of an attempt whose worker's log is not here."""

    title: str
    total: str
    times: tuple[StepTime, ...]


def timeline(groups: Sequence[Sequence[Json]], start: int, end: int) -> Timeline:
    """The attempts of each step between two times in milliseconds."""
    types = Counter(group[0]["taskDefName"] for group in groups)
    rows = []
    for group in groups:
        first, last = group[0], group[-1]
        called = first["taskDefName"] if types[first["taskDefName"]] == 1 else first["referenceTaskName"]
        name = link(called, f"#{text.attempt_anchor(first['taskId'])}")
        spent = (last["endTime"] or end) - (first["startTime"] or first["scheduledTime"])
        rows.append(Row(name, tuple(_bar(task, start, end) for task in group), duration(spent)))
    return Timeline(tuple(rows), duration((end - start) / 2), duration(end - start))


def label_of(task: Json) -> str:
    """What an attempt is called among those of its step."""
    return f"Retry {task['retryCount']}" if task["retryCount"] else "First attempt"


def steps_of(task: Json, trace: AttemptTrace, now: int) -> tuple[Steps, ...]:
    """The steps of each delivery of an attempt, as its workers logged them. Of one whose logs are not here, when it
    waited and when a worker had it."""
    deliveries = sorted(trace, key=lambda key: (key[2], key[1]))
    told = [_waterfall(f"Steps of delivery {key[1]}", trace[key].steps) for key in deliveries if trace[key].steps]
    if told or trace:
        return tuple(told)
    started = task["startTime"] or task["endTime"] or now
    times = [("Waiting", (started - task["scheduledTime"]) / 1000)]
    if task["startTime"]:
        times.append(("With a worker", ((task["endTime"] or now) - started) / 1000))
    return (_waterfall("Times", times),)


def _waterfall(title: str, times: Sequence[tuple[str, float]]) -> Steps:
    """One after the other, as a delivery does its steps."""
    total = sum(seconds for _, seconds in times)
    found, before = [], 0.0
    for name, seconds in times:
        words = f"after {duration(before * 1000)}, for {duration(seconds * 1000)}"
        span = _span(before, before + seconds, 0, total)
        found.append(StepTime(line(_words(name)), duration(seconds * 1000), span, words))
        before += seconds
    return Steps(title, duration(total * 1000), tuple(found))


def _words(name: str) -> str:
    """`CheckGuardrails` reads `Check guardrails`."""
    return _CAPITAL.sub(lambda match: f" {match[0].lower()}", name)


def _bar(task: Json, start: int, end: int) -> Bar:
    scheduled, ended = task["scheduledTime"], task["endTime"] or end
    started = task["startTime"] or ended
    ran = _span(started, ended, start, end)
    status = status_view(task["status"])
    spent = duration(ended - started) if task["startTime"] else f"waiting for {duration(ended - scheduled)}"
    waited = _span(scheduled, started, start, end)
    return Bar(
        waited=Span(min(waited.at, ran.at), round(max(ran.at - waited.at, 0), 2)),
        ran=ran,
        tone=status.tone,
        url=f"#{text.attempt_anchor(task['taskId'])}",
        words=f"{label_of(task)}: {status.word}, {spent}",
    )


def _span(begun: float, ended: float, start: float, end: float) -> Span:
    def place(time: float) -> float:
        return min(max((time - start) / max(end - start, 0.001) * 100, 0.0), 100.0)

    at = min(place(begun), 100 - _THINNEST)
    return Span(round(at, 2), round(max(place(ended) - at, _THINNEST), 2))
