"""The reasons for which an attempt may fail, each with what must be the case then."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.embedded.lakefs.repository import CommitRecord
from perago.ports import TaskStatus
from perago.workspace.keys import directories_above

from .attempts import Attempt
from .editing import READS, difference
from .schedules import LOOPS
from .world import World

Needs = Callable[[World, Attempt], bool]


def badly_ended(world: World, attempt: Attempt) -> Iterator[str]:
    """A failure without need or word."""
    report = attempt.record.report if attempt.record else None
    if report is None or report.status is TaskStatus.COMPLETED or not attempt.calls["report"]:
        return
    reason = report.reason or ""
    if len(reason) > 500:
        yield "a reason is too long"
    for text, needs in _EXCUSES.items():
        if text in reason:
            if not needs(world, attempt):
                yield f"it failed without need: {reason}"
            return
    yield f"it failed for no reason that is documented: {reason}"


def _others(world: World, attempt: Attempt) -> bool:
    """Somebody has committed who is not an earlier run of the same workflow."""
    return attempt.met_others


def _conflict(world: World, attempt: Attempt) -> bool:
    """Whether a foreign change overlaps its own changes or its reads."""
    theirs = {key.casefold() for key in _changed_since(world, attempt)}
    mine = {key.casefold() for key in attempt.plan or ()}
    if attempt.mode == "reads":
        changed = difference(world.tree(attempt.ref), world.tree(attempt.heads[-1]))
        if any(fnmatchcase(key, pattern) for key in {*theirs, *changed} for pattern in READS):
            return True
    return any(
        key == other or key.startswith(other + "/") or other.startswith(key + "/") for key in theirs for other in mine
    )


def _met_on_a_path(world: World, attempt: Attempt) -> bool:
    """People have committed, or two steps or two rounds of a loop change one path."""
    steps = list(world.steps.values())
    paths = [{edit.path.split("/")[0].casefold() for edit in step.edits} for step in steps]
    is_shared = any(mine & theirs for number, mine in enumerate(paths) for theirs in paths[:number])
    is_looped = any(node.kind in LOOPS for node in world.schedule.nodes)
    return bool(world.outside) or world.schedule.workflows > 1 or is_shared or is_looped or _has_restored_input(world)


def _has_restored_input(world: World) -> bool:
    """Whether a publication has undone another one that had undone its input, so that it also has the input's files."""
    superseded = {
        record.commit.id: record.commit.metadata.get("perago.supersedes", "").split(",") for record in world.history()
    }
    return any(
        record.commit.metadata.get("perago.input_ref", "-") in superseded.get(undone, ())
        for record in world.history()
        for undone in superseded[record.commit.id]
    )


def _changed_since(world: World, attempt: Attempt) -> set[str]:
    keys = set[str]()
    for record in world.history()[::-1]:
        if record.commit.id == attempt.ref:
            break
        if _is_of_its_step(world, attempt, record):
            continue
        keys |= set(difference(world.tree(record.commit.parents[0]), world.tree(record.commit.id)))
    return keys


def _is_of_its_step(world: World, attempt: Attempt, record: CommitRecord) -> bool:
    """Whether a commit is of the attempt's own step, in this run or in one before. Conductor may continue a
    sub-workflow that another one has replaced: the commits of the other one are foreign."""
    metadata = record.commit.metadata
    if record.commit.id in world.outside or not metadata:
        return False
    is_step = metadata["perago.reference_name"] == attempt.delivery.reference_name
    is_of_family = world.root_of_workflow(metadata["perago.workflow_id"]) == world.root_workflow(attempt)
    return is_step and is_of_family and not _is_replaced(world, attempt.delivery.workflow_id)


def _is_replaced(world: World, workflow: str) -> bool:
    """Whether a parent has another sub-workflow in the place of this one, or of one that it is in."""
    row = world.services.conductor.workflow(workflow, include_tasks=False)
    parent = row.get("parentWorkflowId")
    if not parent:
        return False
    rows = world.services.conductor.workflow(parent)["tasks"]
    retried = {row.get("retriedTaskId") for row in rows}
    is_named = any(row.get("subWorkflowId") == workflow and row["taskId"] not in retried for row in rows)
    return not is_named or _is_replaced(world, parent)


