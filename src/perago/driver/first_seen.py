"""When a branch without any date was first seen: lakeFS does not say when a branch was made
(`docs/servers/lakefs.md` 2).

Remembered in one small private file from one `perago gc` to the next. Losing it costs time, nothing else: whatever is
not remembered counts as seen now.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from perago.atomic_file import replace_file

_LARGEST = 16 * 1024 * 1024


class FirstSeenStore:
    """First sightings of branches on one lakeFS server. Read when made, written by `save`."""

    def __init__(self, file: Path, server: str) -> None:
        """`server`: the address, since repositories of two servers may have one name."""
        self.file = file
        self._server = server
        self._seen = _read(file)

    def first(self, repository: str, branch: str, head: str, now: float) -> float:
        """When `branch` was first seen at the commit `head`, in seconds since the epoch; `now` if it is seen first.

        A branch that has moved is alive: its time begins anew.
        """
        branches = self._branches(repository)
        known = branches.get(branch)
        if known is None or known[0] != head or known[1] > now:
            known = branches[branch] = (head, now)
        return known[1]

    def keep_only(self, repository: str, branches: Collection[str]) -> None:
        """Forget the branches of a repository that are no longer there."""
        known = self._seen.get(self._server, {}).get(repository, {})
        for gone in set(known).difference(branches):
            del known[gone]

    def save(self) -> None:
        """Write everything back, whole or not at all, for this user alone; nothing if there is nothing new.

        Raises:
            OSError: it cannot be written.
        """
        if self._seen == _read(self.file):
            return
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self.file, json.dumps(self._seen).encode(), mode=0o600)

    def _branches(self, repository: str) -> dict[str, tuple[str, float]]:
        return self._seen.setdefault(self._server, {}).setdefault(repository, {})


_Seen = dict[str, dict[str, dict[str, tuple[str, float]]]]
"""By server, repository and branch: the commit at its head, and since when."""


def _read(file: Path) -> _Seen:
    """What the file says; nothing if it cannot be read or makes no sense."""
    try:
        with file.open(encoding="utf-8") as opened:
            found: Any = json.loads(opened.read(_LARGEST))
        return {
            str(server): {
                str(repository): {str(branch): (str(head), float(since)) for branch, (head, since) in _items(branches)}
                for repository, branches in _items(repositories)
            }
            for server, repositories in _items(found)
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _items(found: Mapping[str, Any]) -> Collection[tuple[str, Any]]:
    return found.items()
