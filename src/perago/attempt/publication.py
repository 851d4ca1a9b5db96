"""The commits of a publication: their metadata, messages and staging branches, and the publish fence.

Before lakeFS moves the branch, it runs the action files of the source commit on the new merge commit. It repeats this
for every internal retry (`docs/dev/servers/lakefs.md`, "Verdict" and "Where the action file must live"). The script
compares the first parent of that commit, which is the current head, with the head that the publisher built on. So one
copy in a branch guards everything that is staged from it, and a commit with the fence cannot lose it.

A merge that names no expected head passes, so people can still merge by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from perago.attempt.events import FenceState
from perago.attempt.state import Plan, State
from perago.ports import FENCE_MARKER, Commit, Delivery, ObjectEntry
from perago.text import count, short

EXPECTED_HEAD = "perago.expected_head"
PHASE = "perago.phase"
STAGING_BRANCH = "perago.staging_branch"
STEP_KEY = "perago.step_key"
WORKFLOW_ID = "perago.workflow_id"
TASK_NAME = "perago.task_name"
REFERENCE_NAME = "perago.reference_name"
TASK_ID = "perago.task_id"
RETRIED_TASK_ID = "perago.retried_task_id"
POLL_COUNT = "perago.poll_count"
START_TIME = "perago.start_time"
INPUT_REF = "perago.input_ref"
BRANCH = "perago.branch"
ITERATION = "perago.iteration"
RETRY_COUNT = "perago.retry_count"
WORKER = "perago.worker"
PREFIX = "perago.prefix"
PARAMS = "perago.params_sha256"
RESULT = "perago.result"
ADOPTS = "perago.adopts"
SUPERSEDES = "perago.supersedes"
SHARED = "perago.shared"
TRACEPARENT = "perago.traceparent"
FORMAT_KEY = "perago.format"
VERSION = "perago.version"
OPERATION = "perago.operation"
REASON = "perago.reason"
FORMAT = 1
"""The format of the metadata of attempts. Additions keep it. Commits of versions that wrote no format have format 1."""
NEWEST_FORMAT = 2
"""The newest format that this version reads: that of operations, which an earlier version would undo."""

_LONGEST_SHARED = 10_000
"""Maximum length of `perago.shared`, because each commit of a long range can have this value."""
_TOO_MANY = "*"
_STAGING_BRANCH = re.compile(r"perago-[0-9a-f]{16}-[0-9a-f]{12}")
_COMMIT_ID = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_IDENTIFIER = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:~+=@-]{1,255}")
"""The form of Conductor's ids. They are parts of URLs, and its tables store 255 characters."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The attempt that is named in the metadata of a commit."""

    workflow_id: str
    task_id: str
    start_time: int


def origin(commit: Commit) -> Origin | None:
    """Return the attempt that `commit` names. Return None for a commit by a person, or with incomplete or malformed
    metadata."""
    workflow_id, task_id = commit.metadata.get(WORKFLOW_ID, ""), commit.metadata.get(TASK_ID, "")
    started = number(commit, START_TIME)
    if started is None or not (is_identifier(workflow_id) and is_identifier(task_id)):
        return None
    return Origin(workflow_id, task_id, started)


def number(commit: Commit, key: str) -> int | None:
    """Return a value of the metadata as a number, or None if it is missing or malformed. Anyone who can commit to the
    branch can write metadata, so parsers of values never raise an exception."""
    text = commit.metadata.get(key, "")
    return int(text) if _NUMBER.fullmatch(text) else None


def has_newer_format(commit: Commit) -> bool:
    """Whether a later version of perago wrote metadata that this version cannot interpret."""
    return FORMAT_KEY in commit.metadata and (number(commit, FORMAT_KEY) or NEWEST_FORMAT + 1) > NEWEST_FORMAT


def adopted(commit: Commit) -> str | None:
    """Return the id of the publication that `commit` adopts, or None."""
    text = commit.metadata.get(ADOPTS, "")
    return text if _COMMIT_ID.fullmatch(text) else None


def is_identifier(text: str) -> bool:
    """Whether `text` can be the id of a workflow or of a task. A retry could not find the publication of an attempt
    with another id."""
    return _IDENTIFIER.fullmatch(text) is not None


