"""Kind `taskdef`: the TaskDef equals its snapshot, so that a change is seen together with what it means.

A snapshot is one canonical file per task, the same bytes as `perago extract` writes. No two tasks share a file and each
is replaced at once, so parallel workers, shards and killed runs leave whole files. A difference is told in three
layers: each change with what it means, a diff, the way out.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from perago.atomic_file import replace_file
from perago.authoring import Task
from perago.authoring.task import get_task
from perago.taskdef import build_task_definition, canonical_json
from perago.taskdef.compare import same_json
from perago.taskdef.compatibility import Change, Impact, classify
from perago.testing.failures import CaseFailed, Cause
from pytest_perago.cases import Case, printable
from pytest_perago.options import SNAPSHOT, rerun_command
from pytest_perago.settings import Settings, SnapshotSettings, Update, read_snapshot_settings


def cases_taskdef(task: Task, settings: Settings) -> Iterable[Case]:
    """One case; with `--perago-update` it writes the snapshot."""

    def check(request: pytest.FixtureRequest) -> None:
        written = check_snapshot(task, settings.snapshots, lambda option: rerun_command(request.node, [option]))
        if written is not None:
            request.node.user_properties.append((SNAPSHOT, written))

    yield Case("taskdef", "", check, fixtures=("request",))


# ----------------------------------------------------------------------- a TaskDef and its snapshot

Command = Callable[[str], str]
"""The command line that runs the test again with a further option."""


def check_snapshot(task: Task, settings: SnapshotSettings, command: Command) -> str | None:
    """Compare a TaskDef with its snapshot, or write it. Returns what was written, in words.

    Raises:
        CaseFailed: it differs, there is none, or it cannot be read or written.
    """
    path = settings.path(task)
    expected = canonical_json(build_task_definition(task)).encode()
    found = _read(path, settings)
    if found == expected:
        return None
    if settings.update is Update.ALL or (settings.update is Update.NEW and found is None):
        _write(path, expected, settings)
        return f"{'created' if found is None else 'updated'} {settings.shown(path)}"
    if found is None:
        raise _missing(path, settings, command)
    raise differing(settings.shown(path), found, expected, command)


def checker(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """What the fixture `perago_snapshot` is: a function that checks a task."""
    settings = read_snapshot_settings(request.config)

    def check(task: object) -> None:
        __tracebackhide__ = True
        declared = task if isinstance(task, Task) else get_task(task)
        if declared is None:
            raise TypeError(f"perago_snapshot takes a function decorated with @task, not {type(task).__name__}")
        try:
            written = check_snapshot(declared, settings, lambda option: rerun_command(request.node, [option]))
        except CaseFailed as failure:
            place = f"{settings.shown(Path(declared.file))}:{declared.line}"
            failure.subject = ("task", f"{declared.name} ({place})")
            raise failure.with_traceback(None) from None  # pytest then shows the written test alone
        if written is not None:
            request.node.user_properties.append((SNAPSHOT, written))

    return check


def _read(path: Path, settings: SnapshotSettings) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CaseFailed(
            Cause.CONTRACT,
            f"the snapshot of the TaskDef cannot be read: {error.strerror}",
            facts=[("snapshot", settings.shown(path)), ("fix", "it must be a file that you may read")],
        ) from None


def _write(path: Path, content: bytes, settings: SnapshotSettings) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise CaseFailed(
            Cause.CONTRACT,
            f"the snapshot of the TaskDef cannot be written: {error.strerror}",
            facts=[
                ("snapshot", settings.shown(path)),
                ("fix", "make the directory writable, or choose another one by --perago-snapshot-dir"),
            ],
        ) from None


def _missing(path: Path, settings: SnapshotSettings, command: Command) -> CaseFailed:
    facts = [("snapshot", settings.shown(path))]
    other = _other_case(settings.directory, path)
    if other is not None:
        facts.append(("found", f"{settings.shown(other)}, which differs in upper and lower case; rename it"))
    return CaseFailed(
        Cause.CONTRACT,
        "there is no snapshot of the TaskDef",
        facts=facts,
        details=[f"create it: {command('--perago-update=new')}"],
    )


def _other_case(directory: Path, path: Path) -> Path | None:
    """A snapshot that a file system without case would take for this one."""
    wanted = (path.parent.name.casefold(), path.name.casefold())
    for found in sorted(directory.glob("*/*.json")):
        if (found.parent.name.casefold(), found.name.casefold()) == wanted:
            return found
    return None


# ---------------------------------------------------------- how a TaskDef differs from its snapshot

_MOST_CHANGES = 50
_MOST_DIFF_LINES = 80
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")


class _NotASnapshot(Exception):
    """The bytes are no JSON object."""


def differing(shown: str, found: bytes, expected: bytes, command: Command) -> CaseFailed:
    """The failure for a snapshot with other bytes than the TaskDef gives.

    Args:
        shown: the path of the snapshot, for people.
        found: what is in it.
        expected: what the TaskDef gives now.
        command: the command line that runs the test again with a further option.
    """
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
