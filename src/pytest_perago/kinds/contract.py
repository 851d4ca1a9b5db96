"""Kind `contract`: what can be known about a task without calling its function."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import partial

from perago.authoring import Task
from perago.ports import ServiceError
from perago.taskdef import build_task_definition
from perago.testing.cases import InvalidCase, case_files, case_of_example, check_case, read_case_file
from perago.testing.failures import CaseFailed, Cause
from pytest_perago.cases import Case, Location
from pytest_perago.models import check_params, check_result
from pytest_perago.settings import Settings


def cases_contract(task: Task, settings: Settings) -> Iterable[Case]:
    """Signature, models, declared cases and TaskDef."""
    yield Case("contract", "signature", partial(_signature, task))
    yield Case("contract", "params", lambda: check_params(task, settings.provided(task)))
    yield Case("contract", "result", lambda: check_result(task, settings.provided(task)))
    for example in task.examples:
        yield Case("contract", f"example:{example.id}", partial(check_case, task, case_of_example(task, example)))
    for file in case_files(settings.cases_dir, task):

        def check_file(file=file) -> None:  # type: ignore[no-untyped-def]
            try:
                case = read_case_file(file)
            except InvalidCase as error:
                raise CaseFailed(Cause.MISTAKE, f"the case cannot be read: {error}") from None
            check_case(task, case)

        yield Case("contract", f"case:{file.stem}", check_file, location=Location(file, 1))
    yield Case("contract", "taskdef-accepted", partial(_accepted, task, settings))


def _signature(task: Task) -> None:
    """The import has checked what the signature says; a wrapper below `@task` may say so and take something else."""
    names = ("workspace", "params") if task.workspace is not None else ("params",)
    try:
        inspect.signature(task.function, follow_wrapped=False).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise CaseFailed(
            Cause.CONTRACT,
            f"a decorator below @task does not take what the runtime gives: {error}",
            facts=[("expected", f"a call with the keyword arguments {' and '.join(names)}")],
        ) from None


def _accepted(task: Task, settings: Settings) -> None:
    """Conductor takes the TaskDef, and it is the only one of that name."""
    from perago.embedded.clock import VirtualClock
    from perago.embedded.conductor import InMemoryConductor

    try:
        InMemoryConductor(VirtualClock()).register_task_definitions([build_task_definition(task)])
    except ServiceError as error:
        raise CaseFailed(Cause.CONTRACT, f"Conductor refuses the TaskDef: {error.detail}") from None
    others = [f"{other.module} ({other.file}:{other.line})" for other in settings.namesakes(task)]
    if others:
        raise CaseFailed(
            Cause.MISTAKE,
            f"{', '.join(others)} declares a task of the same name; Conductor keeps one TaskDef and one queue for both",
            facts=[("fix", "give one of them another name")],
        )
