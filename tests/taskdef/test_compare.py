"""What registering a TaskDef would change, without what the server adds by itself."""

from __future__ import annotations

from typing import Any

import pytest

from perago.taskdef import ABSENT, Difference, build_task_definition, compare_definitions

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


@pytest.mark.parametrize(
    ("stored", "difference", "text"),
    [
        pytest.param({"retryCount": 5}, Difference("/retryCount", 5, 3), "/retryCount: 5 -> 3", id="changed"),
        pytest.param(
            {"concurrentExecLimit": 2},
            Difference("/concurrentExecLimit", 2, 0),
            "/concurrentExecLimit: 2 -> 0",
            id="back to the default",
        ),
        pytest.param(
            {"inputTemplate": {"a": 1}},
            Difference("/inputTemplate/a", 1, ABSENT),
            "/inputTemplate/a: removed 1",
            id="set by somebody else",
        ),
        pytest.param(
            {"description": "old"},
            Difference("/description", "old", ABSENT),
            '/description: removed "old"',
            id="removed",
        ),
        pytest.param({"ownerEmail": None}, Difference("/ownerEmail", ABSENT, "data@example.com"), "", id="added"),
        pytest.param(
            {"responseTimeoutSeconds": None},
            Difference("/responseTimeoutSeconds", 3600, 600),
            "/responseTimeoutSeconds: 3600 -> 600",
            id="default of the server differs from ours",
        ),
        pytest.param(
            {"enforceSchema": True},
            Difference("/enforceSchema", True, False),
            "/enforceSchema: true -> false",
            id="bool",
        ),
        pytest.param(
            {"timeoutSeconds": False},
            Difference("/timeoutSeconds", False, 0),
            "/timeoutSeconds: false -> 0",
            id="not 0",
        ),
    ],
)
def test_a_change_is_reported_by_pointer(stored: dict[str, Any], difference: Difference, text: str) -> None:
    assert compare_definitions(STORED | stored, OURS) == (difference,)
    assert difference.text == text or not text


def test_schemas_are_compared_in_depth_with_escaped_pointers() -> None:
    old = {"inputSchema": {"data": {"properties": {"a/b": {"type": "string"}, "t~": {"anyOf": [{"type": "null"}]}}}}}
    new = {"inputSchema": {"data": {"properties": {"a/b": {"type": "number"}, "t~": {"anyOf": [{"type": "string"}]}}}}}
    assert compare_definitions(old, new) == (
        Difference("/inputSchema/data/properties/a~1b/type", "string", "number"),
        Difference("/inputSchema/data/properties/t~0/anyOf/0/type", "null", "string"),
    )


def test_lists_that_grew_are_shown_in_full() -> None:
    old = {"inputKeys": ["params"]}
    new = {"inputKeys": ["workspace", "params"]}
    assert compare_definitions(old, new) == (Difference("/inputKeys", ["params"], ["workspace", "params"]),)


def test_null_inside_a_schema_is_a_value() -> None:
    old: dict[str, Any] = {"inputSchema": {"data": {"default": None}}}
    new: dict[str, Any] = {"inputSchema": {"data": {}}}
    assert compare_definitions(old, new) == (Difference("/inputSchema/data/default", None, ABSENT),)
    assert compare_definitions({"inputSchema": {"version": 1.0}}, {"inputSchema": {"version": 1}}) == ()


def test_a_long_value_is_cut_in_the_text_only() -> None:
    difference = Difference("/description", ABSENT, "x" * 500)
    assert difference.text.startswith('/description: added "xxx')
    assert len(difference.text) < 120
