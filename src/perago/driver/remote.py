"""The lakeFS half of an attempt: each method carries out one command on the store and answers with its event."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.fence import FENCE_PATH, fence_state
from perago.attempt.outcome import named, short
from perago.driver.fencing import FenceProofs, fence_upload, is_enforced
from perago.driver.limits import Limits
from perago.driver.local import LocalWorkspace
from perago.driver.observer import Observer
from perago.driver.patience import LATE, ask
from perago.ports import (
    Clock,
    Commit,
    MergeRefused,
    NotFound,
    NothingToCommit,
    ServiceError,
    Unavailable,
    Unclear,
    Upload,
    WorkspaceStore,
)

_COMMIT_TRIES = 3
_FIRST_PAUSE = 1.0
"""Seconds to wait after a write that got no answer; four times as long after the next one."""


class Publisher:
    """Talks to the store. `ServiceError`s that settle nothing are left to the caller."""

    def __init__(
        self,
        store: WorkspaceStore,
        clock: Clock,
        limits: Limits,
        observer: Observer,
        merge_within: float | None,
        proofs: FenceProofs,
    ) -> None:
        """`merge_within`: the task's own limit for the answer to a merge, in seconds."""
        self._store = store
        self._proofs = proofs
        self._clock = clock
        self._limits = limits
        self._observer = observer
        self._merge_within = merge_within
        self._merge_pause = _FIRST_PAUSE

    def read_branch(self, command: do.ReadBranch) -> on.Event:
        """Read the commits after the input ref. On arrival and around a merge everything depends on the answer, so
        it is asked for again for a while."""
        where, limit, start = command.workspace, self._limits.history, self._clock.now()
        since = ask(
            lambda: self._store.history(where.repository, where.branch, until=where.ref, limit=limit),
            self._clock,
            self._limits.answer_patience,
        )
        late = abs(self._clock.now() - start) > LATE
        reaches_ref = not since or since[-1].parents[:1] == (where.ref,)
        if not reaches_ref:  # tells an unknown commit from one of another branch
            ask(lambda: self._store.get_commit(where.repository, where.ref), self._clock, self._limits.answer_patience)
        return on.BranchRead(since, reaches_ref, late)

    def fetch(self, command: do.Fetch, local: LocalWorkspace, key_prefix: str) -> None:
        """Download the workspace and remember it as it came."""
        where = command.workspace

        def progress(objects: int, size: int) -> None:
            self._observer.transferred("download", objects, size, local.total_objects, local.total_size)

        placements = self._store.download(where.repository, where.ref, key_prefix, local.layout, progress)
        local.record(placements)

    def read_head(self, command: do.ReadHead) -> on.Event:
        """Read the commit that an empty fence commit is to be put on."""
        return on.HeadRead(self._commit(command.repository, command.commit_id))

    def create_branch(self, command: do.CreateStagingBranch) -> on.Event:
        """Create the staging branch."""
        self._store.create_branch(command.repository, command.branch, command.source)
        return on.StagingBranchCreated()

    def revert_stale(self, command: do.RevertStale) -> on.Event:
        """Undo publications on the staging branch, which is this delivery's alone, newest first."""
        head = command.source
        for stale in command.stale:
            head = self._revert(command, stale, head)
        if strange := self._changed(command.repository, command.input_ref, head):
            return on.Failed(
                f"Undoing the stale publications on branch {command.branch} of {command.repository} did not give the "
                f"tree of the input ref: {named(sorted(strange))} differ. Nothing was published.",
                terminal=True,
            )
        return on.Reverted(self._commit(command.repository, head))

    def _revert(self, command: do.RevertStale, stale: str, head: str) -> str:
        """Undo one publication; returns the new head. After an unclear answer the head tells."""
        for number in range(_COMMIT_TRIES):
            try:
                self._store.revert(command.repository, command.branch, stale)
                break
            except NothingToCommit:  # an empty fence commit has nothing to undo (`reference/lakefs.md` 7)
                return head
            except (Unclear, Unavailable):
                self._clock.sleep(_FIRST_PAUSE * 4**number)
                if self._commit(command.repository, command.branch).id != head:
                    break
                if number == _COMMIT_TRIES - 1:
                    raise
        return self._commit(command.repository, command.branch).id

    def verify(self, command: do.VerifyStaging, planned: Collection[str]) -> on.Event:
        """The staging commit must differ from what it was built on in the planned keys, and in nothing else."""
        found = self._changed(command.repository, command.built_on, command.commit_id)
        if found == frozenset(planned):
            return on.StagingVerified()
        wrong = sorted(found.symmetric_difference(planned))
        return on.Failed(
            f"The staging commit {short(command.commit_id)} of {command.repository} does not hold exactly the changes "
            f"of this attempt: {named(wrong)} should not differ. Nothing was published.",
            terminal=False,
        )

    def check_publish_fence(self, command: do.CheckPublishFence) -> on.Event:
        """Look for the publish fence in a commit."""
        found = ask(
            lambda: self._store.checksum(command.repository, command.commit_id, FENCE_PATH),
            self._clock,
            self._limits.answer_patience,
        )
        return on.PublishFenceSeen(fence_state(found))

    def stage_fence(self, command: do.StageFence) -> on.Event:
        """Upload the publish fence."""
        with fence_upload() as upload:
            self._store.upload(command.repository, command.branch, [upload])
        return on.FenceStaged()

    def try_publish_fence(self, command: do.TryPublishFence) -> on.Event:
        """Send the challenge, unless it was sent a short time ago. Without an answer it is sent again for a while: it
        can only be refused, or add a commit to the attempt's own staging branch."""
        where, source, branch = command.repository, command.source, command.branch
        enforced = self._proofs.known(where)
        if enforced is None:
            enforced = ask(
                lambda: is_enforced(self._store, where, source, branch, command.metadata, self._merge_within),
                self._clock,
                self._limits.answer_patience,
            )
            self._proofs.note(where, enforced=enforced)
        return on.PublishFenceTried(enforced)

    def stage(self, command: do.StageChanges, uploads: Sequence[Upload], deletions: Sequence[str]) -> on.Event:
        """Deletions first: a file may take the place of a directory, and the other way round."""
        total = sum(upload.size for upload in uploads)

        def progress(objects: int, size: int) -> None:
            self._observer.transferred("upload", objects, size, len(uploads), total)

        if deletions:
            self._store.delete_objects(command.repository, command.branch, deletions)
        if uploads:
            self._store.upload(command.repository, command.branch, uploads, progress)
        return on.ChangesStaged()

    def commit(self, command: do.CommitStaging) -> on.Event:
        """Commit what is staged. The branch is this delivery's alone, so a head that moved is this commit."""
        for number in range(_COMMIT_TRIES):
            try:
                commit = self._store.commit(command.repository, command.branch, command.message, command.metadata)
                return on.StagingCommitted(commit)
            except NothingToCommit:
                head = self._commit(command.repository, command.branch)
                return on.NothingStaged() if head.id == command.source else on.StagingCommitted(head)
            except (Unclear, Unavailable):
                self._clock.sleep(_FIRST_PAUSE * 4**number)
                head = self._commit(command.repository, command.branch)
                if head.id != command.source:
                    return on.StagingCommitted(head)
                if number == _COMMIT_TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def merge(self, command: do.Merge) -> on.Event:
        """Send the merge once. Whatever does not settle it is for the protocol to look into, after a pause in which
        lakeFS may end it."""
        try:
            merged = self._store.merge(
                command.repository,
                command.source,
                command.branch,
                command.message,
                command.metadata,
                allow_empty=command.allow_empty,
                within=self._merge_within,
            )
        except MergeRefused as error:
            return on.MergeDenied(error.reason, error.detail)
        except (Unclear, Unavailable) as error:
            self._clock.sleep(self._merge_pause)
            self._merge_pause *= 4
            return on.MergeUnclear(str(error))
        return on.Merged(merged)

    def read_publication(self, command: do.ReadPublication) -> on.Event:
        """Read the merge commit back."""
        return on.PublicationRead(self._commit(command.repository, command.commit_id))

    def find_leftovers(self, command: do.FindLeftovers) -> on.Event:
        """List the staging branches of this step. Asked once: without an answer there may be some."""
        return on.LeftoversFound(self._store.list_branches(command.repository, command.prefix))

    def remove_branches(self, command: do.RemoveStagingBranches) -> Iterator[str]:
        """Delete staging branches; gives what stood in the way of each."""
        for branch in command.branches:
            try:
                self._store.delete_branch(command.repository, branch)
            except NotFound:
                continue
            except ServiceError as error:
                yield f"The staging branch {branch} of {command.repository} is left behind. {error}"

    def _commit(self, repository: str, ref: str) -> Commit:
        return ask(lambda: self._store.get_commit(repository, ref), self._clock, self._limits.answer_patience)

    def _changed(self, repository: str, left: str, right: str) -> frozenset[str]:
        patience = self._limits.answer_patience
        return ask(lambda: self._store.changed_keys(repository, left, right), self._clock, patience)
