"""Snapshots of TaskDefs (kind `taskdef`) and published trees, and outcomes that `perago capture` recorded: compare or
write them. Also the fixture `perago_snapshot`.

No two tests share a file, and files are replaced atomically. So parallel workers, shards and killed runs leave complete
files. A failure about a TaskDef has three parts: each change with its effect, a diff, and the command that accepts it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from perago import __version__
from perago.atomic_file import replace_file
from perago.authoring import Task
from perago.authoring.task import get_task
from perago.taskdef import build_task_definition, canonical_json
from perago.taskdef.compatibility import Change, Impact, classify
from perago.taskdef.schema import same_json
from perago.text import shortened, strict_json
from perago.trees.cases import CaseFailed, Cause, Record, RunCase, read_recorded_case, write_outcome
from perago.trees.differences import AttemptResult, Content, differences, rendered
from perago.workspace.keys import compile_glob
from pytest_perago.kinds import Case, printable
from pytest_perago.options import SNAPSHOT, TREE_OWNER, Settings, read_settings, rerun_command
from pytest_perago.session import Session

Command: TypeAlias = Callable[[str], str]
"""The command line that runs the test again with a further option."""

MOST_DIFF_LINES = 80
FORMAT = 1
"""The format of snapshots. Those without a number have format 1."""
_OTHER_TREE = re.compile(rb"# perago\.format (\d+) of perago (\w[\w.]*)\n")
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One snapshot. `subject` names its contents, such as `TaskDef`. `setting` is the ini value of its directory."""

    path: Path
    subject: str
    settings: Settings
    setting: str
    command: Command

    @property
    def shown(self) -> str:
        """The path as messages show it."""
        return self.settings.shown(self.path)

    def check(self, expected: bytes, differing: Callable[[bytes], CaseFailed]) -> str | None:
        """Compare it with the expected contents, or write them. Return a description of the written file.

        Args:
            expected: the expected contents.
            differing: makes the failure for other contents.

        Raises:
            CaseFailed: it differs, is missing, or cannot be read or written.
        """
        actual = self._read()
        if actual == expected:
            return None
        update = self.settings.update
        if update == "all" or (update == "new" and actual is None):
            self._write(expected)
            return f"{'created' if actual is None else 'updated'} {self.shown}"
        if actual is None:
            raise self._missing()
        if other := _other_format(actual):
            raise self._unread(*other)
        if actual.replace(b"\r\n", b"\n") == expected:
            raise self._in_crlf()
        raise differing(actual)

    @property
    def accept(self) -> str:
        """The line that says how to accept a difference."""
        return f"accept it: {self.command('--perago-update=all')}"

    def diff(self, actual: str, expected: str) -> str:
        """A unified diff, cut in length; empty if only line ends differ."""
        names = (f"{self.shown} (snapshot)", f"the {self.subject} now")
        lines = list(difflib.unified_diff(actual.splitlines(), expected.splitlines(), *names, lineterm=""))
        return "\n".join(map(printable, shortened(lines, MOST_DIFF_LINES, "more lines of diff")))

    def failed(self, summary: str, facts: Iterable[tuple[str, str]] = (), details: Iterable[str] = ()) -> CaseFailed:
        """Build a failure that names the snapshot."""
        return CaseFailed(Cause.CONTRACT, summary, ("snapshot", self.shown), *facts, details=list(details))

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            summary = f"the snapshot of the {self.subject} cannot be read: {error.strerror}"
            raise self.failed(summary, [("fix", "it must be a file that you may read")]) from None

    def _write(self, content: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, content)
        except OSError as error:
            summary = f"the snapshot of the {self.subject} cannot be written: {error.strerror}"
            fix = f"make the directory writable, or choose another one with {self.setting}"
            raise self.failed(summary, [("fix", fix)]) from None

    def _unread(self, number: str, version: str) -> CaseFailed:
        summary = f"the snapshot of the {self.subject} has format {number}, written by perago {version}"
        fix = f"perago {__version__} reads format {FORMAT}; install perago {version}"
        return self.failed(summary, [("fix", fix)], [self.accept])

    def _in_crlf(self) -> CaseFailed:
        """Build the failure for a snapshot in which git has changed the line ends."""
        directory = "/".join(self.shown.split("/")[:-2])
        facts = [
            ("actual", "its lines end with CRLF, in place of LF"),
            ("fix", f"add `{directory}/** text eol=lf` to .gitattributes, so that git leaves them alone"),
        ]
        return self.failed(f"the snapshot differs from the {self.subject} only in its line ends", facts, [self.accept])

    def _missing(self) -> CaseFailed:
        other = self._other_case()
        facts = []
        if other is not None:
            advice = "which differs in upper and lower case; rename it"
            facts.append(("found", f"{self.settings.shown(other)}, {advice}"))
        create = f"create it: {self.command('--perago-update=new')}"
        return self.failed(f"there is no snapshot of the {self.subject}", facts, [create])

    def _other_case(self) -> Path | None:
        """Return a snapshot whose name differs only in case."""
        path = self.path
        expected = (path.parent.name.casefold(), path.name.casefold())
        for candidate in sorted(path.parent.parent.glob(f"*/*{path.suffix}")):
            if (candidate.parent.name.casefold(), candidate.name.casefold()) == expected:
                return candidate
        return None


