"""Command line options, ini values, markers and hooks, and the command that runs one test again with them."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_perago.kinds import KINDS

if TYPE_CHECKING:
    from perago.authoring import Example, Task
    from pytest_perago.cover import Coverage, FileCover
    from pytest_perago.session import Session

HARNESS_ERROR = ("perago_cause", "harness error")
"""The user property of a test that broke by itself."""

OPT_OUT = "perago_opt_out"
"""The name of the user property that holds the reason of an opt-out."""

SNAPSHOT = "perago_snapshot"
"""The name of the user property that says which snapshot a test wrote."""

TREE_OWNER = "# perago: tree of "
"""The beginning of the snapshot of a tree; the test follows."""

DESELECTED = pytest.StashKey[bool]()
"""Set if tests were taken out of the run after they had been collected."""

OUTPUTS = pytest.StashKey[list[Mapping[str, Any] | None]]()
"""The data that each worker of pytest-xdist has sent to its controller; None for one that crashed."""

TRIED = pytest.StashKey[dict[tuple[str, ...], set[str]]]()
"""The trials of this process, and the node ids of their tests: see `AttemptLog.tried`."""

COVERED_FILES: pytest.StashKey[dict[tuple[str, str], tuple[list[FileCover], int]]] = pytest.StashKey()
"""By module and name of a task: its published files as far as this process has damaged them, and how many more."""

SESSION: pytest.StashKey[Session] = pytest.StashKey()
"""The session of the generated tests, once there are any."""

UNUSED = pytest.StashKey[tuple[str, ...]]()
"""Unused snapshots and case files, in the process that reports: a line each."""

UNTRIED = pytest.StashKey[tuple[str, ...]]()
"""The untried functions and guardrails, in the process that reports: a line each, a tab before the direction of a
guardrail."""

COVERAGE: pytest.StashKey[Coverage] = pytest.StashKey()
"""The tasks of the run and what was tried of them, in the process that reports."""

DEFAULT_CASES_DIR = "tests/perago_cases"
"""The directory of case files unless `perago_cases_dir` is set; it need not exist."""

DEFAULT_TREE_DIR = "tests/__trees__"
"""The directory of snapshots of published trees unless `perago_tree_dir` is set."""


@dataclass(frozen=True, slots=True)
class CoverOptions:
    """The file for the JSON of the coverage, and the percentage below which a run fails; None: no file, never."""

    json: Path | None
    fail_under: float | None


_INI: tuple[tuple[str, str, str | list[str], str], ...] = (
    ("perago_modules", "linelist", [], "Task modules and packages to make tests from."),
    ("perago_kinds", "linelist", [], f"Kinds of generated tests: {', '.join(KINDS)}. Default: all."),
    ("perago_skip", "linelist", [], "Opt-outs, one a line: `<task>[::<kind>[<label>]]: <reason>`."),
    ("perago_run", "string", "marked", "Which tasks are executed: off, marked (what declares a case) or all."),
    ("perago_run_timeout", "string", "60", "Seconds that a `run` test may take."),
    ("perago_import_timeout", "string", "60", "Seconds that the import of a task module may take."),
    ("perago_fuzz_examples", "string", "25", "How many examples a `fuzz` test tries."),
    ("perago_cases_dir", "string", DEFAULT_CASES_DIR, "Directory of case files, relative to the root directory."),
    (
        "perago_snapshot_dir",
        "string",
        "tests/__taskdefs__",
        "Directory of TaskDef snapshots, relative to the root directory.",
    ),
    (
        "perago_tree_dir",
        "string",
        DEFAULT_TREE_DIR,
        "Directory of snapshots of published trees, relative to the root directory.",
    ),
    (
        "perago_unused",
        "string",
        "fail",
        "What snapshots and case files of tasks and tests that are gone do to a complete run: fail, warn, ignore.",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Add all that the plugin understands."""
    group = parser.getgroup("perago", "tests made from perago task modules")
    group.addoption(
        "--perago-modules",
        action="append",
        default=[],
        metavar="MODULE[,MODULE]",
        help="task modules to make tests from; a package means all below it (ini: perago_modules)",
    )
    group.addoption(
        "--perago-kinds",
        action="append",
        default=[],
        metavar="KIND[,KIND]",
        help=f"which tests to make: {', '.join(KINDS)}; default all (ini: perago_kinds)",
    )
    group.addoption(
        "--perago-report",
        default=None,
        metavar="FILE",
        help="write a page about the tasks of this run: one HTML file that needs neither network nor scripts",
    )
    _add_snapshot_options(group)
    _add_cover_options(group)
    for name, kind, default, text in _INI:
        parser.addini(name, text, type=kind, default=default)  # type: ignore[arg-type]


