"""The base of the declaration models: frozen, strict, and with errors in the author's words instead of pydantic's."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from perago.authoring.source import calling_line

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

LARGEST_INT = 2**31 - 1
"""Conductor keeps counts and seconds in 32-bit integers."""


class Declaration(BaseModel):
    """Something an author writes at import time.

    Raises:
        TaskDefinitionError: a field is unknown, missing or invalid; it points at the line that made the declaration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, *positional: object, **fields: Any) -> None:
        if positional:
            raise calling_line().error(f"{type(self).__name__} takes named arguments only", fix=_its_fields(type(self)))
        try:
            super().__init__(**fields)
        except ValidationError as error:
            problems = [_problem(type(self), details) for details in error.errors(include_url=False)]
            message = f"{type(self).__name__}: {'; '.join(problems)}"
            is_about_a_field = any(each["type"] in ("extra_forbidden", "missing") for each in error.errors())
            fix = _its_fields(type(self)) if is_about_a_field else None
            raise calling_line().error(message, fix=fix) from None


def at_least(
    minimum: int,
    reason: str,
    *,
    most: int = LARGEST_INT,
    most_reason: str = "Conductor keeps it in a 32-bit integer",
) -> AfterValidator:
    """Refuse numbers outside of bounds.

    Args:
        minimum: The smallest number that is accepted.
        reason: Why no smaller one is.
        most: The largest number that is accepted.
        most_reason: Why no larger one is.
    """

    def check(number: float | None) -> float | None:
        if number is not None and number < minimum:
            raise ValueError(f"must be at least {minimum}, not {number}: {reason}")
        if number is not None and number > most:
            raise ValueError(f"must be at most {most}, not {number}: {most_reason}")
        return number

    return AfterValidator(check)


def _its_fields(model: type[BaseModel]) -> str:
    return f"its fields are {', '.join(model.model_fields)}"


def _problem(model: type[BaseModel], details: ErrorDetails) -> str:
    """One line for one pydantic error: the field, and what it should be."""
    path = ".".join(str(part) for part in details["loc"] if isinstance(part, int) or str(part).isidentifier())
    if details["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path, model.model_fields, n=1, cutoff=0.6)
        return f"unknown field {path!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if details["type"] == "missing":
        return f"field {path!r} is missing"
    context = details.get("ctx", {})
    text = str(context["error"]) if details["type"] == "value_error" else _expectation(details)
    return f"{path}: {text}" if path else text


def _expectation(details: ErrorDetails) -> str:
    given = type(details["input"]).__name__
    expected = details.get("ctx", {})
    match details["type"]:
        case "int_type" | "int_from_float":
            return f"must be an int, not {given}"
        case "float_type":
            return f"must be a number, not {given}"
        case "finite_number":
            return "must be a finite number"
        case "bool_type":
            return f"must be True or False, not {given}"
        case "string_type":
            return f"must be a str, not {given}"
        case "literal_error":
            return f"must be {expected['expected']}, not {details['input']!r}"
        case "model_type" | "model_attributes_type":
            return f"must be {expected.get('class_name', 'a declaration')}(...), not {given}"
    return details["msg"].replace("Input should be", "must be")
