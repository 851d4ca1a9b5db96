"""What an attempt published is found in the commits, whoever else has published there."""

from __future__ import annotations

from pathlib import Path

import pytest

from perago.embedded.lakefs import objects
from perago.failure import Failure
from perago.history.attempts import Choice, differences_to, look_up, module_of, published_on, search_task_ids
from perago.history.replay import Kind, State, Verdict, by_file_and_column
from perago.testing import BRANCH, TaskRunner
from perago.trees.differences import AttemptResult, differences

from ..definitions import flow, simple
from .models import TREE as TEXTS
from .models import EmbeddedRecords, past, same_for_all, scale

TREE = {path: text.encode() for path, text in TEXTS.items()}

PREFIX = "audio/"


def test_a_publication_that_was_adopted_is_the_one_with_the_files(run: TaskRunner) -> None:
    lost = run(scale, tree=TREE, report=False)
    outcome = run.again().assert_completed()

    attempt = look_up(run._services.lakefs, past(run, outcome), PREFIX)
    assert outcome.commit != lost.commit == attempt.published.commit
    assert set(attempt.published.files) == {"out/a.csv"}
    assert attempt.published.removed == {"old.txt"}


def test_a_publication_that_a_rerun_replaced_is_compared_with_the_input(run: TaskRunner) -> None:
    run(scale, tree=TREE).assert_completed()
    outcome = run.rerun()

    attempt = look_up(run._services.lakefs, past(run, outcome), PREFIX)
    assert set(attempt.published.files) == {"out/a.csv"}
    assert attempt.published.removed == {"old.txt"}


def test_an_attempt_that_changed_nothing_has_published_nothing(run: TaskRunner) -> None:
    tree = {"raw/a.csv": "x\n1\n", "out/a.csv": "x,scaled\n1,2\n"}
    outcome = run(scale, tree=tree).assert_completed()

    attempt = look_up(run._services.lakefs, past(run, outcome), PREFIX)
    assert (attempt.published.files, attempt.published.removed) == ({}, frozenset())


def test_differences_are_reported_by_row_and_column(run: TaskRunner) -> None:
    outcome = run(scale, tree=TREE)
    known = look_up(run._services.lakefs, past(run, outcome), PREFIX)
    same = AttemptResult("completed", "", {"rows": 2}, {"out/a.csv": b"x,scaled\n1,2\n2,4\n"}, frozenset({"old.txt"}))
    other = AttemptResult("completed", "", {"rows": 3}, {"out/a.csv": b"x,scaled\n1,2\n2,5\n"}, frozenset())

    assert not differences_to(known, same, run._services.lakefs, TREE)
    assert differences_to(known, other, run._services.lakefs, TREE).summary == (
        "result /rows: 2 -> 3",
        "old.txt: was removed before, is kept now",
        "out/a.csv: 1 of 2 rows differs, in column scaled",
    )
    failed = differences_to(known, AttemptResult("failed", "boom"), run._services.lakefs, TREE)
    assert failed.summary == ("completed before, failed now: boom",)
    moved = differences(AttemptResult("terminal", "moved"), AttemptResult("failed", "boom"), {})
    assert moved.ending == "terminal before (moved), failed now: boom"


def test_the_last_attempts_are_found_by_search_and_by_publications(run: TaskRunner) -> None:
    first = run(scale, {"scale": 2}, tree=TREE)
    later = []
    for number in (3, 4):
        run.clock.advance(40)
        later.append(run(scale, {"scale": number}))
    run(scale, {"scale": "no number"})
    launcher = flow(simple("replay.scale", head_of={"repository": run.repository, "branch": BRANCH}), name="launcher")
    assert run.workflow(launcher, functions=[scale]).outcomes[0].commit == later[-1].commit
    records = EmbeddedRecords(run._services.conductor)
    metadata = run._services.lakefs.get_commit(run.repository, BRANCH).metadata
    for number, task_id in enumerate(("", "a/b", "x" * 5000)):  # commits by hand name no attempt
        objects.put_object(run._services.lakefs.server.repository(run.repository), BRANCH, f"by-hand/{number}", b"x")
        run._services.lakefs.commit(run.repository, BRANCH, "by hand", {**metadata, "perago.task_id": task_id})
    ids = [outcome.delivery.task_id for outcome in (*reversed(later), first)]

    def task_ids(choice: Choice) -> list[str]:
        by_search = search_task_ids(records, choice)
        assert published_on(run._services.lakefs, records, run.repository, BRANCH, choice) == by_search
        return by_search

    assert task_ids(Choice("replay.scale")) == ids
    assert task_ids(Choice("replay.scale", last=1)) == ids[:1]
    assert task_ids(Choice("replay.scale", since=run.clock.now() - 50)) == ids[:2]
    assert task_ids(Choice("replay.scale", workflow="test.replay.scale")) == ids
    assert task_ids(Choice("replay.scale", workflow="other")) == []
    assert task_ids(Choice("other")) == []