def _add_snapshot_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--perago-update",
        nargs="?",
        const="all",
        default=None,
        type=_update,
        metavar="new|all",
        help="write snapshots: only missing ones, or all (the default); use = to give the word",
    )
    group.addoption(
        "--perago-snapshot-dir",
        default=None,
        metavar="DIR",
        help="directory of TaskDef snapshots (ini: perago_snapshot_dir; default tests/__taskdefs__)",
    )
    group.addoption(
        "--perago-unused",
        choices=("fail", "warn", "ignore"),
        default=None,
        help="what snapshots and case files of tasks that are gone do to a complete run "
        "(ini: perago_unused; default fail)",
    )


def _add_cover_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--perago-cover",
        action="store_true",
        help="which tests satisfied and violated each guardrail, and which published files no guardrail would miss",
    )
    group.addoption(
        "--perago-cover-json", default=None, metavar="FILE", help="the same as JSON, into a file; means --perago-cover"
    )
    group.addoption(
        "--perago-cover-fail-under",
        default=None,
        metavar="PERCENT",
        help="fail a run whose coverage of guardrails is lower; means --perago-cover",
    )


def cover_options(config: pytest.Config) -> CoverOptions | None:
    """The options of the command line for coverage; None: it does not ask for it.

    Raises:
        pytest.UsageError: the threshold is no percentage, or there is no directory for the file.
    """
    file, threshold = config.getoption("--perago-cover-json"), config.getoption("--perago-cover-fail-under")
    if file is None and threshold is None and not config.getoption("--perago-cover"):
        return None
    json = None if file is None else config.invocation_params.dir / file
    if json is not None and (json.is_dir() or not json.parent.is_dir()):
        raise pytest.UsageError(f"--perago-cover-json: {file!r} is not a file in a directory that exists")
    try:
        percent = None if threshold is None else float(threshold)
    except ValueError:
        percent = -1.0
    if percent is not None and not 0 <= percent <= 100:
        raise pytest.UsageError(f"--perago-cover-fail-under: {threshold!r} is not a number from 0 to 100")
    return CoverOptions(json, percent)