def _other_format(content: bytes) -> tuple[str, str] | None:
    """Return the format of a snapshot and the version that wrote it, or None if this version can read it.

    A later version writes both as keys of a JSON object, or in the first line of a tree."""
    if line := _OTHER_TREE.match(content):
        return line[1].decode(), line[2].decode()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    number = document.get("perago.format", FORMAT) if isinstance(document, dict) else FORMAT
    return None if number == FORMAT else (str(number), str(document.get("perago.version", "of a later release")))


def _has_conflict(text: str) -> bool:
    return all(any(line.startswith(mark) for line in text.splitlines()) for mark in _CONFLICT)


# ------------------------------------------------------------------------------------ TaskDefs


def cases_taskdef(task: Task, _: Session) -> Iterable[Case]:
    """Yield one case. With `--perago-update`, it writes the snapshot."""

    def compare(session: Session) -> None:
        session.add_snapshot(check_snapshot(task, session.settings, session.rerun_command))

    yield Case("", compare)


def check_snapshot(task: Task, settings: Settings, command: Command) -> str | None:
    """Compare a TaskDef with its snapshot, or write it. Return a description of the written file.

    Raises:
        CaseFailed: it differs, is missing, or cannot be read or written.
    """
    file = SnapshotFile(settings.snapshot_path(task), "TaskDef", settings, "--perago-snapshot-dir", command)
    expected = canonical_json(build_task_definition(task)).encode()
    return file.check(expected, lambda actual: differing(file, actual, expected))


_MOST_CHANGES = 50


class _NotASnapshot(Exception):
    """The bytes are not a JSON object."""


def differing(file: SnapshotFile, actual: bytes, expected: bytes) -> CaseFailed:
    """Build the failure for a snapshot that differs from the TaskDef.

    Args:
        file: the snapshot.
        found: its contents.
        expected: the current TaskDef.
    """
    accept = file.accept
    try:
        old = _parsed(actual)
    except _NotASnapshot as error:
        return file.failed(f"the snapshot of the TaskDef is not a JSON object: {error}", details=[accept])
    diff = file.diff(actual.decode(), expected.decode())
    new = json.loads(expected)
    if same_json(old, new):
        summary = "the snapshot is the same JSON as the TaskDef, but in different bytes"
        facts = [("actual", "its order, spacing or spelling differs from that of `perago extract`")]
        return file.failed(summary, facts, [diff, accept])
    try:
        changes = classify(old, new)
    except RecursionError:
        return file.failed("the snapshot is nested too deeply", details=[diff, accept])
    breaking_first = sorted(changes, key=lambda change: change.impact is not Impact.BREAKING)
    lines = shortened([printable(change.text) for change in breaking_first], _MOST_CHANGES, "more changes")
    return file.failed(_summary(changes), details=["\n".join(lines), diff, accept])


