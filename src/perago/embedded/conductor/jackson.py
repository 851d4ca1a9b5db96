"""The words in which the server's JSON reader (Jackson) refuses a value of the wrong type.

Clients see them behind `JSON parse error: ` in a 500 (`reference/conductor.md` 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TEXT = "java.lang.String"
OBJECT_MAP = "java.util.LinkedHashMap<java.lang.String,java.lang.Object>"
TEXT_MAP = "java.util.LinkedHashMap<java.lang.String,java.lang.String>"
TEXT_LIST = "java.util.ArrayList<java.lang.String>"
TASK_DEF = "com.netflix.conductor.common.metadata.tasks.TaskDef"
TASK_RESULT = "com.netflix.conductor.common.metadata.tasks.TaskResult"
TASK_LOG = "com.netflix.conductor.common.metadata.tasks.TaskExecLog"
SCHEMA_DEF = "com.netflix.conductor.common.metadata.SchemaDef"
WORKFLOW_DEF = "com.netflix.conductor.common.metadata.workflow.WorkflowDef"
WORKFLOW_TASK = "com.netflix.conductor.common.metadata.workflow.WorkflowTask"

_INT_RANGE = range(-(2**31), 2**31)
_LONG_RANGE = range(-(2**63), 2**63)


def list_of(java: str) -> str:
    """The type of a list of `java`."""
    return f"java.util.ArrayList<{java}>"


def wrong_token(java: str, value: Any) -> str:
    """`value` is of a JSON type that cannot become a `java`."""
    return f"Cannot deserialize value of type `{java}` from {_token(value)}"


def not_a_bean(java: str, value: Any) -> str:
    """`value` should have been the JSON object of a class `java`."""
    if isinstance(value, Mapping | list | tuple):
        return wrong_token(java, value)
    if value == "":
        return _empty_text(f"`{java}` value")
    return _no_constructor(java, value)


def not_a_map(java: str, value: Any) -> str:
    """`value` should have been an object with values of one type."""
    if not isinstance(value, str):
        return wrong_token(java, value)
    raw = java.partition("<")[0]
    return _no_constructor(raw, value) if value else _empty_text(f"element of `{raw}`")


def not_a_list(java: str, value: Any) -> str:
    """`value` should have been a list; one of texts is read by another part of the reader than one of objects."""
    return not_a_map(java, value) if java == TEXT_LIST else wrong_token(java, value)


def not_a_number(java: str, text: str, *, bits: int) -> str:
    """`text` should have been a number, and is none or too large for its type."""
    if not text.strip().lstrip("-").isdigit():
        return f'Cannot deserialize value of type `{java}` from String "{text}": not a valid `{java}` value'
    name, numbers = _numbers(bits)
    low, high = numbers.start, numbers.stop - 1
    reason = f"Overflow: numeric value ({text.strip()}) out of range of {name} ({low} -{high})"
    return f'Cannot deserialize value of type `{java}` from String "{text}": {reason}'


def out_of_range(number: int, *, bits: int) -> str:
    """`number` is too large for its type."""
    name, numbers = _numbers(bits)
    return f"Numeric value ({number}) out of range of {name} ({numbers.start} - {numbers.stop - 1})"


def not_a_boolean(text: str) -> str:
    """`text` should have been a boolean."""
    recognized = 'only "true"/"True"/"TRUE" or "false"/"False"/"FALSE" recognized'
    return f'Cannot deserialize value of type `boolean` from String "{text}": {recognized}'


def not_a_choice(java: str, value: Any, choices: Sequence[str]) -> str:
    """`value` is none of the constants of the enum `java`."""
    if value == "":
        return _empty_text(f"`{java}` value")
    if isinstance(value, str):
        accepted = f"not one of the values accepted for Enum class: [{', '.join(choices)}]"
        return f'Cannot deserialize value of type `{java}` from String "{value}": {accepted}'
    if isinstance(value, int) and not isinstance(value, bool):
        index = f"index value outside legal index range [0..{len(choices) - 1}]"
        return f"Cannot deserialize value of type `{java}` from number {value}: {index}"
    return wrong_token(java, value)


def _token(value: Any) -> str:
    if isinstance(value, Mapping):
        name, token = "Object", "START_OBJECT"
    elif isinstance(value, bool):
        name, token = "Boolean", f"VALUE_{str(value).upper()}"
    elif isinstance(value, int):
        name, token = "Integer", "VALUE_NUMBER_INT"
    elif isinstance(value, float):
        name, token = "Floating-point", "VALUE_NUMBER_FLOAT"
    elif isinstance(value, str):
        name, token = "String", "VALUE_STRING"
    else:
        name, token = "Array", "START_ARRAY"
    return f"{name} value (token `JsonToken.{token}`)"


def _no_constructor(java: str, value: Any) -> str:
    if isinstance(value, bool):
        kind, shown = "boolean/Boolean", f"boolean value ({str(value).lower()})"
    elif isinstance(value, int):
        kind = "int/Int" if value in _INT_RANGE else "long/Long" if value in _LONG_RANGE else "BigInteger"
        shown = f"Number value ({value})"
    elif isinstance(value, float):
        kind, shown = "double/Double", f"Number value ({value})"
    else:
        kind, shown = "String", f"String value ('{value}')"
    return (
        f"Cannot construct instance of `{java}` (although at least one Creator exists): no {kind}-argument "
        f"constructor/factory method to deserialize from {shown}"
    )


def _empty_text(wanted: str) -> str:
    return f'Cannot coerce empty String ("") to {wanted} (but could if coercion was enabled using `CoercionConfig`)'


def _numbers(bits: int) -> tuple[str, range]:
    return ("int", _INT_RANGE) if bits == 32 else ("long", _LONG_RANGE)
