"""The parts of `perago dev` that need no services: skeletons, start lines, noticing changes, and its refusal."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator
from pydantic import AnyUrl, Field, HttpUrl, IPvAnyAddress, create_model

from perago.dev import SourceFiles, curl_line
from perago.probe import TaskSummary
from perago.taskdef.schema import skeleton_of

TASK = TaskSummary(
    name="features.build",
    workspace="/",
    read_only=False,
    pre=0,
    post=0,
    definition=json.dumps(
        {
            "name": "features.build",
            "ownerEmail": "data@example.com",
            "inputSchema": {
                "data": {
                    "properties": {
                        "params": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
                    }
                }
            },
        }
    ),
)


@pytest.mark.parametrize(
    ("schema", "skeleton"),
    [
        ({"type": "integer"}, 0),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": -5, "maximum": -2}, -2),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "integer", "minimum": 5, "exclusiveMaximum": 7}, 5),
        ({"type": "number", "minimum": 0.5}, 0.5),
        ({"type": "string"}, ""),
        ({"type": "string", "minLength": 2}, "xx"),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": "array", "items": {"type": "string"}}, []),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["", ""]),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"const": 1}]}, ["", 1]),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": "only"}, "only"),
        ({"type": "integer", "default": 7}, 7),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ""),
        ({"allOf": [{"type": "integer", "minimum": 2}]}, 2),
        ({}, None),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}},
                "required": ["a"],
            },
            {"a": {"b": ""}},
        ),
        ({"type": "object", "properties": {"optional": {"type": "string"}}}, {}),
    ],
    ids=lambda value: json.dumps(value),
)
def test_a_skeleton_is_the_least_that_the_schema_takes(schema: dict[str, Any], skeleton: Any) -> None:
    assert skeleton_of(schema) == skeleton
    Draft202012Validator(schema).validate(skeleton)


@pytest.mark.parametrize(
    "kind",
    [
        HttpUrl,
        AnyUrl,
        UUID,
        date,
        datetime,
        time,
        timedelta,
        IPv4Address,
        IPv6Address,
        IPvAnyAddress,
        Annotated[float, Field(gt=0, lt=1)],
        Annotated[float, Field(gt=0, le=0.5)],
        Annotated[float, Field(gt=-1, lt=-0.5)],
        Annotated[int, Field(gt=4, multiple_of=5)],
        Annotated[int, Field(ge=-14, le=-8, multiple_of=5)],
        Annotated[float, Field(ge=0.3, multiple_of=0.25)],
        list[Annotated[HttpUrl, Field(max_length=100)]],
    ],
    ids=str,
)
def test_a_skeleton_is_valid_params_for_formats_and_bounds(kind: Any) -> None:
    model = create_model("Params", value=(kind, ...), many=(Annotated[list[kind], Field(min_length=2)], ...))
    model.model_validate(skeleton_of(model.model_json_schema()))


def test_the_line_survives_a_shell_for_any_parameters() -> None:
    nasty = {"text": 'it\'s "$HOME" `id` \\ größe\n', "empty": ""}
    line = curl_line(
        "http://127.0.0.1:1/api", replace(TASK, declared=[{"id": "x", "params": nasty, "tree": {}}]), "abc", {}
    )
    arguments = shlex.split(line)
    assert "\n" not in line
    assert json.loads(arguments[arguments.index("-d") + 1])["params"] == nasty
    assert arguments[-1] == "http://127.0.0.1:1/api/workflow/dev.features.build"


@pytest.mark.parametrize(("variable", "bypasses"), [("http_proxy", True), ("ALL_PROXY", True), ("HTTP_PROXY", False)])
def test_the_line_passes_proxies_by_that_curl_would_use(variable: str, bypasses: bool) -> None:
    assert ("--noproxy" in curl_line("http://127.0.0.1:1/api", TASK, "abc", {variable: "http://proxy"})) is bypasses


def test_a_change_is_noticed_once(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    files = SourceFiles([str(file)])
    assert not files.changed()
    file.write_text("22")
    assert (files.changed(), files.changed()) == (True, False)
    file.unlink()
    assert (files.changed(), files.changed()) == (True, False)


def test_a_file_that_was_replaced_with_its_old_time_is_a_change(tmp_path: Path) -> None:
    file, new = tmp_path / "a.py", tmp_path / "new"
    file.write_text("1")
    new.write_text("2")
    times = file.stat()
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    files = SourceFiles([str(file)])
    new.replace(file)
    assert files.changed()


def test_a_change_between_a_check_and_its_result_is_not_lost(tmp_path: Path) -> None:
    file, further = tmp_path / "a.py", tmp_path / "b.py"
    file.write_text("1")
    further.write_text("1")
    files = SourceFiles([str(file)])
    file.write_text("22")
    files.replace([str(file), str(further)])
    assert files.changed()
