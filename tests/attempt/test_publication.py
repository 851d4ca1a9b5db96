"""Names and metadata of publications."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from perago.attempt.publication import (
    START_TIME,
    TASK_ID,
    WORKFLOW_ID,
    Origin,
    is_mine,
    is_of_my_step,
    metadata,
    origin,
    shared,
    staging_branch,
    staging_prefix,
    step_key,
)
from perago.attempt.state import Base, State
from perago.ports import Commit

from .builders import DELIVERY, PLAN, REF, WORKSPACE, publication_of

CONTRACT_KEYS = {
    "format, version, phase, step_key, workflow_id, task_name, reference_name, iteration, task_id, retry_count",
    "retried_task_id, poll_count, start_time, input_ref, branch, prefix, expected_head, staging_branch",
    "params_sha256, result, adopts, supersedes",
}


def test_the_metadata_are_those_of_the_contract() -> None:
    state = State(PLAN, workspace=WORKSPACE, base=Base(REF), result={"n": 1})
    expected = {f"perago.{key}" for line in CONTRACT_KEYS for key in line.split(", ")}
    assert set(metadata(state, phase="merge")) == expected | {"perago.shared", "perago.traceparent", "perago.worker"}


def test_a_publication_lists_its_shared_keys() -> None:
    def made(*keys: str) -> Commit:
        state = State(PLAN, workspace=WORKSPACE, base=Base(REF), shared=frozenset(keys))
        return replace(publication_of(DELIVERY), metadata=metadata(state, phase="merge"))

    strange = "out/ü\udc80 ,\n"
    assert shared([made(strange), made(), made("b", "a")]) == frozenset({strange, "a", "b"})
    assert made().metadata["perago.shared"] == ""
    assert shared([made("a"), made(*(f"out/{number:09}" for number in range(1000)))]) is None
    by_hand = replace(publication_of(DELIVERY), metadata={"perago.shared": "7"})
    assert shared([by_hand]) is None


def test_a_retry_has_the_same_step_key_and_another_loop_iteration_has_not() -> None:
    retry = replace(DELIVERY, task_id="task-2", retry_count=1, retried_task_id="task-1")
    assert step_key(retry) == step_key(DELIVERY)
    assert step_key(replace(DELIVERY, reference_name="build__2")) != step_key(DELIVERY)


def test_a_staging_branch_has_a_name_that_lakefs_takes() -> None:
    hostile = replace(DELIVERY, reference_name="a/b c.ü", workflow_id="../x")
    plan = replace(PLAN, delivery=hostile)
    assert re.fullmatch(r"perago-[0-9a-f]{16}-0123456789ab", staging_branch(plan, 0))
    names = [staging_branch(plan, rebuilt) for rebuilt in range(4)]
    assert all(re.fullmatch(r"perago-[0-9a-f]{16}-[0-9a-f]{12}", name) for name in names)
    assert len(set(names)) == 4, "what is on its way to an old branch must not arrive on a new one"
    assert {name[:24] for name in names} == {staging_prefix(step_key(hostile))}


def test_only_the_same_delivery_takes_a_commit_for_its_own() -> None:
    published = publication_of(DELIVERY)
    assert is_mine(published, DELIVERY)
    for other in (
        replace(DELIVERY, task_id="task-2"),
        replace(DELIVERY, poll_count=2),
        replace(DELIVERY, start_time=2000),
    ):
        assert not is_mine(published, other)
        assert is_of_my_step(published, other)


@pytest.mark.parametrize("key", [WORKFLOW_ID, TASK_ID, START_TIME])
@pytest.mark.parametrize("value", [None, "", "a b", "..", "a/b", "\uff11", "\ud800", "x" * 256, "5" * 5000])
def test_a_commit_with_incomplete_or_malformed_metadata_names_no_attempt(key: str, value: str | None) -> None:
    published = publication_of(DELIVERY)
    assert origin(published) == Origin("wf-1", "task-1", 1000)
    metadata = {**published.metadata, key: value}
    by_hand = {name: text for name, text in metadata.items() if text is not None}
    assert origin(replace(published, metadata=by_hand)) is None
