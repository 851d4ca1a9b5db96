"""The snapshot of a TaskDef: one canonical file per task, the same bytes as `perago extract` writes.

No two tasks share a file and each is replaced at once, so parallel workers, shards and killed runs leave whole files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perago.atomic_file import replace_file
from perago.authoring import Task
from perago.authoring.task import get_task
from perago.taskdef import build_task_definition, canonical_json
from perago.testing.failures import CaseFailed, Cause
from pytest_perago.difference import differing
from pytest_perago.options import SNAPSHOT
from pytest_perago.rerun import rerun_command
from pytest_perago.snapshot_settings import SnapshotSettings, Update, read_snapshot_settings

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
