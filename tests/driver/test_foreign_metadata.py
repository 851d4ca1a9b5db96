"""Commits with malformed or incomplete `perago.*` metadata, which anybody who may commit to the branch can make."""

from __future__ import annotations

from typing import Any

import pytest

from perago.attempt import events as on
from perago.attempt.protocol import TRANSITIONS
from perago.attempt.state import Step
from perago.embedded.lakefs import objects
from perago.ports import Unclear
from perago.testing import InMemoryServices
from perago.testing.tasks import task_of

from .forking import BOTH, FAILED, TERMINAL, A, B, Fork
from .tasks import Params, edit

MALFORMED = ("", "abc", "-1", "1.5", " 7 ", "\uff11", "5" * 5000, "[" * 5000, "a/b", "..", "x" * 5000, "\ud800")
KEYS = ("workflow_id", "task_id", "start_time", "iteration", "poll_count", "shared", "supersedes", "adopts", "result")


def commit_by_hand(services: InMemoryServices, metadata: dict[str, str], key: str = "theirs") -> str:
    """Commit a file to the branch with these metadata; returns the commit's id."""
    objects.put_object(services.lakefs.server.repository("workspace"), "main", key, b"theirs")
    return services.lakefs.commit("workspace", "main", "by hand", metadata).id


def of_a_publication(fork: Fork, **changed: str | None) -> dict[str, str]:
    """The metadata of the fork's newest publication; a value of None leaves a key out."""
    found: dict[str, Any] = {**fork.commits()[-1].metadata, **{f"perago.{key}": changed[key] for key in changed}}
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize("key", KEYS)
def test_malformed_metadata_of_another_workflow_do_not_stop_a_rebase(services: InMemoryServices, key: str) -> None:
    fork = Fork(services, A, B)
    a, b = fork.deliveries
    fork.run(a).assert_completed()
    for number, value in enumerate(MALFORMED):
        other = {"workflow_id": f"wf-{number}", "step_key": "other", "adopts": "", "supersedes": "", key: value}
        commit_by_hand(services, of_a_publication(fork, **other), f"theirs{number}")
    fork.run(b).assert_completed()
    assert {"out/b", *(f"theirs{number}" for number in range(len(MALFORMED)))} <= set(fork.tree())
    assert fork.tree()["raw/a.csv"] == "A"


def test_a_task_without_rebase_names_the_malformed_commit(services: InMemoryServices) -> None:
    fork = Fork(services, A)
    fork.run(fork.deliveries[0]).assert_completed()
    metadata = of_a_publication(fork, workflow_id="wf-2", start_time="5" * 5000)
    outcome_ref = services.seed({"raw/a.csv": "1"})
    by_hand = commit_by_hand(services, metadata)
    services.start(task_of(edit), Params(do="edit"), ref=outcome_ref)
    outcome = services.attempt(edit)
    assert outcome.status is TERMINAL
    assert by_hand[:12] in str(outcome.reason)


@pytest.mark.parametrize("task_id", [None, "", "a b", "x" * 5000])
@pytest.mark.parametrize("above", [0, 1], ids=["at the head", "below the head"])
def test_a_commit_of_this_workflow_that_names_no_attempt_is_a_commit_of_others(
    services: InMemoryServices, task_id: str | None, above: int
) -> None:
    fork = Fork(services, A, B)
    a, b = fork.deliveries
    fork.run(a).assert_completed()
    commit_by_hand(services, of_a_publication(fork, task_id=task_id))
    for _ in range(above):
        services.seed({"above": "x"})
    fork.run(b).assert_completed()
    assert fork.tree() == {**BOTH, "theirs": "theirs", **({"above": "x"} if above else {})}


@pytest.mark.parametrize("event", [on.Merged, on.MergeUnclear, on.PublicationRead])
def test_a_defect_in_the_protocol_fails_the_attempt_and_names_the_open_merge(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch, event: type
) -> None:
    """The transition raises, as a parser of a foreign value once did."""
    fork = Fork(services, A)
    if event is on.MergeUnclear:
        services.faults.after("merge", error=Unclear)

    def defect(*_: object) -> Any:
        raise KeyError("x")

    with monkeypatch.context() as patch:
        patch.setitem(TRANSITIONS, (Step.COMMITTED, event), defect)
        outcome = fork.run(fork.deliveries[0])
    assert outcome.status is FAILED
    assert f"could not continue after {event.__name__} at step committed: KeyError" in str(outcome.reason)
    ending = "was not verified." if event is on.PublicationRead else "a retry will recognise it."
    assert str(outcome.reason).endswith(ending)

    services.clock.advance(1)
    (retry,) = fork.take(1)
    assert fork.run(retry).assert_completed().record.adopted_commit == fork.commits()[0].id
