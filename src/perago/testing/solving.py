"""Finding a smallest set of files that meets all constraints, or knowing that there is none.

The sets of the constraints cut all paths into areas: the paths that are in exactly these sets. First it is decided how
many files each area gets, then files are named. That there is no solution is said only if every way was tried. The
first functions say what one constraint means for paths: the sets it counts, and where no file can be because of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from perago.authoring.guardrails import CountConstraint, FileSelection
from perago.testing.pathsets import Kind, Paths, PathSet, TooComplex, below, matching, name_places, only
from perago.workspace.keys import Folding, find_collisions
from perago.workspace.view import EVERYTHING, View

RESERVED = "_lakefs_actions"
"""The directory of lakeFS hooks."""
MOST_FILES = 500
_MOST_TRIES = 4_000
_MOST_NAMES = 2_000
_MOST_AREAS = 100


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


class Undecided(Exception):
    """Whether there is such a tree could not be found out within reason; the message says why."""


@dataclass(slots=True)
class _Area:
    """The paths in the sets of the `inside` constraints and in those of no others."""

    inside: frozenset[int]
    paths: Paths
    plain: Paths
    room: int | None = None
    """How many paths there are; None while more may come."""


def seen_paths(view: View) -> list[tuple[list[PathSet], list[PathSet]]]:
    """The parts of what a task sees, none of which overlap: the sets that all paths of a part are in, and those that
    none of them is in."""
    included = [matching(pattern) for pattern in view.include]
    excluded = [matching(pattern) for pattern in view.exclude]
    parts = [([paths], included[:number]) for number, paths in enumerate(included)] or [([], [])]
    return [(within, [*others, *excluded]) for within, others in parts]


def solve(
    constraints: Sequence[CountConstraint], nowhere: Iterable[PathSet], folding: Folding, view: View = EVERYTHING
) -> frozenset[str] | None:
    """The paths of as few files as possible; None if no tree meets the constraints. No file is in a set of
    `nowhere` or out of `view`, and all can stand on one disk.

    Raises:
        Undecided: see there.
    """
    forbidden = [path_set(constraint.files) for constraint in constraints if constraint.most == 0]
    none_there = [*nowhere, *forbidden]
    counted = [constraint for constraint in constraints if constraint.most != 0]
    if sum(constraint.least for constraint in counted) > MOST_FILES:
        raise Undecided(f"the rules ask for more than {MOST_FILES} files")
    try:
        parts = [(within, [*none_there, *others]) for within, others in seen_paths(view)]
        areas = [area for part in parts for area in _areas(counted, *part)]
        while True:
            numbers = _Counting(counted, areas).fewest()
            if numbers is None:
                return None
            names = _named(areas, numbers, folding)
            if names is not None:
                return names
    except TooComplex:
        raise Undecided("the patterns of the rules are too intricate together") from None


def _areas(
    constraints: Sequence[CountConstraint], within: Sequence[PathSet], nowhere: Sequence[PathSet]
) -> list[_Area]:
    """Every area that holds a path and that a constraint is about. All files are in the sets of `within`, and none in
    one of `nowhere`."""
    sets = [path_set(constraint.files) for constraint in constraints]
    plain_sets = [path_set(constraint.files, plainly=True) for constraint in constraints]
    chosen: list[list[int]] = [[]]
    for number in range(len(sets)):
        grown = [[*inside, number] for inside in chosen]
        chosen += [inside for inside in grown if Paths([*within, *(sets[index] for index in inside)], nowhere).exist()]
        if len(chosen) > _MOST_AREAS:
            raise TooComplex
    areas = []
    for inside in chosen[1:]:
        outside = [paths for index, paths in enumerate(sets) if index not in inside] + [*nowhere]
        paths = Paths([*within, *(sets[index] for index in inside)], outside)
        if paths.exist():
            plain = Paths([*within, *(plain_sets[index] for index in inside)], outside)
            areas.append(_Area(frozenset(inside), paths, plain))
    return areas


@dataclass(slots=True)
class _Counting:
    """The search for the number of files in each area."""

    constraints: Sequence[CountConstraint]
    areas: Sequence[_Area]
    tries: int = 0
    dead_ends: set[tuple[int, tuple[int, ...]]] = field(default_factory=set)

    def fewest(self) -> list[int] | None:
        """The smallest numbers that meet all constraints, None if none do.

        Raises:
            Undecided: too many ways.
        """
        if any(
            constraint.least and not any(index in area.inside for area in self.areas)
            for index, constraint in enumerate(self.constraints)
        ):
            return None
        for total in range(self._at_least(), sum(constraint.least for constraint in self.constraints) + 1):
            self.dead_ends.clear()
            found = self._with(total, [0] * len(self.areas))
            if found is not None:
                return found
        return None

    def _at_least(self) -> int:
        """No tree is smaller: constraints that have no area in common need files of their own."""
        total, covered = 0, set[int]()
        for index, constraint in sorted(enumerate(self.constraints), key=lambda item: -item[1].least):
            if index not in covered:
                total += constraint.least
                covered.update(*(area.inside for area in self.areas if index in area.inside))
        return total

    def _with(self, left: int, numbers: list[int]) -> list[int] | None:
        """Add files, `left` at most, until nothing is missing. In a smallest tree every file is one that some
        constraint misses when the others are there, so adding to the first such constraint loses none."""
        missing = [constraint.least - self._count(index, numbers) for index, constraint in enumerate(self.constraints)]
        lacking = next((index for index, number in enumerate(missing) if number > 0), None)
        if lacking is None:
            return numbers
        state = (left, tuple(numbers))
        if max(missing) > left or state in self.dead_ends:
            return None
        self.tries += 1
        if self.tries > _MOST_TRIES:
            raise Undecided("there are too many ways to combine the rules")
        for place in self._by_use(lacking, missing):
            most = min(left, self._room(place, numbers), max(missing[index] for index in self.areas[place].inside))
            for amount in sorted({most, 1}, reverse=True):
                if 0 < amount <= most:
                    more = [number + (amount if index == place else 0) for index, number in enumerate(numbers)]
                    found = self._with(left - amount, more)
                    if found is not None:
                        return found
        self.dead_ends.add(state)
        return None

    def _by_use(self, lacking: int, missing: Sequence[int]) -> list[int]:
        """The areas of a constraint, those first that meet the most others and are counted by the fewest."""
        places = [place for place, area in enumerate(self.areas) if lacking in area.inside]
        return sorted(
            places,
            key=lambda place: (
                -sum(missing[index] > 0 for index in self.areas[place].inside),
                len(self.areas[place].inside),
            ),
        )

    def _room(self, place: int, numbers: Sequence[int]) -> int:
        """How many more files the area can take."""
        area = self.areas[place]
        rooms = [
            most - self._count(index, numbers)
            for index in area.inside
            if (most := self.constraints[index].most) is not None
        ]
        if area.room is not None:
            rooms.append(area.room - numbers[place])
        return min(rooms, default=MOST_FILES)

    def _count(self, index: int, numbers: Sequence[int]) -> int:
        return sum(number for area, number in zip(self.areas, numbers, strict=True) if index in area.inside)


def _named(areas: Sequence[_Area], numbers: Sequence[int], folding: Folding) -> frozenset[str] | None:
    """Files for the numbers; None if an area turned out to be too small, which it then knows.

    Raises:
        Undecided: enough paths exist, but not enough were found that can stand beside each other.
    """
    names: set[str] = set()
    for area, number in sorted(zip(areas, numbers, strict=True), key=lambda pair: -len(pair[0].inside)):
        if number and not _add_names(area, number, names, folding):
            return None
    return frozenset(names)


def _add_names(area: _Area, number: int, names: set[str], folding: Folding) -> bool:
    wanted = len(names) + number
    tried: list[str] = []
    for path in itertools.islice(_candidates(area), _MOST_NAMES):
        tried.append(path)
        if path not in names and can_join(path, names, folding):
            names.add(path)
        if len(names) == wanted:
            return True
    distinct = set(tried)
    if len(tried) < _MOST_NAMES and len(distinct) < number and area.paths.is_every_one(distinct):
        area.room = len(distinct)
        return False
    raise Undecided("not enough names were found that can stand beside each other")


def _candidates(area: _Area) -> Iterable[str]:
    """Paths of the area, readable ones first; some come more than once."""
    return itertools.chain(
        itertools.islice(area.plain.shortest_first(readable=True), _MOST_NAMES // 3),
        itertools.islice(area.paths.shortest_first(readable=True), _MOST_NAMES // 3),
        area.paths.shortest_first(),
    )


def can_join(path: str, others: Collection[str], folding: Folding) -> bool:
    """Whether a file at `path` can stand in one tree with the others."""
    if path in others:
        return True
    above = path.split("/")
    if any("/".join(above[:depth]) in others for depth in range(1, len(above))):
        return False
    if any(other.startswith(f"{path}/") for other in others):
        return False
    return not folding or not find_collisions([*others, path], folding)
