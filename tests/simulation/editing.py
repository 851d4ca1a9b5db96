"""The tasks of the simulation. What they do is data: a list of edits, applied to a tree in memory and then to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, WorkspaceSpec, require_glob, task
from perago.authoring import Task
from perago.authoring.task import get_task

Files = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: `put` writes `text` to `path`, `stamp` the identity of the delivery, `drop` removes the path."""

    what: str
    path: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.path}" + (f"={self.text!r}" if self.what == "put" else "")


def applied(edits: tuple[Edit, ...], files: Files, stamp: str) -> dict[str, str]:
    """The files after the edits. A file may take the place of a directory, and the other way round."""
    tree = dict(files)
    for edit in edits:
        if edit.what == "drop":
            tree.pop(edit.path, None)
            continue
        above = {edit.path[:index] for index, sign in enumerate(edit.path) if sign == "/"}
        below = edit.path + "/"
        tree = {path: text for path, text in tree.items() if path not in above and not path.startswith(below)}
        tree[edit.path] = stamp if edit.what == "stamp" else edit.text
    return tree


def difference(before: Files, after: Files) -> dict[str, str | None]:
    """What leads from one tree to the other: texts put, None for removed paths."""
    changed: dict[str, str | None] = {path: text for path, text in after.items() if before.get(path) != text}
    return changed | {path: None for path in before if path not in after}


def read(workspace: Path) -> dict[str, str]:
    """The files of a directory."""
    paths = (path for path in sorted(workspace.rglob("*")) if path.is_file())
    return {path.relative_to(workspace).as_posix(): path.read_text() for path in paths}


def write(workspace: Path, changes: Mapping[str, str | None]) -> None:
    """Bring a directory to what it should be. Removed files go first, with directories that are empty then."""
    for path in (path for path, text in changes.items() if text is None):
        place = workspace / path
        place.unlink()
        while place.parent != workspace and not any(place.parent.iterdir()):
            place = place.parent
            place.rmdir()
    for path, text in changes.items():
        if text is not None:
            (workspace / path).parent.mkdir(parents=True, exist_ok=True)
            (workspace / path).write_text(text)


class Params(BaseModel):
    step: str
    """Which step of the schedule this is."""
    mood: str = ""
    """Of no use to the function. An operator changes it."""


class Result(BaseModel):
    stamp: str
    """The identity of the delivery whose function ran."""


def _never(workspace: Path, params: Params) -> Result:
    raise AssertionError("the simulation calls its own function")


CONTROLS = TaskControls(retry=RetryPolicy(count=10, delay_seconds=1))
READS = ("a", "d/*")
MOST_IN_D = 3


def _declare(name: str, workspace: WorkspaceSpec, *, retries: int = 10) -> Task:
    def function(workspace: Path, params: Params) -> Result:
        return _never(workspace, params)

    controls = CONTROLS if retries else TaskControls(retry=RetryPolicy(count=0))
    declared = task(name=f"simulation.{name}", owner_email="d@example.com", workspace=workspace, controls=controls)
    return cast("Task", get_task(declared(function)))


TASKS = {
    "fail": _declare("fail", WorkspaceSpec()),
    "rebase": _declare("rebase", WorkspaceSpec(on_moved_head="rebase")),
    "reads": _declare("reads", WorkspaceSpec(on_moved_head="rebase", reads=list(READS))),
    "ruled": _declare(
        "ruled", WorkspaceSpec(on_moved_head="rebase", post=[require_glob("d/**", max_count=MOST_IN_D, min_count=0)])
    ),
    "part": _declare("part", WorkspaceSpec(on_moved_head="rebase", prefix="d")),
    "frail": _declare("frail", WorkspaceSpec(on_moved_head="rebase"), retries=0),
    "once": _declare("once", WorkspaceSpec(), retries=0),
}
"""By the mode of a step. Conductor does not retry `frail` and `once`, so one failure ends their workflow."""
DEPLOYED = {
    **TASKS,
    "fail": _declare("fail", WorkspaceSpec(prefix="p")),
    "rebase": _declare("rebase", WorkspaceSpec(on_moved_head="rebase", prefix="p")),
    "part": _declare("part", WorkspaceSpec(on_moved_head="rebase", prefix="p")),
}
"""The same with another prefix, as a new version of the workers may have it."""
BY_NAME = {declared.name: mode for mode, declared in TASKS.items()}
