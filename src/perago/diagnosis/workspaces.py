"""Checks of one branch: can it be read, would lakeFS take a merge, is it guarded; with leave to write, a try."""

from __future__ import annotations

from collections.abc import Iterator

from perago.attempt.events import FenceState
from perago.attempt.fence import FENCE_PATH, fence_in
from perago.diagnosis.findings import Finding, Level
from perago.diagnosis.machine import LEFT_FOR
from perago.driver import Limits
from perago.driver.fencing import try_publishing
from perago.driver.first_seen import FirstSeenStore
from perago.driver.gc import BranchClearing, Fate, Policy
from perago.ports import DeliveryCheck, NotFound, WorkspaceStore
from perago.settings.values import PublishFence
from perago.workspace.text import count, listing


def branch(store: WorkspaceStore, limits: Limits, repository: str, name: str, *, write: bool) -> Iterator[Finding]:
    """One branch.

    Args:
        store: the lakeFS.
        limits: what workers here are allowed.
        repository: the repository.
        name: the branch.
        write: try a publication on a hidden branch, which is removed.

    Raises:
        ServiceError: lakeFS does not do it: without the right to, for example.
    """
    area = f"{repository}/{name}"
    if not limits.allows(repository, name):
        why, advice = "workers here refuse work on it", "extend PERAGO_ALLOWED_WORKSPACES"
        yield Finding(area, Level.PROBLEM, "PERAGO_ALLOWED_WORKSPACES does not have it", why, advice)
    try:
        head = store.get_commit(repository, name)
    except NotFound as error:
        advice = "check both names, and that lakeFS is the right one"
        yield Finding(area, Level.PROBLEM, error.detail, "inputs that name it are refused for good", advice)
        return
    state = fence_in(store.stat_objects(repository, head.id, [FENCE_PATH]))
    dirty = store.has_uncommitted_changes(repository, name)
    yield Finding(area, Level.OK, f"can be read; its head is {head.id[:12]}")
    if dirty:
        why = "lakeFS refuses every merge into a branch on which something is staged, so no result is published"
        advice = "commit or reset in lakeFS what is staged there; perago stages nothing on it"
        yield Finding(area, Level.PROBLEM, "it has uncommitted changes", why, advice)
    yield from _fence(area, state, limits.publish_fence, install=f"perago fence install {repository} {name}")
    if write:
        yield from _tried(store, area, repository, head.id)
    elif limits.publish_fence is not PublishFence.OFF:
        yield Finding(
            area, Level.OK, "whether the server runs the fence, a hook, was not tried: perago doctor --write does"
        )


def _fence(area: str, state: FenceState, wanted: PublishFence, install: str) -> Iterator[Finding]:
    if state is FenceState.INSTALLED:
        yield Finding(area, Level.OK, "the publish fence is installed")
    elif state is FenceState.ABSENT and wanted is not PublishFence.OFF:
        yield Finding(area, Level.OK, "no publish fence yet; the first publication brings it along")
    else:
        why = "two workers could publish on one head; perago notices that only afterwards"
        what = (
            "no publish fence, and PERAGO_PUBLISH_FENCE is off"
            if state is FenceState.ABSENT
            else (f"{FENCE_PATH} has another text than this version ships")
        )
        yield Finding(area, Level.WARNING, what, why, install)


def _tried(store: WorkspaceStore, area: str, repository: str, head: str) -> Iterator[Finding]:
    if try_publishing(store, repository, head):
        yield Finding(
            area, Level.OK, "a hidden branch could be made, written, committed and removed; the fence was obeyed"
        )
        return
    why = "publications are not guarded: two workers can publish on one head, and it is noticed only afterwards"
    advice = "switch hooks on in lakeFS's configuration: actions.enabled"
    yield Finding(area, Level.PROBLEM, "the server runs no hooks", why, advice)


def leftovers(
    store: WorkspaceStore, check: DeliveryCheck | None, seen: FirstSeenStore, repository: str, now: float
) -> Iterator[Finding]:
    """Staging branches that no delivery needs any more. `check` is Conductor, None if there is none to ask. Nothing for
    a repository that is not there: `branch` says so.

    Raises:
        ServiceError: lakeFS did not answer.
    """
    clearing = BranchClearing(store, check, seen, Policy(LEFT_FOR, now, dry_run=True))
    try:
        stray = [found.name for found in clearing.clear(repository) if found.fate is Fate.REMOVED]
    except NotFound:
        return
    if stray:
        what = f"{count(len(stray), 'staging branch', 'staging branches')} left over: {listing(stray, 3)}"
        why = "they cost little, and each look for leftovers takes longer"
        yield Finding(repository, Level.WARNING, what, why, f"perago gc {repository}")
    else:
        yield Finding(repository, Level.OK, "no staging branch is left over")
