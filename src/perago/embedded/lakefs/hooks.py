"""Pre-merge hooks of the model: perago's publish fence, and the protocol for other hooks.

lakeFS runs the action files that lie in the SOURCE commit (`docs/dev/servers/lakefs.md` 1.5). The model cannot run Lua;
it knows a hook by the path of its action file. Any other action file counts as passed, with a warning and a run that
says `skipped`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perago.attempt.publication import EXPECTED_HEAD
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.trees import ACTIONS_PREFIX, Tree
from perago.embedded.lakefs.values import ActionNotRun, ActionRun, HookAborted, HookRun, MergeEvent, Missing
from perago.ports import FENCE_MARKER


class PreMergeHook(Protocol):
    """The model of one action file."""

    @property
    def name(self) -> str:
        """The action's name, as it appears in the server's message."""
        ...

    @property
    def hook(self) -> str:
        """The id of the hook in that action, which appears there, too."""
        ...

    def refuse(self, event: MergeEvent) -> str | None:
        """The text with which the hook fails, or None to let the merge pass."""
        ...


@dataclass(frozen=True, slots=True)
class HeadFence:
    """perago's publish fence: a merge that names an expected head passes only on that head.

    A merge that names none passes: people may merge by hand.
    """

    name: str = "perago publish fence"
    hook: str = "expected_head"
    marker: str = FENCE_MARKER
    metadata_key: str = EXPECTED_HEAD

    def refuse(self, event: MergeEvent) -> str | None:
        """Compare the merge commit's first parent with the head that the publisher built on."""
        expected = event.commit.metadata.get(self.metadata_key)
        head = event.commit.parents[0]
        if expected is None or expected == head:
            return None
        return f"{self.marker}: head moved: expected {expected}, found {head}"


def run_hooks(repo: Repository, source: Tree, event: MergeEvent) -> None:
    """Run the hooks whose action files are in the source tree, and keep what they did.

    Raises:
        HookAborted: one of them refused; the text is wrapped as lakeFS wraps it (`docs/dev/servers/lakefs.md` 1.3).
        Missing: a folder among the actions.

    Warns:
        ActionNotRun: an action file that the model does not know.
    """
    at = event.commit.created
    run_id = f"{(1 << 32) - 1 - at:08x}{len(repo.runs):012x}"  # sorts newest first by the second, as the real ones do
    refusal = f"update branch {event.branch}: pre-merge hook aborted, run id '{run_id}'"
    check_actions(source, refusal)
    ran = tuple(
        _run(number, action, repo.server.hooks.get(action), event) for number, action in enumerate(_actions(source))
    )
    if not ran:
        return
    run = ActionRun(run_id, event.branch, event.commit.id, "pre-merge", at, ran)
    repo.runs[run_id] = run
    failed = [hook for hook in ran if not hook.passed]
    if failed:
        raise HookAborted(f"{refusal}: {_errors(failed)}")


def _run(number: int, action: str, hook: PreMergeHook | None, event: MergeEvent) -> HookRun:
    run_id = f"{number:04d}_0000"
    if hook is None:
        note = f"the embedded lakeFS does not run the action file {action!r}; a real server would"
        warnings.warn(f"merge into {event.branch!r}: {note}", ActionNotRun, stacklevel=2)
        return HookRun(run_id, action, action.removeprefix(ACTIONS_PREFIX), True, f"{note}\n", skipped=True)
    refusal = hook.refuse(event)
    output = "" if refusal is None else f"Error: action failed: {refusal}\n"
    return HookRun(run_id, hook.name, hook.hook, refusal is None, output)


def _errors(failed: Sequence[HookRun]) -> str:
    count = "1 error" if len(failed) == 1 else f"{len(failed)} errors"
    lines = (
        f"\t* hook run id '{hook.id}' failed on action '{hook.action}' hook '{hook.hook}': "
        f"{hook.output.removeprefix('Error: ').rstrip()}\n"
        for hook in failed
    )
    return f"{count} occurred:\n{''.join(lines)}\n"


def check_actions(tree: Tree, context: str) -> None:
    """Refuse a tree whose actions lakeFS cannot load.

    Raises:
        Missing: a folder among the actions, which lakeFS takes for a file (`context` is what the operation says first).
    """
    for action in _actions(tree):
        if action.endswith("/") and action != ACTIONS_PREFIX:
            raise Missing(
                f"{context}: 1 error occurred:\n\t* loading file {action}: get action file metadata {action}: "
                "not found\n\n"
            )


def _actions(tree: Tree) -> list[str]:
    """The action files of a tree, and the folders beside them (`docs/dev/servers/lakefs.md` 1.5)."""
    parts = (path.removeprefix(ACTIONS_PREFIX).partition("/") for path in tree.actions)
    return sorted({ACTIONS_PREFIX + name + slash for name, slash, _ in parts})
