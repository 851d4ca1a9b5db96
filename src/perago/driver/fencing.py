"""Putting the publish fence on a branch, looking at it, and taking it away (contract 8, `reference/lakefs.md` 1).

Each goes through a hidden branch and a merge that expects the head it began on, like any publication: nobody's staged
objects are committed along, and nobody's commit is overwritten.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from perago.attempt.events import FenceState
from perago.attempt.fence import FENCE_CHECKSUM, FENCE_PATH, FENCE_TEXT, fence_state
from perago.attempt.publication import EXPECTED_HEAD
from perago.ports import MergeRefusal, MergeRefused, ServiceError, Upload, WorkspaceStore

_IMPOSSIBLE_HEAD = "0" * 64
_SCRATCH_BRANCH = re.compile(r"perago-fence-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class FenceStatus:
    """The fence of one branch. `enforced`: the server runs hooks; None where there is no fence to try it with."""

    head: str
    state: FenceState
    enforced: bool | None

    @property
    def holds(self) -> bool:
        """Whether publications to the branch are guarded."""
        return self.state is FenceState.INSTALLED and self.enforced is True


def fence_status(store: WorkspaceStore, repository: str, branch: str) -> FenceStatus:
    """Look at the branch head, and try the fence on a scratch branch: a server may have all hooks switched off.

    Raises:
        ServiceError: as the store does; `NotFound` for an unknown repository or branch.
    """
    head = store.get_commit(repository, branch).id
    state = fence_state(store.checksum(repository, head, FENCE_PATH))
    enforced = _is_enforced(store, repository, head) if state is FenceState.INSTALLED else None
    return FenceStatus(head, state, enforced)


def install_fence(store: WorkspaceStore, repository: str, branch: str) -> FenceStatus:
    """Commit the fence to the branch, unless it is there; returns what is there then.

    Raises:
        MergeRefused: somebody else committed meanwhile, or has uncommitted changes on the branch.
        ServiceError: as the store does.
    """
    with tempfile.TemporaryDirectory(prefix="perago-fence-") as scratch:
        file = Path(scratch) / "fence.yaml"
        file.write_bytes(FENCE_TEXT.encode())
        size = len(FENCE_TEXT.encode())
        upload = Upload(FENCE_PATH, file, size, FENCE_CHECKSUM, content_type="application/yaml")
        _change(
            store,
            repository,
            branch,
            lambda state: state is not FenceState.INSTALLED,
            lambda staging: store.upload(repository, staging, [upload]),
            "Install perago's publish fence",
        )
    return fence_status(store, repository, branch)


def remove_fence(store: WorkspaceStore, repository: str, branch: str) -> FenceStatus:
    """Delete the fence from the branch, also an altered one; returns what is there then.

    Raises:
        MergeRefused, ServiceError: as `install_fence`.
    """
    _change(
        store,
        repository,
        branch,
        lambda state: state is not FenceState.ABSENT,
        lambda staging: store.delete_objects(repository, staging, [FENCE_PATH]),
        "Remove perago's publish fence",
    )
    return fence_status(store, repository, branch)


def is_scratch_branch(name: str) -> bool:
    """Whether `name` is that of a hidden branch which one of these calls makes for itself."""
    return _SCRATCH_BRANCH.fullmatch(name) is not None


def _change(
    store: WorkspaceStore,
    repository: str,
    branch: str,
    is_needed: Callable[[FenceState], bool],
    stage: Callable[[str], None],
    message: str,
) -> None:
    head = store.get_commit(repository, branch).id
    if not is_needed(fence_state(store.checksum(repository, head, FENCE_PATH))):
        return
    with _hidden_branch(store, repository, head) as staging:
        stage(staging)
        commit = store.commit(repository, staging, message, {})
        # A commit in between is refused by the fence itself when it is installed. When it is removed, the source has
        # none: look right before.
        if store.get_commit(repository, branch).id != head:
            raise _moved(repository, branch)
        store.merge(repository, commit.id, branch, message, {EXPECTED_HEAD: head})


def _moved(repository: str, branch: str) -> MergeRefused:
    detail = "somebody else committed to the branch at the same time; try again"
    return MergeRefused("lakeFS", f"change the fence of {branch} in {repository}", detail, MergeRefusal.HEAD_MOVED)


def _is_enforced(store: WorkspaceStore, repository: str, head: str) -> bool:
    """A merge that expects an impossible head must be refused by the fence."""
    with _hidden_branch(store, repository, head) as scratch:
        try:
            store.merge(repository, head, scratch, "probe", {EXPECTED_HEAD: _IMPOSSIBLE_HEAD}, allow_empty=True)
        except MergeRefused as error:
            return error.reason is MergeRefusal.HEAD_MOVED
    return False


@contextmanager
def _hidden_branch(store: WorkspaceStore, repository: str, source: str) -> Iterator[str]:
    """A branch for the length of the block. What cannot be removed is `perago gc`'s to find."""
    name = f"perago-fence-{secrets.token_hex(6)}"
    store.create_branch(repository, name, source)
    try:
        yield name
    finally:
        with suppress(ServiceError):
            store.delete_branch(repository, name)