def _has_an_altered_fence(world: World) -> bool:
    fences = (record.tree.get(FENCE_PATH) for record in world.history())
    return any(entry is not None and entry.blob.read().decode() != FENCE_TEXT for entry in fences)


def _saw_other_heads(world: World, attempt: Attempt) -> bool:
    """It says how often the branch has changed: so many heads it has seen."""
    message = re.search(r"changed (\d+) times", attempt.words)
    return message is not None and len(set(attempt.heads)) >= int(message.group(1))


def _had_no_answer(world: World, attempt: Attempt) -> bool:
    """A merge had no usable answer."""
    merges = (call.outcome for call in attempt.journal if call.operation == "merge")
    return any("for the caller" in outcome and "MergeRefused" not in outcome for outcome in merges)


def _cannot_be_laid_out(world: World, attempt: Attempt) -> bool:
    """Other people have put a file where the input has a directory."""
    keys = set(world.tree(attempt.ref))
    return any(above in keys for key in keys for above in directories_above(key))


def _met_an_operation(world: World, attempt: Attempt) -> bool:
    """An operator has run steps again, and another attempt of the family was open."""
    return world.operations > 0 and attempt.met_open


def _has_an_undone_input(world: World, attempt: Attempt) -> bool:
    """A commit on the branch has undone the one that the reason names."""
    named = re.search(r"The input commit (\w+)", attempt.words)
    undone = ",".join(record.commit.metadata.get("perago.supersedes", "") for record in world.history())
    return named is not None and named.group(1) in undone


def _always(world: World, attempt: Attempt) -> bool:
    return True


# An operator may begin a step together with the one before it, whose output is not there yet.
_EXCUSES: dict[str, Needs] = {
    "injected": _always,
    # A rerun of a branch leaves the JOIN of a dynamic fork without the names of what it waits for.
    "/workspace/ref: names no commit": lambda world, attempt: any(
        node.kind == "dynamic" for node in world.schedule.nodes
    ),
    "/workspace: must be an object": lambda world, attempt: attempt.delivery.input["workspace"] is None,
    "has the name of perago's publish fence": lambda world, attempt: _has_an_altered_fence(world),
    "has moved since the input ref": _others,
    "others have committed there as well": _others,
    "Conflict with others": _conflict,
    "This concerns the combination with": lambda world, attempt: attempt.mode == "ruled",
    "post guardrail": lambda world, attempt: attempt.mode == "ruled",
    "are of an earlier run of this workflow and cannot be undone": _met_on_a_path,
    "of this attempt no longer counts": lambda world, attempt: _is_replaced(world, attempt.delivery.workflow_id),
    "Conductor has no evidence that it still counts": _met_an_operation,
    "is no longer in effect on branch": _has_an_undone_input,
    "did not give the tree of the input ref": _always,
    "while this attempt tried to publish": _saw_other_heads,
    "was to be adopted, but": _always,
    "could not be confirmed": _had_no_answer,
    "has been retried since": _always,
    "does not hold exactly the changes": lambda world, attempt: world.disturbed,
    "is not the commit of this attempt": lambda world, attempt: world.disturbed,
    "has uncommitted changes": _always,
    "uncommitted changes (dirty branch)": lambda world, attempt: world.disturbed,
    "have vanished twice from staging branch": lambda world, attempt: world.disturbed,
    "The publish fence is altered in staging commit": lambda world, attempt: world.disturbed,
    "was replaced by another directory": lambda world, attempt: attempt.wipes,
    "has not named it within 30 s": lambda world, attempt: world.unnamed_until > 0,
    "carries the metadata of this step, but perago did not publish it": lambda world, attempt: bool(world.forged),
    "The publish fence could not be tried": lambda world, attempt: world.disturbed,
    "cannot be laid out as files": _cannot_be_laid_out,
    "is not what this attempt built": lambda world, attempt: world.schedule.fence == "off" or world.schedule.forgetful,
}
"""Words of a reason, with what must be the case."""
