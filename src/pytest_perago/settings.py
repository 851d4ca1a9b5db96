"""What the kinds need to know of pytest's configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import pytest

from pytest_perago.options import DEFAULT_CASES_DIR, configured_kinds
from pytest_perago.snapshot_settings import SnapshotSettings, read_snapshot_settings
from pytest_perago.watch import LastResort, Watch

if TYPE_CHECKING:
    from perago.authoring import Example, Task


class RunMode(StrEnum):
    """`perago_run`: which tasks are executed."""

    OFF = "off"
    MARKED = "marked"
    """Those that declare an `Example` or have a case file."""
    ALL = "all"
    """Also the examples that `pytest_perago_params` or `perago.testing.provide_params` give."""


@dataclass(frozen=True, slots=True)
class FuzzSettings:
    """What pytest's configuration says about hypothesis; all else is the user's profile.

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
    provided: Callable[[Task], Sequence[Mapping[str, Any] | Example]] = field(repr=False)
    """Parameters from hooks and registry."""
    namesakes: Callable[[Task], Sequence[Task]] = field(repr=False)
    """Tasks of other modules with the same name; loads all modules of the session."""
    last_resort: LastResort = field(repr=False)

    def watch_run(self) -> Watch:
        """The limit of a `run` test."""
        return Watch(self.run_timeout, self.last_resort)

    def watch_import(self) -> Watch:
        """The limit of one import."""
        return Watch(self.import_timeout, self.last_resort)


def read_settings(
    config: pytest.Config,
    provided: Callable[[Task], Sequence[Mapping[str, Any] | Example]],
    namesakes: Callable[[Task], Sequence[Task]],
) -> Settings:
    """The settings of command line and ini file.

    Raises:
        pytest.UsageError: a value is not valid.
    """
    own_limit = bool(float(config.getini("faulthandler_timeout") or 0)) if _has_faulthandler(config) else False
    return Settings(
        root=config.rootpath,
        kinds=configured_kinds(config),
        run=_mode(config),
        run_timeout=_seconds(config, "perago_run_timeout"),
        import_timeout=_seconds(config, "perago_import_timeout"),
        fuzz=_fuzz(config),
        debugging=bool(config.getoption("usepdb", False)),
        cases_dir=_cases_dir(config),
        snapshots=read_snapshot_settings(config),
        provided=provided,
        namesakes=namesakes,
        last_resort=LastResort(enabled=not own_limit),
    )


def _has_faulthandler(config: pytest.Config) -> bool:
    return config.pluginmanager.has_plugin("faulthandler")


def _mode(config: pytest.Config) -> RunMode:
    text = str(config.getini("perago_run"))
    try:
        return RunMode(text)
    except ValueError:
        raise pytest.UsageError(f"perago_run: {text!r} is none of {', '.join(RunMode)}") from None


def _cases_dir(config: pytest.Config) -> Path:
    """A directory that is written down and is not there would quietly be no test at all."""
    text = str(config.getini("perago_cases_dir")).strip()
    if not text:
        raise pytest.UsageError("perago_cases_dir: is empty; give a directory, or leave it out")
    if os.name != "nt" and PureWindowsPath(text).drive:
        raise pytest.UsageError(
            f"perago_cases_dir: {text!r} is a path of Windows; write it relative to the root directory"
        )
    directory = config.rootpath / text.replace("\\", "/")
    if text != DEFAULT_CASES_DIR and not directory.is_dir():
        raise pytest.UsageError(f"perago_cases_dir: there is no directory {directory}")
    return directory


def _fuzz(config: pytest.Config) -> FuzzSettings:
    text = str(config.getini("perago_fuzz_examples"))
    if not text.isdecimal() or not int(text):
        raise pytest.UsageError(f"perago_fuzz_examples: {text!r} is no number above 0")
    seed = config.getoption("--hypothesis-seed", None)
    return FuzzSettings(int(text), seed, config.pluginmanager.has_plugin("hypothesispytest"))


def _seconds(config: pytest.Config, name: str) -> float:
    text = str(config.getini(name))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise pytest.UsageError(f"{name}: {text!r} is no number of seconds above 0")
    return seconds
