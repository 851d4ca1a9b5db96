"""The findings of `perago doctor`, and its checks, which run at the same time, each with a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from perago.ports import AccessDenied, ServiceError, Unavailable

LIMIT = 30.0
"""Seconds for one check."""
_AT_A_TIME = 8


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """Attempts work, and something is not as it should be."""
    PROBLEM = "problem"
    """Attempts fail, or are not safe."""


class Cause(StrEnum):
    """The origin of a problem: it decides the exit code."""

    MODULE = "module"
    CONFIGURATION = "configuration"
    SERVER = "server"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `why` says what it leads to, `advice` what to do next; both are empty for `OK`."""

    area: str
    level: Level
    what: str
    why: str = ""
    advice: str = ""
    cause: Cause = Cause.OTHER


Explain = Callable[[ServiceError], tuple[str, str]]
"""Returns in one sentence what a service did not do, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Check:
    """Looks at one area. `look` may raise any `ServiceError` after its first findings: that is one more, and `why` says
    what it leads to."""

    area: str
    why: str
    look: Callable[[], Iterable[Finding]]


@dataclass(slots=True)
class _Running:
    check: Check
    thread: threading.Thread = field(init=False)
    found: list[Finding] = field(default_factory=list)
    started: float | None = None


def run_checks(checks: Sequence[Check], explain: Explain, limit: float = LIMIT) -> list[Finding]:
    """The findings of all checks, in their order. One that does not end in time is a problem, and left behind: its
    thread ends with the time limits of its requests, or with the process.

    Args:
        checks: what to look at.
        explain: words for what a service did not do.
        limit: seconds for each, from its start.
    """
    free = threading.Semaphore(_AT_A_TIME)
    running = [_Running(check) for check in checks]
    for one in running:
        one.thread = threading.Thread(
            target=_run, args=(one, free, explain, limit), name=f"check-{one.check.area}", daemon=True
        )
        one.thread.start()
    return [finding for one in running for finding in _awaited(one, limit)]


def _run(one: _Running, free: threading.Semaphore, explain: Explain, limit: float) -> None:
    """Look when it is this check's turn, or after `limit` seconds: who has all places then is left behind."""
    has_place = free.acquire(timeout=limit)
    try:
        _look(one, explain)
    finally:
        if has_place:
            free.release()


def _look(one: _Running, explain: Explain) -> None:
    check = one.check
    one.started = time.monotonic()
    try:
        for finding in check.look():
            one.found.append(finding)
    except ServiceError as error:
        what, advice = explain(error)
        cause = Cause.SERVER if isinstance(error, Unavailable | AccessDenied) else Cause.OTHER
        one.found.append(Finding(check.area, Level.PROBLEM, what, check.why, advice, cause))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        one.found.append(Finding(check.area, Level.PROBLEM, what, check.why, "look at this file or directory"))
    except Exception as error:  # noqa: BLE001 - a check with a mistake must not look like one that found nothing
        what = f"this could not be looked at: {type(error).__name__}: {error}"
        one.found.append(Finding(check.area, Level.PROBLEM, what, check.why, "report this as a mistake of perago"))


def _awaited(one: _Running, limit: float) -> list[Finding]:
    """The findings of a check, once it has ended or its time is over. The time of one that waits for its turn has not
    begun."""
    while one.thread.is_alive():
        left = limit if one.started is None else one.started + limit - time.monotonic()
        if left <= 0:
            what = f"this was not looked at to its end within {limit:g} s"
            advice = "try it again; if it stays so, look at the load of this machine and of the servers"
            return [*one.found, Finding(one.check.area, Level.PROBLEM, what, one.check.why, advice, Cause.SERVER)]
        one.thread.join(left)
    return one.found
