"""Deliveries for tests."""

from __future__ import annotations

from typing import Any

from perago.ports import Delivery


def make_delivery(**fields: Any) -> Delivery:
    """Return the first delivery of an attempt, apart from the given fields."""
    usual: dict[str, Any] = {
        "task_id": "task-1",
        "poll_count": 1,
        "start_time": 1000,
        "task_name": "features.build",
        "workflow_id": "wf-1",
        "workflow_name": "nightly",
        "reference_name": "build",
        "iteration": 0,
        "retry_count": 0,
        "retried_task_id": None,
        "input": {},
        "external_input": False,
        "input_is_too_deep": False,
        "retried": False,
        "retry_output": None,
        "response_timeout_seconds": 600,
        "timeout_seconds": 0,
        "spent_seconds": 0,
        "waited_seconds": 0,
        "trace": None,
    }
    return Delivery(**usual | fields)
