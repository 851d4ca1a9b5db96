"""Retries, timeouts and limits of a task, in the terms of Conductor's TaskDef.

Values that Conductor would refuse in a TaskDef are refused here, at import (`docs/dev/servers/conductor.md`,
"TaskDef"). So are the meaningless negative numbers that it accepts.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import model_validator

from perago.authoring.declaration import Declaration, at_least

DEFAULT_RESPONSE_SECONDS = 600

_Refused = at_least(0, "Conductor refuses negative values")
_Meaningless = at_least(0, "Conductor would store a negative value, but it means nothing")
_RetryCount = at_least(0, "Conductor refuses it", most=10, most_reason="more hides a failure instead of curing it")
_Limit = at_least(1, "leave it out for no limit")
_Amount = at_least(0, "an amount cannot be negative", most=2**63 - 1, most_reason="no repository holds more")
_Duration = at_least(0, "a duration cannot be negative")


class RetryPolicy(Declaration):
    """The number and the times of retries after a retryable failure."""

    count: Annotated[int, _RetryCount] = 3
    """Retries after the first attempt, 0 to 10."""
    logic: Literal["FIXED", "LINEAR_BACKOFF", "EXPONENTIAL_BACKOFF"] = "FIXED"
    delay_seconds: Annotated[int, _Meaningless] = 60
    max_delay_seconds: Annotated[int, _Refused] = 0
    """Upper bound of a growing delay. 0: no bound."""
    jitter_ms: Annotated[int, _Refused] = 0
    """Maximum of the random milliseconds that are added to a delay."""
    backoff_scale_factor: Annotated[int | None, at_least(1, "Conductor refuses less")] = None
    """Multiplies the delay of LINEAR_BACKOFF; Conductor's own default is 1."""


class TimeoutPolicy(Declaration):
    """The timeouts after which Conductor gives up on an attempt. All durations are in seconds; 0 means no limit."""

    policy: Literal["RETRY", "TIME_OUT_WF", "ALERT_ONLY"] = "TIME_OUT_WF"
    """The reaction after `seconds` or `poll_seconds` have passed."""
    seconds: Annotated[int, _Meaningless] = 0
    """Limit of one attempt from its first poll; heartbeats do not extend it."""
    response_seconds: Annotated[int | None, at_least(1, "Conductor refuses 0 and less")] = None
    """The seconds that a worker may be silent; None: 600, or `seconds` if that is smaller and not 0."""
    poll_seconds: Annotated[int, _Refused] = 0
    """The seconds that a scheduled attempt may wait for a worker."""
    total_seconds: Annotated[int, _Refused] = 0
    """Limit of all attempts together."""

    @model_validator(mode="after")
    def _limits_contain_each_other(self) -> Self:
        if self.response_seconds is not None and 0 < self.seconds < self.response_seconds:
            raise ValueError(
                f"response_seconds ({self.response_seconds}) is more than seconds ({self.seconds}): "
                "Conductor refuses a response timeout longer than the timeout"
            )
        if 0 < self.total_seconds < self.seconds:
            raise ValueError(
                f"seconds ({self.seconds}) is more than total_seconds ({self.total_seconds}): "
                "Conductor refuses a timeout longer than the total timeout"
            )
        return self


class ExecutionLimits(Declaration):
    """Limits of the attempts of this task type that Conductor hands out. None: no limit."""

    concurrent_exec_limit: Annotated[int | None, _Limit] = None
    rate_limit_per_frequency: Annotated[int | None, _Limit] = None
    """Attempts per `rate_limit_frequency_in_seconds`; Conductor ignores it on SQL stores."""
    rate_limit_frequency_in_seconds: Annotated[int | None, _Limit] = None

    @model_validator(mode="after")
    def _rate_has_a_period(self) -> Self:
        if (self.rate_limit_per_frequency is None) != (self.rate_limit_frequency_in_seconds is None):
            raise ValueError(
                "rate_limit_per_frequency and rate_limit_frequency_in_seconds belong together: set both or neither"
            )
        return self


class PublishBudget(Declaration):
    """The time that a publication takes, so that the response timeout never ends during a publication. Durations in
    seconds.

    The response timeout becomes the sum of the last four durations, rounded up to a full second.
    """

    observed_merge_p99_seconds: Annotated[float, _Duration]
    safety_margin_seconds: Annotated[float, _Duration]
    lakefs_merge_timeout_seconds: Annotated[float, at_least(1, "a merge takes some time")]
    """Must cover the observed merge time and the margin."""
    conductor_completion_timeout_seconds: Annotated[float, _Duration]
    worker_shutdown_grace_seconds: Annotated[float, _Duration]
    heartbeat_interval_seconds: Annotated[float, _Duration]
    max_changed_objects: Annotated[int | None, _Amount] = None
    """Checked before anything is staged, like `max_changed_bytes`."""
    max_changed_bytes: Annotated[int | None, _Amount] = None

    @model_validator(mode="after")
    def _merge_timeout_covers_what_was_observed(self) -> Self:
        needed = self.observed_merge_p99_seconds + self.safety_margin_seconds
        if self.lakefs_merge_timeout_seconds < needed:
            raise ValueError(
                f"lakefs_merge_timeout_seconds ({self.lakefs_merge_timeout_seconds:g}) does not cover "
                f"observed_merge_p99_seconds + safety_margin_seconds ({needed:g})"
            )
        return self

    @property
    def response_timeout_seconds(self) -> int:
        """Merge timeout + completion timeout + shutdown grace + heartbeat interval."""
        return math.ceil(
            self.lakefs_merge_timeout_seconds
            + self.conductor_completion_timeout_seconds
            + self.worker_shutdown_grace_seconds
            + self.heartbeat_interval_seconds
        )


class TaskControls(Declaration):
    """Everything about a task that Conductor decides: retries, timeouts, limits."""

    retry: RetryPolicy = RetryPolicy()
    timeout: TimeoutPolicy = TimeoutPolicy()
    limits: ExecutionLimits = ExecutionLimits()
    publish_budget: PublishBudget | None = None
    """For workspace tasks only; replaces `timeout.response_seconds`."""

    @model_validator(mode="after")
    def _budget_decides_the_response_timeout(self) -> Self:
        if self.publish_budget is None:
            return self
        if self.timeout.response_seconds is not None:
            raise ValueError(
                "publish_budget computes the response timeout, so timeout.response_seconds must not be set as well"
            )
        needed = self.publish_budget.response_timeout_seconds
        if 0 < self.timeout.seconds < needed:
            raise ValueError(
                f"publish_budget needs a response timeout of {needed} s, more than timeout.seconds "
                f"({self.timeout.seconds}): Conductor refuses a response timeout longer than the timeout"
            )
        return self

    @property
    def response_timeout_seconds(self) -> int:
        """The `responseTimeoutSeconds` of the TaskDef."""
        if self.publish_budget is not None:
            return self.publish_budget.response_timeout_seconds
        if self.timeout.response_seconds is not None:
            return self.timeout.response_seconds
        if self.timeout.seconds:
            return min(self.timeout.seconds, DEFAULT_RESPONSE_SECONDS)
        return DEFAULT_RESPONSE_SECONDS
