"""What an attempt left behind, then and now: how it ended, its result, and what it did to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from perago.taskdef.compare import Difference, json_differences
from perago.testing.difference import Content, Digest, FileDifference, tree_differences


@dataclass(frozen=True, slots=True)
class Remains:
    """What is compared of an attempt. Paths are relative to the workspace."""

    ending: str
    """In the words of `Example.expect`: `completed`, `pre`, `post`, `failed` or `terminal`."""
    reason: str = ""
    """Why it did not complete."""
    result: Any = None
    files: Mapping[str, Content | Digest] = field(default_factory=dict)
    """What it added and changed."""
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Differences:
    """How one attempt differs from another; false if it does not."""

    ending: str = ""
    result: tuple[Difference, ...] = ()
    files: tuple[FileDifference, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ending or self.result or self.files)

    @property
    def summary(self) -> tuple[str, ...]:
        """A line for each difference."""
        results = tuple(f"result {difference.text.removeprefix(': ')}" for difference in self.result)
        return (*((self.ending,) if self.ending else ()), *results, *map(str, self.files))

    def lines(self) -> Iterator[str]:
        """The same, with what differs in each file below its line."""
        yield from self.summary[: len(self.summary) - len(self.files)]
        for difference in self.files:
            yield str(difference)
            yield from (f"  {line}" for line in difference.lines)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "ending": self.ending or None,
            "result": [difference.text for difference in self.result],
            "files": [
                {
                    "path": difference.path,
                    "summary": difference.summary,
                    "columns": list(difference.columns),
                    "lines": list(difference.lines),
                }
                for difference in self.files
            ],
        }


def differences(before: Remains, after: Remains, tree: Mapping[str, Content]) -> Differences:
    """How `after` differs from `before`. Reasons of failures are not compared: they name ids and times.

    Args:
        before: what was left then.
        after: what is left now.
        tree: the files that both began with. One that only one of both wrote is compared with it.

    Raises:
        OSError: a file cannot be read.
    """
    if before.ending != after.ending:
        why = f": {after.reason or before.reason}" if after.reason or before.reason else ""
        return Differences(ending=f"{before.ending} before, {after.ending} now{why}")
    if before.ending != "completed":
        return Differences()
    before, after = with_untouched(before, after, tree), with_untouched(after, before, tree)
    return Differences(
        result=json_differences(before.result, after.result),
        files=tuple(sorted((*tree_differences(before.files, after.files), *_removals(before, after)), key=_path)),
    )


def with_untouched(one: Remains, other: Remains, tree: Mapping[str, Content]) -> Remains:
    """`one`, with those files of the tree that it left alone and `other` wrote."""
    paths = other.files.keys() - one.files.keys() - one.removed
    return replace(one, files={**one.files, **{path: tree[path] for path in paths & tree.keys()}})


def _removals(before: Remains, after: Remains) -> Iterator[FileDifference]:
    """Where only one of both removed a file that the other left alone."""
    for path in before.removed - after.removed - after.files.keys():
        yield FileDifference(path, "was removed before, stays now")
    for path in after.removed - before.removed - before.files.keys():
        yield FileDifference(path, "stayed before, is removed now")


def _path(difference: FileDifference) -> str:
    return difference.path
