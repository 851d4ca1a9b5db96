"""What Conductor answers differently each time."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ..normal import Rules

BACKGROUND = ("JOIN", "SUB_WORKFLOW", "WAIT")
"""Types of tasks that the server itself polls in the background."""


def _lucky(row: Mapping[str, Any]) -> Collection[str]:
    return ("pollCount", "updateTime") if row.get("taskType") in BACKGROUND else ()


RULES = Rules(
    ids={"id": re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")},
    times=frozenset(
        (
            "createTime",
            "updateTime",
            "endTime",
            "startTime",
            "scheduledTime",
            "lastRetriedTime",
            "createdTime",
            "lastPollTime",
            "firstScheduledTime",
            "updatedTime",
            "firstStartTime",
        )
    ),
    hidden=frozenset(
        (
            "workflowDefinition",
            "workflowTask",
            "taskDefinition",
            "executionMetadata",
            "instance",
            "queueWaitTime",
            "executionTime",
        )
    ),
    replaced=(
        (re.compile(r"<style.*</style>"), ""),
        (re.compile(r"(after|elapsed) \d+ seconds"), r"\1 n seconds"),
        (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "<date>"),
    ),
    lucky=_lucky,
)
