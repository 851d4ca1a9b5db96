"""Find what a complete run leaves unused or untried: snapshots, case files, functions and guardrails.

Snapshots and case files are unused if their task no longer exists or never had that name.

A snapshot is unused if its module was deleted, or was imported in this run and declares another task or none. Modules
outside of this run are not judged. A directory of case files is unused if no task has its name. This is known only if
the ini file or the test files name all modules, and all of them could be imported. The snapshot of a tree is unused if
its test was deleted.

The verdict is given only after a complete run: nothing selected, nothing stopped, no worker lost.

Untried are functions that no attempt called, and guardrails that were never satisfied or never violated. They are
reported for the tasks that have tests in the run, unless tests were left out on purpose.
"""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from perago.taskdef.loading import find_modules
from perago.text import shortened
from perago.trees.cases import WORKFLOW
from pytest_perago.cover import TaskCover, coverage_of, gather
from pytest_perago.kinds import printable
from pytest_perago.options import (
    SNAPSHOT,
    TREE_OWNER,
    Settings,
    kinds_of,
    named_on_command_line,
    read_settings,
    received,
    record_of,
    send,
)
from pytest_perago.session import Session, session_so_far
from pytest_perago.workflows import workflow_snapshot

_SELECTING = (
    "file_or_dir",
    "keyword",
    "markexpr",
    "deselect",
    "ignore",
    "ignore_glob",
    "lf",
    "stepwise",
    "collectonly",
)
_COMPLETE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


def finish(session: pytest.Session) -> None:
    """Find unused and untried items at the end of a session. A worker of pytest-xdist sends them to its controller.
    Unused files fail the run."""
    gather(session)
    config = session.config
    lines: list[str] | None = _verdict(session)
    if send(config, "unused", lines):
        return
    kinds_of(config)  # workers load the kinds of task_tests, and this process reports broken ones
    workers = received(config, "unused")
    if workers is not None:  # what all workers say; nothing if one of them cannot
        is_known = None not in workers and _is_complete(session)
        lines = sorted(set.intersection(*map(set, workers))) if is_known else None
    if lines:
        record_of(config).unused = tuple(lines)
        fails = read_settings(config).unused == "fail"
        if fails and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if not _selects(session) and None not in (received(config, "tasks") or ()):
        coverage = coverage_of(config)
        tasks = sorted(coverage.tasks if coverage else (), key=lambda task: task.task)
        record_of(config).untried = tuple(line for task in tasks for line in _untried(task))


def unused_snapshots(shared: Session) -> Iterator[str]:
    """Yield a line for each unused snapshot: its path and the reason."""
    settings = shared.settings
    used = {identity for identity in _identities(shared, settings) if identity is not None}
    for path in sorted(settings.snapshot_dir.glob("*/*.json")):
        if path.name.startswith(".") or _identity(path) in used:
            continue
        reason = _why_unused(path.parent.name, shared)
        if reason is not None:
            yield f"{settings.shown(path)}: {reason}"


def unused_cases(shared: Session) -> Iterator[str]:
    """Yield a line for each directory of case files that no task reads: its path, and a likely task."""
    modules = shared.loaded.values()
    if any(module.task is None and not module.is_passed_over for module in modules):
        return  # the task may be theirs
    settings = shared.settings
    names = sorted({module.task.name for module in modules if module.task is not None})
    names += [flow.name + WORKFLOW for module in modules for flow in module.workflows]
    written = {file.parent for file in settings.cases_dir.glob("*/*.toml")}
    recorded = {file.parent.parent for file in settings.cases_dir.glob("*/*/case.json")}
    for directory in sorted(written | recorded):
        if directory.name not in names:
            near = difflib.get_close_matches(directory.name, names, n=1)
            suggestion = f"; did you mean {near[0].removesuffix(WORKFLOW)}?" if near else ""
            name = directory.name.removesuffix(WORKFLOW)
            what = "task" if name == directory.name else "workflow"
            yield f"{settings.shown(directory)}: no {what} is called {name}{suggestion}"


def unused_trees(session: pytest.Session, settings: Settings) -> Iterator[str]:
    """Yield a line for each snapshot of a tree whose test no longer exists: its path and the reason. Test files that
    this run did not collect are not judged."""
    tests = {printable(item.nodeid) for item in session.items}
    files = {test.partition("::")[0] for test in tests}
    for path in sorted(settings.tree_dir.glob("*/*.tree")):
        owner = _owner(path)
        if owner is None or owner in tests:
            continue
        file = owner.partition("::")[0]
        if file in files:
            yield f"{settings.shown(path)}: there is no test {owner}"
        elif not (settings.root / file).exists():
            yield f"{settings.shown(path)}: there is no file {file}"


