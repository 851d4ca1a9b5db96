"""Read the configuration of the plugin from pytest: kinds, modes and limits, snapshots, opt-outs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, TypeVar

import pytest

from pytest_perago.confinement import LastResort, Watch
from pytest_perago.options import DEFAULT_CASES_DIR, configured_kinds

if TYPE_CHECKING:
    from perago.authoring import Task


class RunMode(StrEnum):
    """`perago_run`: which tasks are executed."""

    OFF = "off"
    MARKED = "marked"
    """Those that declare an `Example` or have a case file."""
    ALL = "all"
    """Also the examples that `pytest_perago_params` or `perago.testing.provide_params` give."""


@dataclass(frozen=True, slots=True)
class FuzzSettings:
    """The settings of hypothesis in pytest's configuration; all else is the user's profile.

    `forced_seed` is what the user gave as `--hypothesis-seed`; `takes_seed` says that this option exists, because
    hypothesis's own plugin is there.
    """

    examples: int
    forced_seed: str | None
    takes_seed: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once a session. Times in seconds, paths absolute."""

    root: Path
    kinds: tuple[str, ...]
    run: RunMode
    run_timeout: float
    import_timeout: float
    fuzz: FuzzSettings
    debugging: bool
    """Whether a debugger opens on failures (`--pdb`)."""
    cases_dir: Path
    snapshots: SnapshotSettings
    last_resort: LastResort = field(repr=False)

    def watch_run(self) -> Watch:
        """The limit of a `run` test."""
        return Watch(self.run_timeout, self.last_resort)

    def watch_import(self) -> Watch:
        """The limit of one import."""
        return Watch(self.import_timeout, self.last_resort)


def read_settings(config: pytest.Config) -> Settings:
    """The settings of command line and ini file.

    Raises:
        pytest.UsageError: a value is not valid.
    """
    has_own_limit = config.pluginmanager.has_plugin("faulthandler") and config.getini("faulthandler_timeout")
    return Settings(
        root=config.rootpath,
        kinds=configured_kinds(config),
        run=_one_of(RunMode, str(config.getini("perago_run")), "perago_run"),
        run_timeout=_seconds(config, "perago_run_timeout"),
        import_timeout=_seconds(config, "perago_import_timeout"),
        fuzz=_fuzz(config),
        debugging=bool(config.getoption("usepdb", False)),
        cases_dir=_cases_dir(config),
        snapshots=read_snapshot_settings(config),
        last_resort=LastResort(enabled=not float(has_own_limit or 0)),
    )


_Choice = TypeVar("_Choice", bound=StrEnum)


def _one_of(choices: type[_Choice], text: str, name: str) -> _Choice:
    try:
        return choices(text)
    except ValueError:
        raise pytest.UsageError(f"{name}: {text!r} is not one of {', '.join(choices)}") from None


def _directory(text: str, start: Path, name: str, advice: str) -> Path:
    """A path that may be written with backslashes, but not with a drive."""
    if not text.strip():
        raise pytest.UsageError(f"{name}: is empty; {advice}")
    if os.name != "nt" and PureWindowsPath(text).drive:
        raise pytest.UsageError(f"{name}: {text!r} is a path of Windows; write it relative to the root directory")
    return start / text.strip().replace("\\", "/")


def _cases_dir(config: pytest.Config) -> Path:
    """A directory that is written down and does not exist would quietly mean no tests."""
    text = str(config.getini("perago_cases_dir"))
    directory = _directory(text, config.rootpath, "perago_cases_dir", "give a directory, or leave it out")
    if text.strip() != DEFAULT_CASES_DIR and not directory.is_dir():
        raise pytest.UsageError(f"perago_cases_dir: there is no directory {directory}")
    return directory


def _fuzz(config: pytest.Config) -> FuzzSettings:
    text = str(config.getini("perago_fuzz_examples"))
    if not text.isdecimal() or not int(text):
        raise pytest.UsageError(f"perago_fuzz_examples: {text!r} is not a number above 0")
    seed = config.getoption("--hypothesis-seed", None)
    return FuzzSettings(int(text), seed, config.pluginmanager.has_plugin("hypothesispytest"))


def _seconds(config: pytest.Config, name: str) -> float:
    text = str(config.getini(name))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise pytest.UsageError(f"{name}: {text!r} is not a number of seconds above 0")
    return seconds


# ------------------------------------------------ snapshots: where they are, what may happen to them


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
    tree_directory: Path
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
    option = config.getoption("--perago-snapshot-dir")
    start = config.rootpath if option is None else config.invocation_params.dir
    text = str(config.getini("perago_snapshot_dir") if option is None else option)
    unused = str(config.getoption("--perago-unused") or config.getini("perago_unused"))
    return SnapshotSettings(
        root=config.rootpath,
        directory=_of_snapshots(config, text, start, "--perago-snapshot-dir / perago_snapshot_dir"),
        tree_directory=_of_snapshots(config, str(config.getini("perago_tree_dir")), config.rootpath, "perago_tree_dir"),
        update=Update(config.getoption("--perago-update") or "none"),
        unused=_one_of(Unused, unused, "--perago-unused / perago_unused"),
    )


def _of_snapshots(config: pytest.Config, text: str, start: Path, name: str) -> Path:
    advice = "give a directory for snapshots alone"
    directory = Path(os.path.normpath(_directory(text, start, name, advice)))
    if config.rootpath.is_relative_to(directory):
        raise pytest.UsageError(f"{name}: {text!r} holds the whole project; {advice}")
    return directory


# ------------------------------------------------------------- opt-outs: each with its reason

_LINE = re.compile(r"(?P<task>[A-Za-z0-9._-]+)(?:::(?P<test>\w+(?:\[.*?\])?))?:\s+(?P<reason>\S.*)")


@dataclass(frozen=True, slots=True)
class OptOut:
    """A line of `perago_skip`. `test` is a kind (`run`) or one test (`run[minimal]`) of the task, or several, with `*`
    for anything (`faults[*:time]`); None: all of them."""

    task: str
    test: str | None
    reason: str

    def covers(self, task: str, name: str) -> bool:
        """Whether the test called `name` of that task is meant."""
        if self.task != task or self.test is None:
            return self.task == task
        pattern = ".*".join(map(re.escape, self.test.split("*")))
        return self.test == name.partition("[")[0] or bool(re.fullmatch(pattern, name))


def parse_opt_outs(lines: Iterable[str]) -> tuple[OptOut, ...]:
    """The opt-outs of an ini file.

    Raises:
        pytest.UsageError: a line names no task, or gives no reason.
    """
    return tuple(_parse(line.strip()) for line in lines if line.strip())


def _parse(line: str) -> OptOut:
    match = _LINE.fullmatch(line)
    if match is None:
        raise pytest.UsageError(
            f"perago_skip: {line!r} is not `<task>: <reason>`, `<task>::<kind>: <reason>` or "
            "`<task>::<kind>[<label>]: <reason>`; the reason is needed, because it is shown after every run"
        )
    return OptOut(match["task"], match["test"], match["reason"])
