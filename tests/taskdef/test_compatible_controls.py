"""Which changes of a TaskDef, beside its schemas, break workflows that are already running."""

from __future__ import annotations

from typing import Any

import pytest

from perago.taskdef import ABSENT
from perago.taskdef.compatibility import Change, Impact, classify

B, C = Impact.BREAKING, Impact.COMPATIBLE

CHANGES: list[tuple[str, Any, Any, Impact, str]] = [
    ("name", "a", "b", B, "another task type"),
    ("description", ABSENT, "text", C, "people"),
    ("description", "text", "other", C, "people"),
    ("ownerEmail", "a@b.de", "c@d.de", C, "people"),
    ("createTime", 1, 2, C, "server"),
    ("retryCount", 3, 1, B, "fewer retries"),
    ("retryCount", 3, 5, C, "more retries"),
    ("retryCount", ABSENT, 3, C, "the same"),
    ("retryCount", ABSENT, 2, B, "fewer"),
    ("retryCount", "3", 3, B, "unknown"),
    ("retryCount", True, 3, B, "unknown"),
    ("retryLogic", "FIXED", "LINEAR_BACKOFF", B, "retry delays differ"),
    ("retryLogic", ABSENT, "FIXED", C, "the same"),
    ("retryDelaySeconds", 60, 1, B, "outage"),
    ("retryDelaySeconds", 1, 60, C, "longer"),
    ("maxRetryDelaySeconds", 0, 60, B, "outage"),
    ("maxRetryDelaySeconds", 60, 0, C, "longer"),
    ("backoffScaleFactor", 2, ABSENT, B, "outage"),
    ("backoffScaleFactor", ABSENT, 2, C, "longer"),
    ("backoffJitterMs", 0, 100, C, "spread"),
    ("timeoutSeconds", 0, 60, B, "less time"),
    ("timeoutSeconds", 60, 30, B, "less time"),
    ("timeoutSeconds", 60, 90, C, "more time"),
    ("timeoutSeconds", 60, 0, C, "more time"),
    ("timeoutSeconds", 60, None, C, "more time"),
    ("responseTimeoutSeconds", 600, 60, B, "silent"),
    ("responseTimeoutSeconds", 600, 900, C, "silent"),
    ("responseTimeoutSeconds", ABSENT, 600, B, "silent"),
    ("pollTimeoutSeconds", 0, 10, B, "wait less"),
    ("pollTimeoutSeconds", 10, 20, C, "wait longer"),
    ("totalTimeoutSeconds", 0, 10, B, "less time"),
    ("totalTimeoutSeconds", 10, 0, C, "more time"),
    ("timeoutPolicy", "RETRY", "TIME_OUT_WF", B, "timeout"),
    ("timeoutPolicy", "ALERT_ONLY", "RETRY", B, "timeout"),
    ("timeoutPolicy", "RETRY", "ALERT_ONLY", B, "timeout"),
    ("timeoutPolicy", "TIME_OUT_WF", "RETRY", C, "no longer"),
    ("timeoutPolicy", ABSENT, "ALERT_ONLY", C, "no longer"),
    ("timeoutPolicy", {}, [], B, "timeout"),
    ("concurrentExecLimit", ABSENT, 4, B, "fewer"),
    ("concurrentExecLimit", 4, 2, B, "fewer"),
    ("concurrentExecLimit", 2, 4, C, "more"),
    ("concurrentExecLimit", 2, ABSENT, C, "more"),
    ("rateLimitPerFrequency", ABSENT, 10, B, "more slowly"),
    ("rateLimitPerFrequency", 10, 5, B, "more slowly"),
    ("rateLimitPerFrequency", 5, 10, C, "faster"),
    ("rateLimitPerFrequency", 5, ABSENT, C, "faster"),
    ("inputKeys", ["params"], ["workspace", "params"], B, "added input key workspace"),
    ("inputKeys", ["workspace", "params"], ["params"], B, "removed input key workspace"),
    ("inputKeys", ["workspace", "params"], ["params", "workspace"], C, "same"),
    ("inputKeys", "params", ["params"], B, "unknown"),
    ("outputKeys", ["result"], ["workspace", "result"], C, "added output key workspace"),
    ("outputKeys", ["workspace", "result"], ["result"], B, "removed output key workspace"),
    ("enforceSchema", ABSENT, True, B, "unknown"),
    ("enforceSchema", ABSENT, False, C, "the same"),
    ("inputTemplate", {"a": 1}, ABSENT, B, "unknown"),
    ("somethingNew", ABSENT, 1, B, "unknown"),
]