def test_a_file_that_only_one_side_wrote_is_compared_with_the_input(run: TaskRunner) -> None:
    tree = {"raw/a.csv": "x\n1\n", "out/a.csv": "x,scaled\n1,3\n"}
    known = look_up(run._services.lakefs, past(run, run(scale, {"scale": 2}, tree=tree)), PREFIX)
    begun = {path: text.encode() for path, text in tree.items()}

    untouched = differences_to(known, AttemptResult("completed", "", {"rows": 1}), run._services.lakefs, begun)
    assert untouched.summary == ("out/a.csv: 1 of 1 row differs, in column scaled",)
    assert untouched.files[0].lines == ("row 1, scaled: '2' → '3'",)
    differing = differences_to(
        known, AttemptResult("completed", "", {"rows": 1}, {}, frozenset({"out/a.csv"})), run._services.lakefs, begun
    )
    assert differing.summary == ("out/a.csv: no longer exists",)


def test_keys_that_a_branch_of_a_fork_found_as_wanted_are_its_own(run: TaskRunner) -> None:
    first = run.deliver(same_for_all, tree={"raw/a.csv": "x\n1\n"})
    ref = first.input["workspace"]["ref"]
    run(same_for_all, ref=ref).assert_completed()
    outcome = run(same_for_all, ref=ref).assert_completed()

    attempt = look_up(run._services.lakefs, past(run, outcome), "")
    assert set(attempt.published.files) == {"same.txt"}


def test_of_several_commits_the_one_was_read_that_continues_the_others(run: TaskRunner) -> None:
    first = run(same_for_all, tree={"raw/a.csv": "x\n1\n"}).assert_completed()
    begin, second = first.input_ref, first.commit
    outcome = run(scale, ref=[begin, second])

    assert outcome.input_ref == second
    assert look_up(run._services.lakefs, past(run, outcome), PREFIX).input_ref == second


def test_a_module_is_found_by_its_source_and_not_imported(tmp_path: Path) -> None:
    for path, text in {
        "app/tasks.py": "import perago\nraise SystemExit\n@perago.task(name='a.b', owner_email='x')\ndef f(): ...\n",
        "app/other.py": "NAME = 'a.b'\n",
        "app/broken.py": "a.b (\n",
        "app/__init__.py": "",
        "solo/__init__.py": "@task(name='solo')\ndef f(): ...\n",
        ".venv/tasks.py": "@task(name='a.b')\ndef f(): ...\n",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)

    assert module_of("a.b", tmp_path) == "app.tasks"
    assert module_of("solo", tmp_path) == "solo"
    with pytest.raises(Failure, match="no module below"):
        module_of("none", tmp_path)


def test_a_state_is_good_for_one_task_and_one_code(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    verdict = Verdict("t1", "w", 1, Kind.DIFFERENT, 1.0, 5.0, ("a.csv: x",), {"a.csv": ("x",)})
    state = State(file, "task", "code")
    state.keep(verdict)
    state.keep(Verdict("t2", "w", 1, Kind.UNREADABLE))

    again = State(file, "task", "code")
    assert again.known("t1") == Verdict("t1", "w", 1, Kind.DIFFERENT, 1.0, 5.0, ("a.csv: x",), {"a.csv": ["x"]})
    assert again.known("t2") is None
    assert State(file, "task", "new code").is_outdated
    assert State(file, "task", "new code").known("t1") is None
    file.write_text('{"version": 2, "perago.version": "0.9.0"}')
    with pytest.raises(Failure, match=r"format 2, written by perago 0\.9\.0"):
        State(file, "task", "code")
    file.write_text("[]")
    with pytest.raises(ValueError, match="is not a file of a backtest"):
        State(file, "task", "code")


def test_slower_means_twice_as_long_and_a_second_more() -> None:
    def verdict(then: float | None, now: float | None) -> Verdict:
        return Verdict("t", "w", 1, Kind.SAME, then, now)

    assert verdict(1.0, 2.5).is_slower
    assert not verdict(0.1, 0.9).is_slower
    assert not verdict(10.0, 15.0).is_slower
    assert not verdict(None, 15.0).is_slower


def test_differences_are_summed_up_by_file_and_column() -> None:
    verdicts = [
        Verdict("1", "w", 1, Kind.DIFFERENT, files={"a.csv": ("x", "y"), "b.bin": ()}),
        Verdict("2", "w", 1, Kind.DIFFERENT, files={"a.csv": ("x",)}),
    ]
    assert by_file_and_column(verdicts) == [("a.csv", "x", 2), ("a.csv", "y", 1), ("b.bin", "", 1)]
