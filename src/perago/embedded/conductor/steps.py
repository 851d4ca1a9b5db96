"""Finding one's way in the tree of a workflow definition, and in the reference names of loops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Step = dict[str, Any]
"""One workflow task as `workflowdefs` has parsed it: every field that can hold steps is there."""

_ITERATION = "__"


def branches(step: Mapping[str, Any]) -> list[list[Step]]:
    """The sequences inside a step: cases, forks, the body of a loop."""
    return [*step["decisionCases"].values(), step["defaultCase"], *step["forkTasks"], step["loopOver"]]


def every_step(steps: Iterable[Step]) -> Iterator[Step]:
    """All steps, each before those inside it."""
    for step in steps:
        yield step
        for branch in branches(step):
            yield from every_step(branch)


def holds(step: Mapping[str, Any], reference: str) -> bool:
    """Whether a step of that reference name is somewhere inside `step`."""
    return any(inner["taskReferenceName"] == reference for branch in branches(step) for inner in every_step(branch))


def following(steps: Sequence[Step], reference: str) -> Step | None:
    """What comes after a step: the next one, or what comes after the step that it is the end of.

    Nothing comes after the end of a loop's body: the loop itself decides that. Nothing comes after TERMINATE.
    """
    return _search(steps, reference, None)[1]


def _search(steps: Sequence[Step], reference: str, behind: Step | None) -> tuple[bool, Step | None]:
    """Whether the step was found in there, and what comes after it; `behind` comes after the last one."""
    for index, step in enumerate(steps):
        successor = steps[index + 1] if index + 1 < len(steps) else behind
        if step["taskReferenceName"] == reference:
            return True, None if step["type"] == "TERMINATE" else successor
        for branch in branches(step):
            found, after = _search(branch, reference, None if step["type"] == "DO_WHILE" else successor)
            if found:
                return True, after
    return False, None


def with_iteration(reference: str, iteration: int) -> str:
    """The reference name of a step in one iteration of its loop: `ref__1` (`docs/servers/conductor.md` 2)."""
    return f"{reference}{_ITERATION}{iteration}"


def without_iteration(reference: str) -> str:
    """The reference name of the step in its definition."""
    return reference.split(_ITERATION)[0] or reference
