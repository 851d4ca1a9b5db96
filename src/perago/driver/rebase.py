"""The lakeFS half of a rebase: a task's changes are put on a head that others have advanced."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.publication import FENCE_PATH
from perago.driver.local_workspace import LocalWorkspace
from perago.driver.patient_store import PatientStore
from perago.ports import Clock, Forbidden, MergeRefused, NotFound, Refused, ServiceError
from perago.retry import BackOff, unless_done
from perago.workspace.changes import find_overlap
from perago.workspace.keys import is_reserved

_TURNS = BackOff(0.1, 2.0, jitter=True)
"""Pauses after races that were lost to other hosts. Who wins is gone from the race, so these stay short."""
TURNS_FILE = ".turns"
"""In the workspace root."""
TURN_SECONDS = 10.0
_LOOK_SECONDS = 0.02
_COMMITS_SEARCHED = 50


class HostTurn:
    """One attempt at a time of those that share a workspace root and publish to one branch, as a courtesy: the publish
    fence alone guards the branch, so a turn that does not come soon is done without.

    A byte of one file is locked for each branch. The lock ends with the process.
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
        """Give the turn back, if there is one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Rebase:
    """Carries out the commands of a rebase."""

    def __init__(self, lakefs: PatientStore, local: LocalWorkspace, *, root: Path, merge_within: float | None) -> None:
        """`root`: the workspace root, which the attempts of this host share. `merge_within`: the task's own limit for
        the answer to a merge, in seconds."""
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
        """Compare what others have changed with the task's own changes, and judge both together by the post
        guardrails."""
        local = self._local
        found = self._lakefs.diff(command.repository, command.input_ref, command.built_on)
        others = {key: size for key, size in found.items() if not is_reserved(key)}
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
        return on.OthersCompared(conflicts, frozenset(shared), violations, fence_changed=FENCE_PATH in found)

    def find_commits(self, command: do.FindCommits) -> on.Event:
        """The commit that changed each key last, among the newest. It is for a message, so silence is not a failure."""
        return on.CommitsFound(self._last_changed(command.repository, command.commits, command.keys))

    def _last_changed(self, repository: str, commits: Sequence[tuple[str, str]], keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        with suppress(ServiceError):
            for commit, parent in commits[:_COMMITS_SEARCHED]:
                missing = [key for key in keys if key not in found]
                if not missing:
                    break
                changed = self._store.diff(repository, parent, commit)
                found |= {key: commit for key in missing if key in changed}
        return found

    def read_adopted(self, command: do.ReadAdopted) -> on.Event:
        """Read the staging commit of the publication, and what has become of the files. The latter is for a remark, so
        silence is not a failure."""
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
        """Let others finish."""
        if not command.tries:
            self._turn.take(f"{command.repository}/{command.branch}", self._lakefs.clock)
            return on.TurnCame()
        pause = _TURNS.pause(command.tries - 1)
        if self._lakefs.clock.now() + pause > self._lakefs.until:
            return on.TurnCame(in_time=False)
        self._lakefs.clock.sleep(pause)
        return on.TurnCame()

    def carry_changes(self, command: do.CarryChanges) -> on.Event:
        """Merge the changes onto the staging branch, this delivery's alone: a head that moved is this merge."""

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
        """The keys that commit `changes` changed, and those of them that are not in `head` as they were before it."""
        before = self._lakefs.get_commit(repository, changes).parents[0]
        touched = set(self._lakefs.diff(repository, before, changes))
        return touched, touched & set(self._lakefs.diff(repository, before, head))

    def _checksums(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, str | None]:
        """Return the checksums of `keys` in `commit`, among others; None: there is no such object. What was asked of an
        earlier commit also holds for this one, except at the keys at which the two differ."""
        if self._compared is not None and self._compared != commit:
            before = self._compared
            changed: Collection[str] = self._known
            if len(keys) > 1:
                changed = self._lakefs.diff(repository, before, commit)
            self._known = {key: found for key, found in self._known.items() if key not in changed}
        self._compared = commit
        if unknown := [key for key in keys if key not in self._known]:
            found = self._lakefs.stat_objects(repository, commit, unknown)
            self._known |= {key: found[key].checksum if key in found else None for key in unknown}
        return self._known