def step_key(delivery: Delivery) -> str:
    """Return the identity of a workflow step across its attempts.

    The reference name already differs per loop iteration. Retry count and task id change with every retry, so they are
    not a part of it.
    """
    return f"{delivery.workflow_id}:{delivery.reference_name}:{delivery.task_name}"


def staging_branch(plan: Plan, rebuilt: int) -> str:
    """`perago-<16 hex of sha256(step key)>-<12 hex>`: lakeFS allows letters, digits, `_` and `-` only. Changes that are
    staged again get another name, so that late requests to the old branch do not arrive on the new one."""
    suffix = plan.staging_suffix
    if rebuilt:
        suffix = hashlib.sha256(f"{suffix}:{rebuilt}".encode()).hexdigest()[:12]
    return f"{staging_prefix(step_key(plan.delivery))}{suffix}"


def staging_prefix(key: str) -> str:
    """Return the common prefix of the staging branches of a step."""
    return f"perago-{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:16]}-"


def is_staging_branch(name: str) -> bool:
    """Whether `name` is one that `staging_branch` gives."""
    return _STAGING_BRANCH.fullmatch(name) is not None


def message(state: State) -> str:
    """Return the commit message of staging commit and merge, for the people who read the branch's log."""
    delivery, changes = state.plan.delivery, state.changes
    if state.plan.operation:
        undone = count(len(state.base.stale) if state.base else 0, "publication")
        return f"perago {state.plan.operation}: {undone} undone (workflow {delivery.workflow_id})"
    if state.adopts is not None:
        counts = f"adopts {short(state.adopts)}"
    elif state.has_changes:
        counts = f"{len(changes.added):,} added, {len(changes.changed):,} changed, {len(changes.removed):,} removed"
    else:
        counts = "no changes"
    if state.fence.is_new:
        counts += " and the publish fence"
    return f"{delivery.task_name}: {counts} (workflow {delivery.workflow_id}, {delivery.reference_name})"


def metadata(state: State, *, phase: str) -> dict[str, str]:
    """Return the metadata that show the origin of a publication; `phase` is `staging`, `merge`, `fence` for a fence
    commit, which changes nothing of the workspace, or `challenge` for the merge that tests the publish fence."""
    delivery = state.plan.delivery
    shared = json.dumps(sorted(state.shared), separators=(",", ":")) if state.shared else ""
    return {
        FORMAT_KEY: str(NEWEST_FORMAT if state.plan.operation else FORMAT),
        VERSION: state.plan.perago_version,
        PHASE: phase,
        STEP_KEY: step_key(delivery),
        WORKFLOW_ID: delivery.workflow_id,
        TASK_NAME: delivery.task_name,
        REFERENCE_NAME: delivery.reference_name,
        ITERATION: str(delivery.iteration),
        TASK_ID: delivery.task_id,
        RETRY_COUNT: str(delivery.retry_count),
        RETRIED_TASK_ID: delivery.retried_task_id or "",
        POLL_COUNT: str(delivery.poll_count),
        START_TIME: str(delivery.start_time),
        INPUT_REF: state.ref.ref,
        BRANCH: state.ref.branch,
        WORKER: state.plan.worker,
        PREFIX: state.plan.prefix or "/",
        EXPECTED_HEAD: state.expected_head,
        STAGING_BRANCH: state.staging.branch or "",
        PARAMS: state.params_sha256,
        RESULT: json.dumps(state.result, ensure_ascii=False, separators=(",", ":")),
        ADOPTS: state.adopts or "",
        SUPERSEDES: ",".join(state.base.stale) if state.base else "",
        SHARED: shared if len(shared) <= _LONGEST_SHARED else _TOO_MANY,
        TRACEPARENT: delivery.trace.traceparent if delivery.trace else "",
        **({OPERATION: state.plan.operation, REASON: state.plan.reason} if state.plan.operation else {}),
    }


