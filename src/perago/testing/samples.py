"""Sample values of a model, from its JSON Schema: a plain one, and one for each edge of each field.

Deterministic and without hypothesis. A schema says less than its model: constraints, validators and key types that it
leaves out show when the model refuses a value, which is then replaced or dropped.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, PydanticUserError, ValidationError

from perago.taskdef.problems import problem_lines
from perago.taskdef.schema import RecursiveModel, inline
from perago.testing.edges import edges

_MOST_SAMPLES = 200
_MOST_REPAIRS = 300


class ValidatorRaised(Exception):
    """A validator of the author raised something else than pydantic understands as "not valid"."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A JSON document and what the model makes of it."""

    document: Any
    value: BaseModel


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples; none if `problem` says why."""

    found: tuple[Sample, ...]
    problem: str | None = None


def validated(model: type[BaseModel], document: Any) -> BaseModel:
    """What the model makes of a document that comes as JSON.

    Raises:
        ValidationError: it refuses the document.
        ValidatorRaised: a validator failed in another way.
    """
    try:
        return model.model_validate_json(json.dumps(document))
    except ValidationError:
        raise
    except Exception as error:
        raise ValidatorRaised(
            f"a validator of {model.__name__} raised {type(error).__name__}, not ValueError"
        ) from error


def sample_model(model: type[BaseModel]) -> Samples:
    """Samples of a model, the plain one first.

    Raises:
        ValidatorRaised: a validator failed for a value of the right type.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of defaults without a JSON form: they are applied all the same
            schema = inline(model.model_json_schema(mode="validation"))
    except RecursiveModel as error:
        return Samples((), f"{error.name} contains itself")
    except (PydanticUserError, ValueError) as error:
        return Samples((), f"it has no JSON Schema ({error})")
    fields = {name: edges(field) for name, field in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    missing = [name for name in required if not fields.get(name)]
    if missing:
        return Samples((), f"nothing fits the constraints of {', '.join(sorted(missing))}")
    plain = _accepted(model, {name: values for name, values in fields.items() if values}, required)
    if isinstance(plain, str):
        return Samples((), plain)
    return Samples(tuple(itertools.islice(_around(model, plain, fields, required), _MOST_SAMPLES)))


def _accepted(model: type[BaseModel], fields: Mapping[str, tuple[Any, ...]], required: set[str]) -> Sample | str:
    """The first combination that the model accepts, found by changing the fields that it complains about."""
    choice = dict.fromkeys(fields, 0)
    problem = ""
    for _ in range(_MOST_REPAIRS):
        document = {name: fields[name][index] for name, index in choice.items()}
        try:
            return Sample(document, validated(model, document))
        except ValidationError as error:
            problem = "; ".join(problem_lines(error, document, ""))
            blamed = {str(details["loc"][0]) for details in error.errors(include_url=False) if details["loc"]}
        blamed = (blamed & choice.keys()) or (choice.keys() - required)
        if not _advance(choice, fields, blamed, required):
            break
    return f"the model refuses what its schema allows ({problem})"


def _advance(
    choice: dict[str, int], fields: Mapping[str, tuple[Any, ...]], blamed: set[str], required: set[str]
) -> bool:
    """Try the next value of the blamed fields; leave an optional one out when there is none. False: no way on."""
    for name in blamed:
        if choice[name] + 1 < len(fields[name]):
            choice[name] += 1
        elif name not in required:
            del choice[name]
        else:
            return False
    return bool(blamed)


def _around(
    model: type[BaseModel], plain: Sample, fields: Mapping[str, tuple[Any, ...]], required: set[str]
) -> Iterator[Sample]:
    """The plain sample, the one without optional fields, and all that differ from the plain one in one field."""
    yield plain
    documents = [{name: value for name, value in plain.document.items() if name in required}]
    documents += [plain.document | {name: value} for name, values in fields.items() for value in values]
    for document in documents:
        if document != plain.document:
            try:
                yield Sample(document, validated(model, document))
            except ValidationError:
                continue
