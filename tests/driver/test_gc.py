"""What killed attempts leave, and what is removed of it: never anything that a living delivery needs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from perago.driver.gc import BranchAges, Fate, Leftover, Policy, clear_directories
from perago.embedded.faults import Moment
from perago.embedded.lakefs import objects
from perago.ports import AccessDenied, NotFound, Refused, Unavailable
from perago.testing.services import InMemoryServices
from perago.workspace.directory import AttemptDirectory
from perago.workspace.sweep import MARKER

from .world import DAY, HOUR, REPOSITORY, Caretaker, World

KILLS_PROCESSES = True


@pytest.fixture
def world(services: InMemoryServices) -> World:
    return World(services)


@pytest.fixture
def caretaker(world: World, tmp_path: Path) -> Caretaker:
    return Caretaker(world, tmp_path / "state" / "gc.json")


def die(world: World, operation: str, moment: Moment) -> None:
    """Let the first delivery run until its process is killed around `operation`."""
    world.services.faults.between(operation, world.kill, moment=moment)
    world.run(world.take())
    assert world.tried[-1].record is None


# --------------------------------------------------------------------- with a commit

COMMITTED = {
    "committed": ("commit", Moment.AFTER),
    "about to merge": ("merge", Moment.BEFORE),
    "merged": ("merge", Moment.AFTER),
}


@pytest.mark.parametrize(("operation", "moment"), COMMITTED.values(), ids=COMMITTED.keys())
def test_a_committed_branch_stays_until_its_delivery_has_ended(
    world: World, caretaker: Caretaker, operation: str, moment: Moment
) -> None:
    die(world, operation, moment)
    world.services.clock.advance(2 * DAY)
    assert caretaker.fate() is Fate.KEPT
    world.services.conductor.sweep()  # the response time-out
    (leftover,) = caretaker.clear()
    assert leftover.fate is Fate.REMOVED
    assert f"of workflow {world.workflow}, which Conductor is not waiting for" in leftover.reason
    assert caretaker.branches == ["main"]


def test_a_young_commit_stays_even_if_its_delivery_has_ended(world: World, caretaker: Caretaker) -> None:
    die(world, "commit", Moment.AFTER)
    world.terminate()
    world.services.clock.advance(DAY - 60)
    assert caretaker.fate() is Fate.KEPT
    world.services.clock.advance(120)
    assert caretaker.fate() is Fate.REMOVED


@pytest.mark.parametrize("error", [Unavailable, AccessDenied, NotFound], ids=lambda error: error.__name__)
def test_no_answer_of_conductor_is_not_a_no(world: World, caretaker: Caretaker, error: type[Unavailable]) -> None:
    """A proxy's 404 is none of Conductor's, and raises, too."""
    die(world, "commit", Moment.AFTER)
    world.terminate()
    world.services.clock.advance(2 * DAY)
    asked = world.services.faults.calls("is_current")
    world.services.faults.before("is_current", nth=asked + 1, error=error)
    assert caretaker.fate() is Fate.UNDECIDED
    assert caretaker.clearing is not None
    assert isinstance(caretaker.clearing.silence, error)
    assert len(caretaker.branches) == 2
    assert caretaker.fate() is Fate.REMOVED, "once there is an answer"


def test_a_silent_conductor_is_asked_once(world: World, caretaker: Caretaker) -> None:
    die(world, "commit", Moment.AFTER)
    world.services.clock.advance(601)
    world.services.conductor.sweep()
    world.services.clock.advance(2)
    world.services.faults.between(
        "commit", world.kill, nth=world.services.faults.calls("commit") + 1, moment=Moment.AFTER
    )
    world.run(world.take())
    world.services.clock.advance(2 * DAY)
    asked = world.services.faults.calls("is_current")
    world.services.faults.before("is_current", nth=asked + 1, error=Unavailable)
    assert [leftover.fate for leftover in caretaker.clear()] == [Fate.UNDECIDED] * 2
    assert world.services.faults.calls("is_current") == asked + 1


# ------------------------------------------------------------------- without a commit


def test_a_branch_with_staged_objects_is_judged_by_the_newest_of_them(world: World, caretaker: Caretaker) -> None:
    die(world, "upload", Moment.AFTER)
    world.terminate()
    world.services.clock.advance(DAY - 60)
    (branch,) = (name for name in caretaker.branches if name != "main")
    objects.put_object(world.services.lakefs.server.repository(REPOSITORY), branch, "another", b"1")
    world.services.clock.advance(DAY - 60)
    assert caretaker.fate() is Fate.KEPT, "the clock began anew"
    world.services.clock.advance(120)
    (leftover,) = caretaker.clear()
    assert (leftover.fate, "something was staged there 1 d ago" in leftover.reason) == (Fate.REMOVED, True)


NOTHING_STAGED = {
    "created": ("create_branch", Moment.AFTER),
    "only deletions are staged": ("upload", Moment.BEFORE),
}


@pytest.mark.parametrize(("operation", "moment"), NOTHING_STAGED.values(), ids=NOTHING_STAGED.keys())
def test_a_branch_without_a_date_is_removed_only_if_an_earlier_run_saw_the_same_state(
    world: World, caretaker: Caretaker, operation: str, moment: Moment
) -> None:
    die(world, operation, moment)
    world.services.clock.advance(99 * DAY)
    assert caretaker.fate(dry_run=True) is Fate.KEPT
    world.services.clock.advance(2 * DAY)
    assert caretaker.fate() is Fate.KEPT, "a dry run is no look"
    world.services.clock.advance(DAY - 60)
    assert caretaker.fate() is Fate.KEPT
    world.services.clock.advance(120)
    assert caretaker.fate(dry_run=True) is Fate.REMOVED
    assert len(caretaker.branches) == 2
    assert caretaker.fate() is Fate.REMOVED
    assert caretaker.branches == ["main"]


def test_a_branch_that_holds_a_revert_names_no_delivery(world: World, caretaker: Caretaker) -> None:
    world.run(world.take())
    world.services.faults.between(
        "revert", world.kill, nth=world.services.faults.calls("revert") + 1, moment=Moment.AFTER
    )
    world.services.clock.advance(1)
    world.services.conductor.rerun_workflow(world.workflow, world.tried[-1].delivery.task_id)
    world.run(world.take())
    world.services.clock.advance(99 * DAY)
    (leftover,) = caretaker.clear()
    assert (leftover.fate, leftover.reason.startswith("names no delivery")) == (Fate.KEPT, True)
    world.services.clock.advance(2 * DAY)
    assert caretaker.fate() is Fate.REMOVED


def test_a_branch_that_begins_at_a_foreign_staging_commit_is_not_mistaken_for_it(
    world: World, caretaker: Caretaker
) -> None:
    """A publication at which a staging branch begins names another delivery, which is over."""
    world.run(world.take())
    world.services.lakefs.create_branch(REPOSITORY, f"perago-{'0' * 16}-{'1' * 12}", "main")
    world.services.clock.advance(2 * DAY)
    assert caretaker.fate() is Fate.KEPT


def test_a_branch_that_moved_between_two_checks_is_read_again(world: World, caretaker: Caretaker) -> None:
    branch = "perago-fence-0123456789ab"
    world.services.lakefs.create_branch(REPOSITORY, branch, "main")
    assert caretaker.fate() is Fate.KEPT
    world.services.clock.advance(2 * DAY)
    objects.put_object(world.services.lakefs.server.repository(REPOSITORY), branch, "a", b"1")
    world.services.lakefs.commit(REPOSITORY, branch, "by hand", {})
    assert caretaker.fate() is Fate.KEPT
    world.services.clock.advance(2 * DAY)
    assert caretaker.fate() is Fate.REMOVED


@pytest.mark.parametrize(("operation", "moment"), [("upload", Moment.AFTER), ("merge", Moment.BEFORE)])
def test_however_low_the_limit_is_a_branch_has_an_hour(
    world: World, caretaker: Caretaker, operation: str, moment: Moment
) -> None:
    """A delivery without a commit may be alive, and the merge of one that is over may still arrive."""
    die(world, operation, moment)
    world.terminate()
    world.services.clock.advance(HOUR - 60)
    assert caretaker.fate(older_than=0) is Fate.KEPT
    world.services.clock.advance(120)
    assert caretaker.fate(older_than=0) is Fate.REMOVED


# --------------------------------------------------------------------- whatever else


def test_other_branches_are_left_alone(world: World, caretaker: Caretaker) -> None:
    others = ["perago-mine", "perago-fence-0", f"perago-{'0' * 16}-{'g' * 12}", f"perago-{'0' * 16}-{'1' * 12}-x"]
    for name in others:
        world.services.lakefs.create_branch(REPOSITORY, name, "main")
    for _ in range(3):
        assert caretaker.clear() == []
        world.services.clock.advance(9 * DAY)
    assert sorted(caretaker.branches) == sorted(["main", *others])


def test_what_cannot_be_removed_is_reported_and_the_rest_removed(world: World, caretaker: Caretaker) -> None:
    for name in ("perago-fence-000000000000", "perago-fence-000000000001"):
        world.services.lakefs.create_branch(REPOSITORY, name, "main")
    caretaker.clear()
    world.services.clock.advance(2 * DAY)
    nth = world.services.faults.calls("delete_branch") + 1
    world.services.faults.before("delete_branch", nth=nth, error=Refused)
    assert [leftover.fate for leftover in caretaker.clear()] == [Fate.FAILED, Fate.REMOVED]


@pytest.mark.parametrize("operation", ["list_branches", "get_commit", "newest_staged", "delete_branch"])
def test_a_silent_lakefs_ends_it(world: World, caretaker: Caretaker, operation: str) -> None:
    world.services.lakefs.create_branch(REPOSITORY, "perago-fence-000000000000", "main")
    caretaker.clear()
    world.services.clock.advance(2 * DAY)
    nth = world.services.faults.calls(operation) + 1
    world.services.faults.before(operation, nth=nth, error=Unavailable)
    with pytest.raises(Unavailable):
        caretaker.clear()


# ------------------------------------------------------------------------- first seen


def test_recorded_ages_are_private_and_separate_for_each_server(
    world: World, caretaker: Caretaker, tmp_path: Path
) -> None:
    world.services.lakefs.create_branch(REPOSITORY, "perago-fence-000000000000", "main")
    caretaker.clear()
    (file,) = (tmp_path / "state").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    world.services.clock.advance(2 * DAY)
    assert caretaker.fate(server="elsewhere") is Fate.KEPT, "another server's branch of that name"
    assert caretaker.fate() is Fate.REMOVED
    assert json.loads(file.read_text())["here"][REPOSITORY] != {}
    caretaker.clear()
    assert json.loads(file.read_text())["here"][REPOSITORY] == {}, "what is gone is forgotten"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"here": 1}', '{"here": {"workspace": {"perago-fence-000000000000": ["x"]}}}']
)
def test_a_malformed_file_only_costs_time(world: World, caretaker: Caretaker, tmp_path: Path, content: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "gc.json").write_text(content)
    world.services.lakefs.create_branch(REPOSITORY, "perago-fence-000000000000", "main")
    assert caretaker.fate() is Fate.KEPT
    world.services.clock.advance(2 * DAY)
    assert caretaker.fate() is Fate.REMOVED


def test_a_time_that_lies_ahead_does_not_count() -> None:
    """The system's clock was set back since."""
    ages = BranchAges(Path("nowhere"), "here")
    assert ages.since("repo", "branch", "head", 1000.0) == 1000.0
    assert ages.since("repo", "branch", "head", 500.0) == 500.0
    assert ages.since("repo", "branch", "head", 900.0) == 500.0