def _update(text: str) -> str:
    if text not in ("new", "all"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither new nor all; write --perago-update=all {text}")
    return text


def refuse_update_under_ci(config: pytest.Config) -> None:
    """Snapshots are written by people, who look at them and commit them.

    Raises:
        pytest.UsageError: the environment says that no person looks.
    """
    if config.getoption("--perago-update") and os.environ.get("CI", "").lower() not in ("", "0", "false"):
        raise pytest.UsageError(
            "--perago-update writes snapshots, but CI is set, so no person would see them: run it where you develop "
            "and commit the snapshots (or unset CI)"
        )


def refuse_other_perago() -> None:
    """See that `import perago` means the package beside this plugin.

    Raises:
        pytest.UsageError: it means another one, such as the project of that name on the package index.
    """
    found = importlib.util.find_spec("perago")
    place = os.path.dirname(found.origin) if found is not None and found.origin else "nowhere"  # noqa: PTH120
    expected = os.path.join(os.path.dirname(os.path.dirname(__file__)), "perago")  # noqa: PTH118, PTH120
    if os.path.realpath(place) != os.path.realpath(expected):
        raise pytest.UsageError(
            f"`import perago` finds another project of that name, in {place}; this plugin belongs to {expected}. "
            "Remove the other one from this environment (pip uninstall perago) or from the import path, and install "
            "this one again (README.md, Install)."
        )


def is_question(config: pytest.Config) -> bool:
    """Whether pytest only says something about itself. It collects nothing, and reads no arguments for `--help`."""
    return any(config.getoption(name, None) for name in ("help", "version", "markers"))


def add_markers(config: pytest.Config) -> None:
    """Register the markers that generated tests carry, so that `--strict-markers` passes."""
    config.addinivalue_line("markers", "perago: generated from a perago task module")
    for name, kind in KINDS.items():
        config.addinivalue_line("markers", f"perago_{name}: {kind.proves}")


def loaded(module: str) -> Any:
    """Return a module of `perago.testing` that something has imported; None if nothing has, so that a session which
    does not use perago pays nothing for it."""
    return sys.modules.get(f"perago.testing.{module}")


def send(config: pytest.Config, key: str, value: object) -> bool:
    """Send a value to the controller of pytest-xdist. Whether this process is one of its workers."""
    output: dict[str, object] | None = getattr(config, "workeroutput", None)
    if output is not None:
        output[f"perago_{key}"] = value
    return output is not None


def received(config: pytest.Config, key: str) -> list[Any] | None:
    """Return what each worker of pytest-xdist has sent, None for one that crashed; None where there are no workers."""
    outputs = config.stash.get(OUTPUTS, None)
    return None if outputs is None else [output and output.get(f"perago_{key}") for output in outputs]


def named_on_command_line(config: pytest.Config) -> tuple[str, ...]:
    """The modules of `--perago-modules`, as written."""
    return _listed(config.getoption("--perago-modules"))


def named_in_ini(config: pytest.Config) -> tuple[str, ...]:
    """The modules of `perago_modules`, as written."""
    return _listed(config.getini("perago_modules"))


def configured_modules(config: pytest.Config) -> tuple[str, ...]:
    """The modules of command line and ini file, as written."""
    return tuple(dict.fromkeys((*named_on_command_line(config), *named_in_ini(config))))


def kinds_in_ini(config: pytest.Config) -> tuple[str, ...]:
    """The kinds of `perago_kinds`, as written; all that need not be asked for if it is not set."""
    return _listed(config.getini("perago_kinds")) or tuple(name for name, kind in KINDS.items() if not kind.opt_in)


def configured_kinds(config: pytest.Config) -> tuple[str, ...]:
    """The kinds to make, in the order of the table.

    Raises:
        pytest.UsageError: there is no such kind.
    """
    wanted = _listed(config.getoption("--perago-kinds")) or kinds_in_ini(config)
    unknown = [kind for kind in wanted if kind not in KINDS]
    if unknown:
        raise pytest.UsageError(f"--perago-kinds / perago_kinds: no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in wanted)


def _listed(values: list[str]) -> tuple[str, ...]:
    parts = (part for value in values for part in re.split(r"[,\s]+", value))
    return tuple(dict.fromkeys(filter(None, parts)))


def rerun_command(item: pytest.Item, options: Iterable[str] = ()) -> str:
    """`pytest` with the options that decide what is collected, and the test as seen from where it was started."""
    config = item.config
    path = str(item.path)
    if item.path.is_relative_to(config.rootpath):
        path = os.path.relpath(item.path, config.invocation_params.dir)
    names = item.nodeid.partition("::")[2]
    kind = item.name.partition("[")[0]
    is_asked_for = kind in KINDS and kind not in kinds_in_ini(config)
    kinds = ("--perago-kinds", kind) if is_asked_for else ()  # without them the test would not be made
    words = ["pytest", *_context(config), *kinds, *options, f"{path}::{names}"]
    return " ".join(_quoted(word) for word in words)


def _context(config: pytest.Config) -> Iterator[str]:
    option = config.option
    if option.inifilename:
        yield from ("-c", str(option.inifilename))
    if option.rootdir:
        yield from ("--rootdir", str(option.rootdir))
    if option.importmode != "prepend":
        yield f"--import-mode={option.importmode}"
    for override in option.override_ini or ():
        if not override.startswith("strict"):  # how pytest keeps its own --strict-markers and --strict-config
            yield from ("-o", override)
    modules = named_on_command_line(config)
    if modules:
        yield from ("--perago-modules", ",".join(modules))
    directory = config.getoption("--perago-snapshot-dir")
    if directory is not None:
        yield f"--perago-snapshot-dir={directory}"


def _quoted(word: str) -> str:
    """Node ids are always quoted: their brackets mean something to shells that `shlex.quote` does not know."""
    return "'" + word.replace("'", "'\"'\"'") + "'" if "::" in word else shlex.quote(word)


# ----------------------------------------------------------------- the hook that a conftest may implement


def pytest_perago_params(task: Task) -> Iterable[Mapping[str, Any] | Example] | None:
    """Parameters for a task whose model is too particular for generated ones, such as one with its own validators.

    Return a list: mappings are parameters as a workflow would send them; an `Example` also has a tree and an outcome,
    and is run when `perago_run` is `all`. None or nothing: none for this task. Implementations add up. Mark one with
    `@pytest.hookimpl(optionalhook=True)` if the suite is also run with `-p no:perago`.
    """
