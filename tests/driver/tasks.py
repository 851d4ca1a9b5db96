"""Task functions for the driver's tests: what they do is chosen by a parameter."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

from pydantic import BaseModel

from perago import (
    PublishBudget,
    RetryPolicy,
    TaskControls,
    TaskFailed,
    TaskTerminalError,
    WorkspaceSpec,
    current,
    forbid_glob,
    require_glob,
    task,
)
from perago.ports import TaskStatus
from perago.testing import Outcome
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of


class Params(BaseModel):
    do: str = "write"
    number: int = 1


class Result(BaseModel):
    number: int


def _write(workspace: Path) -> None:
    (workspace / "out").mkdir(exist_ok=True)
    (workspace / "out" / "result.txt").write_text("done")


def _edit(workspace: Path) -> None:
    (workspace / "raw" / "a.csv").write_text("changed")
    (workspace / "raw" / "b.csv").unlink()
    _write(workspace)


def _leave_the_place(workspace: Path) -> None:
    os.chdir(workspace)
    os.environ["PERAGO_TEST_LEFT"] = "yes"
    os.umask(0)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGVTALRM})
    signal.setitimer(signal.ITIMER_PROF, 3600)
    signal.raise_signal(signal.SIGVTALRM)  # as a timer does, but never to another thread, which it would end
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**40, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    _write(workspace)


def _socket(workspace: Path) -> None:
    os.chdir(workspace)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.sock")


def _raise(error: BaseException) -> None:
    raise error


def _empty(workspace: Path) -> None:
    for path in workspace.iterdir():
        shutil.rmtree(path)


def _add_hook(workspace: Path) -> None:
    (workspace / "_lakefs_actions").mkdir()
    (workspace / "_lakefs_actions" / "x.yaml").write_text("")


def _replace(workspace: Path) -> None:
    shutil.rmtree(workspace)
    workspace.write_text("")


def _make_again(workspace: Path) -> None:
    shutil.rmtree(workspace)
    workspace.mkdir()
    _write(workspace)


def _leave_open(workspace: Path) -> None:
    """The text is only in a buffer until somebody closes the file."""
    LEFT_OPEN.append(file := (workspace / "left.csv").open("w"))
    file.write("important")


def _leave_a_log_file(workspace: Path) -> None:
    handler = logging.FileHandler(workspace / "left.csv")
    handler.emit(logging.makeLogRecord({"msg": "a line, which is flushed"}))
    LEFT_OPEN.append(handler)


def _leave_harmless_files(workspace: Path) -> None:
    """None of them can be published with missing bytes."""
    deleted = workspace / "deleted"
    LEFT_OPEN.extend((deleted.open("w"), (workspace.parent / "outside").open("w"), (workspace / "raw/a.csv").open()))
    deleted.unlink()


def _leave_in_a_cycle(workspace: Path) -> None:
    """The collector could close the raw file before the buffer is written."""
    cycle: list[object] = [file := (workspace / "left.csv").open("w")]
    cycle.append(cycle)
    file.write("important")


def _leave_a_database(workspace: Path) -> None:
    """A connection is in a cycle, and has no buffer of Python's."""
    with sqlite3.connect(workspace / "left.db") as database:
        database.execute("CREATE TABLE numbers (number)")


LEFT_OPEN: list[TextIO | logging.FileHandler] = []

ACTIONS: dict[str, Callable[[Path], object]] = {
    "write": _write,
    "edit": _edit,
    "nothing": lambda workspace: (),
    "rewrite the same": lambda workspace: (workspace / "raw" / "a.csv").write_text("x\n1\n"),
    "empty": _empty,
    "fail": lambda workspace: _raise(TaskFailed("not today")),
    "give up": lambda workspace: _raise(TaskTerminalError("never")),
    "raise": lambda workspace: _raise(KeyError()),
    "raise with text": lambda workspace: _raise(ValueError("bad column")),
    "exit": lambda workspace: sys.exit(3),
    "interrupt": lambda workspace: _raise(KeyboardInterrupt()),
    "temporary": lambda workspace: (workspace / "left.tmp").write_text(""),
    "symlink outside": lambda workspace: (workspace / "link").symlink_to("/etc/passwd"),
    "fifo": lambda workspace: os.mkfifo(workspace / "pipe"),
    "socket": _socket,
    "not utf-8": lambda workspace: Path(os.fsdecode(os.fsencode(workspace) + b"/\xff")).write_text(""),
    "hook": _add_hook,
    "delete the workspace": shutil.rmtree,
    "replace the workspace": _replace,
    "make the workspace again": _make_again,
    "leave the place": _leave_the_place,
    "leave a file open": _leave_open,
    "leave a log file": _leave_a_log_file,
    "leave harmless files": _leave_harmless_files,
    "leave a file in a cycle": _leave_in_a_cycle,
    "leave a database": _leave_a_database,
    "log": lambda workspace: current().log(f"{current().task_name} {current().retry_count}"),
}

PLAIN = TaskControls(retry=RetryPolicy(count=2, delay_seconds=1))


@task(
    name="driver.edit",
    owner_email="data@example.com",
    controls=PLAIN,
    workspace=WorkspaceSpec(pre=[require_glob("raw/**/*.csv")], post=[forbid_glob("**/*.tmp")]),
)
def edit(workspace: Path, params: Params) -> Result:
    ACTIONS[params.do](workspace)
    return Result(number=params.number)


@task(name="driver.look", owner_email="data@example.com", controls=PLAIN, workspace=WorkspaceSpec(read_only=True))
def look(workspace: Path, params: Params) -> Result:
    ACTIONS[params.do](workspace)
    return Result(number=len(list(workspace.rglob("*"))))


@task(
    name="driver.budget",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(),
    controls=TaskControls(
        publish_budget=PublishBudget(
            observed_merge_p99_seconds=1,
            safety_margin_seconds=1,
            lakefs_merge_timeout_seconds=5,
            conductor_completion_timeout_seconds=5,
            worker_shutdown_grace_seconds=5,
            heartbeat_interval_seconds=5,
            max_changed_objects=1,
        )
    ),
)
def budget(workspace: Path, params: Params) -> Result:
    ACTIONS[params.do](workspace)
    return Result(number=0)


@task(name="driver.plain", owner_email="data@example.com", controls=PLAIN)
def plain(params: Params) -> Result:
    return Result(number=params.number)


@task(name="driver.wrong", owner_email="data@example.com", controls=PLAIN)
def wrong(params: Params) -> Result:
    values: dict[str, Any] = {
        "none": None,
        "dict": {"number": 1},
        "model": params,
        "invalid": Result.model_construct(number=cast("Any", "x")),
    }
    return cast("Result", values[params.do])


EDIT = task_of(edit)
TWO_FILES: dict[str, str | bytes | None] = {"raw/a.csv": "x\n1\n", "raw/b.csv": "x\n2\n"}


def assert_ended(outcome: Outcome, status: TaskStatus, *words: str) -> None:
    """Fail unless the attempt ended with this status, for a reason that has these words."""
    __tracebackhide__ = True
    assert outcome.status is status, outcome
    assert all(text in str(outcome.reason) for text in words), outcome.reason


def publications_since(services: InMemoryServices, ref: str) -> int:
    """How many commits on the branch are of attempts."""
    commits = services.lakefs.history("workspace", "main", until=ref, limit=100)
    return sum("perago.task_id" in commit.metadata for commit in commits)
