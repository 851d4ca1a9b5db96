"""Kind `contract`: checks of a task without calling its function. Sample values and the author's values show whether
its models survive JSON."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from perago.authoring import Example, Task
from perago.ports import ServiceError
from perago.taskdef import build_task_definition
from perago.taskdef.payload import InvalidResult, dump_result, problem_lines
from perago.taskdef.schema import input_schema, output_schema, schema_problem
from perago.testing.samples import (
    Sample,
    Samples,
    ValidatorRaised,
    computed_problem,
    lookalike_problem,
    random_private,
    round_trip_problem,
    sample_model,
    shared_state,
    validated,
)
from perago.testing.tasks import known_params, no_params
from perago.trees.cases import CaseFailed, Cause, RunCase, case_files, case_of_example, check_case, recorded_cases
from pytest_perago.kinds import Case
from pytest_perago.kinds.run import location_of, read_case
from pytest_perago.session import Session


def cases_contract(task: Task, session: Session) -> Iterable[Case]:
    """Yield the cases about signature, models, declared cases and TaskDef."""
    yield Case("signature", partial(_signature, task))
    yield Case("params", lambda session: check_params(task, session.provided(task)))
    yield Case("result", lambda session: check_result(task, session.provided(task)))
    for example in task.examples:
        yield Case(f"example:{example.id}", partial(_declared, task, case_of_example(task, example)))
    directory = session.settings.cases_dir
    for source in (*case_files(directory, task), *recorded_cases(directory, task.name)):
        name = source.name if source.is_dir() else source.stem
        yield Case(f"case:{name}", partial(_declared, task, source), location_of(source))
    yield Case("taskdef-accepted", partial(_accepted, task))


def _declared(task: Task, source: RunCase | Path, _: Session) -> None:
    """Check that the params and the tree of a case are still valid."""
    check_case(task, read_case(source)[0])


def _signature(task: Task, _: Session) -> None:
    """Check a real call, because a wrapper below `@task` can declare one signature and accept another."""
    names = ("workspace", "params") if task.workspace is not None else ("params",)
    try:
        inspect.signature(task.function, follow_wrapped=False).bind(**dict.fromkeys(names))
    except TypeError as error:
        summary = f"a decorator below @task does not accept the arguments of the runtime: {error}"
        expected = ("expected", f"a call with the keyword arguments {' and '.join(names)}")
        raise CaseFailed(Cause.CONTRACT, summary, expected) from None


def _accepted(task: Task, session: Session) -> None:
    """Check that Conductor accepts the TaskDef, and that no other task has its name."""
    from perago.embedded.conductor import InMemoryConductor
    from perago.ports import VirtualClock

    try:
        InMemoryConductor(VirtualClock()).register_task_definitions([build_task_definition(task)])
    except ServiceError as error:
        raise CaseFailed(Cause.CONTRACT, f"Conductor refuses the TaskDef: {error.detail}") from None
    others = [f"{other.module} ({other.file}:{other.line})" for other in session.namesakes(task)]
    if others:
        why = "Conductor keeps one TaskDef and one queue for both"
        summary = f"{', '.join(others)} declares a task of the same name; {why}"
        raise CaseFailed(Cause.MISTAKE, summary, ("fix", "give one of them another name"))


# ---------------------------------------------------------------------- whether models survive JSON

_MAX_RESULT_BYTES = 1024 * 1024

Provided = Iterable[Mapping[str, Any] | Example]


def check_params(task: Task, provided: Provided) -> None:
    """Check that sample params survive JSON, obey the input schema and share no state between calls.

    Raises:
        CaseFailed: they do not.
        pytest.skip.Exception: no params could be made, and none were provided.
    """
    model = task.params_model
    schema = input_schema(task)["properties"]["params"]
    samples = _samples(task, model, list(known_params(task, provided)))
    if not samples.samples:
        pytest.skip(no_params(task.name, samples.problem))
    _check_unions(model, by_alias=True)
    for sample in samples.samples:
        _check_sample("params", model, sample, by_alias=True)
        problem = schema_problem(schema, sample.document)
        if problem is not None:
            raise _broken(
                "params", sample, "the model accepts values that the input schema of the TaskDef rejects", problem
            )


def check_result(task: Task, provided: Provided) -> None:
    """Check that sample results survive JSON, and that their JSON obeys the output schema.

    Raises:
        CaseFailed: they do not.
        pytest.skip.Exception: no result could be made, and no example declares one.
    """
    model = task.result_model
    schema = output_schema(task)["properties"]["result"]
    examples = [*task.examples, *(item for item in provided if isinstance(item, Example))]
    samples = _samples(task, model, [example.result for example in examples if example.result is not None])
    if not samples.samples:
        pytest.skip(
            f"no result of {task.name} can be made: {samples.problem}; declare an Example with a result, or give one "
            "by the hook pytest_perago_params"
        )
    _check_unions(model, by_alias=False)
    for sample in samples.samples:
        _check_sample("result", model, sample, by_alias=False)
        try:
            document = dump_result(task, sample.value, _MAX_RESULT_BYTES)
        except InvalidResult as error:
            raise _broken("result", sample, "the runtime would refuse this result", str(error)) from None
        problem = schema_problem(schema, document)
        if problem is not None:
            raise _broken("result", sample, "the written JSON breaks the output schema of the TaskDef", problem)


def _samples(task: Task, model: type[BaseModel], documents: list[Any]) -> Samples:
    """Yield generated samples and the author's values."""
    own: list[Sample] = []
    try:
        generated = sample_model(model)
        for document in documents:
            own.append(Sample(document, validated(model, document)))  # noqa: PERF401 - the error is about the next one
    except ValidatorRaised as error:
        cause = error.__cause__
        summary, details = f"{error}: raise ValueError for invalid values", [f"{type(cause).__name__}: {cause}"]
        raise CaseFailed(Cause.MISTAKE, summary, details=details) from None
    except ValidationError as error:
        summary = f"a declared or provided value is not valid for {model.__name__} of {task.name}"
        actual = ("actual", "\n".join(problem_lines(error, documents[len(own)], "")))
        raise CaseFailed(Cause.CONTRACT, summary, actual) from None
    return Samples((*own, *generated.samples), generated.problem)


