"""The invariants of docs/protocol.md, checked on a world at its end against a sequential model: the commits of the
branch one after the other, each with the changes that its author's function made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from perago.attempt.fence import FENCE_PATH, FENCE_TEXT
from perago.embedded.lakefs.graph import CommitRecord

from .attempts import Attempt
from .calling import badly_asked
from .editing import MOST_IN_D, READS, difference
from .excuses import badly_ended
from .world import World

BLAME = "is not what this attempt built"
Changes = Mapping[str, str | None]


def violations(world: World) -> list[str]:
    """Every promise that was broken."""
    return [*world.problems, *Checking(world).all()]


class Checking:
    """One world, judged."""

    def __init__(self, world: World) -> None:
        self.world = world
        history = world.history()
        (start,) = (number for number, record in enumerate(history) if record.commit.id == world.ref)
        self.commits = history[start + 1 :]
        self.by_id = {record.commit.id: record for record in history}
        self.by_stamp = {attempt.stamp: attempt for attempt in world.attempts}
        self.publications = [each for each in self.commits if "perago.task_id" in each.commit.metadata]
        self.superseded = {gone for each in self.publications for gone in supersedes(each)}
        self.is_guarded = world.plot.fence != "off"

    def all(self) -> Iterator[str]:
        """Every promise that was broken."""
        for record in self.commits:
            if record in self.publications:
                yield from self._publication(record)
            elif record.commit.id not in self.world.outside:
                yield f"{name(record)} is nobody's commit"
        yield from self._twice()
        if not self._has_gap():
            yield from self._sequential()
        rows = list(rows_of(self.world, self.world.workflow))
        counted: set[str] = set()
        for row in rows:
            if row["status"] == "COMPLETED" and row["taskId"] not in self.world.doubtful:
                yield from self._completed(row, rows, counted)
        yield from self._stale(rows, counted)
        for attempt in self.world.attempts:
            yield from (f"#{attempt.index}: {words}" for words in self._attempt(attempt))
        yield from self._left()

    # --------------------------------------------------------------------------- each commit

    def _publication(self, record: CommitRecord) -> Iterator[str]:
        found, attempt = record.commit.metadata, self.by_stamp.get(stamp_of(record))
        if attempt is None:
            yield f"{name(record)} is of no attempt"
            return
        if record.commit.parents[0] != found.get("perago.expected_head"):
            if self.is_guarded:
                yield f"{name(record)} is on another head than it was built on"
            return
        if self.is_guarded and not has_fence(record):
            yield f"{name(record)} is without the publish fence"
        before, problems = self._undone(record)
        yield from problems
        plan = self._plan(record)
        if plan is None:
            yield f"{name(record)} was published before its function has run"
            return
        theirs = difference(self.world.tree(found["perago.input_ref"]), before)
        for key, text in plan.items():
            if theirs.get(key, text) != text:
                yield f"{name(record)} overwrites what others did to {key}: {theirs[key]!r} with {text!r}"
        if attempt.mode == "reads" and not found["perago.adopts"] and plan:
            for key in theirs:
                if any(fnmatchcase(key, pattern) for pattern in READS) and plan.get(key, "") is not None:
                    yield f"{name(record)} was published although others changed {key}, which it reads"
        wanted, tree = patched(before, plan), self.world.tree(record.commit.id)
        if tree != wanted:
            yield f"{name(record)} is not its head and its own changes: {difference(wanted, tree)} on {plan}"
        if plan and found["perago.phase"] == "merge":
            yield from self._whole(record, attempt, tree)

    def _whole(self, record: CommitRecord, attempt: Attempt, tree: Mapping[str, str]) -> Iterator[str]:
        if attempt.mode == "ruled" and sum(key.startswith("d/") for key in tree) > MOST_IN_D:
            yield f"{name(record)} violates its post guardrail"
        put = [key for key, text in (self._plan(record) or {}).items() if text is not None]
        if clash := {
            key for key in put for other in tree if other.startswith(key + "/") or key.startswith(other + "/")
        }:
            yield f"{name(record)} has {clash} as files and directories"

    def _undone(self, record: CommitRecord) -> tuple[dict[str, str], list[str]]:
        """The tree below a publication without what it undoes, and what is wrong with the undoing."""
        tree, problems = dict(self.world.tree(record.commit.parents[0])), []
        for gone in supersedes(record):
            stale = self.by_id.get(gone)
            if stale is None:
                problems.append(f"{name(record)} undoes {gone[:12]}, which is not on the branch")
                continue
            if stale not in self.publications:
                problems.append(f"{name(record)} undoes {name(stale)}, which is of others")
            before, after = self.world.tree(stale.commit.parents[0]), self.world.tree(gone)
            for key in difference(before, after):
                if tree.get(key) not in (before.get(key), after.get(key)):
                    problems.append(f"{name(record)} undoes {key} of {name(stale)}, which others have changed since")
                tree = patched(tree, {key: before.get(key)})
        return tree, problems

    def _plan(self, record: CommitRecord) -> Changes | None:
        """What the attempt of a publication has changed itself."""
        if record.commit.metadata["perago.adopts"]:
            return {}
        return self.by_stamp[stamp_of(record)].plan

    # ---------------------------------------------------------------------- all commits together

    def _has_gap(self) -> bool:
        """The gap of docs/protocol.md: without the publish fence, a merge has come on another head, or late."""
        is_odd = (
            each.commit.parents[0] != each.commit.metadata.get("perago.expected_head") for each in self.publications
        )
        return not self.is_guarded and (bool(self.world.late) or any(is_odd))

    def _in_effect(self, record: CommitRecord) -> bool:
        return record.commit.id not in self.superseded

    def _twice(self) -> Iterator[str]:
        living = [each for each in self.publications if self._in_effect(each) and moves_data(each)]
        seen = [each for each in living if not self._is_in_an_input(each)]
        for step, number in Counter(each.commit.metadata["perago.step_key"] for each in seen).items():
            if number > 1 and self.is_guarded:
                yield f"{number} publications of step {step} are in effect"

    def _sequential(self) -> Iterator[str]:
        """What the branch must hold: the input, what people did, and the changes of publications that are in effect."""
        if not self.commits:
            return
        tree: dict[str, str] = self.world.tree(self.world.ref)
        for record in self.commits:
            below = record.commit.parents[0]
            if self.world.reverted.get(record.commit.id) in self.superseded:
                continue  # what a person has undone was stale, and was undone once more
            is_odd = record in self.publications and below != record.commit.metadata.get("perago.expected_head")
            if record not in self.publications or is_odd:
                tree = patched(tree, difference(self.world.tree(below), self.world.tree(record.commit.id)))
            elif self._in_effect(record):
                tree = patched(tree, self._plan(record) or {})
        head = self.world.tree(self.commits[-1].commit.id)
        if head != tree:
            yield f"the branch is not what the publications in effect make of it: {difference(tree, head)}"

    # -------------------------------------------------------------------------- what Conductor holds

    def _completed(self, row: Mapping[str, Any], rows: list[Mapping[str, Any]], counted: set[str]) -> Iterator[str]:
        who = f"{row['referenceTaskName']} (task {row['taskId'][:8]})"
        output = row["outputData"]
        commit, stamp = output["workspace"]["ref"], output["result"]["stamp"]
        maker = self.by_stamp.get(stamp)
        if maker is None or maker.plan is None:
            yield f"{who} has the result of no attempt"
            return
        if any(other is not row and other["outputData"] == output for other in rows):
            return  # an attempt that was handed out again after its retry repeats what that has reported
        if commit == maker.ref:
            if maker.plan or maker.delivery.identity != (row["taskId"], row["pollCount"], row["startTime"]):
                yield f"{who} reported its input, but has changed {maker.plan}"
            return
        record = self.by_id.get(commit)
        if record is None or "perago.task_id" not in record.commit.metadata:
            yield f"{who} reported {commit[:12]}, which is no publication on the branch"
            return
        if stamp_of(record).split("/")[::2] != [row["taskId"], str(row["startTime"])]:
            yield f"{who} reported {name(record)}, which is of another attempt or run"
        adopted: CommitRecord | None = record
        while adopted is not None and adopted.commit.metadata["perago.adopts"]:
            adopted = self.by_id.get(adopted.commit.metadata["perago.adopts"])
        if adopted is None or stamp_of(adopted) != stamp:
            yield f"{who} reported {name(record)} with the result of {stamp}"
            return
        counted |= {commit, adopted.commit.id}
        for each in (record, adopted):
            if not self._in_effect(each):
                yield f"{who} reported {name(each)}, which was undone"
        tree = self.world.tree(adopted.commit.id)
        if wrong := {key: tree.get(key) for key, text in maker.plan.items() if tree.get(key) != text}:
            yield f"{who} reported {name(record)}, which has {wrong} and not its changes {maker.plan}"

    def _stale(self, rows: list[Mapping[str, Any]], counted: set[str]) -> Iterator[str]:
        """Of a workflow that is completed, the branch holds nothing but what Conductor counts."""
        workflows = {row["workflowInstanceId"] for row in rows}
        if self.world.status != "COMPLETED" or self.world.doubtful or self._has_gap():
            return
        for record in self.publications:
            is_mine = record.commit.metadata["perago.workflow_id"] in workflows and moves_data(record)
            is_left = is_mine and self._in_effect(record) and record.commit.id not in counted
            if is_left and not self._is_followed_by_no_attempt(record) and not self._is_in_an_input(record):
                yield f"{name(record)} is on the branch, and no completed step of the workflow has reported it"

    def _is_in_an_input(self, record: CommitRecord) -> bool:
        """Where a round of a loop is refused (its message says to start from the new head) and retried all the same,
        Conductor gives it the input of a later round, which has the run before in it already. What is above the input
        ref is all that perago looks at."""
        if not any(node.kind == "loop" for node in self.world.plot.nodes):
            return False
        later = self.commits[self.commits.index(record) + 1 :]
        refs = {each.commit.metadata.get("perago.input_ref") for each in later}
        refs |= {each.record.input_ref for each in self.world.attempts if each.completed and each.record}
        return any(each.commit.id in refs for each in (record, *later))

    def _is_followed_by_no_attempt(self, record: CommitRecord) -> bool:
        """The gap of docs/protocol.md: a merge that arrives late, and no attempt of its step completes after it was
        sent."""
        if self.world.late.get(record.commit.id) is None:
            return False
        step = record.commit.metadata["perago.step_key"]
        sender = self.by_stamp[stamp_of(record)]
        return not any(
            other.completed and other.step_key == step and other.index > sender.index for other in self.world.attempts
        )

    # ------------------------------------------------------------------------------- each attempt

    def _attempt(self, attempt: Attempt) -> Iterator[str]:
        yield from badly_asked(attempt)
        if attempt.record is None:
            return
        yield from badly_ended(self.world, attempt)
        report, commit = attempt.record.report, attempt.record.published_commit
        own = [each.commit.id for each in self.publications if stamp_of(each) == attempt.stamp]
        if attempt.calls["function"] > 1:
            yield "the function has run more than once"
        if report is not None and attempt.completed != (commit is not None) and attempt.calls["history"]:
            yield f"{report.status} with publication {commit}"
        if own and commit is None and not any(words in attempt.words for words in (*BLAMES, BLAME)):
            yield f"{own} are kept quiet: {attempt.words}"
        if not own and BLAME in attempt.words:
            yield f"the publication of others is taken for a broken one: {attempt.words}"
        is_unchanged = commit == attempt.record.input_ref and not attempt.plan
        if commit is not None and not is_unchanged and commit not in own:
            yield f"{commit[:12]} is said to be its publication"
        record = self.by_id.get(commit or "")
        is_odd = record and record.commit.parents[0] != record.commit.metadata.get("perago.expected_head")
        if self.is_guarded and commit in own and is_odd:  # without the fence, a doubled fence commit is one's own
            yield "a publication on another head than it was built on is said to be verified"

    # ------------------------------------------------------------------------------- what is left

    def _left(self) -> Iterator[str]:
        for attempt in self.world.attempts:
            root = self.world.root_of(attempt)
            left = [path for path in root.iterdir() if path.name != ".turns"] if root.is_dir() else []
            if left and not attempt.killed:
                yield f"#{attempt.index} has left its directory"
        for branch in self.world.staging_branches():
            owner = next((each for each in self.world.attempts if has_made(each, branch)), None)
            if owner is None:
                yield f"{branch} is nobody's branch"
            elif not owner.is_open and not any("left behind" in note for note in notes_of(owner)):
                yield f"#{owner.index} has left {branch}"
            elif follower := next((each for each in self.world.attempts if follows(each, owner)), None):
                yield f"#{follower.index} has left {branch} of #{owner.index}"


BLAMES = ("may still appear", "took place as commit")


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


def patched(tree: Mapping[str, str], changes: Changes) -> dict[str, str]:
    """A tree with changes."""
    put = {key: text for key, text in changes.items() if text is not None}
    return {key: text for key, text in tree.items() if key not in changes} | put


def name(record: CommitRecord) -> str:
    """A commit, for messages."""
    found = record.commit.metadata
    what = f"{found.get('perago.phase')} of {found.get('perago.reference_name')}, " if found else ""
    return f"commit {record.commit.id[:12]} ({what}{record.commit.message.split(':')[0]})"


def stamp_of(record: CommitRecord) -> str:
    """The identity of the delivery that has published a commit."""
    found = record.commit.metadata
    return "/".join(found.get(f"perago.{key}", "") for key in ("task_id", "poll_count", "start_time"))


def supersedes(record: CommitRecord) -> list[str]:
    """The commits that a publication has undone, newest first."""
    return [gone for gone in record.commit.metadata.get("perago.supersedes", "").split(",") if gone]


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
