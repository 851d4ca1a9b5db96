"""How a TaskDef differs from its snapshot, in three layers: each change with what it means, a diff, the way out."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from perago.taskdef.compare import same_json
from perago.taskdef.compatibility import Change, Impact, classify
from perago.testing.failures import CaseFailed, Cause
from pytest_perago.cases import printable

_MOST_CHANGES = 50
_MOST_DIFF_LINES = 80
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")


class _NotASnapshot(Exception):
    """The bytes are no JSON object."""


def differing(shown: str, found: bytes, expected: bytes, command: Callable[[str], str]) -> CaseFailed:
    """The failure for a snapshot with other bytes than the TaskDef gives. `shown` is its path for people."""
    accept = f"accept it: {command('--perago-update=all')}"
    try:
        old = _parsed(found)
    except _NotASnapshot as error:
        summary = f"the snapshot of the TaskDef is no JSON object: {error}"
        return CaseFailed(Cause.CONTRACT, summary, facts=[("snapshot", shown)], details=[accept])
    diff = _diff(found.decode(), expected.decode(), shown)
    new = json.loads(expected)
    if same_json(old, new):
        facts = [("snapshot", shown), *_form(found, expected, shown)]
        summary = "the snapshot says the same as the TaskDef, but in other bytes"
        return CaseFailed(Cause.CONTRACT, summary, facts=facts, details=[diff, accept])
    try:
        changes = classify(old, new)
    except RecursionError:
        return CaseFailed(Cause.CONTRACT, "the snapshot is nested too deeply", details=[diff, accept])
    return CaseFailed(
        Cause.CONTRACT, _summary(changes), facts=[("snapshot", shown)], details=[_lines(changes), diff, accept]
    )


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


def _form(found: bytes, expected: bytes, shown: str) -> list[tuple[str, str]]:
    if found.replace(b"\r\n", b"\n") == expected:
        directory = "/".join(shown.split("/")[:-2])
        return [
            ("actual", "its lines end with CRLF, in place of LF"),
            ("fix", f"add `{directory}/** text eol=lf` to .gitattributes, so that git leaves them alone"),
        ]
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


def _diff(found: str, expected: str, shown: str) -> str:
    """A unified diff, cut in length; empty if only line ends differ."""
    lines = list(
        difflib.unified_diff(
            found.splitlines(), expected.splitlines(), f"{shown} (snapshot)", "the TaskDef now", lineterm=""
        )
    )
    kept = [printable(line) for line in lines[:_MOST_DIFF_LINES]]
    if len(lines) > _MOST_DIFF_LINES:
        kept.append(f"and {len(lines) - _MOST_DIFF_LINES} more lines of diff")
    return "\n".join(kept)
