"""Exact answers about sets of paths: whether a path is in some sets and in none of others, and the shortest such paths.

A set is a row of places. A path is in it if its characters lead from the first place to the end. Several places may be
possible at the same time, so a state is a set of numbers. A glob is such a row, and so is the one path of a rule about
a file.
"""

from __future__ import annotations

import fnmatch
import heapq
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache

State = frozenset[int]

_MOST_STATES = 1_000
_LISTED = 64
"""A range of characters that no rule distinguishes is listed up to this size; of a larger one, its plainest are."""

PLAIN = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_-é漢"
"""Characters of readable names, the plainest first."""

_NAME, _DOT, _TWO_DOTS, _NOTHING = range(4)
"""The part of the current name that was read: an ordinary name, `.`, `..` or nothing. Only the first can be a name."""

TOO_INTRICATE = "the patterns of the rules are too intricate together"

_Node = tuple[int, tuple[State, ...]]


class Undecided(Exception):
    """Whether there is such a tree could not be found out within reason; the message says why."""


class Kind(StrEnum):
    """The characters that a place takes."""

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
        """Whether the character can be here."""
        if self.kind is Kind.EXACTLY:
            return character == self.text
        return character != "/" and (self.kind is not Kind.ONE_OF or fnmatch.fnmatchcase(character, self.text))


@dataclass(frozen=True)
class PathSet:
    """All paths that fit a row of places."""

    places: tuple[Place, ...]
    _known: dict[tuple[State, str], State] = field(default_factory=dict, compare=False, repr=False)
    """Answers of `after`: the same questions come again and again."""

    @classmethod
    @lru_cache(maxsize=1024)
    def only(cls, path: str) -> PathSet:
        """The one path."""
        return cls(tuple(Place(Kind.EXACTLY, character) for character in path))

    @classmethod
    @lru_cache(maxsize=1024)
    def matching(cls, pattern: str, below: str = "") -> PathSet:
        """All that a glob matches below a directory, whose name is taken as it is."""
        found = [*cls.only(f"{below}/").places] if below else []
        *directories, last = pattern.split("/")
        for name in directories:
            found += _DIRECTORIES if name == "**" else [*_name_places(name), Place(Kind.EXACTLY, "/")]
        found += [*_DIRECTORIES, Place(Kind.STAR)] if last == "**" else _name_places(last)
        return cls(tuple(found))

    @cached_property
    def start(self) -> State:
        """The state before the first character."""
        return self._reaching([0])

    def after(self, state: State, character: str) -> State:
        """The state after one more character; empty if no path of the set continues like this."""
        found = self._known.get((state, character))
        if found is None:
            reached = []
            for number in state:
                if number < len(self.places):
                    place = self.places[number]
                    if character == "/" and place.kind is Kind.IN_DIRECTORY:
                        reached.append(number - 1)
                    elif place.takes(character):
                        reached.append(number if place.kind in (Kind.STAR, Kind.IN_DIRECTORY) else number + 1)
            found = self._known[state, character] = self._reaching(reached)
        return found

    def ends(self, state: State) -> bool:
        """Whether a path may end here."""
        return len(self.places) in state

    def __contains__(self, path: str) -> bool:
        state = self.start
        for character in path:
            state = self.after(state, character)
        return self.ends(state)

    def example(self, star: str, directories: Sequence[str] = ()) -> str:
        """A path of the set, if there are such names: with these texts for each `*` and for each `**`."""
        parts = []
        for place in self.places:
            match place.kind:
                case Kind.EXACTLY:
                    parts.append(place.text)
                case Kind.ONE_OF:
                    parts.append(next(filter(place.takes, star + PLAIN + place.text), "x"))
                case Kind.STAR:
                    parts.append(star)
                case Kind.DIRECTORIES:
                    parts += [f"{name}/" for name in directories]
        return "".join(parts)

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


_DIRECTORIES = [Place(Kind.DIRECTORIES), Place(Kind.IN_DIRECTORY)]


def _name_places(segment: str) -> list[Place]:
    """The places of one path segment of a glob."""
    found: list[Place] = []
    position = 0
    while position < len(segment):
        character = segment[position]
        # A bracket right after the opening one, or after `!`, is a member. Without a closing one there is no set.
        first_member = position + 2 if segment[position + 1 : position + 2] == "!" else position + 1
        end = segment.find("]", first_member + 1) + 1 if character == "[" else 0
        if character == "*":
            found.append(Place(Kind.STAR))
        elif character == "?":
            found.append(Place(Kind.ONE_OF, "?"))
        elif end:
            found.append(Place(Kind.ONE_OF, segment[position:end]))
            position = end - 1
        else:
            found.append(Place(Kind.EXACTLY, character))
        position += 1
    return found


