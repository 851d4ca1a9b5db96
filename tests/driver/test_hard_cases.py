"""Inputs, results, functions and services at their worst: each ends in an outcome that says what happened."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from perago import WorkspaceSpec, task
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.driver import attempt
from perago.embedded.lakefs.values import NotModelled
from perago.ports import Refused, TaskStatus, Unavailable, VirtualClock
from perago.retry import retry, within
from perago.taskdef.payload import TOO_DEEP
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.workspace.layout import LayoutRefused, NoRoom

from . import tasks
from .tasks import assert_ended

COMPLETED, FAILED, TERMINAL = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR
TREE: dict[str, str | bytes | None] = {"raw/a.csv": "1", "raw/b.csv": "2"}


class Anything(BaseModel):
    value: Any = None


class Leaves(BaseModel):
    value: Any = None

    @field_validator("value")
    @classmethod
    def leave(cls, value: Any) -> Any:
        sys.exit(f"secret {value}")


def nested(depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


class _Unspeakable:
    def __repr__(self) -> str:
        raise ValueError("no words")


def _raise(error: BaseException) -> Any:
    raise error


def _recurse() -> Any:
    return _recurse()


ENDS: dict[str, Callable[[], Any]] = {
    "nested": lambda: nested(5000),
    "surrogate": lambda: "\ud800",
    "surrogate key": lambda: {"\ud800": 1},
    "huge number": lambda: 10**5000,
    "not a number": lambda: float("nan"),
    "one mebibyte": lambda: '"' * (512 * 1024 - 100),
    "file name": lambda: _raise(OSError(2, "No such file", "a\udcff\0")),
    "emoji": lambda: _raise(ValueError("😀" * 600)),
    "exit": lambda: sys.exit(_Unspeakable()),  # type: ignore[arg-type]
    "recursion": _recurse,
    "memory": lambda: _raise(MemoryError()),
}


@task(name="hard.end", owner_email="data@example.com", workspace=WorkspaceSpec())
def end(workspace: Path, params: Anything) -> Anything:
    (workspace / "out").write_text("1")
    return Anything(value=ENDS[params.value]())


@task(name="hard.leave", owner_email="data@example.com")
def leave(params: Leaves) -> Anything:
    return Anything()


@task(name="hard.swap", owner_email="data@example.com", workspace=WorkspaceSpec(prefix="p"))
def swap(workspace: Path, params: Anything) -> Anything:
    shutil.rmtree(workspace / "directory")
    (workspace / "directory").write_text("a file now")
    (workspace / "file").unlink()
    (workspace / "file").mkdir()
    (workspace / "file" / "part").write_text("a directory now")
    return Anything()


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("nested", TERMINAL, f"Invalid result: the result {TOO_DEEP}"),
        ("surrogate", TERMINAL, "Invalid result: "),
        ("surrogate key", TERMINAL, "Invalid result: "),
        ("huge number", TERMINAL, "Invalid result: "),
        ("not a number", TERMINAL, "NaN or an infinity at /value"),
        ("file name", FAILED, "FileNotFoundError: [Errno 2] No such file: 'a\\udcff"),
        ("emoji", FAILED, "ValueError: 😀"),
        ("exit", FAILED, "perago could not carry out RunFunction: ValueError"),
        ("recursion", FAILED, "RecursionError"),
        ("memory", FAILED, "MemoryError"),
    ],
)
def test_however_a_function_ends_there_is_an_outcome_and_nothing_is_left(
    services: InMemoryServices, name: str, status: TaskStatus, words: str
) -> None:
    outcome = services.run(end, {"value": name}, TREE)

    assert (outcome.status, outcome.task["status"]) == (status, status)
    assert words in str(outcome.reason)
    assert outcome.task["reasonForIncompletion"] == outcome.reason
    assert "out" not in services.tree()


def test_the_largest_result_is_complete_in_both_commits(services: InMemoryServices) -> None:
    outcome = services.run(end, {"value": "one mebibyte"}, TREE)

    assert outcome.status is COMPLETED
    merge = services.lakefs.get_commit("workspace", "main")
    staging = services.lakefs.get_commit("workspace", merge.parents[1])
    assert len(merge.metadata["perago.result"]) > 1024 * 1024 - 300
    assert merge.metadata["perago.result"] == staging.metadata["perago.result"]


def test_an_input_that_is_nested_too_deeply_stays_so(services: InMemoryServices) -> None:
    found = task_of(leave)
    services.start(found, {"value": 1})
    deep = replace(services.take(found), input={"params": {"value": nested(5000)}})
    report = services.run_delivery(found, deep).report

    assert report is not None
    assert (report.status, report.reason) == (TERMINAL, f"Invalid input: /params: {TOO_DEEP}")


def test_a_validator_that_leaves_is_a_failure_that_quotes_no_value(services: InMemoryServices) -> None:
    outcome = services.run(leave, {"value": "of mine"})

    assert (outcome.status, outcome.reason) == (FAILED, "perago could not carry out ValidateInput: SystemExit")
    assert "of mine" not in "".join(outcome.notes)


def test_a_file_and_a_directory_may_change_places_below_a_prefix(services: InMemoryServices) -> None:
    tree: dict[str, str | bytes | None] = {
        FENCE_PATH: FENCE_TEXT,
        "p/directory/deep/x": "1",
        "p/directory/y": "2",
        "p/file": "3",
        "pq": "outside",
    }
    assert services.run(swap, {}, tree).status is COMPLETED
    assert services.tree() == {
        "p/directory": b"a file now",
        "p/file/part": b"a directory now",
        "pq": b"outside",
    }


def test_an_unsupported_feature_of_the_model_is_not_a_failure_of_the_attempt(services: InMemoryServices) -> None:
    services.faults.before("commit", error=NotModelled("committing so"))
    with pytest.raises(NotModelled, match="committing so"):
        services.run(tasks.edit, tasks.Params(do="edit"), TREE)


# ---------------------------------------------------------------------------------- services


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("call", "error", "words", "is_of_this_host"),
    [
        ("download", NO_SPACE, ": No space left on device. Free space", True),
        ("download", OSError(errno.EROFS, "Read-only file system"), "Read-only file system", True),
        ("download", OSError(errno.EIO, "Input/output error"), "Input/output error", False),
        ("download", OSError(errno.EMFILE, "x"), "Too many files are open here (EMFILE). A task function must", False),
        ("download", ConnectionResetError(104, "Reset by peer"), "A connection broke: Reset by peer.", False),
        ("download", TimeoutError(), "A connection broke: TimeoutError.", False),
        ("download", MemoryError(), "perago could not carry out Fetch: MemoryError", False),
        ("list_objects", Refused("lakeFS", "list", "no"), "lakeFS: list: no", False),
        ("upload", NO_SPACE, "No space left on device", False),
    ],
    ids=str,
)
def test_a_refusal_of_the_system_is_retryable_and_a_disk_that_is_met_before_the_function_a_reason_to_hand_back(
    services: InMemoryServices, call: str, error: Exception, words: str, is_of_this_host: bool
) -> None:
    services.faults.before(call, error=error)
    outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE)

    assert_ended(outcome, FAILED, words)
    assert outcome._record.hand_back is is_of_this_host
    if error is NO_SPACE:
        assert re.search("The local disk refused: /[^:]+: No space", str(outcome.reason))


def test_an_input_without_room_is_handed_back_a_bounded_number_of_times_if_it_may_not_pass() -> None:
    most = attempt.MOST_HAND_BACKS
    for error, counts in (
        (NoRoom("", is_passing=True), {1: True, most: True, 1000: True}),
        (NoRoom("", is_passing=False), {1: True, most - 1: True, most: False}),
        (LayoutRefused("", retryable=True), {1: False}),
    ):
        for poll_count, expected in counts.items():
            assert attempt.is_of_this_host(error, Path("/nowhere"), poll_count) is expected


def test_a_root_that_takes_no_files_is_a_reason_to_hand_back(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the error of the disk is called."""
    monkeypatch.setattr(attempt, "root_problem", lambda *_: "nothing can be written there")
    services.faults.before("download", error=OSError(errno.EIO, "Input/output error"))
    assert services.run(tasks.edit, tasks.Params(do="edit"), TREE)._record.hand_back


