"""Fixes that only whole workflows judge: each of them is taken away, and a world must break a promise then.

`mutations` has the guards of the protocol. The operations that exposed these defects are deeds of the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import perago.driver.attempt
import perago.driver.local_workspace
import perago.driver.publisher
from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import history, protocol, publication
from perago.attempt.state import State
from perago.cache import ObjectId, Shelf
from perago.cache.objects import copy_bytes
from perago.driver.delivery import DeliveryQuestions
from perago.driver.publisher import PatientStore, Publisher
from perago.ports import AttemptRow
from perago.workspace.changes import Overlap, find_overlap
from perago.workspace.scan import Tree, scan_tree

Patch = pytest.MonkeyPatch


def believe_that_nothing_was_staged(patch: Patch) -> None:
    """Complete with the input ref if lakeFS finds nothing to commit."""
    patch.setattr(State, "must_differ", property(lambda _: False))


def ask_without_end(patch: Patch) -> None:
    """Ask about each task id that a commit has, whatever it is, and ask again if there is no answer."""

    def lineage_ids(state: State, read: on.BranchRead) -> tuple[str, ...]:
        mine = (commit for commit in read.since if publication.is_of_my_workflow(commit, state.plan.delivery))
        known = {*state.lineage.chain[:1], *state.lineage.rows} if state.lineage else ()
        found = dict.fromkeys(commit.metadata.get(publication.TASK_ID, "") for commit in mine)
        return tuple(task_id for task_id in found if task_id not in known)

    def ask_first(state: State) -> tuple[State, do.Command] | None:
        return history.ask_first(state.evolve(asked=()))

    read_once = DeliveryQuestions.read_lineage

    def read_lineage(self: DeliveryQuestions, command: do.ReadLineage) -> on.LineageRead:
        found = read_once(self, command)
        rows: dict[str, AttemptRow | None] = {key: row for key, row in found.rows.items() if key}
        return on.LineageRead(found.chain, rows)

    patch.setattr(history, "lineage_ids", lineage_ids)
    patch.setattr(protocol, "ask_first", ask_first)
    patch.setattr(DeliveryQuestions, "read_lineage", read_lineage)


def read_few_workflows(patch: Patch) -> None:
    """Tell at most twenty workflows apart."""
    patch.setattr(history, "WORKFLOWS_READ", 20)


def trust_numbers(patch: Patch) -> None:
    """Take every number in metadata as well-formed."""
    patch.setattr(publication, "number", lambda commit, key: int(commit.metadata.get(key) or 0))


def compare_sizes_only(patch: Patch) -> None:
    """Compare the keys and sizes of the staging commit with the plan, not the checksums."""
    verify, stat_objects = Publisher.verify_staging, PatientStore.stat_objects

    def verified(self: Publisher, command: do.VerifyStaging) -> on.Event:
        wanted = {key: upload.checksum for key, upload in self.planned(command).items() if upload is not None}

        def stat(lakefs: PatientStore, repository: str, commit: str, keys: Sequence[str]) -> Any:
            found = stat_objects(lakefs, repository, commit, keys)
            return {key: replace(entry, checksum=wanted.get(key, entry.checksum)) for key, entry in found.items()}

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(PatientStore, "stat_objects", stat)
            return verify(self, command)

    patch.setattr(Publisher, "verify_staging", verified)


def deliver_without_a_check(patch: Patch) -> None:
    """Deliver what the cache has, whatever its bytes are."""

    def deliver(self: Shelf, wanted: ObjectId, name: str, source: int, destination: int) -> bool:
        copy_bytes(source, destination, wanted.size)
        return True

    patch.setattr(Shelf, "_deliver", deliver)


def fail_on_a_full_disk(patch: Patch) -> None:
    """Let a full disk cost the attempt a retry."""
    patch.setattr(perago.driver.attempt, "is_of_this_host", lambda *_: False)


def scan_by_path(patch: Patch) -> None:
    """Scan whatever directory has the path of the workspace."""

    def scan(root: Path, held: int | None = None) -> Tree:
        return scan_tree(root)

    patch.setattr(perago.driver.local_workspace, "scan_tree", scan)


def revert_whole_publications(patch: Patch) -> None:
    """Undo a publication together with what it has undone itself."""
    patch.setattr(Publisher, "_own_changes", lambda _, repository, stale: stale.id)


def read_no_removed_paths(patch: Patch) -> None:
    """Let `reads` pass over what both sides have done the same way."""

    def overlap(*arguments: Any, **options: Any) -> Overlap:
        found = find_overlap(*arguments, **options)
        conflicts = {key: why for key, why in found.conflicts.items() if key not in found.shared}
        return replace(found, conflicts=conflicts)

    patch.setattr(perago.driver.publisher, "find_overlap", overlap)


def refuse_ones_own_branch(patch: Patch) -> None:
    """Take the answer to the second copy of a call for an answer to the first one."""

    def create_branch(self: Publisher, command: do.CreateStagingBranch) -> on.Event:
        store = self._lakefs.store
        self._lakefs.retry(lambda: store.create_branch(command.repository, command.branch, command.source))
        return on.StagingBranchCreated()

    patch.setattr(Publisher, "create_staging_branch", create_branch)


FIXES: dict[str, Callable[[Patch], None]] = {
    "staged changes that vanish": believe_that_nothing_was_staged,
    "a question is asked once": ask_without_end,
    "every workflow in the range is read": read_few_workflows,
    "malformed metadata": trust_numbers,
    "checksums of the staging commit": compare_sizes_only,
    "checksums of the cache": deliver_without_a_check,
    "a full disk costs no retry": fail_on_a_full_disk,
    "identity of the workspace directory": scan_by_path,
    "own changes of a stale publication": revert_whole_publications,
    "`reads` of a path that both have removed": read_no_removed_paths,
    "a call that is delivered twice": refuse_ones_own_branch,
}
"""By name, what takes a fix away."""
