"""The actions of this suite's tasks. The same orders work with and without a workspace."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from perago import (
    RetryPolicy,
    TaskControls,
    TaskFailed,
    TaskTerminalError,
    TimeoutPolicy,
    current,
)

GATE_SECONDS = 90.0
SMALL = 65_536
"""Bytes."""


def named(task: str) -> str:
    """Return a task name that is unique to this deployment, because the servers keep the tasks of earlier runs."""
    return f"live.{os.environ.get('LIVE_TOKEN', 'none')}.{task}"


def controls() -> TaskControls:
    """Return controls with the retries (one by default, without a delay) and the response timeout of the deployment."""
    seconds, retries = (int(os.environ.get(name, usual)) for name, usual in _DEFAULTS.items())
    return TaskControls(
        retry=RetryPolicy(count=retries, delay_seconds=0),
        timeout=TimeoutPolicy(policy="RETRY", response_seconds=seconds),
    )


_DEFAULTS = {"LIVE_RESPONSE_SECONDS": "60", "LIVE_RETRIES": "1"}


class Orders(BaseModel):
    """Actions in this order. Paths are relative to the workspace."""

    say: str = ""
    """Printed."""
    write: dict[str, str] = {}
    write_first: dict[str, str] = {}
    """Written by attempts that are not retries."""
    append: dict[str, str] = {}
    """Appended to files, which are created if necessary."""
    stamp: str = ""
    """A file for something that no other call writes; the result has it, too. A name that ends with `/` is a directory
    for a file with a name of its own: the last word of the stamp."""
    padding: int = 0
    """Line ends after the stamp."""
    stamp_once: bool = False
    """Retries write no stamp."""
    remove: list[str] = []
    link: str = ""
    """A symbolic link to make."""
    gate: str = ""
    """A directory outside the workspace. The function announces itself there and waits for a file `go`."""
    child: bool = False
    """Start a process that runs forever, before the gate."""
    sleep: float = 0.0
    ending: Literal["return", "fail", "give up", "exit", "killed", "large result"] = "return"


class Done(BaseModel):
    """The process and the attempt, and the files of both sides."""

    pid: int
    retry_count: int
    seen: dict[str, str] = {}
    """The files of the workspace before the actions: the text of small files, the MD5 of large ones."""
    padding: str = ""
    stamp: str = ""
    """The text of the stamp; empty without one."""
    stamp_md5: str = ""
    """The MD5 of the file with its padding."""


class Announcement(BaseModel):
    """The file of a function in its gate."""

    pid: int
    child: int | None
    workspace: str | None
    task_id: str


def act(orders: Orders, workspace: Path | None = None) -> Done:
    """Carry out the orders."""
    texts = _texts(workspace)
    if orders.say:
        print(orders.say)
    stamp, stamp_md5 = _new_stamp(orders), ""
    if workspace is not None:
        _change(workspace, orders)
        if stamp:
            path = workspace / (orders.stamp + stamp.split()[1] if orders.stamp.endswith("/") else orders.stamp)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(stamp + "\n" * orders.padding)
            stamp_md5 = md5(path)
    _pass_gate(orders, workspace)
    time.sleep(orders.sleep)
    done = Done(pid=os.getpid(), retry_count=current().retry_count, seen=texts, stamp=stamp, stamp_md5=stamp_md5)
    return _end(orders, done)


def _new_stamp(orders: Orders) -> str:
    has_stamp = orders.stamp and not (orders.stamp_once and current().retry_count)
    return f"{current().task_id} {secrets.token_hex(8)}" if has_stamp else ""


def _texts(workspace: Path | None) -> dict[str, str]:
    if workspace is None:
        return {}
    files = sorted(path for path in workspace.rglob("*") if path.is_file())
    return {
        path.relative_to(workspace).as_posix(): path.read_text() if path.stat().st_size < SMALL else md5(path)
        for path in files
    }


def md5(path: Path) -> str:
    """Return the checksum that lakeFS has for these bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _change(workspace: Path, orders: Orders) -> None:
    first = {} if current().retry_count else orders.write_first
    for path, text in {**orders.write, **first}.items():
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(text)
    for path, text in orders.append.items():
        with (workspace / path).open("a") as file:
            file.write(text)
    for path in orders.remove:
        (workspace / path).unlink()
    if orders.link:
        (workspace / orders.link).symlink_to("/etc/hostname")


def _pass_gate(orders: Orders, workspace: Path | None) -> None:
    child = subprocess.Popen(["sleep", "600"]) if orders.child else None
    if not orders.gate:
        return
    gate, task_id = Path(orders.gate), current().task_id
    here = Announcement(
        pid=os.getpid(),
        child=child.pid if child else None,
        workspace=str(workspace) if workspace else None,
        task_id=task_id,
    )
    (gate / f".{task_id}").write_text(here.model_dump_json())
    (gate / f".{task_id}").rename(gate / f"entered-{task_id}")
    deadline = time.monotonic() + GATE_SECONDS
    while not (gate / "go").exists():
        if time.monotonic() > deadline:
            raise TaskTerminalError("nobody opened the gate")
        time.sleep(0.02)


def _end(orders: Orders, done: Done) -> Done:
    match orders.ending:
        case "fail":
            raise TaskFailed("the weather is bad")
        case "give up":
            raise TaskTerminalError("there is no such measurement")
        case "exit":
            os._exit(7)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "large result":
            return done.model_copy(update={"padding": "x" * 2_000_000})
    return done