def _check_sample(what: str, model: type[BaseModel], sample: Sample, *, by_alias: bool) -> None:
    for summary, problem in _sample_problems(model, sample, by_alias=by_alias):
        if problem is not None:
            raise _broken(what, sample, f"{model.__name__} {summary}", problem)


def _sample_problems(model: type[BaseModel], sample: Sample, *, by_alias: bool) -> Iterator[tuple[str, str | None]]:
    yield "does not survive JSON", round_trip_problem(model, sample.value, by_alias=by_alias)
    yield "cannot read its own JSON, because it forbids extra fields", computed_problem(model, sample.value)
    reread = validated(model, sample.document)
    if private := random_private(sample.value, reread):
        advice = f"{private} has a different default each time, and is not written to JSON; make it a field"
        yield "does not survive JSON", advice
    if pointer := shared_state(sample.value, reread):
        advice = (
            f"{pointer} is the same object in every instance; make a new one in default_factory or in the validator"
        )
        yield "keeps mutable state between calls", advice


def _check_unions(model: type[BaseModel], *, by_alias: bool) -> None:
    problem = lookalike_problem(model, by_alias=by_alias)
    if problem is not None:
        raise CaseFailed(
            Cause.CONTRACT,
            f"{model.__name__} has a union whose members look alike as JSON",
            ("actual", problem),
            ("fix", "give each member a Literal field of its own value, a discriminator"),
        )


def _broken(what: str, sample: Sample, summary: str, actual: str) -> CaseFailed:
    document = json.dumps(sample.document, ensure_ascii=False)
    return CaseFailed(Cause.CONTRACT, summary, (what, document), ("actual", actual))
