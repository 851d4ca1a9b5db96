"""Run the hooks of a repository.

lakeFS runs the action files of the source commit (`docs/dev/servers/lakefs.md`, "Where the action file must live"). The
model cannot run Lua; it knows a hook by the path of its action file. Any other action file counts as passed at each of
its events, with a warning and a run that says `skipped`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.trees import ACTIONS_PREFIX, Tree
from perago.embedded.lakefs.values import ActionNotRun, ActionRun, HookAborted, HookRun, MergeEvent, Missing


def run_hooks(repo: Repository, source: Tree, event: MergeEvent) -> None:
    """Run the hooks whose action files are in the source tree, and record their runs.

    Raises:
        HookAborted: one of them refused; the text is wrapped as lakeFS wraps it (`docs/dev/servers/lakefs.md`,
            "Statuses with the hook in place").
        Missing: a folder among the actions.

    Warns:
        ActionNotRun: an action file that the model does not know.
    """
    at = event.commit.created
    run_id = _run_id(repo, at)
    refusal = f"update branch {event.branch}: pre-merge hook aborted, run id '{run_id}'"
    check_actions(source, refusal)
    ran = []
    for number, action in enumerate(_actions(source)):
        hook = repo.server.hooks.get(action)
        if hook is not None:
            refused = hook.refuse(event)
            output = "" if refused is None else f"Error: action failed: {refused}\n"
            ran.append(HookRun(f"{number:04d}_0000", hook.name, hook.hook, refused is None, output))
        elif _waits_for(source, action, "pre-merge"):
            ran.append(_skipped(number, action, "pre-merge", event.branch))
    if not ran:
        return
    repo.runs[run_id] = ActionRun(run_id, event.branch, event.commit.id, "pre-merge", at, tuple(ran))
    failed = [hook for hook in ran if not hook.passed]
    if failed:
        raise HookAborted(f"{refusal}: {_errors(failed)}")


def skip_hooks(repo: Repository, tree: Tree, operation: str, branch: str, commit_id: str) -> None:
    """List a skipped run for each event of an operation that action files in `tree` wait for.

    `operation` is the name that the events have in action files, such as `commit` or `create-branch`. `branch` is the
    branch or tag. Pre-merge hooks are left to `run_hooks`.

    Warns:
        ActionNotRun: a real server would run one of the files.
    """
    unknown = [action for action in _actions(tree) if action not in repo.server.hooks]
    for event in (f"pre-{operation}", f"post-{operation}"):
        waiting = [action for action in unknown if event != "pre-merge" and _waits_for(tree, action, event)]
        if waiting:
            hooks = tuple(_skipped(number, action, event, branch) for number, action in enumerate(waiting))
            run = ActionRun(_run_id(repo, repo.now()), branch, commit_id, event, repo.now(), hooks)
            repo.runs[run.id] = run


def _run_id(repo: Repository, at: int) -> str:
    """An id that sorts newest first by the second, as the real ones do."""
    return f"{(1 << 32) - 1 - at:08x}{len(repo.runs):012x}"


def _waits_for(tree: Tree, action: str, event: str) -> bool:
    entry = tree.get(action)
    text = b"" if entry is None or entry.blob.is_elsewhere else entry.blob.read()
    return re.search(rb"(?<![\w-])%s[\"']?\s*:" % event.encode(), text) is not None


def _skipped(number: int, action: str, event: str, branch: str) -> HookRun:
    note = f"the embedded lakeFS does not run the {event} hooks of {action!r}; a real server would"
    warnings.warn(f"{branch!r}: {note}", ActionNotRun, stacklevel=2)
    hook = action.removeprefix(ACTIONS_PREFIX)
    return HookRun(f"{number:04d}_0000", action, hook, True, f"{note}\n", skipped=True)


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
        Missing: a folder among the actions, which lakeFS treats as a file (`context` is the beginning of the
            operation's message).
    """
    for action in _actions(tree):
        if action.endswith("/") and action != ACTIONS_PREFIX:
            raise Missing(
                f"{context}: 1 error occurred:\n\t* loading file {action}: get action file metadata {action}: "
                "not found\n\n"
            )


def _actions(tree: Tree) -> list[str]:
    """Return the action files of a tree, and the folders next to them (`docs/dev/servers/lakefs.md`, "Where the action
    file must live")."""
    parts = (path.removeprefix(ACTIONS_PREFIX).partition("/") for path in tree.actions)
    return sorted({ACTIONS_PREFIX + name + slash for name, slash, _ in parts})
