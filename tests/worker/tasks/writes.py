"""A task with a workspace: writes into it, fills its disk, forks, waits, sleeps, or resists signals."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from pydantic import BaseModel

from perago import WorkspaceSpec, require_file, task

logging.basicConfig(level=logging.DEBUG, format="in the author's format: %(message)s")


class Params(BaseModel):
    what: str
    marker: str
    """A file outside the workspace that tells the test how often the function ran."""


class Result(BaseModel):
    text: str


@task(
    name="worker.writes",
    description="Writes a file.",
    owner_email="tests@example.com",
    workspace=WorkspaceSpec(pre=[require_file("raw/a.csv")], post=[require_file("out/a.csv")]),
)
def writes(workspace: Path, params: Params) -> Result:
    """Copies a file, unless told otherwise."""
    with Path(params.marker).open("a") as marker:
        marker.write("run\n")
    runs = Path(params.marker).read_text().count("run")
    logging.debug("writing")
    (workspace / "out").mkdir(exist_ok=True)
    shutil.copy(workspace / "raw/a.csv", workspace / "out/a.csv")
    if params.what == "needs_much_space" or (params.what == "fills_the_disk_once" and runs == 1):
        with (workspace / "out/large").open("wb") as file:
            while params.what != "needs_much_space" or file.tell() < 100 * 2**20:
                file.write(bytes(2**20))
    if params.what == "forks" and os.fork() == 0:
        return Result(text="the child")
    if params.what == "sleeps":
        time.sleep(600)
    if params.what == "waits":
        _wait_for(Path(f"{params.marker}.go"))
    if params.what == "stubborn":
        _be_stubborn(Path(f"{params.marker}.pids"))
    return Result(text=f"run {runs}")


def _wait_for(file: Path) -> None:
    """Wait at most a minute for a file."""
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _be_stubborn(file: Path) -> None:
    """Ignore TERM, with a child that does so, too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    unfinished = file.with_suffix(".new")
    unfinished.write_text(f"{os.getpid()} {child.pid}")
    unfinished.rename(file)
    time.sleep(600)
