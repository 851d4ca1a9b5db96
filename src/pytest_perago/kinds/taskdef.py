"""Kind `taskdef`: the TaskDef equals its snapshot, so that a change is seen together with what it means.

A snapshot is one canonical file per task, the same bytes as `perago extract` writes. A difference is told in three
layers: each change with what it means, a diff, the way out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import pytest

from perago.authoring import Task
from perago.taskdef import build_task_definition, canonical_json
from perago.taskdef.compatibility import Change, Impact, classify
from perago.taskdef.schema import same_json
from perago.testing.failures import CaseFailed
from pytest_perago.options import SNAPSHOT, rerun_command
from pytest_perago.session import Case, printable
from pytest_perago.settings import Settings, SnapshotSettings
from pytest_perago.snapshot_files import Command, SnapshotFile


def cases_taskdef(task: Task, settings: Settings) -> Iterable[Case]:
    """One case; with `--perago-update` it writes the snapshot."""

    def check(request: pytest.FixtureRequest) -> None:
        written = check_snapshot(task, settings.snapshots, lambda option: rerun_command(request.node, [option]))
        if written is not None:
            request.node.user_properties.append((SNAPSHOT, written))

    yield Case("taskdef", "", check, fixtures=("request",))


def check_snapshot(task: Task, settings: SnapshotSettings, command: Command) -> str | None:
    """Compare a TaskDef with its snapshot, or write it. Returns what was written, in words.

    Raises:
        CaseFailed: it differs, there is none, or it cannot be read or written.
    """
    file = SnapshotFile(settings.path(task), "TaskDef", settings, "--perago-snapshot-dir", command)
    expected = canonical_json(build_task_definition(task)).encode()
    return file.check(expected, lambda found: differing(file, found, expected))


# ---------------------------------------------------------- how a TaskDef differs from its snapshot

_MOST_CHANGES = 50
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")


class _NotASnapshot(Exception):
    """The bytes are no JSON object."""


def differing(file: SnapshotFile, found: bytes, expected: bytes) -> CaseFailed:
    """The failure for a snapshot with other bytes than the TaskDef gives.

    Args:
        file: the snapshot.
        found: what is in it.
        expected: what the TaskDef gives now.
    """
    accept = file.accept
    try:
        old = _parsed(found)
    except _NotASnapshot as error:
        return file.failed(f"the snapshot of the TaskDef is no JSON object: {error}", details=[accept])
    diff = file.diff(found.decode(), expected.decode())
    new = json.loads(expected)
    if same_json(old, new):
        summary = "the snapshot says the same as the TaskDef, but in other bytes"
        return file.failed(summary, _form(file, found, expected), [diff, accept])
    try:
        changes = classify(old, new)
    except RecursionError:
        return file.failed("the snapshot is nested too deeply", details=[diff, accept])
    return file.failed(_summary(changes), details=[_lines(changes), diff, accept])


def _parsed(content: bytes) -> Mapping[str, Any]:
    try:
        text = content.decode()
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise _NotASnapshot(f"it is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        conflict = all(any(line.startswith(mark) for line in text.splitlines()) for mark in _CONFLICT)
        hint = "; it has conflict markers of a merge" if conflict else ""
        raise _NotASnapshot(f"{error.msg} in line {error.lineno}, column {error.colno}{hint}") from None
    except ValueError as error:  # a number that nothing can hold
        raise _NotASnapshot(str(error)) from None
    except RecursionError:
        raise _NotASnapshot("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise _NotASnapshot(f"it holds a {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    return value


def _form(file: SnapshotFile, found: bytes, expected: bytes) -> list[tuple[str, str]]:
    if found.replace(b"\r\n", b"\n") == expected:
        return file.ending_in_crlf()
    return [("actual", "order, spacing or spelling is not that of `perago extract`")]


def _summary(changes: Sequence[Change]) -> str:
    breaking = sum(change.impact is Impact.BREAKING for change in changes)
    compatible = len(changes) - breaking
    counts = [f"{breaking} breaking" if breaking else "", f"{compatible} compatible" if compatible else ""]
    return (
        f"the TaskDef differs from its snapshot: {' and '.join(filter(None, counts))} "
        f"{'change' if len(changes) == 1 else 'changes'} for workflows that are already running"
    )


def _lines(changes: Sequence[Change]) -> str:
    ordered = sorted(changes, key=lambda change: change.impact is not Impact.BREAKING)
    lines = [printable(change.text) for change in ordered[:_MOST_CHANGES]]
    if len(ordered) > _MOST_CHANGES:
        lines.append(f"and {len(ordered) - _MOST_CHANGES} more changes")
    return "\n".join(lines)