def _parsed(content: bytes) -> Mapping[str, Any]:
    try:
        text = content.decode()
        value = strict_json(text, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise _NotASnapshot(f"it is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        hint = "; it has conflict markers of a merge" if _has_conflict(text) else ""
        raise _NotASnapshot(f"{error.msg} in line {error.lineno}, column {error.colno}{hint}") from None
    except ValueError as error:  # a number that nothing can hold
        raise _NotASnapshot(str(error)) from None
    except RecursionError:
        raise _NotASnapshot("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise _NotASnapshot(f"it holds a {type(value).__name__}")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    return value


def _summary(changes: Sequence[Change]) -> str:
    breaking = sum(change.impact is Impact.BREAKING for change in changes)
    compatible = len(changes) - breaking
    counts = [f"{breaking} breaking" if breaking else "", f"{compatible} compatible" if compatible else ""]
    return (
        f"the TaskDef differs from its snapshot: {' and '.join(filter(None, counts))} "
        f"{'change' if len(changes) == 1 else 'changes'} for workflows that are already running"
    )


# ------------------------------------------------------------------------------------ recorded outcomes


def compare_with_record(
    session: Session,
    case: RunCase,
    record: Record,
    now: AttemptResult,
    tree: Mapping[str, Content],
    rerun: Callable[[], AttemptResult],
) -> RunCase:
    """Compare the outcome with the record, or update the record. Return the case with the current record.

    Args:
        session: whether to record again.
        case: the case of the record.
        record: the recorded outcome.
        now: today's outcome.
        tree: the input files of both.
        again: runs the case once more, to find out what differs by itself.

    Raises:
        CaseFailed: the outcome differs, and must not be recorded.
    """
    changes = differences(record.expected(now), now, tree)
    if not changes:
        return case
    settings = session.settings
    directory = settings.shown(record.directory)
    by_itself = differences(now, rerun(), tree).summary
    kinds = {reason.partition(":")[0] for reason in (record.reason, now.reason)}
    if by_itself and record.ending == now.ending != "completed" and len(kinds) == 1:
        return case  # the same exception, with another message in each run
    if settings.update == "all" and not by_itself:
        try:
            write_outcome(record.directory, now)
        except OSError as error:
            summary = f"the case cannot be written: {error.strerror}"
            raise CaseFailed(Cause.CONTRACT, summary, ("case", directory)) from None
        session.add_snapshot(f"updated {directory}")
        return read_recorded_case(record.directory)[0]
    lines = list(changes.lines())
    if len(lines) > MOST_DIFF_LINES:
        lines = [*lines[:MOST_DIFF_LINES], f"… and {len(lines) - MOST_DIFF_LINES:,} more lines"]
    facts = [("case", directory), ("differs", "\n".join(lines))]
    if by_itself:
        facts += [("by itself", "\n".join(by_itself))]
        summary = f"case {case.label!r}: the function is not deterministic: two runs on one input also differ"
        facts += [("fix", "do not let times, random numbers or the order of sets and listings affect the output")]
    else:
        summary = f"case {case.label!r}: the outcome differs from the record"
        facts += [("accept", session.rerun_command("--perago-update=all"))]
    raise CaseFailed(Cause.CONTRACT, summary, *facts)


# --------------------------------------------------------------------- the fixture, and published trees

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UNSAFE = re.compile(r"[^\w.,=+@\[\]-]")
_LONGEST = 120


class SnapshotsOfTest:
    """The snapshots of one test: a `perago.testing.Snapshots`."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._settings = read_settings(item.config)
        self._names: set[str] = set()

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
            raise _of_subject(failure, "task", f"{declared.name} ({place})") from None
        self._note(written)

    def tree(self, published: Any, name: str = "", *, exclude: Iterable[str] = ()) -> None:
        """See `Snapshots`."""
        __tracebackhide__ = True
        if name in self._names:
            fix = "name each: perago_snapshot.tree(..., 'second')"
            raise ValueError(f"the test has a snapshot {name!r} already; {fix}")
        if name and not _NAME.fullmatch(name):
            rule = "letters, digits, '_' or '-', at most 64, and begin with one of the first"
            raise ValueError(f"{name!r} must be {rule}")
        self._names.add(name)
        text = f"{TREE_OWNER}{printable(self._item.nodeid)}\n{_text_of(published, exclude)}"
        path = tree_path(self._item.nodeid, name, self._settings)
        file = SnapshotFile(path, "tree", self._settings, "perago_tree_dir", self._command)
        try:
            written = file.check(text.encode(), lambda actual: _differing(file, actual, text))
        except CaseFailed as failure:
            raise _of_subject(failure, "test", printable(self._item.nodeid)) from None
        self._note(written)

    def _command(self, option: str) -> str:
        return rerun_command(self._item, [option])

    def _note(self, written: str | None) -> None:
        if written is not None:
            self._item.user_properties.append((SNAPSHOT, written))


def tree_path(nodeid: str, name: str, settings: Settings) -> Path:
    """The file of a tree snapshot: a directory for each test file, in it a file for each test and name."""
    file, _, test = nodeid.partition("::")
    stem = _file_name(test.replace("::", "."))
    directory = settings.tree_dir / _file_name(file.removesuffix(".py").replace("/", "."))
    return directory / f"{stem}{name and '.'}{name}.tree"


def _file_name(text: str) -> str:
    """Return the text as a file name, with a digest if it is shortened."""
    safe = _UNSAFE.sub("_", text).lstrip(".")[:_LONGEST]
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _text_of(published: object, exclude: Iterable[str]) -> str:
    __tracebackhide__ = True
    from perago.testing.outcome import Outcome, Race  # a test with a tree has loaded them

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
    files = {path: tree[path] for path in tree if not any(glob.fullmatch(path) for glob in globs)}
    removals = [f"{printable(path)}: removed\n" for path in removed if not any(glob.fullmatch(path) for glob in globs)]
    return rendered(files) + "".join(removals) or "no files\n"


def _differing(file: SnapshotFile, actual: bytes, expected: str) -> CaseFailed:
    summary = "the tree differs from its snapshot"
    old = actual.decode(errors="replace")
    if _has_conflict(old):
        summary = "the snapshot has conflict markers of a merge"
    return file.failed(summary, details=[file.diff(old, expected), file.accept])


def _of_subject(failure: CaseFailed, what: str, name: str) -> CaseFailed:
    """Return the failure with its subject and without a traceback, so that pytest shows only the written test."""
    failure.subject = (what, name)
    return failure.with_traceback(None)
