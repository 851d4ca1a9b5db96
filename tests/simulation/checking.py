"""The invariants of docs/dev/protocol.md, checked on a world at its end against a sequential model: the commits of the
branch one after the other, each with the changes that its author's function made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from perago.embedded.lakefs.repository import CommitRecord

from .attempts import Attempt
from .editing import MOST_IN_D, READS, difference
from .ending import Changes, Ending, has_fence, is_whole, moves_data, name, patched, rows_of, stamp_of, supersedes
from .world import World


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
        self.publications = [
            record
            for record in self.commits
            if "perago.task_id" in record.commit.metadata and record.commit.id not in world.outside
        ]
        self.superseded = self._superseded()
        self.is_guarded = world.schedule.fence != "off"

    def _superseded(self) -> set[str]:
        """What publications have undone. What one of them has undone stays undone when it is undone itself, unless it
        is in the input of the publication that did this."""
        undone_by = dict[str, CommitRecord]()
        for publication in reversed(self.publications):
            undoer = undone_by.get(publication.commit.id)
            for stale_id in supersedes(publication):
                if undoer is None or self._is_above_input(stale_id, undoer):
                    undone_by.setdefault(stale_id, undoer or publication)
        return set(undone_by)

    def _is_above_input(self, commit_id: str, record: CommitRecord) -> bool:
        """Whether a commit is not in the input of a publication."""
        places = [above.commit.id for above in self.commits]
        start = record.commit.metadata.get("perago.input_ref", "")
        return commit_id in places and (start not in places or places.index(start) < places.index(commit_id))

    def all(self) -> Iterator[str]:
        """Every promise that was broken."""
        if self.world.schedule.forgetful:
            yield from self._forgotten()
            return
        for record in self.commits:
            if record in self.publications:
                yield from self._publication(record)
            elif record.commit.id not in self.world.outside:
                yield f"{name(record)} is nobody's commit"
        yield from self._twice()
        if not self._has_gap():
            yield from self._sequential()
        rows = [row for workflow in self.world.workflows for row in rows_of(self.world, workflow)]
        counted: set[str] = set()
        for row in rows:
            if row["status"] == "COMPLETED":
                yield from self._completed(row, rows, counted)
        yield from self._stale(counted)
        yield from Ending(self.world, self.by_id).all()

    def _forgotten(self) -> Iterator[str]:
        """A server that does not take a tree as it is, is noticed: no attempt counts what it has made of the tree."""
        for attempt in self.world.attempts:
            publication = self.by_id.get(attempt.record.published_commit or "") if attempt.record else None
            if publication in self.publications and attempt.plan is not None:
                expected = patched(self.world.tree(publication.commit.parents[0]), attempt.plan)
                if self.world.tree(publication.commit.id) != expected:
                    yield f"#{attempt.index} counts {name(publication)}, which is not what it has built"

    # --------------------------------------------------------------------------- each commit

    def _publication(self, record: CommitRecord) -> Iterator[str]:
        metadata, attempt = record.commit.metadata, self.by_stamp.get(stamp_of(record))
        if attempt is None:
            yield f"{name(record)} is of no attempt"
            return
        if not is_whole(record):
            if self.is_guarded:
                yield f"{name(record)} is on another head than it was built on"
            return
        if self.is_guarded and not has_fence(record):
            yield f"{name(record)} is without the publish fence"
        before, problems = self._undone(record)
        yield from problems
        yield from self._taken_over(record, attempt)
        plan = self._plan(record)
        if plan is None:
            yield f"{name(record)} was published before its function has run"
            return
        theirs = difference(self.world.tree(metadata["perago.input_ref"]), before)
        for key, text in plan.items():
            if theirs.get(key, text) != text:
                yield f"{name(record)} overwrites what others did to {key}: {theirs[key]!r} with {text!r}"
        if attempt.mode == "reads" and not metadata["perago.adopts"] and plan:
            for key in theirs:
                if any(fnmatchcase(key, pattern) for pattern in READS):
                    yield f"{name(record)} was published although others changed {key}, which it reads"
        expected, tree = patched(before, plan), self.world.tree(record.commit.id)
        if tree != expected:
            yield f"{name(record)} is not its head and its own changes: {difference(expected, tree)} on {plan}"
        if plan and metadata["perago.phase"] == "merge":
            yield from self._whole(record, attempt, tree)

    def _taken_over(self, record: CommitRecord, attempt: Attempt) -> Iterator[str]:
        """Only a result of the own chain counts, from the same workspace and params, and whole."""
        adopted = self.by_id.get(record.commit.metadata["perago.adopts"])
        if adopted is None:
            return
        maker = self.by_stamp.get(stamp_of(adopted))
        what = f"#{attempt.index} takes over {name(adopted)}"
        if maker is None or maker.step_key != attempt.step_key:
            yield f"{what}, which is of another step"
            return
        if maker is attempt:
            yield f"{what}, which is its own"
        if maker.delivery.task_id not in attempt.chain:
            yield f"{what}, which is of an attempt that it does not come after"
        elif maker.delivery.start_time != attempt.chain[maker.delivery.task_id]:
            yield f"{what}, which is of a run before"
        if (maker.ref, maker.prefix) != (attempt.ref, attempt.prefix):
            yield f"{what}, which was made from another workspace"
        if maker.delivery.input["params"] != attempt.delivery.input["params"]:
            yield f"{what}, which was made from other params"
        if not is_whole(adopted):
            yield f"{what}, which came on another head than it was built on"

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
        already, by_hand = set[str](), {*self.world.reverted.values()}
        for stale_id in supersedes(record):
            if stale_id in already:
                continue
            stale = self.by_id.get(stale_id)
            if stale is None:
                problems.append(f"{name(record)} undoes {stale_id[:12]}, which is not on the branch")
                continue
            if stale not in self.publications:
                problems.append(f"{name(record)} undoes {name(stale)}, which is of others")
            if self._is_reverted_right_after(stale_id):
                continue
            if stale_id not in by_hand:
                already.update(supersedes(stale))
            is_own = any(self._is_above_input(earlier, record) for earlier in supersedes(stale))
            before = self._undone(stale)[0] if is_own else self.world.tree(stale.commit.parents[0])
            after = self.world.tree(stale_id)
            for key in difference(before, after):
                if tree.get(key) not in (before.get(key), after.get(key)):
                    problems.append(f"{name(record)} undoes {key} of {name(stale)}, which others have changed since")
                tree = patched(tree, {key: before.get(key)})
        return tree, problems

    def _is_reverted_right_after(self, commit_id: str) -> bool:
        """Whether a person reverted a publication right after it came. Then it has no changes left to undo, and a file
        that a person has written since is not the publication's."""
        reverts = (revert for revert, reverted in self.world.reverted.items() if reverted == commit_id)
        return any(self.by_id[revert].commit.parents[0] == commit_id for revert in reverts)

    def _plan(self, record: CommitRecord) -> Changes | None:
        """What the attempt of a publication has changed itself."""
        if record.commit.metadata["perago.adopts"]:
            return {}
        return self.by_stamp[stamp_of(record)].plan

    # ---------------------------------------------------------------------- all commits together

    def _has_gap(self) -> bool:
        """The gap of docs/dev/protocol.md: without the publish fence, a merge has come on another head. lakeFS's merge
        of three trees can lose files."""
        return any(map(self._is_overtaken, self.publications))

    def _is_overtaken(self, record: CommitRecord) -> bool:
        return not self.is_guarded and not is_whole(record)

    def _in_effect(self, record: CommitRecord) -> bool:
        return record.commit.id not in self.superseded

    def _twice(self) -> Iterator[str]:
        living = [
            publication
            for publication in self.publications
            if self._in_effect(publication) and moves_data(publication) and not self._is_overtaken(publication)
        ]
        makers = [
            (publication, self.by_stamp[stamp_of(publication)])
            for publication in living
            if stamp_of(publication) in self.by_stamp
        ]
        places = (maker.place for record, maker in makers if not self._is_in_a_later_input(record, maker))
        for place, number in Counter(places).items():
            if number > 1:
                yield f"{number} publications of step {'/'.join(place)} are in effect"

    def _sequential(self) -> Iterator[str]:
        """What the branch must hold: the input, what people did, and the changes of publications that are in effect."""
        if not self.commits:
            return
        tree: dict[str, str] = self.world.tree(self.world.ref)
        for record in self.commits:
            below = record.commit.parents[0]
            if self.world.reverted.get(record.commit.id) in self.superseded:
                continue  # what a person has undone was stale, and was undone once more
            is_odd = record in self.publications and not is_whole(record)
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
        if self._is_repeated(row, rows) or _is_replaced_by_a_later_row(row, rows):
            return
        is_late = row["taskId"] in self.world.doubtful
        if commit == maker.ref:
            if is_late and not maker.plan:
                return
            if maker.plan or maker.delivery.identity != (row["taskId"], row["pollCount"], row["startTime"]):
                yield f"{who} reported its input, but has changed {maker.plan}"
            return
        record = self.by_id.get(commit)
        if record is None or "perago.task_id" not in record.commit.metadata:
            yield f"{who} reported {commit[:12]}, which is no publication on the branch"
            return
        stamp_of_row = [row["taskId"], str(row["startTime"])]
        if stamp_of(record).split("/")[::2] != stamp_of_row and not is_late:
            yield f"{who} reported {name(record)}, which is of another attempt or run"
        adopted: CommitRecord | None = record
        while adopted is not None and adopted.commit.metadata["perago.adopts"]:
            adopted = self.by_id.get(adopted.commit.metadata["perago.adopts"])
        if adopted is None or stamp_of(adopted) != stamp:
            yield f"{who} reported {name(record)} with the result of {stamp}"
            return
        counted |= {commit, adopted.commit.id}
        for publication in (record, adopted):
            if not self._in_effect(publication) and not (is_late and not self._is_continued(publication)):
                yield f"{who} reported {name(publication)}, which was undone"
        tree = self.world.tree(adopted.commit.id)
        if wrong := {key: tree.get(key) for key, text in maker.plan.items() if tree.get(key) != text}:
            yield f"{who} reported {name(record)}, which has {wrong} and not its changes {maker.plan}"

    def _is_continued(self, record: CommitRecord) -> bool:
        """Whether an attempt that was taken after `record` was undone got it as its input, and has completed. A late
        report can name what was undone: Conductor's own gap. The next step refuses it, the last one has none."""
        undoing = next((place for place, above in enumerate(self.commits) if record.commit.id in supersedes(above)), 0)
        later = {above.commit.id for above in self.commits[undoing + 1 :]}
        return any(
            attempt.completed and attempt.record and attempt.record.published_commit in later
            for attempt in self.world.attempts
            if attempt.ref == record.commit.id
        )

    def _is_repeated(self, row: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> bool:
        """Whether the attempt was handed out again after its retry, and repeats what that has reported."""
        commit = self.by_id.get(row["outputData"]["workspace"]["ref"])
        is_its_own = commit is not None and commit.commit.metadata.get("perago.task_id") == row["taskId"]
        return not is_its_own and any(other is not row and other["outputData"] == row["outputData"] for other in rows)

    def _stale(self, counted: set[str]) -> Iterator[str]:
        """Of a workflow that is completed, the branch holds nothing but what Conductor counts."""
        done = [workflow for workflow in self.world.workflows if self.world.status(workflow) == "COMPLETED"]
        for record in self.publications:
            root = self.world.root_of_workflow(record.commit.metadata["perago.workflow_id"])
            if (
                root in done
                and moves_data(record)
                and self._in_effect(record)
                and record.commit.id not in counted
                and not self._is_left_by_a_gap(record)
            ):
                yield f"{name(record)} is on the branch, and no completed step of the workflow has reported it"

    def _is_left_by_a_gap(self, record: CommitRecord) -> bool:
        """Whether a gap of docs/dev/protocol.md explains that a completed workflow leaves a publication that no
        completed row names."""
        maker = self.by_stamp.get(stamp_of(record))
        return maker is not None and (
            self._is_overtaken(record)
            or self._has_ended_row(record, maker)
            or self._is_followed_by_no_attempt(record, maker)
            or self._is_in_a_later_input(record, maker)
        )

    def _has_ended_row(self, record: CommitRecord, maker: Attempt) -> bool:
        """Whether the row still has the run that has published, and Conductor does not wait for its report. The row has
        failed, and Conductor ignores that. Or a late report of an earlier run has completed it with another commit."""
        row = self.world.row(maker.delivery.workflow_id, maker.delivery.task_id)
        if row is None or row.is_open or row.start_time != maker.delivery.start_time:
            return False
        if row.status == "COMPLETED":
            return row.task_id in self.world.doubtful and row.published_commit != record.commit.id
        return not any(other.delivery.retried_task_id == row.task_id for other in self.world.attempts)

    def _is_followed_by_no_attempt(self, record: CommitRecord, maker: Attempt) -> bool:
        """Whether no attempt of the workflow was taken and has completed since an operator withdrew a publication, or
        since it arrived late."""
        root = maker.place[0]
        moments = [*filter(None, (self.world.recovered.get(root), self.world.late.get(record.commit.id)))]
        followers = self.world.attempts[max(moments, default=0) :]
        return bool(moments) and not any(other.completed and other.place[0] == root for other in followers)

    def _is_in_a_later_input(self, record: CommitRecord, maker: Attempt) -> bool:
        """Whether a later attempt got an input that has a stale publication in it already. What is above the input ref
        is all that perago judges."""
        places = {above.commit.id: place for place, above in enumerate(self.commits)}
        return any(
            other.place[0] == maker.place[0]
            and other.index > maker.index
            and places.get(other.ref, -1) >= places[record.commit.id]
            and self._is_given_by_a_gap(other, maker)
            for other in self.world.attempts
        )

    def _is_given_by_a_gap(self, attempt: Attempt, stale: Attempt) -> bool:
        """Whether a person gave an attempt its input; or the variable of a loop has kept it from a round that does not
        come before the attempt; or a sub-workflow that was run again alone has published it above later steps."""
        giver = self.by_stamp.get(stamp_of(self.by_id[attempt.ref]))
        if attempt.ref in self.world.given_heads:
            return True
        if giver is None:
            return False
        if (round_of_giver := _round(giver)) is not None and (own_round := _round(attempt)) is not None:
            return round_of_giver.node == own_round.node and not round_of_giver.is_before(own_round)
        begun_again = self.world.recovered_children.get(attempt.place[0])
        is_alone = begun_again is not None and giver.index >= begun_again and len(giver.place) > 2
        return is_alone and attempt.place == stale.place


@dataclass(frozen=True, slots=True)
class _Round:
    """The place of an attempt in a loop."""

    node: str
    number: int
    branch: str
    step: int

    def is_before(self, other: _Round) -> bool:
        """Whether the other one can get the output of this one. Branches of a fork do not get each other's."""
        if self.number == other.number:
            return self.branch == other.branch and self.step < other.step
        return self.number < other.number


def _round(attempt: Attempt) -> _Round | None:
    """Return the place of an attempt in a loop; None outside of loops."""
    place = next((name for name in attempt.place[1:] if "__" in name), None)
    if place is None:
        return None
    branch, step = attempt.place[-1].split("__")[0].split("s")
    return _Round(branch.partition("b")[0], int(place.split("__")[1]), branch, int(step))


def _is_replaced_by_a_later_row(row: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> bool:
    """Whether Conductor has begun a long retried attempt again, and a new one of its step after that."""
    key = ("workflowInstanceId", "referenceTaskName", "status")
    return any(other["seq"] > row["seq"] and all(other[field] == row[field] for field in key) for other in rows)