def _owner(path: Path) -> str | None:
    """Return the test that a snapshot names in its first line, or None if it is not a snapshot."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            line = file.readline(4096).rstrip("\n")
    except OSError:
        return None
    return line.removeprefix(TREE_OWNER) if line.startswith(TREE_OWNER) else None


def _verdict(session: pytest.Session) -> list[str] | None:
    if not _is_complete(session):
        return None
    settings = read_settings(session.config)
    if settings.unused == "ignore":
        return []
    lines = list(unused_trees(session, settings))
    if shared := session_so_far(session.config):
        if {"run", "contract"} & set(settings.kinds) and not named_on_command_line(session.config):
            lines = [*unused_cases(shared), *lines]
        if "taskdef" in settings.kinds:
            lines = [*unused_snapshots(shared), *lines]
    return lines


def _is_complete(session: pytest.Session) -> bool:
    config = session.config
    is_partial = record_of(config).is_partial or session.shouldstop or session.shouldfail
    selects = any(config.getoption(name, None) for name in _SELECTING)
    return session.exitstatus in _COMPLETE and not is_partial and not selects


def _identities(shared: Session, settings: Settings) -> Iterator[object]:
    """Return the files that tasks use, as the file system knows them, because it may ignore case."""
    for module in shared.loaded.values():
        if module.task is not None:
            yield _identity(settings.snapshot_path(module.task))
        for workflow in module.workflows:
            yield _identity(workflow_snapshot(workflow, settings))


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _why_unused(name: str, shared: Session) -> str | None:
    module = shared.loaded.get(name)
    if module is not None:
        declared = [declaration.name for declaration in (module.task, *module.workflows) if declaration is not None]
        if declared:
            return f"module {name} declares {', '.join(declared)}"
        return f"module {name} declares no task" if module.is_passed_over else None
    exists = name in sys.modules or any(module.name == name and module.file for module in find_modules([name]))
    return None if exists else f"there is no module {name}"


# ------------------------------------------------------------------------------ what was not tried

_TESTED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def _selects(session: pytest.Session) -> bool:
    """Whether the command line or a conftest selected only some of the tests."""
    config = session.config
    if session.exitstatus not in _TESTED or record_of(config).is_partial:
        return True
    if config.getoption("collectonly") or config.getoption("--perago-kinds"):
        return True
    return any("::" in argument for argument in config.getoption("file_or_dir"))


def _untried(task: TaskCover) -> Iterator[str]:
    """Yield one line for the function of a task and each guardrail that was not both satisfied and violated."""
    if not task.has_tests:
        return
    if not task.ran:
        yield f"{task.task}: its function never ran: declare an Example that completes, or use perago_run in a test"
    for guardrail in task.guardrails:
        tests = {"satisfied": guardrail.satisfied_by, "violated": guardrail.violated_by}
        never = " or ".join(word for word, nodeids in tests.items() if not nodeids)
        if never:
            yield f"{task.task}: {guardrail.phase} guardrail {guardrail.rule} was never {never}"


_SHOWN = 20


def summarize_snapshots(terminalreporter: Any, config: pytest.Config, unused: Iterable[str]) -> None:
    """Report written and unused files, if there are any."""
    lines = list(_written(terminalreporter)) if config.getoption("--perago-update") else []
    unused_files = list(unused)
    if not lines and not unused_files:
        return
    terminalreporter.section("perago snapshots")
    for line in (*lines, *(f"unused: {line}" for line in unused_files)):
        terminalreporter.line(line)
    paths = [path for path in (line.partition(": ")[0] for line in unused_files) if path.endswith((".json", ".tree"))]
    if paths:  # case files are worth more than a snapshot: the hint does not name them
        terminalreporter.line(f"remove: rm {' '.join(map(shlex.quote, paths))}   (from {config.rootpath})")
    if unused_files and read_settings(config).unused == "fail":
        terminalreporter.line("error: unused files fail the run; --perago-unused=warn only lists them", red=True)


def _written(terminalreporter: Any) -> Iterator[str]:
    reports = [report for group in ("passed", "failed", "error") for report in terminalreporter.stats.get(group, ())]
    written = {text for report in reports for name, text in getattr(report, "user_properties", ()) if name == SNAPSHOT}
    failed = any(terminalreporter.stats.get(group) for group in ("failed", "error"))
    nothing = "nothing was written" if failed else "nothing to write: no compared snapshot differs"
    yield from sorted(written) or [nothing]


def summarize_untried(terminalreporter: Any, untried: Sequence[str]) -> None:
    """Report what no attempt has tried, in up to `_SHOWN` lines."""
    if not untried:
        return
    terminalreporter.section("perago: not exercised by any attempt of this run")
    for line in shortened(untried, _SHOWN):
        terminalreporter.line(line)
