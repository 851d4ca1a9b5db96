"""Kind `run`: a declared case through the real attempt protocol, on an in-memory lakeFS and Conductor.

The case is run twice in one process, so that state which the function keeps between calls shows. The report of the
second attempt is lost, and what happens then must not publish twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from perago.authoring import Example, Task
from perago.testing.cases import (
    CASE,
    InvalidCase,
    Record,
    RunCase,
    case_files,
    case_of_example,
    read_case_file,
    read_recorded_case,
    recorded_cases,
)
from perago.testing.failures import CaseFailed, Cause
from pytest_perago.options import SNAPSHOT, rerun_command
from pytest_perago.session import Case, Location
from pytest_perago.settings import RunMode, Settings


def cases_run(task: Task, settings: Settings) -> Iterable[Case]:
    """A case for each declared example, case file and case directory; none executes the task before it is run."""
    for case in declared_cases(task, settings):
        if isinstance(case, RunCase):
            yield Case("run", case.label, partial(_run, task, case, settings))
        else:
            yield Case("run", case.stem, partial(_run_file, task, case, settings), location=Location(case, 1))
    if settings.run is not RunMode.OFF:
        for directory in recorded_cases(settings.cases_dir, task.name):
            yield _recorded(task, directory, settings)


def _recorded(task: Task, directory: Path, settings: Settings) -> Case:
    """A case directory, which is read when the test runs."""

    def check(request: pytest.FixtureRequest) -> None:
        from pytest_perago.running import Comparison, run_case

        case, record = _read_recorded(directory)
        comparison = Comparison(
            case,
            record,
            settings.snapshots,
            lambda option: rerun_command(request.node, [option]),
            lambda text: request.node.user_properties.append((SNAPSHOT, text)),
        )
        run_case(task, case, settings.watch_run(), debugging=settings.debugging, compare=comparison)

    return Case("run", directory.name, check, fixtures=("request",), location=Location(directory / CASE, 1))


def _read_recorded(directory: Path) -> tuple[RunCase, Record]:
    try:
        return read_recorded_case(directory)
    except InvalidCase as error:
        raise CaseFailed(Cause.MISTAKE, f"the case cannot be read: {error}") from None


def declared_cases(task: Task, settings: Settings) -> Iterator[RunCase | Path]:
    """What may be executed: declared and provided examples, and case files, which are not read yet."""
    if settings.run is RunMode.OFF:
        return
    for example in task.examples:
        yield case_of_example(task, example)
    if settings.run is RunMode.ALL:
        for provided in settings.provided(task):
            if isinstance(provided, Example):
                yield case_of_example(task, provided)
    yield from case_files(settings.cases_dir, task)


def case_of_test(test: Case) -> RunCase | None:
    """The case that a `run` test runs; None for another test, and for a case file that cannot be read."""
    if test.kind != "run" or not isinstance(test.call, partial):
        return None
    case = test.call.args[1]
    try:
        return case if isinstance(case, RunCase) else read_case_file(case)
    except InvalidCase:
        return None


def _run_file(task: Task, file: Path, settings: Settings) -> None:
    try:
        case = read_case_file(file)
    except InvalidCase as error:
        raise CaseFailed(Cause.MISTAKE, f"the case cannot be read: {error}") from None
    _run(task, case, settings)


def _run(task: Task, case: RunCase, settings: Settings) -> None:
    from pytest_perago.running import run_case  # the services are loaded when something runs

    run_case(task, case, settings.watch_run(), debugging=settings.debugging)