def one(field: str, value: Any) -> dict[str, Any]:
    return {} if value is ABSENT else {field: value}


@pytest.mark.parametrize(
    ("field", "old", "new", "impact", "words"), CHANGES, ids=[f"{field}-{old}-{new}" for field, old, new, *_ in CHANGES]
)
def test_a_change_of_a_field_is_judged(field: str, old: Any, new: Any, impact: Impact, words: str) -> None:
    (change,) = classify(one(field, old), one(field, new))
    assert (change.pointer, change.old, change.new) == (f"/{field}", old, new)
    assert (change.impact, words in change.reason) == (impact, True), change


@pytest.mark.parametrize(
    ("old", "new", "impacts"),
    [
        pytest.param((10, 10), (5, 5), {C}, id="same rate in smaller portions"),
        pytest.param((10, 10), (10, 20), {B}, id="longer period"),
        pytest.param((10, 10), (30, 20), {C}, id="more in a longer period"),
        pytest.param((10, 10), (0, 0), {B}, id="a period of nothing"),
        pytest.param((10, 0), (10, 1), {B}, id="no period before"),
        pytest.param((10, "s"), (10, 1), {B}, id="no number"),
        pytest.param((0, 1), (0, 60), {C}, id="no limit at all"),
    ],
)
def test_a_rate_limit_is_judged_as_a_rate(old: tuple[Any, Any], new: tuple[Any, Any], impacts: set[Impact]) -> None:
    fields = ("rateLimitPerFrequency", "rateLimitFrequencyInSeconds")
    found = classify(dict(zip(fields, old, strict=True)), dict(zip(fields, new, strict=True)))
    assert {change.impact for change in found} == impacts


def test_a_longer_retry_delay_can_use_up_the_total_timeout() -> None:
    old = {"retryDelaySeconds": 10, "totalTimeoutSeconds": 100}
    (change,) = classify(old, old | {"retryDelaySeconds": 90})
    assert change.impact is B
    assert "totalTimeoutSeconds" in change.reason


@pytest.mark.parametrize("key", ["name", "version", "type"])
def test_another_schema_by_name_version_or_type_cannot_be_judged(key: str) -> None:
    old = {"name": "a.input", "version": 1, "type": "JSON", "data": {}}
    (change,) = classify({"inputSchema": old}, {"inputSchema": old | {key: "other"}})
    assert (change.pointer, change.impact) == (f"/inputSchema/{key}", B)


def test_changes_come_in_the_order_of_their_fields_and_in_one_line_each() -> None:
    found = classify({"retryCount": 3, "description": "a\nb", "name": "x"}, {"retryCount": 1, "name": "x"})
    assert [change.text for change in found] == [
        'compatible: /description: removed "a\\nb" (for people only)',
        "breaking: /retryCount: 3 -> 1 (fewer retries)",
    ]


def test_the_same_definition_has_no_changes() -> None:
    definition = {"retryCount": 3, "inputSchema": {"data": {"type": "object"}}}
    assert classify(definition, {"retryCount": 3.0, "inputSchema": {"data": {"type": "object"}}}) == ()
    assert classify({"a": 1}, {"a": True}) == (Change("/a", 1, True, B, "effect of a change of a unknown"),)