def test_a_busy_server_gets_time_before_a_merge_is_repeated(services: InMemoryServices) -> None:
    for nth in (1, 2):
        services.faults.before("merge", nth=nth, error=Unavailable)
    start = services.clock.now()
    outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE)

    assert outcome.status is COMPLETED
    assert 5 <= services.clock.now() - start < 10


class _SetBack(VirtualClock):
    """A system clock that somebody sets back by a minute whenever one waits."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0
        self._back = 0.0

    def now(self) -> float:
        return super().now() - self._back

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.slept += seconds
        self._back += 60


def test_patience_ends_although_the_time_is_set_back() -> None:
    clock = _SetBack()
    with pytest.raises(Unavailable):
        retry(lambda: _raise(Unavailable("lakeFS", "read", "no answer")), within(120), clock)

    assert 100 < clock.slept <= 120


def _becomes_a_link(out: Path) -> None:
    """The link leads to the same bytes, so that only the way differs."""
    outside = out.parents[1] / "outside"
    out.rename(outside)
    out.symlink_to(outside)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_becomes_a_link, "lost a directory on the way to it, which is a symbolic link or a file now,"),
        (shutil.rmtree, "vanished between the scan of the workspace and its upload. The task function must"),
    ],
    ids=["a link", "removed"],
)
def test_a_directory_that_changes_before_the_upload_publishes_nothing(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], words: str
) -> None:
    create = services.lakefs.create_branch

    def changed(repository: str, branch: str, source: str) -> None:
        create(repository, branch, source)
        change(next(services.workspace_root.glob("*/workspace/out")))

    monkeypatch.setattr(services.lakefs, "create_branch", changed)
    outcome = services.run(tasks.edit, {"do": "write"}, TREE)
    assert (outcome.status, outcome.commit) == (FAILED, None)
    assert words in str(outcome.reason)
    assert "lakeFS" not in str(outcome.reason)
