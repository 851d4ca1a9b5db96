"""Install, read, challenge and remove the publish fence on the server (`docs/dev/servers/lakefs.md`, "Publish fence"
and "Measured later").

Like a publication, a change goes through a hidden branch and a merge with an expected head. So it never commits objects
that others have staged, and never overwrites a commit.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from perago.attempt.events import FenceState
from perago.attempt.publication import EXPECTED_HEAD, FENCE_CHECKSUM, FENCE_PATH, FENCE_TEXT, IMPOSSIBLE_HEAD, fence_in
from perago.failure import Finding, Level
from perago.ports import Clock, MergeRefusal, MergeRefused, NotFound, ServiceError, Upload, WorkspaceStore
from perago.settings.sources import PublishFence
from perago.text import short

ANY_FENCE = "*"
"""Every fence object of a repository. Only tests that send no challenge record a proof of it."""
PROOF_SECONDS = 300.0
"""Seconds for which a server's answer to the challenge counts. An operator can switch hooks off at any time."""
_TRIED_KEY = "perago-doctor/tried"
"""The key that is committed if the branch already has the fence."""
_SCRATCH_BRANCH = re.compile(r"perago-fence-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class FenceStatus:
    """The fence of one branch, whose head is commit `head`. The server was challenged, unless there is no fence."""

    head: str
    state: FenceState

    @property
    def holds(self) -> bool:
        """Whether publications to the branch are guarded."""
        return self.state is FenceState.ENFORCED


class FenceProofs:
    """The results of the challenges of one process, by repository and fence object. A checksum proves nothing, because
    lakeFS lists the one that a client sent. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[tuple[str, str], tuple[float, bool]] = {}

    def known(self, repository: str, fence: str) -> bool | None:
        """Whether the server has recently obeyed this fence object; None: a challenge is needed."""
        found = [self._found[key] for key in ((repository, fence), (repository, ANY_FENCE)) if key in self._found]
        return next((enforced for tried, enforced in found if self._is_recent(tried)), None)

    def note(self, repository: str, fence: str = ANY_FENCE, *, enforced: bool) -> None:
        """Record the answer of a server, and forget old answers."""
        kept = {key: found for key, found in self._found.items() if self._is_recent(found[0])}
        self._found = {**kept, (repository, fence): (self._clock.now(), enforced)}

    def _is_recent(self, tried: float) -> bool:
        return abs(self._clock.now() - tried) < PROOF_SECONDS


def fence_status(store: WorkspaceStore, repository: str, branch: str) -> FenceStatus:
    """Read the branch head, and test the fence on a scratch branch, because a server can have all hooks switched off.

    Raises:
        ServiceError: as the store does; `NotFound` for an unknown repository or branch.
    """
    head = store.get_commit(repository, branch).id
    state = fence_in(store.stat_objects(repository, head, [FENCE_PATH]))
    if state is not FenceState.INSTALLED:
        return FenceStatus(head, state)
    with _hidden_branch(store, repository, head) as scratch:
        enforced = is_enforced(store, repository, head, scratch, {EXPECTED_HEAD: IMPOSSIBLE_HEAD})
    return FenceStatus(head, FenceState.ENFORCED if enforced else FenceState.NOT_ENFORCED)


def is_enforced(
    store: WorkspaceStore,
    repository: str,
    source: str,
    branch: str,
    metadata: Mapping[str, str],
    within: float | None = None,
) -> bool:
    """Send a challenge: a merge of commit `source`, which has the fence, into the caller's own `branch`, with an
    impossible expected head. It leaves only a failed run among lakeFS's action runs.

    `within` limits the wait for the answer, in seconds.

    Raises:
        MergeRefused: lakeFS refused for a reason other than the fence, such as another team's hook.
        ServiceError: as the store does.
    """
    message = "Challenge: perago's publish fence must refuse this merge"
    try:
        store.merge(repository, source, branch, message, metadata, allow_empty=True, within=within)
    except MergeRefused as error:
        if error.reason is not MergeRefusal.HEAD_MOVED:
            raise
        return True
    return False


def try_publishing(store: WorkspaceStore, repository: str, head: str) -> bool:
    """Stage, commit and send the challenge of `is_enforced` on a hidden branch at commit `head`, as a publication does.
    Then remove the branch. Return whether the server obeyed the fence.

    Raises:
        ServiceError: as the store does, for example because a permission is missing.
    """
    with _hidden_branch(store, repository, head) as scratch, fence_upload() as upload:
        store.upload(repository, scratch, [upload, replace(upload, key=_TRIED_KEY)])
        commit = store.commit(repository, scratch, "A test by perago doctor, on a branch that is removed", {})
        return is_enforced(store, repository, commit.id, scratch, {EXPECTED_HEAD: IMPOSSIBLE_HEAD})


@contextmanager
def fence_upload() -> Iterator[Upload]:
    """Provide the fence's file, to be uploaded within the block."""
    content = FENCE_TEXT.encode()
    with tempfile.TemporaryDirectory(prefix="perago-fence-") as scratch:
        file = Path(scratch) / "fence.yaml"
        file.write_bytes(content)
        yield Upload(FENCE_PATH, file, len(content), FENCE_CHECKSUM, content_type="application/yaml")


def install_fence(store: WorkspaceStore, repository: str, branch: str) -> FenceStatus:
    """Commit the fence to the branch, unless it is there. Return the status of the branch afterwards.

    Raises:
        MergeRefused: another client committed in the meantime, or has uncommitted changes on the branch.
        ServiceError: as the store does.
    """
    with fence_upload() as upload:
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
    """Delete the fence from the branch, even if it was altered. Return the status of the branch afterwards.

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
    """Whether `name` is the name of a hidden branch of one of these calls."""
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
    if not is_needed(fence_in(store.stat_objects(repository, head, [FENCE_PATH]))):
        return
    with _hidden_branch(store, repository, head) as staging:
        stage(staging)
        commit = store.commit(repository, staging, message, {})
        # A commit in between is refused by the fence itself when it is installed. When it is removed, the source has
        # none: look right before.
        if store.get_commit(repository, branch).id != head:
            detail = "another client committed to the branch at the same time; try again"
            operation = f"change the fence of {branch} in {repository}"
            raise MergeRefused("lakeFS", operation, detail, MergeRefusal.HEAD_MOVED)
        store.merge(repository, commit.id, branch, message, {EXPECTED_HEAD: head})


@contextmanager
def _hidden_branch(store: WorkspaceStore, repository: str, source: str) -> Iterator[str]:
    """Provide a branch during the block. If it cannot be removed here, `perago gc` finds it."""
    name = f"perago-fence-{secrets.token_hex(6)}"
    store.create_branch(repository, name, source)
    try:
        yield name
    finally:
        with suppress(ServiceError):
            store.delete_branch(repository, name)


def check_branch(
    store: WorkspaceStore, repository: str, name: str, *, is_allowed: bool, publish_fence: PublishFence, write: bool
) -> Iterator[Finding]:
    """Check one branch.

    Args:
        store: the lakeFS.
        repository: the repository.
        name: the branch.
        is_allowed: whether workers here accept attempts on it.
        publish_fence: whether workers here install the publish fence.
        write: also try a publication on a hidden branch, and remove that branch.

    Raises:
        ServiceError: lakeFS refused, for example because a permission is missing.
    """
    area = f"{repository}/{name}"
    if not is_allowed:
        why, advice = "workers here refuse attempts on it", f"add {repository}/{name} to PERAGO_ALLOWED_WORKSPACES"
        yield Finding(area, Level.PROBLEM, "PERAGO_ALLOWED_WORKSPACES does not allow this branch", why, advice)
    try:
        head = store.get_commit(repository, name)
    except NotFound as error:
        advice = "check both names and LAKECTL_SERVER_ENDPOINT_URL"
        yield Finding(area, Level.PROBLEM, error.detail, "attempts on it fail for good", advice)
        return
    state = fence_in(store.stat_objects(repository, head.id, [FENCE_PATH]))
    dirty = store.has_uncommitted_changes(repository, name)
    yield Finding(area, Level.OK, f"readable; its head is {short(head.id)}")
    if dirty:
        why = "lakeFS refuses to merge into a branch with uncommitted changes, so no result is published"
        advice = "commit or reset these changes in lakeFS; perago did not make them"
        yield Finding(area, Level.PROBLEM, "it has uncommitted changes", why, advice)
    yield from _fence(area, state, publish_fence, install=f"perago fence install {repository}/{name}")
    if write:
        yield from _tried(store, area, repository, head.id)
    elif publish_fence is not PublishFence.OFF:
        what = "not tried: staging, committing and merging with these credentials, and whether the server runs hooks"
        yield Finding(area, Level.UNTRIED, what, "a publication can still fail", f"perago doctor -b {area} --write")


def _fence(area: str, state: FenceState, setting: PublishFence, install: str) -> Iterator[Finding]:
    if state is FenceState.INSTALLED:
        yield Finding(area, Level.OK, "the publish fence is installed")
    elif state is FenceState.ABSENT and setting is not PublishFence.OFF:
        yield Finding(area, Level.OK, "no publish fence yet; the first publication installs it")
    else:
        why = "two workers can publish on one head; perago notices it only afterwards"
        what = f"{FENCE_PATH} differs from the text of this version"
        if state is FenceState.ABSENT:
            what = "no publish fence, and PERAGO_PUBLISH_FENCE is off"
        yield Finding(area, Level.WARNING, what, why, install)


def _tried(store: WorkspaceStore, area: str, repository: str, head: str) -> Iterator[Finding]:
    if try_publishing(store, repository, head):
        yield Finding(area, Level.OK, "a publication on a hidden branch worked, and the server runs the publish fence")
        return
    why = "publications are not guarded: two workers can publish on one head, and perago notices it only afterwards"
    advice = "set actions.enabled in the configuration of the lakeFS server"
    yield Finding(area, Level.PROBLEM, "the server runs no hooks", why, advice)
