"""Exact answers about sets of paths: whether one is in some sets and in none of others, and the shortest ones first.

A set is a row of places. A path is in it if its characters lead from the first place to the end. Several places may be
possible at once, so a state is a set of numbers. A glob is such a row, and so is the one path of a rule about a file.
"""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache

State = frozenset[int]

_MOST_STATES = 1_000
_LISTED = 64
"""A range of characters that no rule tells apart is tried in full up to this size, and by its plainest ones above."""

_PLAIN = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_-é漢"
_SURROGATES = range(0xD800, 0xE000)

_NAME, _DOT, _TWO_DOTS, _NOTHING = range(4)
"""What has been read of the current name: an ordinary one, `.`, `..`, nothing. Only the first may be a whole name."""

_Node = tuple[int, tuple[State, ...], tuple[State, ...]]


class Kind(StrEnum):
    """What a place takes."""

    EXACTLY = "this character"
    ONE_OF = "one character of a set, as fnmatch understands it"
    STAR = "any part of a name"
    DIRECTORIES = "the start of any number of directories"
    IN_DIRECTORY = "the inside of one of these directories"


@dataclass(frozen=True, slots=True)
class Place:
    """`text` is the character or the set."""

    kind: Kind
    text: str = ""

    def takes(self, character: str) -> bool:
        """Whether the character can stand here."""
        match self.kind:
            case Kind.EXACTLY:
                return character == self.text
            case Kind.ONE_OF:
                return character != "/" and fnmatch.fnmatchcase(character, self.text)
            case _:
                return character != "/"


@dataclass(frozen=True, slots=True)
class PathSet:
    """All paths that fit a row of places."""

    places: tuple[Place, ...]

    def start(self) -> State:
        """The state before the first character."""
        return self._reaching([0])

    def after(self, state: State, character: str) -> State:
        """The state after one more character; empty if no path of the set continues like this."""
        reached = []
        for number in state:
            if number < len(self.places):
                place = self.places[number]
                if character == "/" and place.kind is Kind.IN_DIRECTORY:
                    reached.append(number - 1)
                elif place.takes(character):
                    reached.append(number if place.kind in (Kind.STAR, Kind.IN_DIRECTORY) else number + 1)
        return self._reaching(reached)

    def ends(self, state: State) -> bool:
        """Whether a path may end here."""
        return len(self.places) in state

    def __contains__(self, path: str) -> bool:
        state = self.start()
        for character in path:
            state = self.after(state, character)
        return self.ends(state)

    def characters(self) -> set[str]:
        """Every character that the set tells apart from others."""
        return {character for place in self.places if place.text != "?" for character in place.text}

    def _reaching(self, numbers: Iterable[int]) -> State:
        """The places with those that can be reached without a character."""
        found: set[int] = set()
        pending = list(numbers)
        while pending:
            number = pending.pop()
            if number not in found:
                found.add(number)
                kind = self.places[number].kind if number < len(self.places) else None
                if kind is Kind.STAR:
                    pending.append(number + 1)
                elif kind is Kind.DIRECTORIES:
                    pending.append(number + 2)
        return frozenset(found)


class Walker:
    """A path set and what is known about its states: the same questions come again and again."""

    def __init__(self, paths: PathSet) -> None:
        self.start = paths.start()
        self.ends = paths.ends
        self._paths = paths
        self._after: dict[tuple[State, str], State] = {}

    def after(self, state: State, character: str) -> State:
        """As `PathSet.after`."""
        found = self._after.get((state, character))
        if found is None:
            found = self._after[state, character] = self._paths.after(state, character)
        return found


@lru_cache(maxsize=1024)
def walker(paths: PathSet) -> Walker:
    """The walker of a path set."""
    return Walker(paths)


def only(path: str) -> PathSet:
    """The one path."""
    return PathSet(tuple(Place(Kind.EXACTLY, character) for character in path))


def below(path: str) -> PathSet:
    """Everything below a directory, however deep."""
    return PathSet((*only(f"{path}/").places, *_segments(["**"])))


def matching(pattern: str, *, plainly: bool = False) -> PathSet:
    """All that a glob matches; `plainly` leaves out the odd ones, in which a star stands for nothing and `**` for some
    directories."""
    segments = pattern.split("/")
    if plainly:
        segments = [segment for segment in segments[:-1] if segment != "**"] + segments[-1:]
    return PathSet(_segments(segments, plainly=plainly))


def _segments(segments: list[str], *, plainly: bool = False) -> tuple[Place, ...]:
    found: list[Place] = []
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            if not plainly:
                found += [Place(Kind.DIRECTORIES), Place(Kind.IN_DIRECTORY)]
            if last:
                found += name_places("*", plainly=plainly)
        else:
            found += name_places(segment, plainly=plainly)
            if not last:
                found.append(Place(Kind.EXACTLY, "/"))
    return tuple(found)


def name_places(segment: str, *, plainly: bool = False) -> list[Place]:
    """The places of one path segment of a glob."""
    found: list[Place] = []
    position = 0
    while position < len(segment):
        character = segment[position]
        end = _end_of_set(segment, position)
        if character == "*":
            found += [Place(Kind.ONE_OF, "?"), Place(Kind.STAR)] if plainly else [Place(Kind.STAR)]
        elif character == "?":
            found.append(Place(Kind.ONE_OF, "?"))
        elif character == "[" and end:
            found.append(Place(Kind.ONE_OF, segment[position:end]))
            position = end - 1
        else:
            found.append(Place(Kind.EXACTLY, character))
        position += 1
    return found


def _end_of_set(segment: str, start: int) -> int:
    """Where the set that begins with the bracket at `start` ends; 0 if it never does, and so is no set. A bracket right
    after the opening one, or after `!`, is a member."""
    first_member = start + 2 if segment[start + 1 : start + 2] == "!" else start + 1
    return segment.find("]", first_member + 1) + 1


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
        """The node after one more character; None if no path continues like this."""
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
