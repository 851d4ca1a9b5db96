"""The effect of each change of a workflow on those who start it or read its output."""

from __future__ import annotations

from typing import Any

import pytest

from perago.workflows.registered import classify_workflows

SERVER = {"optional": False, "startDelay": 0, "retryCount": None, "permissive": False, "asyncComplete": False}


@pytest.mark.parametrize(
    "option", [{"optional": True}, {"retryCount": 0}, {"startDelay": 60}, {"permissive": True}, {"description": "A"}]
)
def test_an_option_that_was_removed_is_a_change(option: dict[str, Any]) -> None:
    step = {"name": "work", "taskReferenceName": "one", "type": "SIMPLE", "inputParameters": {}}
    here = {"name": "nightly", "version": 1, "tasks": [step]}
    before = {**here, "tasks": [{**SERVER, **step, **option}]}
    assert classify_workflows({**here, "tasks": [{**SERVER, **step}]}, here) == ()
    (change,) = classify_workflows(before, here)
    assert change.pointer == f"/tasks/0/{next(iter(option))}"


def test_a_description_that_was_removed_is_a_change() -> None:
    here = {"name": "nightly", "version": 1, "tasks": []}
    assert classify_workflows({**here, "description": None}, here) == ()
    assert [change.word for change in classify_workflows({**here, "description": "A"}, here)] == ["cosmetic"]


def test_a_case_that_was_removed_is_a_change() -> None:
    here = {"version": 1, "tasks": [{"type": "SWITCH", "decisionCases": {"a": []}}]}
    before = {"tasks": [{"type": "SWITCH", "decisionCases": {"a": [], "optional": []}}]}
    assert [change.pointer for change in classify_workflows(before, here)] == ["/tasks/0/decisionCases/optional"]
