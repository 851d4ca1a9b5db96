"""`Publisher`: each method carries out one command on lakeFS and answers with its event."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import history
from perago.attempt.outcome import cannot_undo
from perago.attempt.publication import FENCE_PATH, WORKFLOW_ID, fence_in, head_expected_instead, is_built_from
from perago.attempt.refusals import named, short
from perago.driver.delivery import LATE
from perago.driver.fencing import FenceProofs, fence_upload, is_enforced
from perago.driver.local_workspace import LocalWorkspace
from perago.driver.patient_store import PatientStore
from perago.driver.rebase import Rebase
from perago.ports import (
    AccessDenied,
    Commit,
    Forbidden,
    MergeRefusal,
    MergeRefused,
    NotFound,
    NothingToCommit,
    ObjectEntry,
    Refused,
    RevertConflict,
    ServiceError,
    Unavailable,
    Unclear,
    Upload,
)
from perago.retry import BackOff, unless_done
from perago.settings.sources import PublishFence
from perago.workspace.layout import ListingBound

_CHALLENGE_SECONDS = 30.0
"""Seconds from the first challenge without an answer to the last one that is sent."""
_MERGE_BACK_OFF = BackOff(1.0, math.inf, factor=4.0)
"""After merges that got no answer."""


class Publisher:
    """Talks to lakeFS, and waits for it while it does not answer. What is repeated is harmless: it asks, or goes to the
    delivery's own staging branch only. The merge is the exception, and is sent once. `ServiceError`s that settle
    nothing are left to the caller."""

    def __init__(
        self,
        lakefs: PatientStore,
        local: LocalWorkspace,
        proofs: FenceProofs,
        note: Callable[[str | None], None],
        *,
        root: Path,
        merge_within: float | None,
    ) -> None:
        """`note` gets what an operator should know, or None. `root`: the workspace root. `merge_within`: the task's own
        limit for the answer to a merge, in seconds."""
        self._lakefs = lakefs
        self._store = lakefs.store
        self._local = local
        self._proofs = proofs
        self._note = note
        self._merge_within = merge_within
        self._unclear_merges: list[str] = []
        self._range: tuple[Commit, ...] = ()
        """The commits after the input ref, as they were read last."""
        self.fence_refusals = 0
        """Merges that were refused because the head had moved."""
        self.from_cache = 0
        """Objects of the workspace that were on this machine before."""
        self.rebase = Rebase(lakefs, local, root=root, merge_within=merge_within)

    def resolve_join(self, command: do.ResolveJoin) -> on.Event:
        """Find the commit that continues all the others, from as much of the first-parent history as that takes."""

        def read(commit: str) -> tuple[Commit, ...]:
            return self._lakefs.retry(lambda: self._store.ancestry(command.repository, commit, limit=history.PAGE))

        try:
            return on.JoinResolved(history.newest_of(command.commits, read))
        except history.NotOneLine as error:
            return on.CommandFailed(str(error), terminal=True)
        except NotFound as error:
            return on.CommandFailed(history.unknown(str(error), command.commits), terminal=True)

    def read_branch(self, command: do.ReadBranch) -> on.Event:
        """Read the commits after the input ref."""
        where, start = command.workspace, self._lakefs.clock.now()
        since = self._history(where)
        late = abs(self._lakefs.clock.now() - start) > LATE
        reaches_ref = not since or since[-1].parents[:1] == (where.ref,)
        if not reaches_ref:  # tells an unknown commit from one of another branch
            self._lakefs.get_commit(where.repository, where.ref)
        self._range = since if reaches_ref else ()
        head = self._lakefs.get_commit(where.repository, where.ref) if command.with_head and not since else None
        return on.BranchRead(since, reaches_ref, late, head)

    def _history(self, where: on.WorkspaceRef) -> tuple[Commit, ...]:
        """The commits after the input ref. What lies below a commit never changes, so only what is above the last head
        is read, unless the branch was moved back meanwhile."""

        def read(until: str) -> tuple[Commit, ...]:
            limit = self._lakefs.limits.history
            return self._lakefs.retry(
                lambda: self._store.history(where.repository, where.branch, until=until, limit=limit)
            )

        known = self._range
        if known:
            new = read(known[0].id)
            if not new or new[-1].parents[:1] == (known[0].id,):
                return (*new, *known)
        return read(where.ref)

    def list_objects(self, command: do.ListObjects) -> on.Event:
        """Make the attempt directory, list the workspace, and decide where its files go."""
        where, local = command.workspace, self._local
        local.create()
        prefix, most = local.key_prefix, self._lakefs.limits.max_workspace_objects

        def read() -> Sequence[ObjectEntry]:
            return self._store.list_objects(where.repository, where.ref, prefix, ListingBound(prefix, most).check)

        local.lay_out(self._lakefs.retry(read))
        self._note(local.blindness())
        return on.ObjectsListed()

    def fetch(self, command: do.Fetch) -> on.Event:
        """Download the workspace and remember it as it came. Files that have come stay when a download breaks."""
        where, local, arrived = command.workspace, self._local, 0
        local.make_room()

        def progress(objects: int, size: int) -> None:
            nonlocal arrived
            arrived += 1
            objects, size = local.landed_objects + objects, local.landed_size + size
            self._lakefs.observer.transferred("download", objects, size, local.total_objects, local.total_size)

        self.from_cache = self._lakefs.retry(
            lambda: self._store.download(where.repository, where.ref, local.path, local.missing(), progress),
            progress=lambda: arrived,
        )
        local.record()
        return on.Fetched()

    def create_staging_branch(self, command: do.CreateStagingBranch) -> on.Event:
        """Create the staging branch. No other delivery can choose its random name. So a branch of this name was created
        by an earlier copy of this call, such as one that a proxy has sent twice."""

        def create() -> None:
            try:
                self._store.create_branch(command.repository, command.branch, command.source)
            except Refused as error:
                try:
                    found = self._store.get_commit(command.repository, command.branch).id
                except NotFound:
                    raise error from None
                if found != command.source:
                    raise

        self._lakefs.retry(create)
        return on.StagingBranchCreated()

    def revert_stale(self, command: do.RevertStale) -> on.Event:
        """Undo what stale publications have changed themselves, on the staging branch, which is this delivery's alone.

        A publication that has undone others is a merge of both: to revert it would bring back what it has undone. Its
        staging commit has its own changes alone, so this is what is reverted.
        """
        where, head, is_whole = command.repository, command.source, True
        brought: list[set[str]] = []
        wrong = set[str]()
        changes = [self._own_changes(where, stale) for stale in command.stale]
        if None in changes:
            odd = command.stale[changes.index(None)]
            source = f"its second parent {short(odd.parents[-1])} is not its staging commit, or has different files"
            return _not_undone(command, f"{short(odd.id)} is not as perago publishes, because {source}")
        for own in changes:
            touched, left, is_undone = set[str](), set[str](), True
            if own:
                try:
                    reverted = self._revert(command, own, head)
                except RevertConflict:
                    if not command.among_others:
                        raise
                else:
                    is_undone = reverted.id != head
                    if is_undone and reverted.parents[:1] != (head,):  # the branch was reset
                        return on.NothingStaged()
                    head, is_whole = reverted.id, is_whole and is_undone
            if command.among_others and own:
                touched, left = self.rebase.not_undone(where, own, head)
                if left and not is_undone:
                    return on.NothingStaged()
            brought.append(touched)
            wrong |= left
        if command.among_others:
            return self._undone_among_others(command, head, brought, wrong)
        if wrong := set(self._lakefs.diff(where, command.input_ref, head)):
            if not is_whole:
                return on.NothingStaged()
            return on.CommandFailed(
                f"Undoing the stale publications on branch {command.branch} of {where} did not give the tree of the "
                f"input ref: {named(sorted(wrong))} differ."
                + ("" if command.merge_open else " Nothing was published."),
                terminal=True,
            )
        return on.Reverted(self._lakefs.get_commit(where, head))

    def _own_changes(self, repository: str, stale: do.StalePublication) -> str | None:
        """The commit whose difference to its first parent is what a publication has changed itself. It is empty if the
        publication has changed nothing, or only undone others, and None if a person has made the commit.

        Only a publication that is built from its staging commit is reverted. So is one that came on another head than
        expected, if it changed only its own files there. Publications of earlier versions that changed nothing
        themselves have no staging commit."""
        known = next((commit for commit in self._range if commit.id == stale.id), None)
        found, merged = (
            known or self._lakefs.get_commit(repository, stale.id),
            self._lakefs.get_commit(repository, stale.parents[-1]),
        )
        if is_built_from(found, merged) or self._has_merged_as_staged(repository, found, merged):
            return merged.id if stale.has_undone else found.id
        has_none = stale.has_undone or len(set(stale.parents)) == 1
        return "" if has_none and merged.meta_range_id == found.meta_range_id else None

    def _has_merged_as_staged(self, repository: str, found: Commit, merged: Commit) -> bool:
        """Whether publication `found`, which came on another head than expected, has made of that head only what its
        staging commit `merged` made of the expected one."""
        expected = head_expected_instead(found, merged)
        if expected is None:
            return False
        touched = set(self._lakefs.diff(repository, found.parents[0], found.id))
        try:
            staged = set(self._lakefs.diff(repository, expected, merged.id))
        except NotFound:  # a person has written this head
            return False
        return touched <= staged and not touched & set(self._lakefs.diff(repository, merged.id, found.id))

    def _undone_among_others(
        self, command: do.RevertStale, head: str, brought: list[set[str]], wrong: set[str]
    ) -> on.Event:
        """Make sure that exactly what the stale publications `brought`, each of them, is undone in `head`, and that no
        living commit above them has changed it, too. `wrong`: keys that are not as they were before these."""
        where = command.repository
        changed = set(self._lakefs.diff(where, command.source, head))
        wrong = wrong | (changed - set().union(*brought))
        undone = changed & set().union(*brought)
        is_restored = any(stale.has_undone for stale in command.stale)
        others = command.others if undone or wrong or is_restored else ()
        theirs = [set(self._lakefs.diff(where, parent, commit)) - {FENCE_PATH} for commit, parent in others]
        for stale, touched in zip(command.stale, brought, strict=True):
            above = theirs[: stale.above]
            wrong |= undone & touched & set().union(*above)
            if stale.has_undone and above:
                wrong |= self._restored(where, stale, head, touched, zip(others, above, strict=False))
        if wrong:
            by_others = wrong & set().union(*theirs)
            keys = named(sorted(by_others or wrong))
            why = f"others have changed {keys} since" if by_others else f"reverting them did not restore {keys}"
            return _not_undone(command, why)
        held = undone if command.shared is None else undone & command.shared
        return on.Reverted(self._lakefs.get_commit(where, head), frozenset(held - {FENCE_PATH}))

    def _restored(
        self,
        repository: str,
        stale: do.StalePublication,
        head: str,
        touched: set[str],
        others: Iterable[tuple[tuple[str, str], set[str]]],
    ) -> set[str]:
        """The keys at which people have brought back what `stale` had undone, by hand. This is of a run before, too."""
        undone = set(self._lakefs.diff(repository, stale.parents[0], stale.id)) - touched
        back = undone - set(self._lakefs.diff(repository, stale.parents[0], head))
        found = [(commit, back & keys) for (commit, _), keys in others if back & keys]
        by_hand = (
            keys for commit, keys in found if WORKFLOW_ID not in self._lakefs.get_commit(repository, commit).metadata
        )
        return set().union(*by_hand)

    def _revert(self, command: do.RevertStale, stale: str, head: str) -> Commit:
        """Undo one publication; returns the new head. Where an earlier call got no answer, the head tells."""
        tried = False

        def revert() -> Commit:
            nonlocal tried
            again, tried = tried, True
            if not again or self._store.get_commit(command.repository, command.branch).id == head:
                # An empty fence commit, or one that another try has undone, has nothing to revert.
                with suppress(NothingToCommit):
                    self._store.revert(command.repository, command.branch, stale)
            return self._store.get_commit(command.repository, command.branch)

        return self._lakefs.retry(revert)

    def verify_staging(self, command: do.VerifyStaging) -> on.Event:
        """The staging commit must differ from what it was built on in the planned keys, and in nothing else."""
        planned = self.planned(command)
        found = self._lakefs.diff(command.repository, command.built_on, command.commit_id)
        wrong = {key for key in {*found, *planned} if key not in found or key not in planned}
        sizes = {key: upload and upload.size for key, upload in planned.items()}
        wrong |= {key for key, size in sizes.items() if key in found and found[key] != size}
        put = {key: upload.checksum for key, upload in planned.items() if upload is not None}
        objects: Mapping[str, ObjectEntry] = {}
        if put and not wrong:
            objects = self._lakefs.stat_objects(command.repository, command.commit_id, put)
            wrong = {key for key, checksum in put.items() if key not in objects or objects[key].checksum != checksum}
        if wrong:
            return on.StagingDiffers(tuple(sorted(wrong)))
        taken = (
            command.held & set(self._lakefs.diff(command.repository, command.head, command.commit_id))
            if command.held
            else ()
        )
        if taken:
            return on.StagingDiffers(tuple(sorted(taken)), held=True)
        return on.StagingVerified(objects[FENCE_PATH].physical_address if command.fence else "")

    def planned(self, command: do.VerifyStaging) -> Mapping[str, Upload | None]:
        """Return the file at each key that the staging commit must change; None: removed."""
        planned = dict[str, Upload | None]()
        if command.fence:
            with fence_upload() as upload:
                planned[FENCE_PATH] = upload
        if command.changes:
            uploads, deletions = self._local.to_stage(command.shared)
            planned |= {upload.key: upload for upload in uploads} | dict.fromkeys(deletions)
        return planned

    def check_publish_fence(self, command: do.CheckPublishFence) -> on.Event:
        """Look for the publish fence in a commit."""
        found = self._lakefs.stat_objects(command.repository, command.commit_id, [FENCE_PATH])
        fence = found.get(FENCE_PATH)
        return on.PublishFenceSeen(fence_in(found), fence.physical_address if fence else "")

    def stage_fence(self, command: do.StageFence) -> on.Event:
        """Upload the publish fence."""
        try:
            with fence_upload() as upload:
                self._lakefs.retry(lambda: self._store.upload(command.repository, command.branch, [upload]))
        except Forbidden as error:
            return _fence_refused("put beside the changes", error)
        return on.FenceStaged()

    def try_publish_fence(self, command: do.TryPublishFence) -> on.Event:
        """Send the challenge, unless it was sent a short time ago. Without an answer it is sent again for a while: it
        can only be refused, or add a commit to the attempt's own staging branch. Where no answer comes, as behind
        another team's slow hook, it is not known whether the server obeys."""
        where, source, branch = command.repository, command.source, command.branch
        known = self._proofs.known(where, command.fence)
        if known or (known is False and self._lakefs.limits.publish_fence is not PublishFence.REQUIRED):
            return on.PublishFenceTried(known)
        try:
            enforced = self._lakefs.retry(
                lambda: is_enforced(self._store, where, source, branch, command.metadata, self._merge_within),
                patience=lambda error: (
                    _CHALLENGE_SECONDS if isinstance(error, Unclear) else self._lakefs.patience(error)
                ),
            )
        except Unclear:
            return on.PublishFenceTried(None)
        except (Forbidden, MergeRefused) as error:
            return _fence_refused("tried", error)
        self._proofs.note(where, command.fence, enforced=enforced)
        return on.PublishFenceTried(enforced)

    def stage_changes(self, command: do.StageChanges) -> on.Event:
        """Deletions first: a file may take the place of a directory, and the other way round. An upload that broke goes
        on with the files that are not staged yet."""
        uploads, deletions = self._local.to_stage(command.shared)
        total, size, lock = sum(upload.size for upload in uploads), 0, threading.Lock()
        staged: set[str] = set()

        def on_staged(upload: Upload) -> None:
            nonlocal size
            with lock:
                staged.add(upload.key)
                size += upload.size
                self._lakefs.observer.transferred("upload", len(staged), size, len(uploads), total)

        def upload_rest() -> None:
            rest = [upload for upload in uploads if upload.key not in staged]
            self._store.upload(command.repository, command.branch, rest, on_staged)

        if deletions:
            self._lakefs.retry(lambda: self._store.delete_objects(command.repository, command.branch, deletions))
        if uploads:
            self._lakefs.retry(upload_rest, progress=lambda: len(staged))
        return on.ChangesStaged()

    def commit_staging(self, command: do.CommitStaging) -> on.Event:
        """Commit what is staged. The branch is this delivery's alone, so a head that moved is this commit."""

        def look() -> on.Event | None:
            head = self._store.get_commit(command.repository, command.branch)
            return None if head.id == command.source else on.StagingCommitted(first(head))

        def first(made: Commit) -> Commit:
            """An empty commit that is sent twice is made twice: the first one is on the source."""
            while command.allow_empty and command.metadata.items() <= made.metadata.items():
                if made.parents == (command.source,):
                    break
                made = self._store.get_commit(command.repository, made.parents[0])
            return made

        def commit() -> on.Event:
            try:
                made = self._store.commit(
                    command.repository,
                    command.branch,
                    command.message,
                    command.metadata,
                    allow_empty=command.allow_empty,
                )
                return on.StagingCommitted(first(made))
            except NothingToCommit:
                return look() or on.NothingStaged()

        return self._lakefs.retry(unless_done(look, commit))

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
            self.fence_refusals += error.reason is MergeRefusal.HEAD_MOVED
            return on.MergeRefused(error.reason, error.detail)
        except Forbidden:
            raise
        except (Unclear, Unavailable, AccessDenied) as error:
            self._lakefs.clock.sleep(_MERGE_BACK_OFF.pause(self._unclear_merges.count(command.source)))
            self._unclear_merges.append(command.source)
            return on.MergeUnclear(str(error))
        return on.Merged(merged)

    def read_publication(self, command: do.ReadPublication) -> on.Event:
        """Read the merge commit back."""
        return on.PublicationRead(self._lakefs.get_commit(command.repository, command.commit_id))

    def find_leftovers(self, command: do.FindLeftovers) -> on.Event:
        """List the staging branches of this step."""
        return on.LeftoversFound(
            self._lakefs.retry(lambda: self._store.list_branches(command.repository, command.prefix))
        )

    def remove_staging_branches(self, command: do.RemoveStagingBranches) -> on.Event:
        """Delete staging branches, and note what stood in the way of each."""
        for branch in command.branches:
            try:
                self._store.delete_branch(command.repository, branch)
            except NotFound:
                continue
            except ServiceError as error:
                self._note(f"The staging branch {branch} of {command.repository} is left behind. {error}")
        return on.StagingBranchesRemoved()


def _not_undone(command: do.RevertStale, why: str) -> on.CommandFailed:
    reason = cannot_undo(command.repository, [stale.id for stale in command.stale], why, merge_open=command.merge_open)
    return on.CommandFailed(reason, terminal=True)


def _fence_refused(how: str, error: ServiceError) -> on.CommandFailed:
    advice = f"Allow these credentials to write {FENCE_PATH} and to merge into branches that begin with perago-"
    what = f"The publish fence could not be {how}: {error}."
    return on.CommandFailed(f"{what} {advice}, or set PERAGO_PUBLISH_FENCE=off. Nothing was published.", terminal=False)
