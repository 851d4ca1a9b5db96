"""The type of the fixture `perago_snapshot`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from perago.testing.outcome import Outcome
    from perago.testing.race import Race
    from perago.testing.tasks import TaskFunction


class Snapshots(Protocol):
    """Compares with snapshots, and writes them under `--perago-update`: `perago_snapshot` is one."""

    def __call__(self, task: TaskFunction) -> None:
        """Compare the TaskDef of a task with its snapshot.

        Raises:
            AssertionError: it differs, or there is no snapshot.
            TypeError: it is no function with `@task`.
        """

    def tree(
        self,
        published: Outcome | Race | Mapping[str, str | bytes | None],
        name: str = "",
        *,
        exclude: Iterable[str] = (),
    ) -> None:
        """Compare a tree with its snapshot.

        Args:
            published: the outcome of a completed attempt, for the files that it has added, changed and removed; or a
                tree, such as `perago_run.tree()`, for all files of it.
            name: tells several snapshots of one test apart.
            exclude: globs of files that are never alike.

        Raises:
            AssertionError: it differs, there is no snapshot, or the attempt did not complete.
            ValueError: the test has asked for this name before, or it cannot be a part of a file name.
        """
