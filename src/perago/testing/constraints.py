"""What count constraints say about paths: the sets they count, and where no file can be because of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perago.authoring.guardrails import CountConstraint, FileSelection
from perago.testing.globs import Kind, PathSet, below, matching, name_places, only

RESERVED = "_lakefs_actions"
"""The directory of lakeFS hooks."""


def path_set(files: FileSelection, *, plainly: bool = False) -> PathSet:
    """The paths of the selection; `plainly` gives a part of them that people like to read."""
    if not files.pattern:
        return only(files.name)
    above = only(f"{files.name}/").places if files.name else ()
    return PathSet((*above, *matching(files.pattern, plainly=plainly).places))


def forbidden_by(constraint: CountConstraint) -> Iterator[PathSet]:
    """Where no file can be, because the constraint needs a directory there, or a file above."""
    if constraint.least and not constraint.files.pattern:
        yield below(constraint.files.name)
    for directory in directories_for(constraint):
        yield only(directory)


def directories_for(constraint: CountConstraint) -> list[str]:
    """The directories that must be there for the constraint to hold, the outermost first."""
    if not constraint.least:
        return []
    names = constraint.files.name.split("/") if constraint.files.name else []
    for segment in constraint.files.pattern.split("/") if constraint.files.pattern else ():
        names.append(segment)
        if segment == "**" or any(place.kind is not Kind.EXACTLY for place in name_places(segment)):
            break
    return ["/".join(names[:depth]) for depth in range(1, len(names))]


def needed(constraint: CountConstraint) -> list[str]:
    """The file that must be there, or some file in the deepest directory that must be there."""
    if constraint.least and not constraint.files.pattern:
        return [constraint.files.name]
    return [f"{directory}/*" for directory in directories_for(constraint)[-1:]]


def reserved_paths(key_prefix: str) -> Sequence[PathSet]:
    """What is never part of a workspace (docs/design/contract.md 2)."""
    return () if key_prefix else (only(RESERVED), below(RESERVED))
