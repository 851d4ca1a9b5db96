"""Files and directories that people name: read as workspaces, or written for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from perago.atomic_file import replace_file
from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode
from perago.workspace.text import listing, quoted

if TYPE_CHECKING:
    from perago.cli.probe import TaskSummary
    from perago.embedded.lakefs import InMemoryLakeFS


class TreeRefused(Exception):
    """A directory cannot be a workspace; the message says why and what to do."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write `path` so that it has its old content or its new one at any time, never half of either.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe; a directory refuses by itself
            path.write_bytes(content)
        else:
            replace_file(path.resolve(), content)  # a symlink stays one
    except OSError as error:
        raise CommandError(ExitCode.FAILURE, f"cannot write {path}: {error.strerror}") from error


def files_below(directory: Path, key_prefix: str) -> dict[str, str | bytes | Path | None]:
    """Every file below `directory` by its key. Links are not followed: a workspace has none.

    The hooks in `_lakefs_actions/` are left out: they are never part of a workspace (docs/design/contract.md 2).

    Raises:
        TreeRefused: the directory is missing, or holds what no object store can.
        WorkspaceGone: it cannot be opened.
    """
    from perago.workspace.keys import is_reserved
    from perago.workspace.scan import scan_tree

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


def check_output(output: Path | None) -> None:
    """Refuse a directory that has something in it.

    Raises:
        typer.BadParameter: nothing may be overwritten.
    """
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise typer.BadParameter(f"--output {output} exists and is not an empty directory; nothing was run.")


def write_tree(lakefs: InMemoryLakeFS, ref: str | None, prefix: str, output: Path) -> None:
    """Write a published tree to a directory.

    Args:
        lakefs: Where the commit is.
        ref: The commit; None if nothing was published, which is said and nothing written.
        prefix: What the keys begin with; the rest of a key is the path of its file.
        output: The directory; it is made where it is missing.

    Raises:
        CommandError: the disk refused.
    """
    from perago.local.services import REPOSITORY

    if ref is None:
        messages.note(f"nothing was published, so {output} was not written")
        return
    try:
        lakefs.export(REPOSITORY, ref, output, prefix=prefix)
    except (OSError, ValueError) as error:
        raise CommandError(ExitCode.FAILURE, f"cannot write the published tree to {output}: {error}") from error
    messages.note(f"wrote the published tree to {output}")


def prefix_of(task: TaskSummary) -> str:
    """What every key of the task's workspace begins with."""
    prefix = (task.workspace or "").strip("/")
    return f"{prefix}/" if prefix else ""
