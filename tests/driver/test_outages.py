"""Calls that fail, and a lakeFS that goes away and comes back: what that costs, and for how long it is waited for."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from perago import WorkspaceSpec, task
from perago.adapters.lakefs import LakeFSStore
from perago.attempt import events as on
from perago.attempt.events import FenceState
from perago.attempt.protocol import TRANSITIONS
from perago.attempt.state import Step
from perago.driver import AttemptRecord, Limits, Observer, SystemClock, run_attempt
from perago.driver.fencing import FenceProofs
from perago.embedded.faults import Moment
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import objects, references
from perago.ports import (
    AccessDenied,
    Clock,
    CorruptTransfer,
    Delivery,
    Forbidden,
    Refused,
    ServiceError,
    TaskStatus,
    Unavailable,
    Unclear,
    VirtualClock,
)
from perago.retry import retry, within
from perago.settings import LakeFSSettings, PublishFence
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of

from ..live.proxy import Cut, Proxy, proxied
from ..noting import Noted
from . import tasks
from .forking import FAILED, A, Fork
from .tasks import EDIT, TWO_FILES, Params, assert_ended, publications_since
from .world import BRANCH, REPOSITORY, TASK, World, expected_tree, runtime_of

PATIENCE = Limits().outage_patience
LAKEFS = [
    *(("list_branches", 1), ("history", 1), ("stat_objects", 1), ("list_objects", 1), ("download", 1)),
    *(("create_branch", 1), ("delete_objects", 1), ("upload", 1), ("commit", 1), ("diff", 1), ("stat_objects", 2)),
    *(("history", 2), ("merge", 1), ("get_commit", 1)),
]
"""Every call of a successful attempt to lakeFS, but for the one that only tidies up."""


@dataclass
class Outage:
    """The way to a lakeFS that goes away at the `nth` call of `operation`: as it arrives, or before its answer."""

    inner: object
    clock: Clock
    operation: str
    seconds: float
    nth: int = 1
    error: type[ServiceError] = Unavailable
    carried_out: bool = False
    began: float | None = None
    calls: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            if self.began is None and self.calls.count(self.operation) == self.nth:
                self.began = self.clock.now()
                if self.carried_out:
                    getattr(self.inner, name)(*arguments, **options)
            if self.began is not None and self.clock.now() < self.began + self.seconds:
                raise self.error("lakeFS", name, "it is away")
            return getattr(self.inner, name)(*arguments, **options)

        return call


class Listener(Observer):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ends: list[bool] = []
        self.published: list[tuple[str, str, str, str]] = []

    def waiting(self, text: str, is_over: bool) -> None:
        self.lines.append(text)
        self.ends.append(is_over)

    def publishing(self, repository: str, branch: str, expected_head: str, words: str) -> None:
        self.published.append((repository, branch, expected_head, words))


def attempt(
    world: World, store: object, *, timeout: float = 0, spent: float = 0, listener: Listener | None = None
) -> AttemptRecord:
    delivery = world.take()
    assert delivery is not None
    limited = replace(delivery, timeout_seconds=timeout, spent_seconds=spent)
    return run_attempt(TASK, limited, runtime_of(world.services, store=store, observer=listener or Listener()))


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("operation", "nth"), LAKEFS)
def test_ten_minutes_without_lakefs_cost_ten_minutes(
    services: InMemoryServices, operation: str, nth: int, carried_out: bool
) -> None:
    world, start = World(services), services.clock.now()
    error = Unclear if operation in ("create_branch", "commit", "merge") else Unavailable
    world.store = Outage(services.lakefs, services.clock, operation, 600, nth, error, carried_out)
    world.run(world.take())

    (tried,) = world.tried
    assert tried.completed, tried.words
    assert world.status == "COMPLETED"
    assert len(world.publications()) == 1
    world.assert_sound()
    assert 600 <= services.clock.now() - start < 630


@pytest.mark.parametrize(("operation", "nth"), [("upload", 2), ("merge", 1)], ids=["fence", "challenge"])
@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
def test_a_publish_fence_of_a_publication_survives_an_outage(
    services: InMemoryServices, operation: str, nth: int, carried_out: bool
) -> None:
    world = World(services, fence=None)
    services.proofs = FenceProofs(services.clock)
    world.store = Outage(services.lakefs, services.clock, operation, 200, nth, carried_out=carried_out)
    world.run(world.take())

    (tried,) = world.tried
    assert tried.completed, tried.words
    assert tried.record is not None
    assert tried.record.fence is FenceState.ENFORCED
    world.assert_sound()


LASTING: dict[str, tuple[str, type[ServiceError], dict[str, Any], float]] = {
    "a lakeFS that stays away": ("upload", Unavailable, {}, PATIENCE),
    "a short time limit": ("upload", Unavailable, {"timeout": 60}, 54),
    "a long time limit": ("upload", Unavailable, {"timeout": 1000}, 970),
    "a time limit that is mostly spent": ("upload", Unavailable, {"timeout": 1000, "spent": 600}, 370),
    "refused credentials": ("upload", AccessDenied, {}, 120),
    **{
        f"lakeFS refuses {operation}": (operation, Forbidden, {}, 0)
        for operation in ("history", "download", "create_branch", "upload", "commit", "merge")
    },
}


@pytest.mark.parametrize(("operation", "error", "limits", "patience"), LASTING.values(), ids=LASTING)
def test_what_lasts_is_a_retryable_failure_early_enough_to_report_it(
    services: InMemoryServices, operation: str, error: type[ServiceError], limits: dict[str, Any], patience: float
) -> None:
    """The policy of a time limit may end the workflow; a failure is retried."""
    world, start = World(services), services.clock.now()
    outage = Outage(services.lakefs, services.clock, operation, 2 * PATIENCE, error=error)
    record = attempt(world, outage, **limits)

    assert record.report is not None
    assert record.report.status is TaskStatus.FAILED
    assert record.report.reason == f"lakeFS: {operation}: it is away"
    assert min(patience, max(0, patience - 20)) <= services.clock.now() - start <= patience
    world.settle()
    assert world.status == "COMPLETED", "the retry finds it back"


@pytest.mark.parametrize("operation", ["upload", "commit", "merge"])
def test_credentials_that_are_refused_for_a_minute_cost_a_minute(services: InMemoryServices, operation: str) -> None:
    world = World(services)
    world.store = Outage(services.lakefs, services.clock, operation, 60, error=AccessDenied)
    world.run(world.take())

    assert world.tried[0].completed, world.tried[0].words
    assert len(world.publications()) == 1


def test_credentials_that_are_refused_after_a_long_outage_are_waited_for_as_well(services: InMemoryServices) -> None:
    for nth in range(1, 21):
        services.faults.before("create_branch", nth=nth, error=Unavailable)
    services.faults.before("create_branch", nth=21, error=AccessDenied)
    record = attempt(World(services), services.lakefs)
    assert record.report is not None
    assert record.report.status is TaskStatus.COMPLETED


def test_who_may_not_list_branches_acts_as_if_staging_branches_were_left(services: InMemoryServices) -> None:
    world = World(services, quiet="always")
    services.faults.before("list_branches", error=Forbidden)
    record = attempt(world, services.lakefs)

    assert [commit.metadata["perago.phase"] for commit in world.publications()] == ["fence"]
    assert any("could not look for staging branches of earlier deliveries" in note for note in record.notes)


def test_an_outage_on_arrival_is_not_a_reason_to_publish_without_changes(services: InMemoryServices) -> None:
    world = World(services, quiet="always")
    record = attempt(world, Outage(services.lakefs, services.clock, "list_branches", 600))

    assert record.published_commit == world.ref
    assert (world.publications(), record.notes) == ((), ())


def test_the_wait_and_its_end_are_reported_once(services: InMemoryServices) -> None:
    listener = Listener()
    attempt(World(services), Outage(services.lakefs, services.clock, "upload", 300), listener=listener)
    assert listener.lines == [
        "lakeFS does not answer (upload: it is away); trying again for up to 45 min",
        "lakeFS answers again, after 5 min",
    ]


def test_possible_publications_are_reported_before_and_after_every_merge(services: InMemoryServices) -> None:
    world, listener = World(services), Listener()
    services.faults.before("merge", error=Unavailable)
    record = attempt(world, services.lakefs, listener=listener)

    assert record.published_commit is not None
    assert {said[:3] for said in listener.published} == {("workspace", "main", world.ref)}
    before, after, again, done = (words for *_, words in listener.published)
    assert before == after == again
    assert "may still appear on branch main" in before
    assert (
        done == f"The merge took place as commit {record.published_commit[:12]} on branch main, but was not verified."
    )


@pytest.mark.parametrize("gets_on", [True, False])
def test_patience_is_for_a_transfer_without_progress_not_for_a_long_one(gets_on: bool) -> None:
    clock, tries, said = VirtualClock(), 0, list[str]()

    def transfer() -> str:
        nonlocal tries
        tries += 1
        clock.sleep(3600)
        if tries < 5:
            raise Unavailable("lakeFS", "upload", "the connection broke")
        return "done"

    def go() -> str:
        return retry(
            transfer,
            within(60),
            clock,
            progress=lambda: tries if gets_on else 0,
            on_wait=lambda text, _: said.append(text),
        )

    if gets_on:
        assert go() == "done"
        assert len(said) == 2
    else:
        with pytest.raises(Unavailable):
            go()
        assert tries == 2


# ------------------------------------------------------------------------------------ over HTTP

FILES = 100
STREAMS = 16
AWAY = 2.0


class Nothing(BaseModel):
    pass


@task(name="outages.rewrite", owner_email="data@example.com", workspace=WorkspaceSpec())
def rewrite(workspace: Path, params: Nothing) -> Nothing:
    for file in workspace.iterdir():
        file.write_text(f"changed {file.name}")
    return Nothing()


@pytest.mark.parametrize("method", ["GET", "POST"], ids=["download", "upload"])
def test_a_two_second_lakefs_outage_costs_neither_the_result_nor_transferred_bytes(
    services: InMemoryServices, method: str
) -> None:
    found = task_of(rewrite)
    ref = services.seed({f"{number:03}": f"file {number}" for number in range(FILES)})
    services.start(found, {}, ref=ref)
    app = Noted(lakefs_app(services.lakefs.server, access_key_id="key", secret_access_key="secret"))
    with serve(app) as url, proxied(url) as proxy:
        trap = proxy.trap(rf"{method} \S*/objects\?path=050 ", Cut.REQUEST, then_refuse=True)
        back = threading.Thread(target=come_back, args=(trap.wait, proxy))
        back.start()
        record = run_over(proxy.url, services, services.take(found))
        back.join()

    assert record.report is not None
    assert record.report.status is TaskStatus.COMPLETED, record.report.reason
    assert services.tree()["050"] == b"changed 050"
    sent = [request for request in app.requests if re.match(rf"{method} \S*/objects\?path=\d", request)]
    assert len(set(sent)) == FILES
    assert len(sent) <= FILES + STREAMS, "what had come stayed"


def come_back(is_away: Callable[[], object], proxy: Proxy) -> None:
    is_away()
    threading.Event().wait(AWAY)
    proxy.restore()


def run_over(url: str, services: InMemoryServices, delivery: Delivery) -> AttemptRecord:
    store = LakeFSStore(LakeFSSettings(url, "key", SecretStr("secret")), threads=STREAMS)
    try:
        return run_attempt(task_of(rewrite), delivery, runtime_of(services, store=store, clock=SystemClock()))
    finally:
        store.close()


# ----------------------------------------------------------------------------------------------------
# Calls that fail before or after they took effect, deliveries that are lost, branches that others move.


@pytest.mark.parametrize("error", [Forbidden, Refused, CorruptTransfer], ids=lambda error: error.__name__)
@pytest.mark.parametrize("operation", ["download", "create_branch", "upload", "delete_objects", "commit"])
def test_a_call_that_fails_for_good_is_a_retryable_failure_without_leftovers(
    services: InMemoryServices, operation: str, error: type[ServiceError]
) -> None:
    ref = services.seed(TWO_FILES)
    services.faults.before(operation, error=error)
    services.start(EDIT, Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.FAILED
    assert re.match(r"lakeFS: \w+: injected fault", str(outcome.reason)), "with the words of the server"
    assert services.lakefs.get_commit("workspace", "main").id == ref
    services.clock.advance(5)
    assert services.attempt(tasks.edit).status is TaskStatus.COMPLETED, "the retry succeeds"
    assert publications_since(services, ref) == 1


def test_a_staging_branch_that_is_at_another_commit_is_a_failure(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = services.lakefs.create_branch
    other = services.seed({"raw/other": "x"})

    def create_elsewhere(repository: str, branch: str, source: str) -> None:
        create(repository, branch, other)
        create(repository, branch, source)

    monkeypatch.setattr(services.lakefs, "create_branch", create_elsewhere)
    outcome = services.run(tasks.edit, Params(do="edit"), TWO_FILES)

    assert_ended(outcome, TaskStatus.FAILED, "already exists")


def test_a_staging_branch_that_cannot_be_removed_does_not_cost_the_result(services: InMemoryServices) -> None:
    services.faults.before("delete_branch", error=Unavailable)
    outcome = services.run(tasks.edit, Params(), TWO_FILES)

    assert outcome.status is TaskStatus.COMPLETED
    assert "was not removed" in outcome.notes[0]


def test_a_foreign_commit_between_the_last_read_and_the_merge_is_reported(services: InMemoryServices) -> None:
    """Where no publish fence guards the merge, only the verification afterwards can notice."""
    services.limits = Limits(publish_fence=PublishFence.OFF)
    ref = services.seed(TWO_FILES)
    services.faults.between("merge", lambda: services.seed({"raw/foreign": "theirs"}))
    services.start(EDIT, Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert_ended(outcome, TaskStatus.FAILED_WITH_TERMINAL_ERROR, "is not what this attempt built")
    assert services.tree()["raw/foreign"] == b"theirs"


def test_uncommitted_changes_on_the_target_are_retryable(services: InMemoryServices) -> None:
    ref = services.seed(TWO_FILES)
    objects.put_object(services.lakefs.server.repository("workspace"), "main", "staged", b"x")
    services.start(EDIT, Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert_ended(outcome, TaskStatus.FAILED, "uncommitted changes")


def reset(world: World) -> None:
    """Another client resets all staging branches."""
    for branch in world.staging_branches():
        references.reset_branch(world.services.lakefs.server.repository(REPOSITORY), branch)


def roll_back(world: World) -> None:
    """Another client moves all staging branches back to the head of the workspace branch."""
    for branch in world.staging_branches():
        references.hard_reset_branch(world.services.lakefs.server.repository(REPOSITORY), branch, BRANCH)


def fails_once(world: World, words: str = "have vanished twice from staging branch") -> None:
    """The first delivery fails as retryable, and the next one publishes everything."""
    world.run(world.take())
    assert words in world.tried[-1].words
    world.settle()
    assert world.status == "COMPLETED"
    world.assert_sound()
    assert world.services.tree() == expected_tree(world.tried[-1].delivery, world.start)


def test_changes_that_vanish_twice_fail_the_attempt_as_retryable(services: InMemoryServices) -> None:
    world = World(services)
    for nth in (1, 2):
        services.faults.between("commit", lambda: reset(world), nth=nth)
    fails_once(world)


def test_a_revert_that_vanishes_twice_fails_the_attempt_as_retryable(services: InMemoryServices) -> None:
    world = World(services)
    world.complete()
    for nth in (1, 2):
        services.faults.between("revert", lambda: roll_back(world), nth=nth, moment=Moment.AFTER)
    fails_once(world)


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
    assert_ended(outcome, FAILED, f"could not continue after {event.__name__} at step committed: KeyError")
    ending = "was not verified." if event is on.PublicationRead else "a retry will recognize it."
    assert str(outcome.reason).endswith(ending)

    services.clock.advance(1)
    (retry,) = fork.take(1)
    assert fork.run(retry).assert_completed().adopted_commit == fork.commits()[0].id
