"""Task definitions: what is stored, replaced and deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...http_answer import Answer
from ..rest import Rest
from ..scenario import Declared, Requests, each, rest, scenario, scenario_for_each, send, to
from .workflows import start_steps, task_type

EVERYTHING: dict[str, Any] = {
    "description": "What it does.",
    "ownerEmail": "data@example.com",
    "ownerApp": "app",
    "retryCount": 2,
    "retryLogic": "EXPONENTIAL_BACKOFF",
    "retryDelaySeconds": 5,
    "maxRetryDelaySeconds": 50,
    "backoffScaleFactor": 3,
    "backoffJitterMs": 100,
    "timeoutPolicy": "RETRY",
    "timeoutSeconds": 100,
    "responseTimeoutSeconds": 60,
    "pollTimeoutSeconds": 30,
    "totalTimeoutSeconds": 1000,
    "concurrentExecLimit": 4,
    "rateLimitPerFrequency": 5,
    "rateLimitFrequencyInSeconds": 6,
    "inputKeys": ["workspace", "params"],
    "outputKeys": ["workspace", "result"],
    "inputTemplate": {"a": {"b": None}},
    "isolationGroupId": "group",
    "executionNameSpace": "space",
    "enforceSchema": True,
}

SCHEMA: dict[str, Any] = {
    "name": "any.input",
    "version": 1,
    "type": "JSON",
    "data": {"type": "object", "required": ["params"], "properties": {"params": {"default": None}}},
}
UNNUMBERED: dict[str, Any] = {"name": "s", "type": "JSON", "data": {}}
NUMBERED: dict[str, Any] = {**UNNUMBERED, "version": 3}
AUTHORS = {"createdBy": "me", "updatedBy": "you"}
URL, ONE = "/metadata/taskdefs", "/metadata/taskdefs/{name}"

kind = Requests()
"""Requests of a scenario that prepares a `TaskType`."""


@dataclass(frozen=True)
class TaskType:
    """A task type by its name."""

    rest: Rest
    name: str

    def post(self, **fields: Any) -> None:
        """Register it with these fields."""
        self.rest.post(URL, [{"name": self.name, **fields}])

    def put(self, **fields: Any) -> None:
        """Update it to these fields."""
        self.rest.put(URL, {"name": self.name, **fields})

    def read(self, name: str | None = None) -> Answer:
        """Read its definition, or another one."""
        return self.rest.get(ONE, name=name or self.name)


def named(rest: Rest, label: str = "task") -> TaskType:
    """A task type that is not registered."""
    return TaskType(rest, rest.name(label))


def registered(rest: Rest, label: str = "task", **fields: Any) -> TaskType:
    """A registered task type."""
    return TaskType(rest, task_type(rest, label, **fields))


FIELDS: dict[str, dict[str, Any]] = {
    # What is left out is stored with the server's defaults.
    "a_registered_name_gets_defaults": {},
    "every_field_is_kept": EVERYTHING,
    # Schemas are stored in full, nulls included, and are not checked.
    "schemas_are_kept_as_sent": {"inputSchema": SCHEMA, "outputSchema": {"data": {"anything": [1, None]}}},
    "a_schema_without_a_version": {"inputSchema": UNNUMBERED, "outputSchema": UNNUMBERED},
    "a_schema_with_a_version": {"inputSchema": NUMBERED, "outputSchema": NUMBERED},
    # A field that the server does not know is dropped without a word.
    "unknown_fields_are_ignored": {"perago": 1, "retry_count": 9},
    # A null number becomes 0, other nulls are left out.
    "nulls_are_not_defaults": dict.fromkeys(("retryCount", "retryDelaySeconds", "inputKeys", "timeoutPolicy")),
    "many_retries_are_accepted": {"retryCount": 1000},
    # Four fields are not validated.
    "some_negative_numbers_are_accepted": dict.fromkeys(
        ("timeoutSeconds", "retryDelaySeconds", "concurrentExecLimit", "rateLimitPerFrequency"), -1
    ),
    "equal_timeouts_are_accepted": {"timeoutSeconds": 60, "responseTimeoutSeconds": 60},
    # Names are not checked.
    "a_name_with_blanks_and_braces": {"name": "with space: ünï {x}"},
    "a_name_of_null": {"name": None},
    "a_numeric_text": {"retryCount": "2"},
    "a_fraction_for_a_number": {"retryCount": 1.5},
    "true_for_a_number": {"retryCount": True},
    "a_number_for_a_text": {"description": 5},
    "a_text_for_a_list": {"inputKeys": "a"},
    "a_word_for_a_truth": {"enforceSchema": "maybe"},
    "a_policy_in_lower_case": {"timeoutPolicy": "retry"},
    "a_negative_response_timeout": {"responseTimeoutSeconds": -1},
    "a_response_timeout_of_null": {"responseTimeoutSeconds": None},
    "two_mistakes": {"retryCount": -1, "responseTimeoutSeconds": 0},
}


@scenario
def an_update_replaces_everything_but_the_create_time(rest: Rest) -> None:
    """PUT takes one object, keeps the time of creation and sets the time of the update."""
    kind = registered(rest, **EVERYTHING)
    before = rest.silent.get(ONE, name=kind.name).json
    rest.sleep(0.01)
    kind.put(retryCount=7)
    after = kind.read().json
    rest.note("the create time is kept", after["createTime"] == before["createTime"])
    rest.note("the update is later", after["updateTime"] > before["createTime"])


@scenario
def all_types_are_listed(rest: Rest) -> None:
    """The list of definitions has each of them whole."""
    name = task_type(rest, description="listed")
    found = rest.silent.get(URL).json
    rest.note("the listed definition", [one for one in found if one["name"] == name])


@scenario
def a_deleted_type_is_not_listed(rest: Rest) -> None:
    """The list of definitions follows a deletion."""
    name = task_type(rest)
    rest.silent.delete(ONE, name=name)
    found = rest.silent.get(URL).json
    rest.note("it is listed", any(one["name"] == name for one in found))


COERCED: dict[str, dict[str, Any]] = {
    "a_fraction_as_a_number_of_retries": {"retryCount": 1.9},
    "a_text_of_a_fraction_as_a_number_of_retries": {"retryCount": "1.9"},
    "an_empty_text_as_a_number_of_retries": {"retryCount": ""},
    "blanks_as_a_number_of_retries": {"retryCount": " 3 "},
    "a_number_as_a_truth": {"enforceSchema": 1},
    "a_large_number_as_a_truth": {"enforceSchema": 7},
    "a_zero_as_a_truth": {"enforceSchema": 0},
    "a_fraction_as_a_truth": {"enforceSchema": 1.5},
    "a_text_as_a_truth": {"enforceSchema": "true"},
    "a_text_in_capitals_as_a_truth": {"enforceSchema": "TRUE"},
    "another_text_as_a_truth": {"enforceSchema": "yes"},
    "an_empty_text_as_a_truth": {"enforceSchema": ""},
    "a_truth_as_a_text": {"description": True},
    "a_number_as_a_text": {"description": 1.5},
    "an_object_as_a_text": {"description": {}},
    "an_enum_by_its_number": {"retryLogic": 1},
    "an_enum_by_a_text_of_its_number": {"retryLogic": "1"},
    "an_enum_by_a_flag": {"retryLogic": True},
    "an_empty_text_as_an_enum": {"retryLogic": ""},
    "an_enum_in_small_letters": {"retryLogic": "fixed"},
    "a_blank_text_as_a_number": {"retryCount": " "},
    "a_text_of_a_whole_fraction": {"retryCount": "2.0"},
    "a_number_beyond_64_bits": {"timeoutSeconds": 10**30},
    "a_fraction_beyond_64_bits": {"timeoutSeconds": 1e300},
    "a_poll_timeout_beyond_32_bits": {"pollTimeoutSeconds": 2**40},
    "an_empty_text_as_a_number_that_may_be_null": {"pollTimeoutSeconds": ""},
    "a_scale_factor_of_null": {"backoffScaleFactor": None},
    "a_blank_text_as_a_truth": {"enforceSchema": " "},
    "a_list_of_null_and_a_number": {"inputKeys": [None, 1]},
    "a_schema_with_an_unknown_member": {"inputSchema": {"a": 1, "name": 2, "type": 0}},
    "an_empty_schema": {"outputSchema": {}},
    "a_schema_of_an_unknown_type": {"inputSchema": {"type": "xml"}},
    "a_time_that_is_ignored_and_no_number": {"createTime": "soon"},
}


@scenario_for_each(COERCED)
def coerced(rest: Rest, case: dict[str, Any]) -> None:
    """Values of another type are converted where that is possible."""
    name = rest.name("task")
    rest.post(URL, [{"name": name, **case}])
    answer = rest.silent.get(ONE, name=name)
    (member,) = case
    rest.note(member, answer.json.get(member) if answer.status == 200 else answer.status)


@scenario
def a_rate_limit_of_nothing(rest: Rest) -> None:
    """Zero, null and negative numbers in a rate limit, and what an attempt shows of it."""
    limits: list[dict[str, Any]] = [
        {"rateLimitPerFrequency": 5},
        {"rateLimitPerFrequency": 5, "rateLimitFrequencyInSeconds": 0},
        {"rateLimitPerFrequency": 5, "rateLimitFrequencyInSeconds": 30},
        {"rateLimitFrequencyInSeconds": 30},
        {"rateLimitFrequencyInSeconds": None, "rateLimitPerFrequency": None},
    ]
    for limit in limits:
        on = start_steps(rest, limit)
        shown = on.row("r0")
        names = ("rateLimitPerFrequency", "rateLimitFrequencyInSeconds")
        rest.note("definition", [shown["taskDefinition"].get(each) for each in names])
        rest.note("attempt", [shown.get(each) for each in names])


REFUSED: dict[str, dict[str, Any]] = {
    # `retryCount` is 0 or more.
    "negative_retries": {"retryCount": -1},
    # `responseTimeoutSeconds` is 1 or more.
    "no_response_timeout": {"responseTimeoutSeconds": 0},
    # `timeoutSeconds` alone is refused below the default response timeout of an hour.
    "a_timeout_below_the_default_response_timeout": {"timeoutSeconds": 60},
    # A response timeout beyond the timeout is refused.
    "a_response_timeout_above_the_timeout": {"timeoutSeconds": 60, "responseTimeoutSeconds": 61},
    # A timeout beyond that of all attempts is refused.
    "a_timeout_above_the_total": {"timeoutSeconds": 100, "responseTimeoutSeconds": 10, "totalTimeoutSeconds": 50},
    # `pollTimeoutSeconds` is 0 or more.
    "a_negative_poll_timeout": {"pollTimeoutSeconds": -1},
    # `maxRetryDelaySeconds` is 0 or more.
    "a_negative_cap": {"maxRetryDelaySeconds": -1},
    # `backoffJitterMs` is 0 or more.
    "a_negative_jitter": {"backoffJitterMs": -1},
    # `totalTimeoutSeconds` is 0 or more.
    "a_negative_total": {"totalTimeoutSeconds": -1},
    # `backoffScaleFactor` is 1 or more.
    "a_backoff_of_nothing": {"backoffScaleFactor": 0},
    # An unknown word for `timeoutPolicy` is a 500.
    "an_unknown_policy": {"timeoutPolicy": "WHENEVER"},
    # An unknown word for `retryLogic` is a 500.
    "an_unknown_retry_logic": {"retryLogic": "RANDOM"},
    # A text that is no number is a 500.
    "a_text_for_a_number": {"retryCount": "many"},
    # Numbers have 32 bits.
    "a_number_out_of_range": {"retryCount": 2**31},
    # An input template is a map.
    "a_list_for_a_map": {"inputTemplate": []},
}


SCENARIOS: Declared = {
    # What becomes of a definition with these fields.
    **each(FIELDS, lambda case: to(named)(kind.post(**case), kind.read(case.get("name")))),
    # A definition with these fields is refused, and not stored.
    **each(REFUSED, lambda case: to(named)(kind.post(**case), kind.read())),
    # A dotted name is no file extension.
    "a_definition_with_dots_is_found": to(registered, "features.build.json")(kind.read()),
    # One call registers all definitions of its list.
    "a_list_registers_several": send(
        rest.post(URL, [{"name": rest.unique("one"), "retryCount": 0}, {"name": rest.unique("two"), "retryCount": 0}]),
        rest.get(ONE, name=rest.unique("one")),
        rest.get(ONE, name=rest.unique("two")),
    ),
    # Nothing of a list with one bad definition is stored, and the error says which it is.
    "one_mistake_refuses_the_whole_list": send(
        rest.post(URL, [{"name": rest.unique("good")}, {"name": rest.name("bad"), "retryCount": -1}]),
        rest.get(ONE, name=rest.unique("good")),
    ),
    # Registering one object instead of a list is a 500, and stores nothing.
    "one_object_is_no_list": to(named)(kind.rest.post(URL, {"name": kind.name}), kind.read()),
    # A second registration keeps nothing of the first.
    "registering_again_replaces_everything": to(registered, **EVERYTHING)(kind.post(description="other"), kind.read()),
    # PUT creates nothing.
    "an_update_of_an_unknown_type_is_refused": to(named)(kind.put(), kind.read()),
    # PUT with a list is a 500.
    "an_update_takes_no_list": to(registered)(kind.rest.put(URL, [{"name": kind.name}])),
    # PUT refuses what POST refuses, and keeps what was stored.
    "an_update_is_validated": to(registered)(kind.put(retryCount=-1), kind.read()),
    # DELETE answers 200 without a body; afterwards the definition is a 404.
    "a_deleted_type_is_gone": to(registered)(kind.rest.delete(ONE, name=kind.name), kind.read()),
    # Names of authors that are sent are kept or replaced.
    "who_created_and_changed_a_definition": to(named)(
        kind.post(**AUTHORS), kind.read(), kind.put(**AUTHORS), kind.read(), kind.post(), kind.read()
    ),
    # Registering nothing is a 400.
    "an_empty_list_is_refused": send(rest.post(URL, [])),
    # DELETE of an unknown type is a server error, not a 404.
    "deleting_what_is_not_there_is_a_500": send(rest.delete(ONE, name=rest.name("task"))),
    # A definition needs a name.
    "a_missing_name": send(rest.post(URL, [{"retryCount": 1}])),
    # An empty name is none.
    "an_empty_name": send(rest.post(URL, [{"name": ""}])),
}