def staged_for(commit: Commit, branch: str) -> Delivery | None:
    """Return the delivery that made `commit` on its staging branch `branch`, without its input, which the metadata
    lack.

    Return None for any other commit, such as the first one of a staging branch.
    """
    metadata = commit.metadata
    # A server without hooks accepts the challenge, which then is the head of the staging branch.
    if metadata.get(PHASE) not in ("staging", "challenge") or metadata.get(STAGING_BRANCH) != branch:
        return None
    by, poll_count = origin(commit), number(commit, POLL_COUNT)
    iteration, retry_count = number(commit, ITERATION), number(commit, RETRY_COUNT)
    if by is None or poll_count is None or iteration is None or retry_count is None:
        return None
    return Delivery(
        task_id=by.task_id,
        poll_count=poll_count,
        start_time=by.start_time,
        task_name=metadata.get(TASK_NAME, ""),
        workflow_id=by.workflow_id,
        workflow_name="",
        reference_name=metadata.get(REFERENCE_NAME, ""),
        iteration=iteration,
        retry_count=retry_count,
        retried_task_id=metadata.get(RETRIED_TASK_ID) or None,
        retried=False,
        retry_output=None,
        input={},
        input_is_too_deep=False,
        external_input=False,
        response_timeout_seconds=0,
        timeout_seconds=0,
        spent_seconds=0,
        waited_seconds=0,
        trace=None,
    )


_OF_THE_WORK = (STEP_KEY, INPUT_REF, PREFIX, PARAMS, RESULT)
_OF_THE_DELIVERY = (TASK_ID, POLL_COUNT, START_TIME, ADOPTS, SUPERSEDES, OPERATION)
_CLAIMS = (SUPERSEDES, OPERATION)
"""The keys with which a commit says something about other commits."""


def is_merge(commit: Commit) -> bool:
    """Whether `commit` can be a publication, which is always the merge of a staging commit."""
    return len(commit.parents) == 2


def is_built_from(commit: Commit, source: Commit) -> bool:
    """Whether `source`, the second parent of `commit`, is the staging commit of this publication: it has the same tree
    and the same metadata. A copy of the metadata alone proves nothing.

    A history shortens commits, so `commit` may lack a long result. The fence commits of earlier versions have no
    staging commit: their second parent is the publication that they adopt."""
    return _has_metadata_of(source, commit) and commit.meta_range_id == source.meta_range_id


def head_expected_instead(commit: Commit, source: Commit) -> str | None:
    """Return the head that publication `commit` was built on, if it was merged into another head. Return None if it was
    merged into that head, or if `source`, the second parent, does not have the metadata of its staging commit.

    Without the publish fence, another commit can come between the last read and the merge. Then lakeFS merges three
    trees, and the result differs from the staging commit."""
    expected = commit.metadata.get(EXPECTED_HEAD, "")
    is_staged = source.metadata.get(PHASE) == "staging" and _has_metadata_of(source, commit)
    is_elsewhere = commit.parents[:1] != (expected,) and _COMMIT_ID.fullmatch(expected) is not None
    return expected if is_staged and is_elsewhere else None


def _has_metadata_of(source: Commit, commit: Commit) -> bool:
    keys = _OF_THE_WORK if commit.metadata.get(ADOPTS) == source.id else (*_OF_THE_WORK, *_OF_THE_DELIVERY)
    noted = {key: commit.metadata[key] for key in keys if key in commit.metadata}
    return all(source.metadata.get(key) == value for key, value in noted.items())


def is_mine(commit: Commit, delivery: Delivery) -> bool:
    """Whether this delivery published `commit`, and not another delivery of the same attempt."""
    stamp = tuple(commit.metadata.get(key) for key in (TASK_ID, POLL_COUNT, START_TIME))
    return stamp == (delivery.task_id, str(delivery.poll_count), str(delivery.start_time))


def makes_claims(commit: Commit) -> bool:
    """Whether `commit` says that it has undone others. The claim needs a proof, because anyone who can commit to the
    branch can write metadata."""
    return is_merge(commit) and any(commit.metadata.get(key) for key in _CLAIMS)


def proven(commits: Iterable[Commit], sources: Mapping[str, Commit]) -> tuple[Commit, ...]:
    """Return the commits without claims that their second parents (`sources`, by the id of the commit) do not prove:
    only a staging commit with the same metadata does."""

    def is_proven(commit: Commit) -> bool:
        source = sources.get(commit.id)
        return source is not None and source.metadata.get(PHASE) == "staging" and _has_metadata_of(source, commit)

    def without_claims(commit: Commit) -> Commit:
        metadata = {key: text for key, text in commit.metadata.items() if key not in _CLAIMS}
        return replace(commit, metadata=metadata)

    return tuple(
        without_claims(commit) if makes_claims(commit) and not is_proven(commit) else commit for commit in commits
    )


