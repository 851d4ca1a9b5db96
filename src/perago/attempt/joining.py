"""Which of several commits continues all the others (docs/design/contract.md 8, fork and join).

A task behind a fork is given what each sibling published. The one to go on from is the commit whose first-parent
history has all others in it. There is at most one, whatever the order in which they are given, so a retry finds the
same. A sibling that changed nothing gives its input ref again, which is in that history as well.

The history is read in short pages and no commit of it twice, apart from the ends of pages: each page begins at a commit
that was not read before. The given commits are read first, in the order of their ids, which is by chance: a fork is
often given in the order in which it published, oldest first, and each page would then bring one of them only. After
them the shortest line of those found so far is read on. Two lines that meet below the heads of both have parted there
for good, which ends the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from perago.attempt.outcome import short
from perago.ports import Commit

PAGE = 10
"""Commits that are read with one call: as many as one request to lakeFS brings."""
MOST_PAGES = 100
"""Pages beyond one for each given commit, after which the search is given up."""
_NAMED = 6

ReadPage = Callable[[str], Sequence[Commit]]
"""A commit and its first-parent ancestors, newest first: at most `PAGE`, fewer only at the beginning of the history."""


class NotOneLine(Exception):
    """No commit is known to continue all others. The text is the reason of the attempt, which is final."""


@dataclass(slots=True)
class _Line:
    """First-parent history that has been read, from a given commit down."""

    head: str
    following: str | None
    """The commit to read next; None at the beginning of the history."""
    last: str | None = None
    length: int = 0


def newest_of(commits: Iterable[str], read: ReadPage) -> str:
    """The commit whose first-parent history has all others of `commits`, of which there is at least one, in it.

    `read` is called once for each given commit and `MOST_PAGES` times more, at most.

    Raises:
        NotOneLine: there is none.
    """
    return _Search(commits, read).run()


class _Search:
    def __init__(self, commits: Iterable[str], read: ReadPage) -> None:
        self._given = tuple(dict.fromkeys(commits))
        self._by_chance = sorted(self._given)
        self._read = read
        self._lines: dict[str, _Line] = {}
        self._above: dict[str, str | None] = {}
        """Of each commit that was read: the one that continues it, None for the head of a line."""
        self._words: dict[str, str] = {}

    def run(self) -> str:
        pages = 0
        while (line := self._next_line()) is not None:
            if line.following is None:
                raise NotOneLine(self._parted(*self._lines))
            if pages == len(self._given) + MOST_PAGES:
                raise NotOneLine(self._far_apart())
            self._extend(line, self._read(line.following))
            pages += 1
        return next(iter(self._lines))

    def _next_line(self) -> _Line | None:
        """The line to read on; None when a single one has everything. A line that has an end comes last."""
        new = next((commit for commit in self._by_chance if commit not in self._above), None)
        if new is not None:
            return self._lines.setdefault(new, _Line(new, new))
        if len(self._lines) == 1:
            return None
        return min(self._lines.values(), key=lambda line: (line.following is None, line.length))

    def _extend(self, line: _Line, page: Sequence[Commit]) -> None:
        for commit in page:
            if commit.id in self._above:
                break
            self._above[commit.id] = line.last
            line.last, line.following = commit.id, next(iter(commit.parents), None)
            line.length += 1
            if commit.id in self._given:
                self._words[commit.id] = _words(commit)
        for each in tuple(self._lines.values()):
            while each.head in self._lines and each.following in self._above:
                self._meet(each, each.following)

    def _meet(self, line: _Line, commit: str) -> None:
        """`line` comes upon a commit of another one: at its head, it continues all of that."""
        other = self._lines.pop(commit, None)
        if other is None:
            raise NotOneLine(self._parted(line.head, self._head_above(commit)))
        self._above[commit] = line.last
        line.last, line.following, line.length = other.last, other.following, line.length + other.length

    def _head_above(self, commit: str) -> str:
        while (above := self._above[commit]) is not None:
            commit = above
        return commit

    def _parted(self, one: str, other: str, *_: str) -> str:
        first, second = self._words[one], self._words[other]
        return (
            f"The {len(self._given)} commits of workspace.ref are not one line of history: {first} is not in the "
            f"first-parent history of {second}, nor the other way round. No task can continue two branches: let the "
            "tasks publish to one branch, or merge the branches and give the merge commit alone. "
            f"Given: {given(self._given)}."
        )

    def _far_apart(self) -> str:
        first, second = [self._words[line.head] for line in self._lines.values()][:2]
        return (
            f"The {len(self._given)} commits of workspace.ref are too far apart: {first} was not found within "
            f"{MOST_PAGES * PAGE} commits below {second}, nor the other way round. Give the newest of them alone as "
            f"workspace.ref. Given: {given(self._given)}."
        )


def unknown(error: str, commits: Sequence[str]) -> str:
    """The reason of an attempt that was given a commit that does not exist."""
    return (
        f"{error}. It is one of the {len(commits)} commits of workspace.ref; give only what tasks have published to "
        f"this repository. Given: {given(commits)}."
    )


def given(commits: Sequence[str]) -> str:
    """The commits as people read them, some of them if there are many."""
    more = f" and {len(commits) - _NAMED} more" if len(commits) > _NAMED else ""
    return ", ".join(map(short, commits[:_NAMED])) + more


def _words(commit: Commit) -> str:
    """A commit and, where it says so itself, who published it where."""
    found = [commit.metadata.get(key) for key in ("perago.reference_name", "perago.branch")]
    told = " to ".join(name for name in found if name)
    return f"{short(commit.id)} (by {told})" if told else short(commit.id)
