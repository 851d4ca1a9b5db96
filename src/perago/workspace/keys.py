"""Keys, paths and patterns: decide which keys can be files, and which files a task sees. Never touch a file.

A pattern is matched against the complete path of a file, relative to the workspace:

- `*` matches any part of one name, `?` one character of it, `[abc]`, `[a-z]` and `[!abc]` one character of a set;
  inside one path segment these mean what Python's `fnmatch` means by them. None of them matches a `/`.
- `**` as a whole segment matches zero or more directories: `raw/**/*.csv` matches `raw/a.csv` and `raw/x/y/a.csv`.
  At the end of a pattern it stands for every file below: `raw/**` matches what `raw/**/*` matches.
- Matching is case-sensitive everywhere, and a leading dot is an ordinary character: what a task leaves behind in
  `.cache/` would be published, so `forbid_glob("**/*.tmp")` has to see it.

A lakeFS key is any UTF-8 text of up to 1,024 bytes (`docs/dev/servers/lakefs.md`, "REST facts"), so a listing can
contain names that leave the workspace, that no disk accepts, or that are the same on some disk. All of them are found
before anything is written. Control characters and backslashes are ordinary characters of POSIX names, and are kept.

    View(include=("raw/2024/**",), exclude=("**/*.bak",))

sees `raw/2024/a.csv`, and neither `raw/2023/a.csv` nor `raw/2024/a.bak`. The patterns are those of guardrails.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from perago.authoring.workspace import WorkspaceSpec

if TYPE_CHECKING:
    from perago.ports import ObjectEntry

_IN_NAME = "[^/]"
_DIRECTORY = "(?:[^/]+/)"


@lru_cache(maxsize=256)
def compile_glob(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Return the expression whose `fullmatch` says whether a relative POSIX path matches the canonical `pattern`."""
    groups: list[list[str]] = [[]]
    for segment in pattern.split("/"):
        if segment == "**":
            groups.append([])
        else:
            groups[-1].append(_segment(segment))
    *directories, last = groups
    chunks = ["".join(f"{name}/" for name in names) for names in directories]
    chunks.append("/".join(last) or f"{_IN_NAME}+")
    return re.compile(_with_gaps(chunks, _DIRECTORY), re.IGNORECASE if ignore_case else 0)


def _segment(segment: str) -> str:
    """Return the expression for one path segment."""
    chunks = [""]
    position = 0
    while position < len(segment):
        character = segment[position]
        position += 1
        if character == "*":
            chunks.append("")
        elif character == "?":
            chunks[-1] += _IN_NAME
        elif character == "[" and (end := _end_of_set(segment, position)) > 0:
            chunks[-1] += _set(segment[position:end])
            position = end + 1
        else:
            chunks[-1] += re.escape(character)
    return _with_gaps(chunks, _IN_NAME)


def _with_gaps(chunks: list[str], gap: str) -> str:
    """Return `chunks` with any number of `gap` between neighbours.

    The leftmost match of a middle chunk is always sufficient, because another gap follows. Atomic groups prevent
    backtracking, even for patterns with many stars.
    """
    if len(chunks) == 1:
        return chunks[0]
    first, *middle, last = chunks
    return f"{first}{''.join(f'(?>{gap}*?{chunk})' for chunk in middle if chunk)}{gap}*{last}"


def _end_of_set(segment: str, start: int) -> int:
    """Return the end of the set that begins at `start`, or -1 if the bracket is an ordinary character."""
    if segment[start : start + 1] == "!":
        start += 1
    return segment.find("]", start + 1)


def _set(text: str) -> str:
    """Return the expression for the set `text` without its brackets. A range that runs backwards is empty."""
    negated = text.startswith("!")
    members = ""
    position = int(negated)
    while position < len(text):
        low = text[position]
        if text[position + 1 : position + 2] == "-" and position + 2 < len(text):
            high = text[position + 2]
            position += 3
            if low <= high:
                members += f"{re.escape(low)}-{re.escape(high)}"
        else:
            position += 1
            members += f"\\{low}" if low in _ESCAPED_IN_SETS else low
    if not members:
        return _IN_NAME if negated else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{members}]"


_ESCAPED_IN_SETS = r"\]^-[&~|"
"""Characters that have a special meaning inside a set, or may get one in later versions of Python."""

ACTIONS = "_lakefs_actions"
"""The directory of lakeFS hooks, at the root of a repository only. Never part of a workspace."""

MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Folding:
    """The names that a disk treats as the same. In lakeFS, NFC and NFD are different keys, and so are `A` and `a`."""

    case: bool = False
    unicode_form: bool = False

    def fold(self, path: str) -> str:
        """Return a text that is equal for paths that the disk can treat as the same. In doubt, paths are treated as the
        same."""
        if self.unicode_form:
            path = unicodedata.normalize("NFD", path)
        if self.case:
            path = path.casefold()
        return unicodedata.normalize("NFD", path) if self.unicode_form else path

    def __bool__(self) -> bool:
        return self.case or self.unicode_form


