"""Where snapshots are, and what may happen to them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PureWindowsPath

import pytest

from perago.authoring import Task


class Update(StrEnum):
    """`--perago-update`: which snapshots are written instead of compared."""

    NONE = "none"
    NEW = "new"
    ALL = "all"


class Unused(StrEnum):
    """`--perago-unused`: what becomes of a run that finds snapshots of tasks that are gone."""

    FAIL = "fail"
    WARN = "warn"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """`root` is what paths are shown relative to."""

    root: Path
    directory: Path
    update: Update
    unused: Unused

    def path(self, task: Task) -> Path:
        """The snapshot of a task."""
        return self.directory / task.module / f"{task.name}.json"

    def shown(self, path: Path) -> str:
        """A path for people: from the root directory, with slashes."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()


def read_snapshot_settings(config: pytest.Config) -> SnapshotSettings:
    """The settings of command line and ini file.

    Raises:
        pytest.UsageError: a value is not valid.
    """
    update = config.getoption("--perago-update")
    return SnapshotSettings(
        root=config.rootpath,
        directory=_directory(config),
        update=Update(update) if update else Update.NONE,
        unused=_unused(config),
    )


def _directory(config: pytest.Config) -> Path:
    """Relative to where pytest was started if given on the command line, else to the root directory."""
    option = config.getoption("--perago-snapshot-dir")
    text = str(option if option is not None else config.getini("perago_snapshot_dir"))
    start = config.invocation_params.dir if option is not None else config.rootpath
    where = "--perago-snapshot-dir / perago_snapshot_dir"
    if not text.strip():
        raise pytest.UsageError(f"{where}: is empty; give a directory for snapshots alone")
    if os.name != "nt" and PureWindowsPath(text).drive:
        raise pytest.UsageError(f"{where}: {text!r} is a path of Windows; write it relative to the root directory")
    directory = Path(os.path.normpath(start / text.strip().replace("\\", "/")))
    if config.rootpath.is_relative_to(directory):
        raise pytest.UsageError(f"{where}: {text!r} holds the whole project; give a directory for snapshots alone")
    return directory


def _unused(config: pytest.Config) -> Unused:
    text = str(config.getoption("--perago-unused") or config.getini("perago_unused"))
    try:
        return Unused(text)
    except ValueError:
        raise pytest.UsageError(f"--perago-unused / perago_unused: {text!r} is none of {', '.join(Unused)}") from None
