"""Task definitions that are refused, and with which words."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario


def _refused(rest: Rest, **fields: Any) -> None:
    name = rest.name("task")
    rest.call("POST", "/metadata/taskdefs", json=[{"name": name, **fields}])
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
def negative_retries(rest: Rest) -> None:
    """`retryCount` is 0 or more."""
    _refused(rest, retryCount=-1)


@scenario
def no_response_timeout(rest: Rest) -> None:
    """`responseTimeoutSeconds` is 1 or more."""
    _refused(rest, responseTimeoutSeconds=0)


@scenario
def a_timeout_below_the_default_response_timeout(rest: Rest) -> None:
    """`timeoutSeconds` alone is refused below the default response timeout of an hour."""
    _refused(rest, timeoutSeconds=60)


@scenario
def a_response_timeout_above_the_timeout(rest: Rest) -> None:
    """A response timeout beyond the timeout is refused."""
    _refused(rest, timeoutSeconds=60, responseTimeoutSeconds=61)


@scenario
def a_timeout_above_the_total(rest: Rest) -> None:
    """A timeout beyond that of all attempts is refused."""
    _refused(rest, timeoutSeconds=100, responseTimeoutSeconds=10, totalTimeoutSeconds=50)


@scenario
def a_negative_poll_timeout(rest: Rest) -> None:
    """`pollTimeoutSeconds` is 0 or more."""
    _refused(rest, pollTimeoutSeconds=-1)


@scenario
def a_negative_cap(rest: Rest) -> None:
    """`maxRetryDelaySeconds` is 0 or more."""
    _refused(rest, maxRetryDelaySeconds=-1)


@scenario
def a_negative_jitter(rest: Rest) -> None:
    """`backoffJitterMs` is 0 or more."""
    _refused(rest, backoffJitterMs=-1)


@scenario
def a_negative_total(rest: Rest) -> None:
    """`totalTimeoutSeconds` is 0 or more."""
    _refused(rest, totalTimeoutSeconds=-1)


@scenario
def a_backoff_of_nothing(rest: Rest) -> None:
    """`backoffScaleFactor` is 1 or more."""
    _refused(rest, backoffScaleFactor=0)


@scenario
def one_mistake_refuses_the_whole_list(rest: Rest) -> None:
    """Nothing of a list with one bad definition is stored, and the error says which it is."""
    good = rest.name("good")
    rest.call("POST", "/metadata/taskdefs", json=[{"name": good}, {"name": rest.name("bad"), "retryCount": -1}])
    rest.call("GET", "/metadata/taskdefs/{name}", name=good)


@scenario
def an_unknown_policy(rest: Rest) -> None:
    """An unknown word for `timeoutPolicy` is a 500."""
    _refused(rest, timeoutPolicy="WHENEVER")


@scenario
def an_unknown_retry_logic(rest: Rest) -> None:
    """An unknown word for `retryLogic` is a 500."""
    _refused(rest, retryLogic="RANDOM")


@scenario
def a_text_for_a_number(rest: Rest) -> None:
    """A text that is no number is a 500."""
    _refused(rest, retryCount="many")


@scenario
def a_number_out_of_range(rest: Rest) -> None:
    """Numbers have 32 bits."""
    _refused(rest, retryCount=2**31)


@scenario
def a_list_for_a_map(rest: Rest) -> None:
    """An input template is a map."""
    _refused(rest, inputTemplate=[])