@dataclass(frozen=True, slots=True)
class NameLimits:
    """The limits of a disk, in bytes: `name_max` for one name, `path_max` for a path below the workspace."""

    name_max: int = 255
    path_max: int = 4096
    folding: Folding = field(default_factory=Folding)


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """A key of the repository, and the reason why it cannot be a file."""

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
    """Return all problems that prevent a directory tree of a listing. Collisions with other keys come last.

    Reserved keys are left out of a workspace, so they are not problems.
    """
    problems: list[KeyProblem] = []
    sound: set[str] = set()
    files: dict[str, str] = {}
    directories: dict[str, str] = {}
    for entry in entries:
        if is_reserved(entry.key):
            continue
        problem = _problem_of(entry, key_prefix, limits, sound)
        if problem is not None:
            problems.append(KeyProblem(entry.key, problem))
            continue
        path = entry.key[len(key_prefix) :]
        if not path.endswith("/") and path:
            files[path] = entry.key
        _note_directories(path, entry.key, directories)
    return (*problems, *_files_that_are_directories(files, directories), *_folded(files, directories, limits.folding))


def find_collisions(paths: Iterable[str], folding: Folding) -> tuple[KeyProblem, ...]:
    """Return the paths of files that cannot be in one tree: a file and a directory of the same name, and names that the
    disk treats as the same."""
    files = {path: path for path in paths}
    directories: dict[str, str] = {}
    for path in files:
        _note_directories(path, path, directories)
    return (*_files_that_are_directories(files, directories), *_folded(files, directories, folding))


def _name_problem(name: str, name_max: int) -> str | None:
    """Return the problem of one component of a path."""
    if not name:
        return "contains an empty path component ('//' or a leading '/')"
    if name in (".", ".."):
        return f"contains the path component {name!r}"
    if len(name) * 4 > name_max and len(name.encode()) > name_max:
        return f"contains a name longer than the {name_max} bytes that the disk allows"
    return None


def _problem_of(entry: ObjectEntry, key_prefix: str, limits: NameLimits, sound: set[str]) -> str | None:
    """Return the problem of a single key. `sound` has the directories whose names were checked."""
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
    above, slash, name = path.rpartition("/")
    if slash and above not in sound:
        for component in above.split("/"):
            if (problem := _name_problem(component, limits.name_max)) is not None:
                return problem
        sound.add(above)
    return _name_problem(name, limits.name_max)


def _note_directories(path: str, key: str, directories: dict[str, str]) -> None:
    """Add the directories that `path` needs. If a directory is known, its parents are known, too."""
    for above in directories_above(path):
        if above in directories:
            break
        directories[above] = key


def _files_that_are_directories(files: Mapping[str, str], directories: Mapping[str, str]) -> list[KeyProblem]:
    return [
        KeyProblem(key, f"is a file, but also the directory of {directories[path]!r}")
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
    """Yield the directories of a key, the nearest first."""
    while key := key.rpartition("/")[0]:
        yield key


@dataclass(frozen=True, slots=True)
class View:
    """The view of a task: a path must match one glob of `include`, if there are any, and none of `exclude`."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: WorkspaceSpec) -> View:
        """Return the view of a task with this workspace."""
        return cls(spec.include, spec.exclude)

    def __str__(self) -> str:
        parts = (("include", self.include), ("exclude", self.exclude))
        return ", ".join(f"{name}={list(patterns)!r}" for name, patterns in parts if patterns)

    def sees(self, path: str) -> bool:
        """Whether a file at this path is part of the workspace. A directory marker `x/` is part of it if files in `x`
        can be."""
        if path.endswith("/"):
            path += "-"
        included = not self.include or any(compile_glob(pattern).fullmatch(path) for pattern in self.include)
        return included and not any(compile_glob(pattern).fullmatch(path) for pattern in self.exclude)

    def trespasses(self, written: Iterable[str], hidden: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield the files that the task must not write, each with the reason.

        Args:
            written: all files of the workspace.
            hidden: the files of the same tree that the task does not see, and directory markers such as `x/`.
        """
        if self == EVERYTHING:
            return
        directories = {above for path in hidden for above in directories_above(path)}
        for path in written:
            if path in hidden:
                yield path, "already exists, but the task does not see it"
            elif not self.sees(path):
                yield path, "is not part of what the task sees"
            elif path in directories:
                yield path, "is a directory in the part that the task does not see"
            elif blocking := next((above for above in directories_above(path) if above in hidden), None):
                yield path, f"needs a directory at {blocking!r}, a file that the task does not see"


EVERYTHING = View()
