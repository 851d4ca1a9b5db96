"""Task definitions that are refused, and with which words."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_for_each

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


@scenario_for_each(REFUSED)
def refused_fields(rest: Rest, case: dict[str, Any]) -> None:
    """A definition with these fields is refused, and not stored."""
    name = rest.name("task")
    rest.call("POST", "/metadata/taskdefs", json=[{"name": name, **case}])
    rest.call("GET", "/metadata/taskdefs/{name}", name=name)


@scenario
def a_missing_name(rest: Rest) -> None:
    """A definition needs a name."""
    rest.call("POST", "/metadata/taskdefs", json=[{"retryCount": 1}])


@scenario
def an_empty_name(rest: Rest) -> None:
    """An empty name is none."""
    rest.call("POST", "/metadata/taskdefs", json=[{"name": ""}])


@scenario
def one_mistake_refuses_the_whole_list(rest: Rest) -> None:
    """Nothing of a list with one bad definition is stored, and the error says which it is."""
    good = rest.name("good")
    rest.call("POST", "/metadata/taskdefs", json=[{"name": good}, {"name": rest.name("bad"), "retryCount": -1}])
    rest.call("GET", "/metadata/taskdefs/{name}", name=good)
