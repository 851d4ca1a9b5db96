"""The fixture `perago_snapshot`, and snapshots of published trees: one text file for each that a test asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from perago.authoring import Task
from perago.authoring.task import get_task
from perago.testing.failures import CaseFailed
from perago.testing.published import Snapshots, rendered
from perago.workspace.keys import compile_glob
from pytest_perago.kinds.taskdef import check_snapshot
from pytest_perago.options import SNAPSHOT, TREE_OWNER, rerun_command
from pytest_perago.session import printable
from pytest_perago.settings import SnapshotSettings, read_snapshot_settings
from pytest_perago.snapshot_files import SnapshotFile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UNSAFE = re.compile(r"[^\w.,=+@\[\]-]")
_LONGEST = 120
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")


class SnapshotsOfTest(Snapshots):
    """Those of one test."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._settings = read_snapshot_settings(item.config)
        self._asked: set[str] = set()

    def __repr__(self) -> str:
        return "<perago_snapshot>"

    def __call__(self, task: object) -> None:
        """See `Snapshots`."""
        __tracebackhide__ = True
        declared = task if isinstance(task, Task) else get_task(task)
        if declared is None:
            raise TypeError(f"perago_snapshot takes a function decorated with @task, not {type(task).__name__}")
        try:
            written = check_snapshot(declared, self._settings, self._command)
        except CaseFailed as failure:
            place = f"{self._settings.shown(Path(declared.file))}:{declared.line}"
            raise _told(failure, "task", f"{declared.name} ({place})") from None
        self._note(written)

    def tree(self, published: Any, name: str = "", *, exclude: Iterable[str] = ()) -> None:
        """See `Snapshots`."""
        __tracebackhide__ = True
        if name in self._asked:
            raise ValueError(
                f"the test has a snapshot {name!r} already; name each: perago_snapshot.tree(..., 'second')"
            )
        if name and not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} must be letters, digits, '_' or '-', at most 64, and begin with one of the first"
            )
        self._asked.add(name)
        text = f"{TREE_OWNER}{printable(self._item.nodeid)}\n{_text_of(published, exclude)}"
        file = SnapshotFile(
            tree_path(self._item.nodeid, name, self._settings), "tree", self._settings, "perago_tree_dir", self._command
        )
        try:
            written = file.check(text.encode(), lambda found: _differing(file, found, text))
        except CaseFailed as failure:
            raise _told(failure, "test", printable(self._item.nodeid)) from None
        self._note(written)

    def _command(self, option: str) -> str:
        return rerun_command(self._item, [option])

    def _note(self, written: str | None) -> None:
        if written is not None:
            self._item.user_properties.append((SNAPSHOT, written))


def tree_path(nodeid: str, name: str, settings: SnapshotSettings) -> Path:
    """The file of a tree snapshot: a directory for each test file, in it a file for each test and name."""
    file, _, test = nodeid.partition("::")
    stem = _file_name(test.replace("::", "."))
    return (
        settings.tree_directory
        / _file_name(file.removesuffix(".py").replace("/", "."))
        / f"{stem}{name and '.'}{name}.tree"
    )


def _file_name(text: str) -> str:
    """The text as a file name; with a digest where that is not all of it."""
    safe = _UNSAFE.sub("_", text).lstrip(".")[:_LONGEST]
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _text_of(published: object, exclude: Iterable[str]) -> str:
    __tracebackhide__ = True
    from perago.testing.outcome import Outcome  # a test with a tree has loaded them
    from perago.testing.race import Race

    removed: tuple[str, ...] = ()
    if isinstance(published, Outcome):
        whole = published.assert_completed().tree
        tree: Mapping[str, Any] = {path: whole[path] for path in published.changed_files if path in whole}
        removed = published.removed_files
    elif isinstance(published, Race):
        tree = published.tree
    elif isinstance(published, Mapping):
        tree = published
    else:
        raise TypeError(f"perago_snapshot.tree takes an outcome or a tree, not {type(published).__name__}")
    globs = [compile_glob(pattern) for pattern in exclude]
    kept = {path: tree[path] for path in tree if not any(glob.fullmatch(path) for glob in globs)}
    gone = [f"{printable(path)}: removed\n" for path in removed if not any(glob.fullmatch(path) for glob in globs)]
    return rendered(kept) + "".join(gone) or "no files\n"


def _differing(file: SnapshotFile, found: bytes, expected: str) -> CaseFailed:
    summary = "the tree differs from its snapshot"
    if found.replace(b"\r\n", b"\n") == expected.encode():
        return file.failed("the snapshot says the same as the tree", file.ending_in_crlf(), [file.accept])
    old = found.decode(errors="replace")
    if all(any(line.startswith(mark) for line in old.splitlines()) for mark in _CONFLICT):
        summary = "the snapshot has conflict markers of a merge"
    return file.failed(summary, details=[file.diff(old, expected), file.accept])


def _told(failure: CaseFailed, what: str, name: str) -> CaseFailed:
    """The failure as pytest shall show it: with the written test alone."""
    failure.subject = (what, name)
    return failure.with_traceback(None)
