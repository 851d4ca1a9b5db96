"""Every message about a publication has its row on the page that operators read (docs/protocol.md)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from perago.attempt import events as on
from perago.attempt import outcome
from perago.attempt.state import Base, State
from perago.ports import Commit

from .diagram import PAGE
from .making import DELIVERY, MERGED, OTHER, PLAN, REF, STAGED, WORKSPACE, commit, publication_of

STATE = State(
    replace(PLAN, max_changed_objects=1),
    workspace=WORKSPACE,
    base=Base(REF),
    staging_branch="perago-0123-4567",
    staging_commit=commit(STAGED, REF),
    adopts=MERGED,
    changes=on.ChangesDetected(added=("a", "b")),
)
FOREIGN: Commit = commit(OTHER, REF)
READ = on.BranchRead((FOREIGN,), reaches_ref=True)
MESSAGES: dict[str, Callable[[], str | None]] = {
    "moved_head": lambda: outcome.moved_head(STATE, READ),
    "conflict": lambda: outcome.conflict(
        replace(STATE, read=READ, conflicts={"a": "was changed on both sides", "b": "was changed on both sides"}),
        {"a": OTHER},
    ),
    "strange_id": lambda: outcome.strange_id("workflow", "a b"),
    "violated_together": lambda: outcome.violated_together(STATE, ["post guardrail require_file('a'): found nothing"]),
    "staging_differs": lambda: outcome.staging_differs(STATE, ["a"]),
    "staging_vanished": lambda: outcome.staging_vanished(STATE),
    "lost": lambda: outcome.lost(STATE),
    "retried": lambda: outcome.retried(STATE),
    "foreign_staging": lambda: outcome.foreign_staging(STATE, FOREIGN),
    "unconfirmed": lambda: outcome.unconfirmed(STATE, 3),
    "hook_refused": lambda: outcome.hook_refused(STATE, "no"),
    "dirty": lambda: outcome.dirty(STATE),
    "unanswered_merge": lambda: outcome.unanswered_merge(STATE),
    "unverified_merge": lambda: outcome.unverified_merge(STATE, MERGED),
    "buried": lambda: outcome.buried(STATE, publication_of(DELIVERY), FOREIGN),
    "copied": lambda: outcome.copied(STATE, FOREIGN, commit(STAGED, REF)),
    "stale_in_a_loop": lambda: outcome.stale_in_a_loop(STATE, FOREIGN),
    "unknown_attempt": lambda: outcome.unknown_attempt(STATE, publication_of(DELIVERY)),
    "unread_workflow": lambda: outcome.unread_workflow(STATE, publication_of(DELIVERY), 500),
    "still_starting": lambda: outcome.still_starting(STATE, publication_of(DELIVERY)),
    "altered_fence": lambda: outcome.altered_fence(STATE, REF, "_lakefs_actions/x.yaml"),
    "not_tried": lambda: outcome.not_tried(STATE),
    "not_enforced": lambda: outcome.not_enforced(STATE),
    "adopted_is_gone": lambda: outcome.adopted_is_gone(STATE),
    "restless": lambda: outcome.restless(STATE),
    "not_on_branch": lambda: outcome.not_on_branch(STATE, READ),
    "changed_read_only": lambda: outcome.changed_read_only(STATE.changes),
    "over_budget": lambda: outcome.over_budget(STATE),
    "cannot_undo": lambda: outcome.cannot_undo("repo", [OTHER] * 4, "others have changed 'a' since"),
    "held_by_others": lambda: outcome.held_by_others(replace(STATE, base=Base(REF, (OTHER,))), ["a"]),
    "wrong_publication": lambda: outcome.wrong_publication(STATE, commit(OTHER, MERGED)),
}
NO_MESSAGES = {"completed", "failed", "fitted", "short", "violated", "named"}
"""Parts of messages and reports; guardrails speak for themselves."""


def rows() -> list[str]:
    """The first column of the operators' table."""
    table = PAGE.read_text("utf-8").partition("## What an operator sees")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)


def fits(row: str, message: str) -> bool:
    """Whether a message is like a row says. Dots stand for anything; inner back-quotes are left out on the page."""
    return re.match(".*".join(map(re.escape, row.split("..."))), message.replace("`", "")) is not None


def test_all_messages_are_looked_for() -> None:
    functions = inspect.getmembers(outcome, inspect.isfunction)
    own = {name for name, function in functions if function.__module__ == outcome.__name__ and name[0] != "_"}
    assert own == set(MESSAGES) | NO_MESSAGES


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_one_row_on_the_operators_page(name: str) -> None:
    message = MESSAGES[name]()
    assert message
    found = [row for row in rows() if fits(row, message)]
    assert len(found) == 1, f"{found} for: {message}"


@pytest.mark.parametrize("name", ["staging_differs", "staging_vanished", "copied", "held_by_others"])
def test_a_message_says_that_nothing_was_published_unless_a_merge_may_be_open(name: str) -> None:
    is_said = "Nothing of this attempt was published." in str(MESSAGES[name]())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "STATE", replace(STATE, open_merge="A merge was sent."))
        is_said_of_an_open_merge = "Nothing of" in str(MESSAGES[name]())
    assert (is_said, is_said_of_an_open_merge) == (True, False)


def test_other_messages_are_on_the_page_as_they_are_in_the_code() -> None:
    code = PAGE.parents[1] / "src/perago"
    files = [
        *(code / "driver").glob("*.py"),
        code / "worker/attempts.py",
        code / "attempt/history.py",
        code / "workspace/scan.py",
    ]
    said = re.sub(r'"\s*f?"|\{[^}]*\}', "", " ".join(path.read_text("utf-8") for path in files))
    others = [row for row in rows() if not any(fits(row, str(message())) for message in MESSAGES.values())]
    assert len(others) == 12
    for row in others:
        assert all(part.strip() in said for part in row.split("...")), row


@pytest.mark.parametrize("open_merge", [None, "A merge was sent. " * 5])
def test_a_long_conflict_still_says_which_commits_meet_and_what_to_do(open_merge: str | None) -> None:
    by = replace(commit(OTHER, REF, message="features.build: 1 added " * 9), committer="someone@example.com")
    paths = [f"{'deep/' * 40}{name}.csv" for name in "abcd"]
    state = replace(
        STATE,
        read=on.BranchRead((by,), reaches_ref=True),
        conflicts=dict.fromkeys(paths, "was changed on both sides"),
        open_merge=open_merge,
    )
    reason = outcome.failed(state, outcome.conflict(state, dict.fromkeys(paths, OTHER)), terminal=True).reason or ""
    assert "…" not in reason[-30:]
    for part in ("deep/a.csv'", f"head {REF[:12]}", "start the workflow from the new head", "and 3 more"):
        assert part in reason
    assert open_merge or OTHER[:12] in reason


@pytest.mark.parametrize("open_merge", [None, "A merge was sent. " * 5])
def test_many_violations_leave_room_for_the_word_that_it_is_the_combination(open_merge: str | None) -> None:
    state = replace(STATE, open_merge=open_merge)
    violations = ["post guardrail require_glob('features/**/*.csv', max_count=4): matched 5 files"] * 9
    reason = outcome.failed(state, outcome.violated_together(state, violations), terminal=False).reason or ""
    assert "This is the combination with what others have published to branch main" in reason
    assert reason.endswith(open_merge or "Nothing was published.")
    assert len(reason) == outcome.REASON_LIMIT
