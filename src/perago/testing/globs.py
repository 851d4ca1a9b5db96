"""Sets of paths that guardrails describe, one character at a time: what `pathsets` needs to answer exact questions.

A set is a row of places. A path is in it if its characters lead from the first place to the end. Several places may be
possible at once, so a state is a set of numbers.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

State = frozenset[int]


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
        """The state after one more character; empty if no path of the set goes on like this."""
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
