"""What `perago gc` found and did, on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from perago.cli.render import messages
from perago.workspace.text import one_line

if TYPE_CHECKING:
    from perago.driver.gc import Leftover, Policy

_WIDTH = len("would remove")


def line(leftover: Leftover, policy: Policy) -> None:
    """One leftover, what became of it, and why."""
    where = f"branch {leftover.name} of {leftover.repository}" if leftover.repository else _directory(leftover)
    sys.stdout.write(f"{_word(leftover, policy):<{_WIDTH}}  {one_line(f'{where}: {leftover.reason}')}\n")
    sys.stdout.flush()


def summary(found: Sequence[Leftover], policy: Policy, repositories: Sequence[str]) -> None:
    """How much it was."""
    from perago.driver.gc import Fate
    from perago.workspace.text import count, size

    gone = [leftover for leftover in found if leftover.fate is Fate.REMOVED]
    directories = [leftover for leftover in gone if leftover.repository is None]
    freed = sum(leftover.size or 0 for leftover in directories)
    sys.stdout.write(
        f"{'would remove' if policy.dry_run else 'removed'} "
        f"{count(len(directories), 'attempt directory', 'attempt directories')} ({size(freed)}) and "
        f"{count(len(gone) - len(directories), 'branch', 'branches')}; {len(found) - len(gone)} left\n"
    )
    if not repositories:
        messages.note("branches were not looked for: name the repositories to look in, such as: perago gc my-data")


def document(found: Sequence[Leftover], policy: Policy) -> None:
    """Everything, as one JSON object."""
    content = {
        "dry_run": policy.dry_run,
        "older_than_seconds": policy.older_than,
        "leftovers": [_fields(leftover) for leftover in found],
    }
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def _fields(leftover: Leftover) -> dict[str, object]:
    if leftover.repository is None:
        what: dict[str, object] = {"kind": "directory", "path": leftover.name, "bytes": leftover.size}
    else:
        what = {"kind": "branch", "repository": leftover.repository, "branch": leftover.name}
    return {**what, "fate": leftover.fate.value, "reason": leftover.reason}


def _word(leftover: Leftover, policy: Policy) -> str:
    from perago.driver.gc import Fate

    return "would remove" if policy.dry_run and leftover.fate is Fate.REMOVED else leftover.fate.value


def _directory(leftover: Leftover) -> str:
    from perago.workspace.text import size

    return f"{leftover.name} ({size(leftover.size or 0)})"
