"""Find the commit that a task behind a fork continues.

Such a task gets the commit of each sibling. It continues from the commit whose first-parent history contains all
others. There is at most one, and their order does not matter, so a retry finds the same commit. A sibling that changed
nothing returns its input ref, which is in that history, too.

The history is read in short pages, and only the ends of pages are read twice. The given commits are read first, in the
order of their ids, which is a random order. The order in which they are given is often that of publication, so that
each page would bring only one of them. Then the shortest line is read further. Two lines that meet below both heads
have diverged, which ends the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from perago.attempt import publication, refusals
from perago.attempt.refusals import Refusal
from perago.ports import Commit
from perago.text import listing, short

PAGE = 10
"""Number of commits that are read with one call, which is a page of lakeFS."""
MOST_PAGES = 100
"""Number of pages, in addition to one for each given commit, after which the search is given up."""
_NAMED = 6

ReadPage = Callable[[str], Sequence[Commit]]
"""A commit and its first-parent ancestors, newest first: at most `PAGE`; fewer only where the history begins."""


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


def line_of(commits: Iterable[str], read: ReadPage) -> tuple[Commit, ...]:
    """Return the first-parent history from the newest of `commits`, at least one, down to the oldest of them.

    `read` is called once for each of `commits` and `MOST_PAGES` times more, at most.

    Raises:
        NotOneLine: no commit continues the others.
    """
    return _Search(commits, read).run()


def newest_of(commits: Iterable[str], read: ReadPage) -> str:
    """Return the commit of `commits` whose first-parent history has all the others in it, as `line_of` finds it."""
    return line_of(commits, read)[0].id


class _Search:
    def __init__(self, commits: Iterable[str], read: ReadPage) -> None:
        self._joined = tuple(dict.fromkeys(commits))
        self._in_random_order = sorted(self._joined)
        self._read = read
        self._lines: dict[str, _Line] = {}
        self._above: dict[str, str | None] = {}
        """The commits that were read, each with the commit that continues it, or None for the head of a line."""
        self._commits: dict[str, Commit] = {}

    def run(self) -> tuple[Commit, ...]:
        pages = 0
        while (line := self._next_line()) is not None:
            if line.following is None:
                raise self._refused(refusals.NOT_ONE_LINE, *self._lines)
            if pages == len(self._joined) + MOST_PAGES:
                raise self._refused(refusals.TOO_FAR_APART, *self._lines)
            self._extend(line, self._read(line.following))
            pages += 1
        return self._down_to_the_oldest(next(iter(self._lines)))

    def _down_to_the_oldest(self, newest: str) -> tuple[Commit, ...]:
        line, missing = [self._commits[newest]], set(self._joined) - {newest}
        while missing:
            line.append(self._commits[line[-1].parents[0]])
            missing.discard(line[-1].id)
        return tuple(line)

    def _next_line(self) -> _Line | None:
        """Return the line to read further, or None if a single line contains everything. Lines that have ended come
        last."""
        new = next((commit for commit in self._in_random_order if commit not in self._above), None)
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
            self._commits[commit.id] = commit
            line.last, line.following = commit.id, next(iter(commit.parents), None)
            line.length += 1
        for open_line in tuple(self._lines.values()):
            while open_line.head in self._lines and open_line.following in self._above:
                self._meet(open_line, open_line.following)

    def _meet(self, line: _Line, commit: str) -> None:
        """Join `line` with the line of a commit that it has reached. If that commit is a head, `line` continues the
        complete other line."""
        other = self._lines.pop(commit, None)
        if other is None:
            while (above := self._above[commit]) is not None:
                commit = above
            raise self._refused(refusals.NOT_ONE_LINE, line.head, commit)
        self._above[commit] = line.last
        line.last, line.following, line.length = other.last, other.following, line.length + other.length

    def _refused(self, refusal: Refusal, first: str, second: str, *_: str) -> NotOneLine:
        facts = {"first": _origin_of(self._commits[first]), "second": _origin_of(self._commits[second])}
        facts |= {"limit": str(MOST_PAGES * PAGE), "count": str(len(self._joined)), "given": named(self._joined)}
        return NotOneLine(refusal.text(None, **facts))


def unknown(error: str, commits: Sequence[str]) -> str:
    """Return the reason for a given commit that does not exist."""
    return refusals.UNKNOWN_COMMIT.text(None, error=error, count=str(len(commits)), given=named(commits))


def named(commits: Sequence[str]) -> str:
    """Describe the commits, or some of them if there are many."""
    return listing(list(map(short, commits)), _NAMED)


def _origin_of(commit: Commit) -> str:
    """Name a commit and, if its metadata say so, the step that published it and the branch."""
    names = [commit.metadata.get(key) for key in (publication.REFERENCE_NAME, publication.BRANCH)]
    publisher = " to ".join(filter(None, names))
    return f"{short(commit.id)} (by {publisher})" if publisher else short(commit.id)
