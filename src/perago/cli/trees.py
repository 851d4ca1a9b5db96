"""Directories of people, taken as workspaces."""

from __future__ import annotations

from pathlib import Path

from perago.workspace.keys import is_reserved
from perago.workspace.scan import scan_tree
from perago.workspace.text import listing, quoted


class TreeRefused(Exception):
    """A directory cannot be a workspace; the message says why and what to do."""


def files_below(directory: Path, key_prefix: str) -> dict[str, str | bytes | Path | None]:
    """Every file below `directory` by its key. Links are not followed: a workspace has none.

    The hooks in `_lakefs_actions/` are left out: they are never part of a workspace (docs/design/contract.md 2).

    Raises:
        TreeRefused: the directory is missing, or holds what no object store can.
        WorkspaceGone: it cannot be opened.
    """
    if not directory.is_dir():
        raise TreeRefused(f"{directory} is not a directory; give one that holds the task's input files")
    tree = scan_tree(directory.resolve())
    wrong = [f"{quoted(entry.path)} ({entry.kind})" for entry in tree.irregular]
    wrong += [f"{quoted(entry.path)} ({entry.reason})" for entry in tree.unreadable]
    if wrong:
        raise TreeRefused(
            f"{directory} cannot be a workspace: only readable files and directories can, but it holds "
            f"{listing(wrong)}; move them away or copy what they point at"
        )
    keys = {key_prefix + path: directory / path for path in tree.files}
    return {key: file for key, file in keys.items() if not is_reserved(key)}
