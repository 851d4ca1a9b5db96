"""What is wrong with a document, in lines for people: a JSON pointer (RFC 6901) and a reason, never a value.

(docs/design/contract.md 4.) The lines come from pydantic's validation errors, and from the keys that a model passes
over without an error."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    PlainValidator,
    RootModel,
    ValidationError,
    WrapValidator,
)
from pydantic.fields import FieldInfo
from pydantic_core.core_schema import ErrorType

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def join_pointer(parent: str, key: str | int) -> str:
    """The pointer to item `key` of what `parent` points to; `""` is the whole document."""
    return f"{parent}/{str(key).replace('~', '~0').replace('/', '~1')}"


MOST_PROBLEMS = 50
"""So many lines are listed; the rest is counted."""

TOO_DEEP = "is nested too deeply: about 200 levels can be read. Flatten it, or put it into a file"
"""Said of an input or a result. pydantic's reader has that limit, and Python's has one of about 1,000 levels."""

_WORDED_BY_PYDANTIC = frozenset(typing.get_args(ErrorType)) - {"value_error", "assertion_error"}
_QUOTING_THE_INPUT = frozenset({"uuid_parsing", "timezone_offset", "bytes_invalid_encoding"})
_LONGEST_REASON = 200


def problem_lines(error: ValidationError, document: Any, root: str) -> tuple[str, ...]:
    """One line per error, without repetition.

    `document` is the JSON value that was validated and `root` the pointer to it. Text that the author's validators
    wrote is kept, with everything blanked out that stands in the rejected value.
    """
    lines: dict[str, None] = {}
    for details in error.errors(include_url=False):
        pointer = root
        for key in location_of(details, document):
            pointer = join_pointer(pointer, key)
        lines[f"{pointer or '/'}: {_reason(details)}"] = None
    listed = tuple(lines)
    if len(listed) > MOST_PROBLEMS:
        return (*listed[:MOST_PROBLEMS], f"and {len(listed) - MOST_PROBLEMS} more problems")
    return listed


def location_of(details: ErrorDetails, document: Any) -> tuple[str | int, ...]:
    """The keys that lead to an error in the document.

    pydantic's location also names branches of unions and validators; what is not in the document is left out,
    except the key that is missing.
    """
    keys: list[str | int] = []
    here = document
    last = len(details["loc"]) - 1
    for index, key in enumerate(details["loc"]):
        is_item = isinstance(here, list) and isinstance(key, int) and key < len(here)
        if is_item or (isinstance(here, Mapping) and key in here):
            keys.append(key)
            here = here[key]
        elif index == last and details["type"] == "missing":
            keys.append(key)
    return tuple(keys)


def _reason(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "union_tag_invalid":
        return f"{context['discriminator']} is none of {context['expected_tags']}"
    if kind == "json_invalid" and "recursion limit" in str(context.get("error")):
        return TOO_DEEP
    if kind in _QUOTING_THE_INPUT:
        return f"is not valid ({kind})"
    if kind in _WORDED_BY_PYDANTIC:
        return details["msg"]
    text = str(context["error"]) if "error" in context else details["msg"]
    text = " ".join(text.split())
    for leaf in sorted({str(leaf) for leaf in _leaves(details["input"])} - {""}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(leaf)}(?!\w)", "…", text)
    return text[:_LONGEST_REASON] or f"is not valid ({kind})"


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _leaves(vars(value))
    elif value is not None and not isinstance(value, bool):
        yield value


_RESHAPING = ("before", "wrap", "plain")


def ignored_keys(document: Any, value: Any, pointer: str = "") -> Iterator[str]:
    """JSON pointers to the keys that played no part when `value` was made of `document`, with what was meant perhaps.

    A validator of the author that sees the document before its model does may read any key. There nothing is reported.
    """
    if isinstance(value, RootModel):
        if not _is_reshaped(type(value), "root"):
            yield from ignored_keys(document, value.root, pointer)
    elif isinstance(value, BaseModel) and isinstance(document, Mapping):
        yield from _of_model(document, value, pointer)
    elif isinstance(value, list | tuple) and isinstance(document, list | tuple) and len(value) == len(document):
        for index, (part, item) in enumerate(zip(document, value, strict=True)):
            yield from ignored_keys(part, item, join_pointer(pointer, index))
    elif isinstance(value, Mapping) and isinstance(document, Mapping):
        for key, item in value.items():
            if str(key) in document:
                yield from ignored_keys(document[str(key)], item, join_pointer(pointer, str(key)))


def _of_model(document: Mapping[str, Any], value: BaseModel, pointer: str) -> Iterator[str]:
    model = type(value)
    validators = model.__pydantic_decorators__.model_validators.values()
    if any(validator.info.mode in _RESHAPING for validator in validators):
        return
    names = {key: name for name, field in model.model_fields.items() for key in _keys(model, name, field)}
    if model.model_config.get("extra") != "allow":
        for key in document:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                yield f"{join_pointer(pointer, key)}{f' (did you mean {near[0]}?)' if near else ''}"
    for key, name in names.items():
        if key in document and not _is_reshaped(model, name):
            yield from ignored_keys(document[key], getattr(value, name), join_pointer(pointer, key))


def _keys(model: type[BaseModel], name: str, field: FieldInfo) -> Iterator[str]:
    """The keys under which a field is read."""
    config = model.model_config
    alias = field.validation_alias
    if alias is None or config.get("populate_by_name") or config.get("validate_by_name"):
        yield name
    for choice in alias.choices if isinstance(alias, AliasChoices) else (alias,):
        key = choice.path[0] if isinstance(choice, AliasPath) else choice
        if isinstance(key, str):
            yield key


def _is_reshaped(model: type[BaseModel], name: str) -> bool:
    if any(
        isinstance(item, BeforeValidator | WrapValidator | PlainValidator) for item in model.model_fields[name].metadata
    ):
        return True
    validators = model.__pydantic_decorators__.field_validators.values()
    return any(item.info.mode in _RESHAPING and {name, "*"} & set(item.info.fields) for item in validators)
