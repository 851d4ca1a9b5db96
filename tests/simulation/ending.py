"""The checks of each attempt of a world: the order of its calls, how it ended, and what its commits tell.

The delivery check and the look at the branch come before what cannot be taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile, takewhile
from typing import Any

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.driver.publisher import TURNS_FILE
from perago.embedded.lakefs.repository import CommitRecord
from perago.ports import WorkflowRow
from perago.workspace.directory import directory_name

from .attempts import Attempt, Call
from .excuses import badly_ended
from .world import World

Changes = Mapping[str, str | None]


def is_whole(record: CommitRecord) -> bool:
    """Whether a publication came on the head that it was built on."""
    return record.commit.parents[0] == record.commit.metadata.get("perago.expected_head")


def patched(tree: Mapping[str, str], changes: Changes) -> dict[str, str]:
    """A tree with changes."""
    put = {key: text for key, text in changes.items() if text is not None}
    return {key: text for key, text in tree.items() if key not in changes} | put


def name(record: CommitRecord) -> str:
    """A commit, for messages."""
    metadata = record.commit.metadata
    what = f"{metadata.get('perago.phase')} of {metadata.get('perago.reference_name')}, " if metadata else ""
    return f"commit {record.commit.id[:12]} ({what}{record.commit.message.split(':')[0]})"


def stamp_of(record: CommitRecord) -> str:
    """The identity of the delivery that has published a commit."""
    metadata = record.commit.metadata
    return "/".join(metadata.get(f"perago.{key}", "") for key in ("task_id", "poll_count", "start_time"))


def supersedes(record: CommitRecord) -> list[str]:
    """The commits that a publication has undone, newest first."""
    return [commit_id for commit_id in record.commit.metadata.get("perago.supersedes", "").split(",") if commit_id]


def moves_data(record: CommitRecord) -> bool:
    """Whether it is no fence commit."""
    return record.commit.metadata["perago.phase"] != "fence"


def has_fence(record: CommitRecord) -> bool:
    """Whether the publish fence is in a commit."""
    entry = record.tree.get(FENCE_PATH)
    return entry is not None and entry.blob.read().decode() == FENCE_TEXT


def rows_of(world: World, workflow: str) -> Iterator[Mapping[str, Any]]:
    """The attempts that Conductor knows of a workflow and of the sub-workflows that it has now."""
    rows = world.services.conductor.workflow(workflow)["tasks"]
    children = {row["referenceTaskName"]: row.get("subWorkflowId") for row in rows if row["taskType"] == "SUB_WORKFLOW"}
    for child in filter(None, children.values()):
        yield from rows_of(world, child)
    for row in rows:
        if row["taskType"].startswith("simulation."):
            yield row


_STAGING = {"upload", "delete_objects", "revert", "commit", "carry"}
_LATE = 2.0
_LATE_ANSWERS = 2
_MERGES = 3


_DURING_A_CHECK = frozenset(
    ("create_branch", "get_commit", "commit", "stat_objects", "diff", "challenge", "is_current", "read_workflow")
)
"""Calls that can come before the answer of a delivery check that was sent ahead."""


def badly_asked(attempt: Attempt, *, ahead: bool = False) -> Iterator[str]:
    """What it sent without the right to. `ahead`: it sends requests ahead."""
    journal = attempt.journal
    for index, call in enumerate(journal):
        before = journal[:index]
        if call.operation == "is_current" and call.outcome == "no":
            later = {after.operation for after in journal[index + 1 :]} - {"delete_branch"}
            if later := later - _DURING_A_CHECK if ahead else later:
                yield f"after the delivery check said no: {sorted(later)}"
        elif call.operation == "create_branch":
            yield from _staged_later(attempt, call, journal) if ahead else _staged(attempt, call, journal[index + 1 :])
        elif call.operation == "report":
            yield from _confirmed(call, before)
        elif call.operation == "merge":
            yield from _looked_ahead(before) if ahead else _looked(before)
        elif call.operation == "delete_branch":
            is_mine = ("create_branch", call.argument) in {(earlier.operation, earlier.argument) for earlier in before}
            if not is_mine and not any(earlier.outcome in ("yes", "current") for earlier in before):
                yield "a branch of others is removed without the delivery check"
    sent = Counter(call.argument for call in journal if call.operation == "merge")
    if any(number > _MERGES for number in sent.values()):
        yield f"{max(sent.values())} merges of one commit"


def _staged(attempt: Attempt, created: Call, later: Sequence[Call]) -> Iterator[str]:
    """The delivery check comes between a staging branch and everything that is put on it."""
    later = list(dropwhile(lambda call: call.operation == "get_commit", later))
    if later and later[0].operation == "create_branch":  # repeated
        return
    asked = list(takewhile(lambda call: call.operation in ("is_current", "read_workflow"), later))
    if _STAGING & {call.operation for call in later[len(asked) :]}:
        yield from _confirmed(created, asked)
        yield from _named(attempt, asked)


def _staged_later(attempt: Attempt, created: Call, journal: Sequence[Call]) -> Iterator[str]:
    """The same for an attempt that creates the branch ahead: its reads can come in between."""
    first = next(call for call in journal if (call.operation, call.argument) == (created.operation, created.argument))
    place = journal.index(created)
    before = list(takewhile(_is_question, reversed(journal[:place])))[::-1]  # sent at the same time
    since = journal[place:]
    empty = list(takewhile(lambda call: call.operation not in _STAGING, since))
    if first is created and len(empty) < len(since):
        asked = [*before, *filter(_is_question, empty)]
        is_sent_with_it = since[len(empty)].operation == "commit" and len(asked) > 1
        staged = asked.pop() if is_sent_with_it else since[len(empty)]
        yield from _confirmed(created, asked)
        yield from _named(attempt, asked)
        yield from _aged(asked, staged)


def _is_question(call: Call) -> bool:
    return call.operation in ("is_current", "read_workflow")


def _looked_ahead(before: Sequence[Call]) -> Iterator[str]:
    """The delivery check comes after the staging branch, and the look right before the merge."""
    if not before or before[-1].operation != "history":
        yield "a merge without a look at the branch"
        return
    since = list(takewhile(lambda call: call.operation != "create_branch", reversed(before)))[::-1]
    asked = [call for call in since if call.operation == "is_current"]
    if not asked or asked[-1].outcome != "yes":
        yield "a merge without the delivery check"
    yield from _aged(asked, before[-1])


def _aged(asked: Sequence[Call], call: Call) -> Iterator[str]:
    """An answer is not older than two seconds, unless it was asked again as often as that is done."""
    if asked and call.sent - asked[-1].sent > _LATE and len(asked) <= _LATE_ANSWERS:
        yield f"{call.operation} on an old answer of the delivery check"


def _confirmed(call: Call, before: Sequence[Call]) -> Iterator[str]:
    if not before or not _is_yes(call, before[-1]):
        yield f"{call.operation} without the delivery check"
    elif _is_old(before, ("is_current", "read_workflow")):
        yield f"{call.operation} on an old answer of the delivery check"


def _is_yes(call: Call, answer: Call) -> bool:
    """Whether an answer confirms the delivery. Before it stages, an attempt may read its own workflow instead, if that
    has no parent: then its row is that of the delivery."""
    if answer.operation != "read_workflow" or call.operation != "create_branch":
        return answer.outcome == "yes"
    return answer.outcome == "current"


def _named(attempt: Attempt, before: Sequence[Call]) -> Iterator[str]:
    """In a sub-workflow, an attempt stages only if each parent names the workflow below it, in a row without a retry.
    It reads them right before the delivery check."""
    if attempt.parent_id is None:
        return
    calls = list(before)
    while calls and calls[-1].operation == "is_current":
        calls.pop()
    read = dict[str, WorkflowRow]()
    while calls and calls[-1].operation == "read_workflow":
        call = calls.pop()
        if call.workflow is not None:
            read.setdefault(call.workflow.workflow_id, call.workflow)
    child = attempt.delivery.workflow_id
    while child in read and (parent_id := read[child].parent_id) is not None:
        if parent_id not in read or not is_named(child, read[parent_id]):
            yield f"it stages in sub-workflow {child}, which its parent does not name"
            return
        child = parent_id
    if child not in read:
        yield f"it stages in sub-workflow {attempt.delivery.workflow_id} and has not read {child}"


def is_named(child: str, parent: WorkflowRow) -> bool:
    """Whether a parent has a row for a sub-workflow, and no retry of that row."""
    retried = {row.retried_task_id for row in parent.rows}
    return any(row.sub_workflow_id == child and row.task_id not in retried for row in parent.rows)


def _looked(before: Sequence[Call]) -> Iterator[str]:
    if not before or before[-1].operation != "history":
        yield "a merge without a look at the branch"
        return
    asked = list(before)
    while asked and asked[-1].operation == "history":
        asked.pop()
    if not asked or asked[-1].outcome != "yes":
        yield "a merge without the delivery check"
    elif _is_old(before, ("is_current", "history")):
        yield "a merge on an old answer"


def _is_old(before: Sequence[Call], operations: Sequence[str]) -> bool:
    """Whether the newest answer came late, and it was not asked again as often as that is done."""
    if before[-1].answered - before[-1].sent <= _LATE:
        return False
    asked = []
    for call in reversed(before):
        if call.operation not in operations:
            break
        asked.append(call)
    late = sum(call.answered - call.sent > _LATE for call in asked)
    return late <= _LATE_ANSWERS


BLAME = "is not what this attempt built"
BLAMES = ("may still appear", "took place as commit")


class Ending:
    """The attempts of one world, judged."""

    def __init__(self, world: World, commits: Mapping[str, CommitRecord]) -> None:
        """`commits`: those of the branch, by id."""
        self.world = world
        self.commits = commits
        self.publications = [
            record
            for record in commits.values()
            if "perago.task_id" in record.commit.metadata and record.commit.id not in world.outside
        ]

    def all(self) -> Iterator[str]:
        """Every promise that was broken."""
        for attempt in self.world.attempts:
            yield from (f"#{attempt.index}: {violation}" for violation in self._attempt(attempt))
        yield from self._left_directories()
        yield from self._left_branches()

    def _attempt(self, attempt: Attempt) -> Iterator[str]:
        yield from badly_asked(attempt, ahead=self.world.schedule.sends_ahead)
        if attempt.record is None:
            return
        yield from badly_ended(self.world, attempt)
        report, commit = attempt.record.report, attempt.record.published_commit
        own = [record.commit.id for record in self.publications if stamp_of(record) == attempt.stamp]
        if attempt.calls["function"] > 1:
            yield "the function has run more than once"
        if report is not None and attempt.completed != (commit is not None) and attempt.calls["history"]:
            yield f"{report.status} with publication {commit}"
        if own and commit is None and not any(text in attempt.words for text in (*BLAMES, BLAME)):
            yield f"{own} are kept quiet: {attempt.words}"
        if not own and BLAME in attempt.words:
            yield f"the publication of others is taken for a broken one: {attempt.words}"
        is_unchanged = commit == attempt.record.input_ref and not attempt.plan
        if commit is not None and not is_unchanged and commit not in own:
            yield f"{commit[:12]} is said to be its publication"
        if commit in own and not self._is_as_built(self.commits[commit or ""]):
            yield "a publication on another head than it was built on is said to be verified"
        if "may still appear" in attempt.words and has_removed_its_branch(attempt):
            yield "it has removed its staging branch, and its merge may still arrive"

    def _is_as_built(self, record: CommitRecord) -> bool:
        """Whether it came on the head that it was built on; or on its own double, where the fence is not enforced."""
        if is_whole(record):
            return True
        below = self.commits.get(record.commit.parents[0])
        return below is not None and stamp_of(below) == stamp_of(record) and self._is_as_built(below)

    def _left_directories(self) -> Iterator[str]:
        for attempt in self.world.attempts:
            root = self.world.root_of(attempt)
            mine = directory_name(attempt.delivery) if self.world.schedule.shared_root else "*"
            if not attempt.killed and any(path.name != TURNS_FILE for path in root.glob(mine)):
                yield f"#{attempt.index} has left its directory"

    def _left_branches(self) -> Iterator[str]:
        for branch in self.world.staging_branches():
            owner = next((candidate for candidate in self.world.attempts if has_made(candidate, branch)), None)
            if owner is None:
                yield f"{branch} is nobody's branch"
            elif not owner.is_open and not any("was not removed" in note for note in notes_of(owner)):
                yield f"#{owner.index} has left {branch}"
            elif follower := next((candidate for candidate in self.world.attempts if follows(candidate, owner)), None):
                yield f"#{follower.index} has left {branch} of #{owner.index}"


def has_removed_its_branch(attempt: Attempt) -> bool:
    """Whether it got no answer to a merge from the staging branch that it made last, and has removed that branch. After
    the head has moved, the publish fence refuses that merge, and the attempt begins again on another branch."""
    if len(set(attempt.heads[-2:])) > 1:
        return False
    made = [number for number, call in enumerate(attempt.journal) if call.operation == "create_branch"]
    since = attempt.journal[made[-1] :] if made else []
    is_open = any(call.operation == "merge" and "Unclear" in call.outcome for call in since)
    return is_open and any(call.operation == "delete_branch" and call.argument == since[0].argument for call in since)


def follows(attempt: Attempt, owner: Attempt) -> bool:
    """Whether `attempt` should have removed what `owner` left."""
    if attempt.step_key != owner.step_key or owner.ended is None or owner.ended > attempt.taken:
        return False
    asked = [call.outcome for call in attempt.journal if call.operation in ("list_branches", "delete_branch")]
    return attempt.completed and bool(asked) and all(outcome == "done" for outcome in asked)


def has_made(attempt: Attempt, branch: str) -> bool:
    """Whether the attempt has sent for this staging branch."""
    return any(call.operation == "create_branch" and call.argument == branch for call in attempt.journal)


def notes_of(attempt: Attempt) -> tuple[str, ...]:
    """What it has noted."""
    return attempt.record.notes if attempt.record else ()