class Paths:
    """The relative paths of possible files that are in every set of `inside` and in none of `outside`."""

    def __init__(self, inside: Sequence[PathSet], outside: Sequence[PathSet] = ()) -> None:
        self._inside = inside
        self._sets = (*inside, *outside)
        self._start: _Node = (_NOTHING, tuple(paths.start for paths in self._sets))
        known = {char for paths in self._sets for place in paths.places if place.text != "?" for char in place.text}
        self._letters = [*known, "/"]
        self._probes = list(self._letters)
        """One of all letters that no set distinguishes."""
        self._stand_ins: set[str] = set()
        """Letters that no set distinguishes from others that are not listed."""
        for low, high in itertools.pairwise([*sorted({0, ord("/"), *map(ord, known)}), sys.maxunicode + 1]):
            if high - low <= _LISTED:
                between = [chr(point) for point in range(low + 1, high)]
            else:
                between = [char for char in PLAIN if low < ord(char) < high] or [chr(low + 1)]
                self._stand_ins.update(between)
            self._letters += between
            self._probes += between[:1]
        self._letters.sort(key=_plainness)

    def exist(self) -> bool:
        """Whether there is such a path.

        Raises:
            Undecided: that cannot be found out.
        """
        return any(self._ends(node) for node, _ in self._explored())

    def __contains__(self, path: str) -> bool:
        node: _Node | None = self._start
        for character in path:
            node = node and self._after(node, character)
        return node is not None and self._ends(node)

    def __iter__(self) -> Iterator[str]:
        """Yield the paths, readable ones first and then by length. Ends if there are no more, up to characters that no
        rule distinguishes: see `are_all`.

        Raises:
            Undecided: that cannot be found out.
        """
        yielded = set()
        stars = map("".join, itertools.chain(itertools.product(PLAIN), itertools.product(PLAIN, repeat=2)))
        examples = (paths.example(star) for star in stars for paths in self._inside)
        for path in itertools.chain((path for path in examples if path in self), self._shortest_first()):
            if path not in yielded:
                yielded.add(path)
                yield path

    def are_all(self, found: Iterable[str]) -> bool:
        """Whether these paths, all that were yielded, stand for no others."""
        return not any(self._stand_ins.intersection(path) for path in found)

    def _shortest_first(self) -> Iterator[str]:
        pending: list[tuple[int, int, str, str, _Node]] = []
        if self._start in self._missing:
            pending.append((self._missing[self._start], 0, "", "", self._start))
        while pending:
            _, depth, order, path, node = heapq.heappop(pending)
            if self._ends(node):
                yield path
            for rank, letter in enumerate(self._letters):
                after = self._after(node, letter)
                if after is not None and after in self._missing:
                    length = 1 - depth + self._missing[after]
                    heapq.heappush(pending, (length, depth - 1, order + chr(rank), path + letter, after))

    @cached_property
    def _missing(self) -> dict[_Node, int]:
        """The length of the shortest way to the end of a path, for the nodes from which there is a way."""
        above: dict[_Node, list[_Node]] = {}
        missing: dict[_Node, int] = {}
        for node, following in self._explored():
            for after in following:
                above.setdefault(after, []).append(node)
            if self._ends(node):
                missing[node] = 0
        pending = deque(missing)
        while pending:
            after = pending.popleft()
            for node in above.get(after, ()):
                if node not in missing:
                    missing[node] = missing[after] + 1
                    pending.append(node)
        return missing

    def _explored(self) -> Iterator[tuple[_Node, set[_Node]]]:
        """Yield every node, and those that follow it."""
        found, pending = {self._start}, deque([self._start])
        while pending:
            node = pending.popleft()
            following = {after for letter in self._probes if (after := self._after(node, letter))}
            yield node, following
            pending.extend(following - found)
            found |= following
            if len(found) > _MOST_STATES:
                raise Undecided(TOO_INTRICATE)

    def _after(self, node: _Node, letter: str) -> _Node | None:
        """The node after one more character; None if no path continues like this."""
        name, before = node
        if letter == "/":
            if name != _NAME:
                return None
            name = _NOTHING
        elif letter == "." and name in (_NOTHING, _DOT):
            name = _DOT if name == _NOTHING else _TWO_DOTS
        else:
            name = _NAME
        states = tuple(
            paths.after(state, letter) if state else state for paths, state in zip(self._sets, before, strict=True)
        )
        return (name, states) if all(states[: len(self._inside)]) else None

    def _ends(self, node: _Node) -> bool:
        name, states = node
        ended = [paths.ends(state) for paths, state in zip(self._sets, states, strict=True)]
        inside = len(self._inside)
        return name == _NAME and all(ended[:inside]) and not any(ended[inside:])


def _plainness(character: str) -> tuple[int, int]:
    place = PLAIN.find(character)
    return (place, 0) if place >= 0 else (len(PLAIN), ord(character))
