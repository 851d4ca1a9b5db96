"""Where the changes of a task and those of others to the same branch meet (docs/design/contract.md 8, Rebase). Pure.

Two sets of changes that begin at one commit can both be kept unless they meet: in a path, in a file where the other has
a directory, or in names that a disk may take for the same one. A path in which both end alike is no conflict. Whether
two files of one size are alike, their checksums tell, which a diff does not show: such paths are undecided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perago.workspace.glob import compile_glob
from perago.workspace.keys import Folding, directories_above

_ANY_DISK = Folding(case=True, unicode_form=True)
"""The next task may run on a disk that folds names, whatever this one does."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How the changes of others, by key, meet the task's own."""

    conflicts: Mapping[str, str]
    """The keys of others that are in the way, each with what is wrong with it."""
    shared: frozenset[str]
    """Keys that both have removed."""
    undecided: frozenset[str]
    """Keys that both have written, with as many bytes: a conflict unless the bytes are the same."""


def find_overlap(
    put: Mapping[str, int],
    removed: Collection[str],
    others: Mapping[str, int | None],
    *,
    reads: Sequence[str] = (),
    key_prefix: str = "",
    names: Collection[str] = (),
) -> Overlap:
    """Compare the task's changes with those of others since the same commit.

    Args:
        put: what the task has written: keys with sizes in bytes.
        removed: the keys that it has removed.
        others: the keys at which others have changed the tree, with their sizes now; None: removed.
        reads: globs relative to `key_prefix`. A key of others that matches one is a conflict, even if both sides have
            done the same to it.
        key_prefix: what the keys of the task begin with.
        names: all files and directories that the task left, as keys. Two names that the task's own tree has both are
            no conflict, however alike they are.
    """
    conflicts: dict[str, str] = {}
    shared, undecided = set(), set()
    for key, size in others.items():
        if key in put:
            if size is None:
                conflicts[key] = "was removed there, and written by this attempt"
            elif size != put[key]:
                conflicts[key] = "was changed on both sides"
            else:
                undecided.add(key)
        elif key in removed:
            if size is None:
                shared.add(key)
            else:
                conflicts[key] = "was changed there, and removed by this attempt"
    written = [key for key, size in others.items() if size is not None and key not in put]
    for key, problem in _meeting_names(list(put), written, set(names)):
        conflicts.setdefault(key, problem)
    patterns = [compile_glob(pattern) for pattern in reads]
    for key in others if patterns else ():
        path = key.removeprefix(key_prefix)
        if not key.startswith(key_prefix) or not any(pattern.fullmatch(path) for pattern in patterns):
            continue
        done = "removed" if others[key] is None else "changed"
        conflicts.setdefault(key, f"was read by this task (`reads`), and {done} there")
    return Overlap(conflicts, frozenset(shared), frozenset(undecided))


def _meeting_names(put: Sequence[str], written: Sequence[str], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """The keys of `written` that cannot stand beside `put` on every disk."""
    files = {_ANY_DISK.fold(key): key for key in put}
    directories = {_ANY_DISK.fold(above): above for key in put for above in directories_above(key)}
    for key in written:
        folded = _ANY_DISK.fold(key)
        if folded in directories:
            yield key, f"is a file there, and a directory of this attempt ({directories[folded]!r})"
        elif folded in files and key not in names:
            yield key, f"differs from {files[folded]!r} of this attempt only in case or Unicode form"
        else:
            yield from ((key, problem) for problem in _meeting_directories(key, files, directories, names))


def _meeting_directories(
    key: str, files: Mapping[str, str], directories: Mapping[str, str], names: Collection[str]
) -> Iterator[str]:
    for above in directories_above(key):
        folded = _ANY_DISK.fold(above)
        if folded in files:
            yield f"needs a directory where this attempt has the file {files[folded]!r}"
        elif directories.get(folded, above) != above and above not in names:
            yield f"lies in {above!r}, which differs from {directories[folded]!r} of this attempt only in its spelling"


def combined(
    own: Mapping[str, int], others: Mapping[str, int | None], planned: Collection[str], key_prefix: str
) -> dict[str, int]:
    """The files of the workspace once both changes are in it: paths with sizes in bytes.

    `own` are the paths that the task left, `planned` the keys that it changes itself.
    """
    sizes = dict(own)
    for key, size in others.items():
        path = key[len(key_prefix) :]
        if key in planned or not key.startswith(key_prefix) or not path or path.endswith("/"):
            continue
        if size is None:
            sizes.pop(path, None)
        else:
            sizes[path] = size
    return sizes