def is_operation(commit: Commit) -> bool:
    """Whether `commit` is one of `perago undo`."""
    return is_merge(commit) and bool(commit.metadata.get(OPERATION))


def superseded(commit: Commit) -> set[str]:
    """Return the ids of the publications that `commit` has undone: none if it is not a publication itself."""
    return set(filter(None, commit.metadata.get(SUPERSEDES, "").split(","))) if is_merge(commit) else set()


def shared(commits: Iterable[Commit]) -> frozenset[str] | None:
    """Return the keys that already had the wanted content when these publications were made. They belong to these
    publications, although no diff shows them. None: there are too many to list, or perago did not write a list."""
    shared_keys = set[str]()
    for commit in commits:
        try:
            keys = json.loads(commit.metadata.get(SHARED) or "[]")
        except (ValueError, RecursionError):
            return None
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            return None
        shared_keys.update(keys)
    return frozenset(shared_keys)


def is_of_my_workflow(commit: Commit, delivery: Delivery) -> bool:
    """Whether `commit` was published by any attempt of the same workflow."""
    return commit.metadata.get(WORKFLOW_ID) == delivery.workflow_id


def is_in_a_loop(commit: Commit) -> bool:
    """Whether `commit` was published in a round of a loop. A malformed value counts as a loop."""
    return bool(commit.metadata.get(ITERATION)) and number(commit, ITERATION) != 0


def is_for_my_input(commit: Commit, state: State) -> bool:
    """Whether `commit` was made from the same workspace and the same params."""
    made_from = [commit.metadata.get(key) for key in (INPUT_REF, PREFIX, PARAMS)]
    return made_from == [state.ref.ref, state.plan.prefix or "/", state.params_sha256]


def is_of_my_step(commit: Commit, delivery: Delivery) -> bool:
    """Whether `commit` was published by any attempt of the same workflow step."""
    return commit.metadata.get(STEP_KEY) == step_key(delivery)


FENCE_PATH = "_lakefs_actions/perago-publish-fence.yaml"

FENCE_TEXT = f"""\
# perago's publish fence. The first publication of a perago worker to this branch brought it here, or an operator ran
# `perago fence install`. A merge whose metadata names the head that it was built on ({EXPECTED_HEAD}) is let through
# on that head only; a merge that names none is let through. Do not edit this file: perago compares its checksum.
# PERAGO_PUBLISH_FENCE=off keeps workers from bringing it back after `perago fence remove`.
name: perago publish fence
description: Publish only on the head that the publication was built on.
on:
  pre-merge:
    branches:
      - "*"
hooks:
  - id: expected_head
    type: lua
    properties:
      script: |
        local expected = action.commit.metadata["{EXPECTED_HEAD}"]
        local found = action.commit.parents[1]
        if expected ~= nil and expected ~= found then
          require("hook").fail("{FENCE_MARKER}: head moved: expected " .. expected .. ", found " .. tostring(found))
        end
"""

FENCE_CHECKSUM = hashlib.md5(FENCE_TEXT.encode(), usedforsecurity=False).hexdigest()
"""The MD5, as lakeFS lists it."""

_EARLIER_CHECKSUMS = ("810e821c17b6a1cac14ea594f1dd6873",)
"""Checksums of earlier versions of the fence. They have the same effect, because only comments have changed since."""

IMPOSSIBLE_HEAD = "0" * 64
"""No commit has this id. A merge that expects it must be refused by the fence."""


def fence_in(objects: Mapping[str, ObjectEntry]) -> FenceState:
    """Return the state of the publish fence in a commit that has these objects."""
    fence = objects.get(FENCE_PATH)
    return fence_state(fence.checksum if fence else None)


def fence_state(checksum: str | None) -> FenceState:
    """Return the state for the checksum of the file at `FENCE_PATH`. None: there is no such file."""
    if checksum is None:
        return FenceState.ABSENT
    return FenceState.INSTALLED if checksum in (FENCE_CHECKSUM, *_EARLIER_CHECKSUMS) else FenceState.ALTERED
