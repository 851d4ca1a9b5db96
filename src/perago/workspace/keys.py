"""Which keys can be files below a workspace, and which paths can be keys. Pure: no file is touched.

A lakeFS key is any UTF-8 text of up to 1,024 bytes (`docs/servers/lakefs.md` 2), so a listing may hold names that leave
the workspace, that no disk accepts, or that meet on one. All of them are found before anything is written
(docs/design/contract.md 7). Control characters and backslashes are ordinary characters of POSIX names and are kept:
names are bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perago.ports import ObjectEntry

ACTIONS = "_lakefs_actions"
"""The directory of lakeFS hooks, at the root of a repository only. Never part of a workspace
(docs/design/contract.md 2)."""

MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Folding:
    """Which names a disk takes for the same one. NFC and NFD are different keys, and so are `A` and `a`."""

    case: bool = False
    unicode_form: bool = False

    def fold(self, path: str) -> str:
        """Equal for two paths that the disk may not tell apart; rather too often equal than too seldom."""
        if self.unicode_form:
            path = unicodedata.normalize("NFD", path)
        if self.case:
            path = path.casefold()
        return unicodedata.normalize("NFD", path) if self.unicode_form else path

    def __bool__(self) -> bool:
        return self.case or self.unicode_form


@dataclass(frozen=True, slots=True)
class NameLimits:
    """What a disk allows, in bytes: `name_max` for one name, `path_max` for a path below the workspace."""

    name_max: int = 255
    path_max: int = 4096
    folding: Folding = field(default_factory=Folding)


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """A key, as it is in the repository, and why it cannot be laid out."""

    key: str
    problem: str


def is_reserved(key: str) -> bool:
    """Whether `key` is, or lies in, the directory of lakeFS hooks."""
    return key.startswith(ACTIONS) and key[len(ACTIONS) : len(ACTIONS) + 1] in ("", "/")


def is_marker(entry: ObjectEntry) -> bool:
    """Whether `entry` only marks a directory, as some tools write them: `x/` of size 0."""
    return entry.key.endswith("/") and entry.size == 0


def is_utf8(name: str) -> bool:
    """Whether `name` can be written as UTF-8, as every key is."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_too_long(key: str) -> bool:
    """Whether lakeFS would refuse `key` for its length."""
    return len(key) * 4 > MAX_KEY_BYTES and len(key.encode(errors="surrogateescape")) > MAX_KEY_BYTES


def check_keys(entries: Sequence[ObjectEntry], key_prefix: str, limits: NameLimits) -> tuple[KeyProblem, ...]:
    """Everything that keeps a listing from becoming a directory tree, keys that meet others last.

    Reserved keys are left out of a workspace and so are no problem here.
    """
    problems: list[KeyProblem] = []
    names = _Names(limits.name_max)
    files: dict[str, str] = {}
    directories: dict[str, str] = {}
    for entry in entries:
        if is_reserved(entry.key):
            continue
        problem = _problem_of(entry, key_prefix, limits, names)
        if problem is not None:
            problems.append(KeyProblem(entry.key, problem))
            continue
        path = entry.key[len(key_prefix) :]
        if not path.endswith("/") and path:
            files[path] = entry.key
        _note_directories(path, entry.key, directories)
    return (*problems, *_files_that_are_directories(files, directories), *_folded(files, directories, limits.folding))


def find_collisions(paths: Iterable[str], folding: Folding) -> tuple[KeyProblem, ...]:
    """The paths of files that cannot stand in one tree together: a file against a directory of that name, and names
    that the disk would fold together (docs/design/contract.md 8, overlap)."""
    files = {path: path for path in paths}
    directories: dict[str, str] = {}
    for path in files:
        _note_directories(path, path, directories)
    return (*_files_that_are_directories(files, directories), *_folded(files, directories, folding))


class _Names:
    """Checks the components of paths; those of a directory only once."""

    def __init__(self, name_max: int) -> None:
        self._name_max = name_max
        self._good: set[str] = set()

    def problem(self, path: str) -> str | None:
        above, slash, name = path.rpartition("/")
        if slash and above not in self._good:
            for component in above.split("/"):
                problem = self._of_component(component)
                if problem is not None:
                    return problem
            self._good.add(above)
        return self._of_component(name)

    def _of_component(self, name: str) -> str | None:
        if not name:
            return "contains an empty path component ('//' or a leading '/')"
        if name in (".", ".."):
            return f"contains the path component {name!r}"
        if len(name) * 4 > self._name_max and len(name.encode()) > self._name_max:
            return f"contains a name longer than the {self._name_max} bytes that the disk allows"
        return None


def _problem_of(entry: ObjectEntry, key_prefix: str, limits: NameLimits, names: _Names) -> str | None:
    """What is wrong with one key by itself."""
    if not entry.key.startswith(key_prefix):
        return f"lies outside the prefix {key_prefix!r}"
    if "\0" in entry.key:
        return "contains a NUL character"
    if not is_utf8(entry.key):
        return "is not UTF-8"
    if entry.size < 0:  # lakeFS takes any size from the one who links an object
        return "has a size below 0"
    path = entry.key[len(key_prefix) :]
    if not path or path.endswith("/"):
        if entry.size:
            return "ends in '/' but has content, so it is neither a file nor a directory"
        if not path:
            return None
        path = path[:-1]
    if len(path) * 4 > limits.path_max and len(path.encode()) > limits.path_max:
        return f"is longer than the {limits.path_max} bytes that the disk allows for a path in this workspace"
    return names.problem(path)


def _note_directories(path: str, key: str, directories: dict[str, str]) -> None:
    """Add the directories that `path` needs; a known one implies that those above it are known."""
    above = path.rpartition("/")[0]
    while above and above not in directories:
        directories[above] = key
        above = above.rpartition("/")[0]


def _files_that_are_directories(files: Mapping[str, str], directories: Mapping[str, str]) -> list[KeyProblem]:
    return [
        KeyProblem(key, f"is a file and, for {directories[path]!r}, a directory at once")
        for path, key in files.items()
        if path in directories
    ]


def _folded(files: Mapping[str, str], directories: Mapping[str, str], folding: Folding) -> list[KeyProblem]:
    if not folding:
        return []
    first: dict[str, tuple[str, str]] = {}
    problems = []
    for path, key in (*files.items(), *directories.items()):
        other, other_key = first.setdefault(folding.fold(path), (path, key))
        if other != path:
            problems.append(KeyProblem(key, f"has the same name as {other_key!r} on this disk ({path!r}, {other!r})"))
    return problems


def directories_above(key: str) -> Iterator[str]:
    """The directories of a key, the nearest first."""
    while key := key.rpartition("/")[0]:
        yield key
