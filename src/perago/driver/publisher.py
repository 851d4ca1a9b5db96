"""Carry out the commands of an attempt that need lakeFS. `PatientStore` waits for a server that does not answer;
`Publisher` and `Rebase` carry out the commands. Each of their methods returns an event.

A rebase applies a task's changes to a head that others have advanced.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import joins
from perago.attempt.publication import (
    FENCE_PATH,
    fence_in,
    head_expected_instead,
    is_built_from,
    makes_claims,
)
from perago.driver.delivery import LATE
from perago.driver.fencing import FenceProofs, fence_upload, is_enforced
from perago.driver.local_workspace import LocalWorkspace
from perago.driver.runtime import Ahead, CleanUp, Interrupted, Limits, Observer, SentAhead
from perago.ports import (
    AccessDenied,
    Clock,
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
    WorkspaceStore,
)
from perago.retry import BackOff, Retries, retry, unless_done
from perago.settings.sources import PublishFence
from perago.workspace.changes import find_overlap
from perago.workspace.keys import is_reserved
from perago.workspace.layout import ListingBound

Answer = TypeVar("Answer")


class PatientStore:
    """lakeFS with retries while it does not answer, so that an outage does not discard the result of a function."""

    def __init__(
        self,
        store: WorkspaceStore,
        clock: Clock,
        limits: Limits,
        observer: Observer,
        *,
        until: float,
        ahead: Ahead | None = None,
    ) -> None:
        """`until`: the end of all waits, by `clock`."""
        self.store = store
        self.clock = clock
        self.until = until
        self.limits = limits
        self.observer = observer
        self.ahead: Ahead = ahead or Ahead()

    def begin(self, call: Callable[[], Answer]) -> SentAhead[Answer]:
        """Send a call ahead, as `Ahead.begin`. It is repeated like `retry` if lakeFS did not answer."""
        return self.ahead.begin(call, partial(self.retry, call))

    def retry(
        self,
        call: Callable[[], Answer],
        progress: Callable[[], int] = lambda: 0,
        patience: Callable[[ServiceError], float] | None = None,
    ) -> Answer:
        """Return the answer to a call that is harmless to repeat. `progress` and `patience` as in `perago.retry`."""
        on_wait, retries = self.observer.waiting, Retries(patience or self.patience)
        return retry(call, retries, self.clock, until=self.until, progress=progress, on_wait=on_wait)

    def patience(self, error: ServiceError) -> float:
        """Return the patience for an error. A refusal by lakeFS itself is final, but rejected credentials can be caused
        by a proxy."""
        if isinstance(error, Forbidden):
            return 0.0
        if isinstance(error, AccessDenied):
            return self.limits.answer_patience
        return self.limits.outage_patience if isinstance(error, Unavailable | Unclear) else 0.0

    def get_commit(self, repository: str, ref: str) -> Commit:
        """As the store does."""
        return self.retry(lambda: self.store.get_commit(repository, ref))

    def diff(self, repository: str, left: str, right: str) -> Mapping[str, int | None]:
        """As the store does."""
        return self.retry(lambda: self.store.diff(repository, left, right))

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ObjectEntry]:
        """As the store does."""
        return self.retry(lambda: self.store.stat_objects(repository, commit, keys))


_TURNS = BackOff(0.1, 2.0, jitter=True)
"""Delays after lost races with other hosts. They stay short, because each winner leaves the race."""
TURNS_FILE = ".turns"
"""In the workspace root."""
TURN_SECONDS = 10.0
_LOOK_SECONDS = 0.02
AHEAD_SECONDS = 600.0
"""A staging branch that was created longer ago is looked for again, because `perago gc` removes one that has been empty
for an hour."""
_LATE_CREATION_SECONDS = 2.0
"""A branch whose creation was cut short by a loss of the delivery can still appear for so long."""
_COMMITS_SEARCHED = 50


class HostTurn:
    """A turn to publish: of the attempts that share a workspace root and a branch, one publishes at a time. It only
    avoids lost races, because the publish fence guards the branch. So an attempt that waits too long continues without
    it.

    A byte of one file is locked for each branch. The lock ends with its process.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file: int | None = None

    def take(self, branch: str, clock: Clock) -> None:
        """Wait for the turn, at most `TURN_SECONDS`."""
        byte = int.from_bytes(hashlib.sha256(branch.encode(errors="surrogatepass")).digest()[:4], "big") >> 1
        try:
            self._file = os.open(self._root / TURNS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return
        waited = 0.0
        while waited < TURN_SECONDS:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):  # another has it
                clock.sleep(_LOOK_SECONDS)
                waited += _LOOK_SECONDS
            except OSError:  # a file system without locks
                return
            else:
                return

    def end(self) -> None:
        """Release the turn, if there is one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Rebase:
    """Carries out the commands of a rebase."""

    def __init__(self, lakefs: PatientStore, local: LocalWorkspace, *, root: Path, merge_within: float | None) -> None:
        """`root`: the workspace root, which the attempts of this host share. `merge_within`: the task's limit for the
        answer to a merge, in seconds."""
        self._lakefs = lakefs
        self._store = lakefs.store
        self._local = local
        self._merge_within = merge_within
        self._turn = HostTurn(root)
        self._compared: str | None = None
        self._known: dict[str, str | None] = {}
        """Checksums of keys in the commit that was compared last."""

    def end_turn(self) -> None:
        """Let the next attempt of this host publish."""
        self._turn.end()

    def compare_with_others(self, command: do.CompareWithOthers) -> on.Event:
        """Compare the changes of others with the task's own changes, and evaluate the post guardrails on both
        together."""
        local = self._local
        changed_keys = self._lakefs.diff(command.repository, command.input_ref, command.built_on)
        others = {key: size for key, size in changed_keys.items() if not is_reserved(key)}
        put = {upload.key: upload for upload in local.uploads()}
        overlap = find_overlap(
            {key: upload.size for key, upload in put.items()},
            local.deletions(),
            others,
            reads=local.reads,
            key_prefix=local.key_prefix,
            names=local.names() if local.changes else (),
        )
        conflicts, shared = dict(overlap.conflicts), set(overlap.shared)
        checksums = self._checksums(command.repository, command.built_on, overlap.undecided)
        for key in sorted(overlap.undecided):
            if checksums[key] == put[key].checksum:
                shared.add(key)
            else:
                conflicts[key] = "was changed on both sides"
        planned = {*put, *local.deletions()}
        violations = local.check_combined(others, planned) if local.changes and not conflicts else ()
        return on.OthersCompared(conflicts, frozenset(shared), violations, fence_changed=FENCE_PATH in changed_keys)

    def find_commits(self, command: do.FindCommits) -> on.Event:
        """Find the newest commit that changed each key, among the last ones. It is for a message, so a missing answer
        is not a failure."""
        return on.CommitsFound(self._last_changed(command.repository, command.commits, command.keys))

    def _last_changed(self, repository: str, commits: Sequence[tuple[str, str]], keys: Sequence[str]) -> dict[str, str]:
        last_changes: dict[str, str] = {}
        with suppress(ServiceError):
            for commit, parent in commits[:_COMMITS_SEARCHED]:
                missing = [key for key in keys if key not in last_changes]
                if not missing:
                    break
                changed = self._store.diff(repository, parent, commit)
                last_changes |= {key: commit for key in missing if key in changed}
        return last_changes

    def read_adopted(self, command: do.ReadAdopted) -> on.Event:
        """Read the staging commit of the publication, and the later changes of its files. The latter are for a remark,
        so a missing answer is not a failure."""
        repository, adopted = command.repository, command.commit
        source = self._lakefs.get_commit(repository, adopted.parents[1])
        changed = dict[str, str]()
        with suppress(ServiceError):
            keys = {*self._store.diff(repository, adopted.parents[0], adopted.id)} if command.above else set()
            keys &= {*self._store.diff(repository, adopted.id, command.head)} if keys else set()
            changed = dict.fromkeys(sorted(keys - {FENCE_PATH}), "")
            changed |= self._last_changed(repository, command.above, tuple(changed))
        return on.AdoptedRead(adopted, source, changed)

    def await_turn(self, command: do.AwaitTurn) -> on.Event:
        """Wait, so that others can finish."""
        if not command.tries:
            self._turn.take(f"{command.repository}/{command.branch}", self._lakefs.clock)
            return on.TurnCame()
        pause = _TURNS.pause(command.tries - 1)
        if self._lakefs.clock.now() + pause > self._lakefs.until:
            return on.TurnCame(in_time=False)
        self._lakefs.clock.sleep(pause)
        return on.TurnCame()

    def carry_changes(self, command: do.CarryChanges) -> on.Event:
        """Merge the changes onto the staging branch. Only this delivery uses the branch, so a moved head is this
        merge."""

        def look() -> on.Event | None:
            head = self._store.get_commit(command.repository, command.branch)
            return None if head.id == command.onto else on.StagingCommitted(head)

        def carry() -> on.Event:
            try:
                merged = self._store.merge(
                    command.repository,
                    command.source,
                    command.branch,
                    command.message,
                    command.metadata,
                    within=self._merge_within,
                )
            except (MergeRefused, Refused, NotFound, Forbidden) as error:
                # "No changes", as well as a head that has moved, may mean that an earlier try has come through.
                return look() or on.CarryRefused(str(error))
            return on.StagingCommitted(self._store.get_commit(command.repository, merged))

        return self._lakefs.retry(unless_done(look, carry))

    def not_undone(self, repository: str, changes: str, head: str) -> tuple[set[str], set[str]]:
        """Return the keys that commit `changes` changed, and those among them whose content in `head` differs from the
        content before it."""
        before = self._lakefs.get_commit(repository, changes).parents[0]
        touched = set(self._lakefs.diff(repository, before, changes))
        return touched, touched & set(self._lakefs.diff(repository, before, head))

    def _checksums(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, str | None]:
        """Return the checksums of at least `keys` in `commit`. None: there is no such object. The answers for an
        earlier commit also hold for this one, except at the keys where the two differ."""
        if self._compared is not None and self._compared != commit:
            before = self._compared
            changed: Collection[str] = self._known
            if len(keys) > 1:
                changed = self._lakefs.diff(repository, before, commit)
            self._known = {key: checksum for key, checksum in self._known.items() if key not in changed}
        self._compared = commit
        if unknown := [key for key in keys if key not in self._known]:
            objects = self._lakefs.stat_objects(repository, commit, unknown)
            self._known |= {key: objects[key].checksum if key in objects else None for key in unknown}
        return self._known


_CHALLENGE_SECONDS = 30.0
"""Seconds for which a challenge without an answer is repeated."""
_MERGE_BACK_OFF = BackOff(1.0, math.inf, factor=4.0)
"""Delays after merges without an answer."""


class Publisher:
    """Talks to lakeFS, and waits while it does not answer.

    It repeats only harmless calls: reads, and writes to the delivery's own staging branch. The merge is the exception,
    and is sent once. A `ServiceError` without a clear outcome is left to the caller.
    """

    def __init__(
        self,
        lakefs: PatientStore,
        local: LocalWorkspace,
        proofs: FenceProofs,
        note: Callable[[str | None], None],
        *,
        root: Path,
        merge_within: float | None,
        clean: Callable[[CleanUp], None] | None = None,
    ) -> None:
        """`note` gets a message for operators, or None. `root`: the workspace root. `merge_within`: the task's limit
        for the answer to a merge, in seconds. `clean` does a clean-up, or has it done later. None: it is done
        immediately."""
        self._lakefs = lakefs
        self._store = lakefs.store
        self._local = local
        self._proofs = proofs
        self._note = note
        self._clean = clean or (lambda clean_up: note(clean_up()))
        self._merge_within = merge_within
        self._unclear_merges: list[str] = []
        self._known_sources: dict[str, Commit] = {}
        self._created_ahead: tuple[do.CreateStagingBranch, float, SentAhead[None]] | None = None
        """The creation that was begun ahead, and when, by the clock. None after it was asked for."""
        self._unanswered_creation = ""
        """The staging branch whose creation was cut short."""
        self._begun: dict[do.Command, SentAhead[Any]] = {}
        """The commands that were begun ahead."""
        self._range: tuple[Commit, ...] = ()
        """The commits after the input ref, as they were read last."""
        self.logged: set[str] = set()
        """The commits that the log of the branch has, or names as parents."""
        self.fence_refusals: int = 0
        """Number of merges that were refused because the head had moved."""
        self.from_cache: int = 0
        """Number of objects of the workspace that came from the cache."""
        self.rebase: Rebase = Rebase(lakefs, local, root=root, merge_within=merge_within)

    def read_ahead(self, workspace: on.WorkspaceRef) -> None:
        """Begin the reads of the input commit, which never changes."""
        fence, objects = do.CheckPublishFence(workspace.repository, workspace.ref), do.ListObjects(workspace)
        self._begun = {fence: self._begin_fence(fence), objects: self._begin_listing(objects)}

    def _begin_fence(self, command: do.CheckPublishFence) -> SentAhead[Mapping[str, ObjectEntry]]:
        return self._lakefs.begin(lambda: self._store.stat_objects(command.repository, command.commit_id, [FENCE_PATH]))

    def _begin_listing(self, command: do.ListObjects) -> SentAhead[Sequence[ObjectEntry]]:
        where, prefix, most = command.workspace, self._local.key_prefix, self._lakefs.limits.max_workspace_objects

        def read() -> Sequence[ObjectEntry]:
            bound = ListingBound(prefix, most)

            def on_page(page: Sequence[ObjectEntry]) -> None:
                self._lakefs.ahead.check()
                bound.check(page)

            return self._store.list_objects(where.repository, where.ref, prefix, on_page)

        return self._lakefs.begin(read)

    def resolve_join(self, command: do.ResolveJoin) -> on.Event:
        """Find the commit that continues all the others. Read only as much of the first-parent history as needed."""

        def read(commit: str) -> tuple[Commit, ...]:
            return self._lakefs.retry(lambda: self._store.ancestry(command.repository, commit, limit=joins.PAGE))

        try:
            line = joins.line_of(command.commits, read)
        except joins.NotOneLine as error:
            return on.CommandFailed(str(error), terminal=True)
        except NotFound as error:
            return on.CommandFailed(joins.unknown(str(error), command.commits), terminal=True)
        return on.JoinResolved(line, self._sources(command.repository, line[:-1]))

    def _sources(self, repository: str, commits: Iterable[Commit]) -> dict[str, Commit]:
        """Read the second parents of commits that claim to have undone others. Commits never change, so each is read
        once."""
        claims = [commit for commit in commits if makes_claims(commit)]
        for commit in claims:
            if commit.id not in self._known_sources:
                self._known_sources[commit.id] = self._lakefs.get_commit(repository, commit.parents[1])
        return {commit.id: self._known_sources[commit.id] for commit in claims}

    def read_branch(self, command: do.ReadBranch) -> on.Event:
        """Read the commits after the input ref. Without a ref, read only the newest commit."""
        where, start = command.workspace, self._lakefs.clock.now()
        if not where.ref:
            newest = partial(self._store.history, where.repository, where.branch, until="", limit=1)
            try:
                return on.BranchRead(self._lakefs.retry(newest), reaches_ref=False)
            except NotFound as error:
                return on.CommandFailed(f"{error}. Create it, or correct workspace= in Cron.", terminal=True)
        since = self._history(where)
        late = abs(self._lakefs.clock.now() - start) > LATE
        reaches_ref = not since or since[-1].parents[:1] == (where.ref,)
        if not reaches_ref:  # raises for an unknown commit, not for one of another branch
            self._lakefs.get_commit(where.repository, where.ref)
        self._range = since if reaches_ref else ()
        self.logged |= {name for commit in self._range for name in (commit.id, *commit.parents)}
        self.logged |= {where.ref} if reaches_ref else set()
        head = self._lakefs.get_commit(where.repository, where.ref) if command.with_head and not since else None
        sources = self._sources(where.repository, since) if reaches_ref else {}
        return on.BranchRead(since, reaches_ref, late, head, sources)

    def _history(self, where: on.WorkspaceRef) -> tuple[Commit, ...]:
        """Return the commits after the input ref. The history of a commit never changes, so only the commits above the
        last head are read, unless the branch was moved back in the meantime."""

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
        """Create the attempt directory, list the workspace, and choose the paths of its files."""
        self._local.create()
        objects = self._begun.pop(command, None) or self._begin_listing(command)
        self._local.lay_out(objects())
        self._note(self._local.empty_selection_note())
        return on.ObjectsListed()

    def fetch(self, command: do.Fetch) -> on.Event:
        """Download the workspace, and record the tree. Complete files stay if a download fails."""
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

    def create_ahead(self, command: do.CreateStagingBranch) -> None:
        """Begin to create the staging branch that a publication will need."""
        self._created_ahead = command, self._lakefs.clock.now(), self._lakefs.begin(partial(self._create, command))

    def create_staging_branch(self, command: do.CreateStagingBranch) -> on.Event:
        """Create the staging branch, unless that was begun ahead."""
        ahead = self._created_ahead
        create: Callable[[], None] = partial(self._lakefs.retry, partial(self._create, command))
        if ahead is not None and ahead[0] == command:
            self._created_ahead = None
            if abs(self._lakefs.clock.now() - ahead[1]) < AHEAD_SECONDS:
                create = ahead[2]
        try:
            create()
        except Interrupted:
            self._unanswered_creation = command.branch
            raise
        return on.StagingBranchCreated()

    def _create(self, command: do.CreateStagingBranch) -> None:
        """No other delivery can choose the random name of the branch. So a branch of this name was created by an
        earlier copy of this call, such as one that a proxy has sent twice."""
        try:
            self._store.create_branch(command.repository, command.branch, command.source)
        except Refused as error:
            try:
                head = self._store.get_commit(command.repository, command.branch).id
            except NotFound:
                raise error from None
            if head != command.source:
                raise

    def unneeded_branch(self) -> CleanUp | None:
        """Return what removes the branch that was created ahead, if the attempt has ended without it."""
        ahead, self._created_ahead = self._created_ahead, None
        return partial(self._remove_ahead, *ahead) if ahead is not None else None

    def _remove_ahead(self, command: do.CreateStagingBranch, _begun_at: float, sent: SentAhead[None]) -> str | None:
        if not sent.withdraw(_LATE_CREATION_SECONDS):
            return None
        self._unanswered_creation = command.branch
        return self._delete_branch(command.repository, command.branch)

    def read_stale(self, command: do.ReadStale) -> on.Event:
        """Read publications to undo, and their second parents."""
        return on.StaleRead(tuple(self._stale_commit(command.repository, stale) for stale in command.stale))

    def _stale_commit(self, repository: str, stale: do.StalePublication) -> on.StaleCommit:
        known = next((commit for commit in self._range if commit.id == stale.id), None)
        commit = known or self._lakefs.get_commit(repository, stale.id)
        source = self._lakefs.get_commit(repository, stale.parents[-1])
        expected = None if is_built_from(commit, source) else head_expected_instead(commit, source)
        if expected is None:
            return on.StaleCommit(commit, source)

        def changed(left: str, right: str) -> frozenset[str]:
            return frozenset(self._lakefs.diff(repository, left, right))

        staged = None
        with suppress(NotFound):  # a person has written this head
            staged = changed(expected, source.id)
        on_head = changed(commit.parents[0], commit.id)
        return on.StaleCommit(commit, source, on_head, staged, changed(source.id, commit.id))

    def revert_stale(self, command: do.RevertStale) -> on.Event:
        """Revert the own changes of stale publications on the staging branch, which belongs to this delivery alone."""
        where, head, is_whole = command.repository, command.source, True
        changes = list[on.RevertedChanges]()
        for stale, own in zip(command.stale, command.reverts, strict=True):
            touched, left = set[str](), set[str]()
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
            superseded = (
                self._lakefs.diff(where, stale.parents[0], stale.id) if stale.has_undone and stale.above else ()
            )
            changes.append(on.RevertedChanges(frozenset(touched), frozenset(left), frozenset(superseded)))
        commit = self._lakefs.get_commit(where, head)
        if not command.among_others:
            beyond_input = frozenset(self._lakefs.diff(where, command.input_ref, head))
            return on.Reverted(commit, tuple(changes), beyond_input=beyond_input, is_whole=is_whole)
        for place, stale in enumerate(command.stale):
            if changes[place].superseded:
                still = frozenset(self._lakefs.diff(where, stale.parents[0], head))
                changes[place] = replace(changes[place], still_different=still)
        changed = frozenset(self._lakefs.diff(where, command.source, head))
        needs_others = changed or any(part.left or part.superseded for part in changes)
        others = command.others if needs_others else ()
        theirs = tuple(frozenset(self._lakefs.diff(where, parent, commit_id)) for commit_id, parent in others)
        return on.Reverted(commit, tuple(changes), changed, theirs, is_whole=is_whole)

    def _revert(self, command: do.RevertStale, stale: str, head: str) -> Commit:
        """Undo one publication, and return the new head. If an earlier call got no answer, the head shows whether it
        took effect."""
        tried = False

        def revert() -> Commit:
            nonlocal tried
            again, tried = tried, True
            if not again or self._store.get_commit(command.repository, command.branch).id == head:
                # An empty fence commit, or one that an earlier call has reverted, has nothing to revert.
                with suppress(NothingToCommit):
                    self._store.revert(command.repository, command.branch, stale)
            return self._store.get_commit(command.repository, command.branch)

        return self._lakefs.retry(revert)

    def verify_staging(self, command: do.VerifyStaging) -> on.Event:
        """Check that the staging commit differs from its base in the planned keys, and in nothing else."""
        planned = self.planned(command)
        put = {key: upload.checksum for key, upload in planned.items() if upload is not None}
        staged = self._lakefs.begin(lambda: self._store.stat_objects(command.repository, command.commit_id, put))
        differences = self._lakefs.diff(command.repository, command.built_on, command.commit_id)
        wrong = {key for key in {*differences, *planned} if key not in differences or key not in planned}
        sizes = {key: upload and upload.size for key, upload in planned.items()}
        wrong |= {key for key, size in sizes.items() if key in differences and differences[key] != size}
        objects: Mapping[str, ObjectEntry] = {}
        if put and not wrong:
            objects = staged()
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
        """Check whether a commit has the publish fence."""
        objects = (self._begun.pop(command, None) or self._begin_fence(command))()
        fence = objects.get(FENCE_PATH)
        return on.PublishFenceSeen(fence_in(objects), fence.physical_address if fence else "")

    def stage_fence(self, command: do.StageFence) -> on.Event:
        """Upload the publish fence."""
        try:
            with fence_upload() as upload:
                self._lakefs.retry(lambda: self._store.upload(command.repository, command.branch, [upload]))
        except Forbidden as error:
            return _fence_refused("put next to the changes", error)
        return on.FenceStaged()

    def try_publish_fence(self, command: do.TryPublishFence) -> on.Event:
        """Send the challenge, unless it was sent a short time ago. Repeat it for a while if there is no answer. This is
        safe, because it can only be refused, or add a commit to the attempt's own staging branch. If no answer arrives,
        for example because of another team's slow hook, it is unknown whether the server obeys."""
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
        """Stage the changes, deletions first, because a file can replace a directory and vice versa. A failed upload
        continues with the files that are not staged yet."""
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
        """Commit the staged changes. Only this delivery uses the branch, so a moved head is this commit."""

        def look() -> on.Event | None:
            head = self._store.get_commit(command.repository, command.branch)
            return None if head.id == command.source else on.StagingCommitted(first(head))

        def first(made: Commit) -> Commit:
            """Return the first copy of an empty commit that arrived twice, which is the one whose parent is the
            source."""
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
        """Send the merge once. The protocol handles an unclear answer, after a delay in which lakeFS may finish the
        merge."""
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
        """Delete staging branches, and report why one could not be deleted."""
        for branch in command.branches:
            self._clean(partial(self._delete_branch, command.repository, branch))
        return on.StagingBranchesRemoved()

    def _delete_branch(self, repository: str, branch: str) -> str | None:
        try:
            if branch == self._unanswered_creation:
                self._await_late_creation(repository, branch)
            self._store.delete_branch(repository, branch)
        except NotFound:
            return None
        except ServiceError as error:
            return f"The staging branch {branch} of {repository} was not removed. {error}"
        return None

    def _await_late_creation(self, repository: str, branch: str) -> None:
        """Return once the branch exists, or can hardly appear any more. A removal before would find nothing."""
        clock = self._lakefs.clock
        until = clock.now() + _LATE_CREATION_SECONDS
        while clock.now() < until:
            try:
                self._store.get_commit(repository, branch)
            except NotFound:
                clock.sleep(0.1)
            else:
                return


def _fence_refused(how: str, error: ServiceError) -> on.CommandFailed:
    advice = f"Allow these credentials to write {FENCE_PATH} and to merge into branches that begin with perago-"
    what = f"The publish fence could not be {how}: {error}."
    return on.CommandFailed(f"{what} {advice}, or set PERAGO_PUBLISH_FENCE=off. Nothing was published.", terminal=False)
