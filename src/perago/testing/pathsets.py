"""Exact answers about sets of paths: whether one is in some sets and in none of others, and the shortest ones first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from perago.testing.globs import PathSet, State, walker

_MOST_STATES = 1_000
_LISTED = 64
"""A range of characters that no rule tells apart is tried in full up to this size, and by its plainest ones above."""

_PLAIN = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_-é漢"
_SURROGATES = range(0xD800, 0xE000)

_NAME, _DOT, _TWO_DOTS, _NOTHING = range(4)
"""What has been read of the current name: an ordinary one, `.`, `..`, nothing. Only the first may be a whole name."""

_Node = tuple[int, tuple[State, ...], tuple[State, ...]]


class TooComplex(Exception):
    """The question needs more memory than a test should take."""


@dataclass(slots=True)
class _Graph:
    """How the nodes follow each other; `live` are those from which a path can still end."""

    ends: set[_Node] = field(default_factory=set)
    above: dict[_Node, list[_Node]] = field(default_factory=dict)
    below: dict[_Node, list[_Node]] = field(default_factory=dict)
    live: set[_Node] = field(default_factory=set)

    def add(self, before: _Node, after: _Node) -> None:
        self.below.setdefault(before, []).append(after)
        self.above.setdefault(after, []).append(before)

    def find_live(self) -> None:
        self.live, pending = set(self.ends), list(self.ends)
        while pending:
            for before in self.above.get(pending.pop(), ()):
                if before not in self.live:
                    self.live.add(before)
                    pending.append(before)


class Paths:
    """The relative paths of possible files that are in every set of `inside` and in none of `outside`."""

    def __init__(self, inside: Sequence[PathSet], outside: Sequence[PathSet] = ()) -> None:
        self._inside = [walker(paths) for paths in inside]
        self._outside = [walker(paths) for paths in outside]
        known = {character for paths in (*inside, *outside) for character in paths.characters()}
        self._ranges = _ranges(known | {"/", "\0"})
        self._readable = known | {"/", *_PLAIN}
        self._start: _Node = (
            _NOTHING,
            tuple(paths.start for paths in self._inside),
            tuple(paths.start for paths in self._outside),
        )

    def exist(self) -> bool:
        """Whether there is such a path.

        Raises:
            TooComplex: that cannot be found out.
        """
        return next(iter(self._explored()), None) is not None

    def shortest_first(self, *, readable: bool = False) -> Iterator[str]:
        """Such paths, by length and then letters before other characters. Ends if there are no more, up to
        characters that no rule tells apart: see `is_every_one`. The `readable` ones have letters and digits, and what
        the sets themselves name.

        Raises:
            TooComplex: that cannot be found out.
        """
        endings = [frozenset(self._graph.ends)]  # by the number of characters that are still to come
        reached = {self._start} & self._graph.live
        while reached:
            if self._start in endings[-1]:
                yield from self._of_length(len(endings) - 1, endings, readable)
            reached = {
                node for before in reached for node in self._graph.below.get(before, ()) if node in self._graph.live
            }
            endings.append(frozenset(node for after in endings[-1] for node in self._graph.above.get(after, ())))

    def _of_length(self, length: int, endings: Sequence[frozenset[_Node]], readable: bool) -> Iterator[str]:
        letters = [letter for letter in self._letters if not readable or letter in self._readable]
        pending = [("", self._start)]
        while pending:
            path, node = pending.pop()
            left = length - len(path)
            if left == 0:
                yield path
                continue
            for letter in reversed(letters):
                following = self._after(node, letter)
                if following in endings[left - 1]:
                    pending.append((path + letter, following))

    def is_every_one(self, found: Iterable[str]) -> bool:
        """Whether these paths, all that `shortest_first` gave, stand for no others."""
        stand_ins = {letter for letters, complete in self._ranges if not complete for letter in letters}
        return not any(stand_ins.intersection(path) for path in found)

    @cached_property
    def _letters(self) -> list[str]:
        return sorted((letter for letters, _ in self._ranges for letter in letters), key=_plainness)

    @cached_property
    def _graph(self) -> _Graph:
        graph = _Graph()
        graph.ends.update(self._explored(graph))
        graph.find_live()
        return graph

    def _explored(self, graph: _Graph | None = None) -> Iterator[_Node]:
        """Every node where a path may end; `graph` collects all of them."""
        letters = [letters[0] for letters, _ in self._ranges if letters]
        seen, queue = {self._start}, deque([self._start])
        while queue:
            node = queue.popleft()
            if self._ends(node):
                yield node
            for following in {self._after(node, letter) for letter in letters}:
                if following is None:
                    continue
                if graph is not None:
                    graph.add(node, following)
                if following not in seen:
                    seen.add(following)
                    queue.append(following)
            if len(seen) > _MOST_STATES:
                raise TooComplex

    def _after(self, node: _Node, letter: str) -> _Node | None:
        """The node after one more character; None if no path goes on like this."""
        name, inside, outside = node
        if letter == "/":
            if name != _NAME:
                return None
            name = _NOTHING
        elif letter == "." and name in (_NOTHING, _DOT):
            name = _DOT if name == _NOTHING else _TWO_DOTS
        else:
            name = _NAME
        states = []
        for paths, state in zip(self._inside, inside, strict=True):
            reached = paths.after(state, letter)
            if not reached:
                return None
            states.append(reached)
        others = tuple(
            paths.after(state, letter) if state else state for paths, state in zip(self._outside, outside, strict=True)
        )
        return name, tuple(states), others

    def _ends(self, node: _Node) -> bool:
        name, inside, outside = node
        return (
            name == _NAME
            and all(paths.ends(state) for paths, state in zip(self._inside, inside, strict=True))
            and not any(paths.ends(state) for paths, state in zip(self._outside, outside, strict=True))
        )


def _ranges(known: set[str]) -> list[tuple[list[str], bool]]:
    """Characters in groups that no set tells apart, and whether a group is complete. NUL is in none."""
    points = sorted(ord(character) for character in known)
    groups: list[tuple[list[str], bool]] = [([chr(point)], True) for point in points if point]
    for low, high in zip(points, [*points[1:], 0x110000], strict=True):
        size = high - low - 1
        if 0 < size <= _LISTED:
            between = [chr(point) for point in range(low + 1, high) if point not in _SURROGATES]
            groups.append((sorted(between, key=_plainness), True))
        elif size:
            plain = [character for character in _PLAIN if low < ord(character) < high]
            first = next((chr(point) for point in range(low + 1, high) if point not in _SURROGATES), None)
            groups.append((plain or [first] if first else [], False))
    return groups


def _plainness(character: str) -> tuple[int, int]:
    place = _PLAIN.find(character)
    return (place, 0) if place >= 0 else (len(_PLAIN), ord(character))
