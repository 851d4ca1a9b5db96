"""Kind `run`: a declared case through the real attempt protocol, on an in-memory lakeFS and Conductor.

The case is run twice in one process, to reveal state that the function keeps between calls. The report of the second
attempt is lost, and the next attempt must not publish again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from perago.authoring import Example, Task
from perago.guardrails.require_glob import RequireGlob
from perago.trees.cases import (
    CASE,
    CaseFailed,
    Cause,
    InvalidCase,
    Record,
    RunCase,
    case_files,
    case_of_example,
    read_case_file,
    read_recorded_case,
    recorded_cases,
)
from perago.workspace.keys import compile_glob
from pytest_perago.kinds import Case, Location
from pytest_perago.session import Session


def cases_run(task: Task, session: Session) -> Iterable[Case]:
    """Yield a test for each declared example, case file and case directory. The task is not executed before a test
    runs."""
    for source in declared_cases(task, session):
        label = source.label if isinstance(source, RunCase) else source.stem
        yield Case(label, partial(_run, task, source), location_of(source), declared=source)
    yield from _fewest_files(task, session)
    if session.settings.run != "off":
        for directory in recorded_cases(session.settings.cases_dir, task.name):
            yield Case(directory.name, partial(_run, task, directory), location_of(directory))


def _fewest_files(task: Task, session: Session) -> Iterator[Case]:
    """A case for each `require_glob` of `pre` whose `min_count` no declared case touches: an example without the files
    that the rule does not need."""
    cases = [case for case in declared_cases(task, session) if isinstance(case, RunCase) and case.expect == "completed"]
    rules = task.workspace.pre if task.workspace is not None else ()
    for rule in (rule for rule in rules if isinstance(rule, RequireGlob) and rule.min_count):
        glob = compile_glob(rule.pattern)
        candidates = [
            (case, sorted(filter(glob.fullmatch, case.tree))) for case in cases if isinstance(case.tree, Mapping)
        ]
        if candidates and all(len(matched) > rule.min_count for _, matched in candidates):
            case, matched = min(candidates, key=lambda candidate: len(candidate[1]))
            yield Case(f"{rule.label}:fewest", partial(_run_fewest, task, case, rule, matched))


def _run_fewest(task: Task, case: RunCase, rule: RequireGlob, matched: Sequence[str], session: Session) -> None:
    from pytest_perago.kinds.run.checks import run_fewest  # the services are loaded when something runs

    run_fewest(task, case, rule, matched, session)


def declared_cases(task: Task, session: Session) -> Iterator[RunCase | Path]:
    """Return the cases to execute: declared and provided examples, and case files, which are read later."""
    if session.settings.run == "off":
        return
    for example in task.examples:
        yield case_of_example(task, example)
    if session.settings.run == "all":
        for provided in session.provided(task):
            if isinstance(provided, Example):
                yield case_of_example(task, provided)
    yield from case_files(session.settings.cases_dir, task)


def location_of(source: RunCase | Path) -> Location | None:
    """Return the place of a case file or a case directory, or None for an example, which is at the place of its
    task."""
    if isinstance(source, RunCase):
        return None
    return Location(source / CASE if source.is_dir() else source, 1)


def read_case(source: RunCase | Path) -> tuple[RunCase, Record | None]:
    """Return a case and, if it was recorded, its outcome. Case files and case directories are read now.

    Raises:
        CaseFailed: it cannot be read.
    """
    if isinstance(source, RunCase):
        return source, None
    try:
        return read_recorded_case(source) if source.is_dir() else (read_case_file(source), None)
    except InvalidCase as error:
        raise CaseFailed(Cause.MISTAKE, f"the case cannot be read: {error}") from None


def readable_cases(sources: Iterable[RunCase | Path]) -> Iterator[tuple[RunCase | Path, RunCase]]:
    """Yield the cases that can be read, with their sources. The `run` test of another one says why it cannot."""
    for source in sources:
        with suppress(CaseFailed):
            yield source, read_case(source)[0]


def _run(task: Task, source: RunCase | Path, session: Session) -> None:
    from pytest_perago.kinds.run.checks import run_case  # the services are loaded when something runs

    case, record = read_case(source)
    run_case(task, case, session, record)
