"""The fields of a TaskDef beside its schemas: retries, timeouts, limits, keys (docs/design/contract.md 2,
TaskControls)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from perago.taskdef.compare import SERVER_DEFAULTS, SERVER_FIELDS, same_json
from perago.taskdef.compatibility.change import Impact

Verdict: TypeAlias = tuple[Impact, str]
Definition: TypeAlias = Mapping[str, Any]

_LABELS = frozenset({"description", "ownerEmail", "ownerApp"})
_RATE = ("rateLimitPerFrequency", "rateLimitFrequencyInSeconds")
_DELAYS = frozenset({"retryDelaySeconds", "maxRetryDelaySeconds", "backoffScaleFactor"})
_MILDER_POLICIES = frozenset({("TIME_OUT_WF", "RETRY"), ("TIME_OUT_WF", "ALERT_ONLY")})
"""From RETRY to ALERT_ONLY is not milder: an attempt that hangs is then never tried again."""


@dataclass(frozen=True, slots=True)
class _Amount:
    """A number of which more is safe and less may break."""

    less: str
    more: str
    zero_is_unlimited: bool = False


_AMOUNTS: Mapping[str, _Amount] = {
    "retryCount": _Amount("fewer retries", "more retries"),
    "retryDelaySeconds": _Amount("an outage may outlast shorter retry delays", "longer retry delays"),
    "maxRetryDelaySeconds": _Amount("an outage may outlast shorter retry delays", "longer retry delays", True),
    "backoffScaleFactor": _Amount("an outage may outlast shorter retry delays", "longer retry delays"),
    "timeoutSeconds": _Amount("an attempt has less time", "an attempt has more time", True),
    "responseTimeoutSeconds": _Amount("a worker may be silent for less time", "a worker may be silent longer", True),
    "pollTimeoutSeconds": _Amount("an attempt may wait less for a worker", "an attempt may wait longer", True),
    "totalTimeoutSeconds": _Amount("all attempts together have less time", "all attempts have more time", True),
    "concurrentExecLimit": _Amount("fewer attempts at the same time, so some wait", "more attempts at a time", True),
}


def judge_field(field: str, old: Definition, new: Definition) -> Verdict:
    """What it means that the two definitions differ in `field`."""
    before, after = _effective(field, old), _effective(field, new)
    if field in SERVER_FIELDS:
        return Impact.COMPATIBLE, "written by the server"
    if field in _LABELS:
        return Impact.COMPATIBLE, "for people only"
    if field in SERVER_DEFAULTS and same_json(before, after):
        return Impact.COMPATIBLE, "the same: this is what the server takes where nothing is written"
    if field in _AMOUNTS:
        return _amount(field, before, after, new)
    if field in _RATE:
        return _rate(old, new)
    match field:
        case "name":
            return Impact.BREAKING, "another task type: running workflows still ask for the old one"
        case "retryLogic":
            return Impact.BREAKING, "unknown, because the retry delays differ"
        case "backoffJitterMs":
            return Impact.COMPATIBLE, "retry delays are spread differently"
        case "timeoutPolicy":
            if isinstance(before, str) and isinstance(after, str) and (before, after) in _MILDER_POLICIES:
                return Impact.COMPATIBLE, "a timeout no longer ends the workflow"
            return Impact.BREAKING, "a timeout has another effect"
        case "inputKeys":
            return _keys(before, after, "input key", added=Impact.BREAKING)
        case "outputKeys":
            return _keys(before, after, "output key", added=Impact.COMPATIBLE)
    return _cannot_tell(field)


def _cannot_tell(field: str) -> Verdict:
    return Impact.BREAKING, f"cannot tell what a change of {field} does"


def _effective(field: str, definition: Definition) -> Any:
    value = definition.get(field)
    return SERVER_DEFAULTS.get(field) if value is None else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _amount(field: str, old: Any, new: Any, definition: Definition) -> Verdict:
    if not (_is_number(old) and _is_number(new)):
        return _cannot_tell(field)
    amount = _AMOUNTS[field]
    if amount.zero_is_unlimited:
        old, new = (float("inf") if value == 0 else value for value in (old, new))
    if new < old:
        return Impact.BREAKING, amount.less
    if field in _DELAYS and not same_json(_effective("totalTimeoutSeconds", definition), 0):
        return Impact.BREAKING, f"{amount.more}, which may use up totalTimeoutSeconds"
    return Impact.COMPATIBLE, amount.more


def _rate(old: Definition, new: Definition) -> Verdict:
    """Both fields are one rate; 0 per period is no limit."""
    values = [_effective(field, definition) for definition in (old, new) for field in _RATE]
    if not all(_is_number(value) and 0 <= value < float("inf") for value in values) or 0 in values[1::2]:
        return _cannot_tell("the rate limit")
    before, after = (Fraction(values[index]) / Fraction(values[index + 1]) for index in (0, 2))
    if after == 0 or (before != 0 and after >= before):
        return Impact.COMPATIBLE, "attempts are handed out at the same rate or faster"
    return Impact.BREAKING, "attempts are handed out more slowly"


def _keys(old: Any, new: Any, what: str, *, added: Impact) -> Verdict:
    if not all(isinstance(keys, list) and all(isinstance(key, str) for key in keys) for keys in (old, new)):
        return _cannot_tell(f"an {what}")
    gone, come = sorted({*old} - {*new}), sorted({*new} - {*old})
    if gone:
        return Impact.BREAKING, f"removed {what} {', '.join(gone)}"
    if come:
        return added, f"added {what} {', '.join(come)}"
    return Impact.COMPATIBLE, "the same keys"
