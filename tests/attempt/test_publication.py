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


@pytest.mark.parametrize("key", [WORKFLOW_ID, TASK_ID, START_TIME])
@pytest.mark.parametrize("value", [None, "", "a b", "..", "a/b", "\uff11", "\ud800", "x" * 256, "5" * 5000])
def test_a_commit_with_incomplete_or_malformed_metadata_names_no_attempt(key: str, value: str | None) -> None:
    published = publication_of(DELIVERY)
    assert origin(published) == Origin("wf-1", "task-1", 1000)
    metadata = {**published.metadata, key: value}
    by_hand = {name: text for name, text in metadata.items() if text is not None}
    assert origin(replace(published, metadata=by_hand)) is None


def test_a_staging_branch_has_a_name_that_lakefs_takes() -> None:
    hostile = replace(DELIVERY, reference_name="a/b c.ü", workflow_id="../x")
    plan = replace(PLAN, delivery=hostile)
    assert re.fullmatch(r"perago-[0-9a-f]{16}-0123456789ab", staging_branch(plan, 0))
    names = [staging_branch(plan, rebuilt) for rebuilt in range(4)]
    assert all(re.fullmatch(r"perago-[0-9a-f]{16}-[0-9a-f]{12}", name) for name in names)
    assert len(set(names)) == 4, "what is on its way to an old branch must not arrive on a new one"
    assert {name[:24] for name in names} == {staging_prefix(step_key(hostile))}
