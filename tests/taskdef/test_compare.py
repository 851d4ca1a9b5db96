"""The changes that registering a TaskDef would make, and which of them break running workflows."""

from __future__ import annotations

from typing import Any

import pytest

from perago.taskdef import ABSENT, Difference, build_task_definition, compare_definitions
from perago.taskdef.compatibility import Change, Impact, classify

from .tasks import make_task

OURS = build_task_definition(make_task(workspace=True))

SCHEMA_STAMPS = {"createTime": 0, "updateTime": 0}

STORED: dict[str, Any] = OURS | {
    "inputSchema": SCHEMA_STAMPS | OURS["inputSchema"],
    "outputSchema": SCHEMA_STAMPS | OURS["outputSchema"],
    "createTime": 1700000000000,
    "updateTime": 1700000000001,
    "createdBy": "",
    "backoffScaleFactor": 1,
    "rateLimitPerFrequency": 0,
    "rateLimitFrequencyInSeconds": 1,
    "taskStatusListenerEnabled": True,
    "enforceSchema": False,
    "runtimeMetadata": [],
    "inputTemplate": {},
    "ownerApp": None,
}


def test_fields_that_the_server_adds_are_not_a_difference() -> None:
    assert compare_definitions(STORED, OURS) == ()


def test_a_default_that_the_server_left_out_is_not_a_difference() -> None:
    sparse = {key: value for key, value in STORED.items() if key not in ("retryCount", "timeoutSeconds", "retryLogic")}
    assert compare_definitions(sparse, OURS) == ()


CHANGED: dict[str, tuple[dict[str, Any], Difference, str]] = {
    "changed": ({"retryCount": 5}, Difference("/retryCount", 5, 3), "5 -> 3"),
    "back to the default": ({"concurrentExecLimit": 2}, Difference("/concurrentExecLimit", 2, 0), "2 -> 0"),
    "set by somebody else": ({"inputTemplate": {"a": 1}}, Difference("/inputTemplate/a", 1, ABSENT), "removed 1"),
    "removed": ({"description": "old"}, Difference("/description", "old", ABSENT), 'removed "old"'),
    "added": ({"ownerEmail": None}, Difference("/ownerEmail", ABSENT, "data@example.com"), 'added "data@example.com"'),
    "default of the server differs from ours": (
        {"responseTimeoutSeconds": None},
        Difference("/responseTimeoutSeconds", 3600, 600),
        "3600 -> 600",
    ),
    "bool": ({"enforceSchema": True}, Difference("/enforceSchema", True, False), "true -> false"),
    "not 0": ({"timeoutSeconds": False}, Difference("/timeoutSeconds", False, 0), "false -> 0"),
}


@pytest.mark.parametrize(("stored", "difference", "text"), CHANGED.values(), ids=CHANGED)
def test_a_change_is_reported_by_pointer(stored: dict[str, Any], difference: Difference, text: str) -> None:
    assert compare_definitions(STORED | stored, OURS) == (difference,)
    assert difference.text == f"{difference.path}: {text}"


def test_schemas_are_compared_in_depth_with_escaped_pointers() -> None:
    old = {"inputSchema": {"data": {"properties": {"a/b": {"type": "string"}, "t~": {"anyOf": [{"type": "null"}]}}}}}
    new = {"inputSchema": {"data": {"properties": {"a/b": {"type": "number"}, "t~": {"anyOf": [{"type": "string"}]}}}}}
    assert compare_definitions(old, new) == (
        Difference("/inputSchema/data/properties/a~1b/type", "string", "number"),
        Difference("/inputSchema/data/properties/t~0/anyOf/0/type", "null", "string"),
    )


def test_longer_lists_are_shown_in_full_and_null_in_a_schema_is_a_value() -> None:
    old: dict[str, Any] = {"inputKeys": ["params"], "inputSchema": {"version": 1.0, "data": {"default": None}}}
    new: dict[str, Any] = {"inputKeys": ["workspace", "params"], "inputSchema": {"version": 1, "data": {}}}
    assert compare_definitions(old, new) == (
        Difference("/inputKeys", ["params"], ["workspace", "params"]),
        Difference("/inputSchema/data/default", None, ABSENT),
    )


def test_a_long_value_is_cut_in_the_text_only() -> None:
    difference = Difference("/description", ABSENT, "x" * 500)
    assert difference.text.startswith('/description: added "xxx')
    assert len(difference.text) < 120


# -------------------------------------------------------------------- effects on running workflows


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
    ("field", "old", "new", "impact", "reason"),
    CHANGES,
    ids=[f"{field}-{old}-{new}" for field, old, new, *_ in CHANGES],
)
def test_a_change_of_a_field_is_judged(field: str, old: Any, new: Any, impact: Impact, reason: str) -> None:
    (change,) = classify(one(field, old), one(field, new))
    assert (change.pointer, change.old, change.new) == (f"/{field}", old, new)
    assert (change.impact, reason in change.reason) == (impact, True), change


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
    changes = classify(dict(zip(fields, old, strict=True)), dict(zip(fields, new, strict=True)))
    assert {change.impact for change in changes} == impacts


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
    changes = classify({"retryCount": 3, "description": "a\nb", "name": "x"}, {"retryCount": 1, "name": "x"})
    assert [change.text for change in changes] == [
        'compatible: /description: removed "a\\nb" (for people only)',
        "breaking: /retryCount: 3 -> 1 (fewer retries)",
    ]


def test_the_same_definition_has_no_changes() -> None:
    definition = {"retryCount": 3, "inputSchema": {"data": {"type": "object"}}}
    assert classify(definition, {"retryCount": 3.0, "inputSchema": {"data": {"type": "object"}}}) == ()
    assert classify({"a": 1}, {"a": True}) == (Change("/a", 1, True, B, "effect of a change of a unknown"),)