# ----------------------------------------------------------------------- directories


def test_dead_directories_go_when_they_are_old_enough_and_held_ones_are_not_mentioned(
    world: World, tmp_path: Path
) -> None:
    delivery, root = world.take(), tmp_path / "root"
    assert delivery is not None
    made = AttemptDirectory.create(root, delivery)
    (made.workspace / "file").write_bytes(b"x" * 5000)
    began = (made.path / MARKER).stat().st_mtime
    size = 5000 + (made.path / MARKER).stat().st_size

    def clear(age: float, *, dry_run: bool = False) -> list[Leftover]:
        return list(clear_directories(root, Policy(DAY, began + age, dry_run)))

    assert clear(9 * DAY) == []
    made.close()
    assert [(leftover.fate, leftover.size) for leftover in clear(DAY - 60)] == [(Fate.KEPT, size)]
    assert [leftover.fate for leftover in clear(DAY + 60, dry_run=True)] == [Fate.REMOVED]
    assert made.path.exists()
    (leftover,) = clear(DAY + 60)
    assert (leftover.fate, leftover.name, leftover.repository) == (Fate.REMOVED, str(made.path), None)
    assert leftover.reason == "no process holds it; its attempt began 1 d ago"
    assert list(root.iterdir()) == []


def test_a_directory_that_cannot_be_removed_is_reported(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = world.take()
    assert delivery is not None
    made = AttemptDirectory.create(tmp_path, delivery)
    (made.workspace / "stubborn").write_text("1")
    made.close()
    remove: Callable[..., None] = os.unlink

    def refuse(path: str, **options: int) -> None:
        if path == "stubborn":
            raise PermissionError(1, "Operation not permitted", path)
        remove(path, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    (leftover,) = clear_directories(tmp_path, Policy(0, 2**40))
    assert (leftover.fate, "Operation not permitted" in leftover.reason) == (Fate.FAILED, True)
    assert made.path.exists()


AGES = {0: "0 s ago", 59: "59 s ago", 60: "1 min ago", 7199: "1 h ago", 3 * DAY: "3 d ago", -5: "0 s ago"}


@pytest.mark.parametrize(("passed", "text"), AGES.items(), ids=AGES.values())
def test_an_age_is_shown_in_one_unit(passed: float, text: str) -> None:
    assert Policy(0, 1000.0).ago(1000.0 - passed) == text
