"""Paths close to a guardrail: some that it selects, and some that only look similar; and trees of such paths.

This module does not judge them. The oracle does, and the runtime must agree. It needs no hypothesis.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from typing import Literal, TypeAlias

from perago.authoring.workspace import Guardrail
from perago.testing.constraints import Kind, PathSet, constraint_of, path_set, violations_of
from perago.testing.oracle import concerns, judge_tree
from perago.trees import Symlink, Tree, sizes_of
from perago.workspace.keys import Folding, directories_above

_MOST_COUNTED = 40

Planting: TypeAlias = "tuple[str, str | Symlink | None]"
"""A path, and its entry."""


class Likeness(StrEnum):
    """The way in which a path is close to a rule."""

    OTHER_CASE = "the same in other case"
    TWIN_OF_DIRECTORY = "a directory whose name begins the same way"
    GLUED = "a directory and a name without the slash between them"
    LONGER = "more behind the name"
    DOT = "a dot before the name"
    HIDDEN = "a dot before a directory"
    HIGHER = "the same name one directory up"
    DEEPER = "one directory more above the name"
    ELSEWHERE = "the same below another directory"
    DIRECTORY = "a directory of such a name"
    BELOW = "a file below a directory of such a name"
    EMPTY_DIRECTORY = "the directories without the file"
    LINK_INSIDE = "a link to a file of the tree"
    LINK_OUTSIDE = "a link to a file outside"
    LINKED_DIRECTORY = "a link to a directory outside that holds such files"
    COMPOSED = "with a composed letter"
    DECOMPOSED = "with a decomposed letter"


def plain(rule: Guardrail, number: int) -> str:
    """Return numbered ordinary paths for the rule, most of them different and most of them counted by it."""
    return _paths(rule).example(f"f{number}")


def instances(rule: Guardrail) -> tuple[str, ...]:
    """Return paths that the rule probably counts, including odd ones: with no or several directories for `**`, with
    names that begin with a dot, with stars that match nothing."""
    paths = _paths(rule)
    candidates = [paths.example(star, between) for star in ("a", ".a", "", "a b") for between in _BETWEEN]
    return tuple(dict.fromkeys(path for path in candidates if is_path(path)))


def amounts(rule: Guardrail) -> tuple[int, ...]:
    """Return numbers of files at the limits of the rule, and one file beyond them. None is above 40, so that trees stay
    small."""
    least, most = constraint_of(rule).least, constraint_of(rule).most
    near = {least - 1, least, *(() if most is None else (most, most + 1))}
    return tuple(sorted(number for number in near if 0 <= number <= _MOST_COUNTED)) or (0, 1)


def contents(rule: Guardrail) -> tuple[str | bytes, ...]:
    """Return the contents of files in trees for the rule: in good trees first, then in those that break it."""
    constraints = [constraint_of(rule), *(way for ways in violations_of(rule).values() for way in ways)]
    return tuple(dict.fromkeys(constraint.content for constraint in constraints if constraint.content is not None))


def lookalikes(rule: Guardrail, likeness: Likeness) -> tuple[Planting, ...]:
    """Return paths with this likeness to the rule. Some rules have none."""
    return tuple((path, content) for path, content in _like(_paths(rule), likeness) if is_path(path))


def is_path(path: str) -> bool:
    """Whether a file can have that path on any disk."""
    names = path.split("/")
    return len(path.encode()) <= 512 and all(
        name not in ("", ".", "..") and len(name.encode()) <= 200 and "\0" not in name for name in names
    )


_BETWEEN: Sequence[tuple[str, ...]] = ((), ("d",), ("d", "e"), (".d",))
"""Directories for `**`."""


def _paths(rule: Guardrail) -> PathSet:
    return path_set(constraint_of(rule).files)


def _like(paths: PathSet, likeness: Likeness) -> Iterator[Planting]:
    star = likeness.name.rpartition("_")[2].lower()
    path = paths.example(star)
    above, slash, name = path.rpartition("/")
    names = path.split("/")
    way_out = "../" * len(names)
    match likeness:
        case Likeness.OTHER_CASE:
            yield path.swapcase(), ""
            yield f"{above}{slash}{name.swapcase()}", ""
            yield f"{above.swapcase()}{slash}{name}", ""
        case Likeness.TWIN_OF_DIRECTORY:
            for depth in range(len(names) - 1):
                for ending in ("er", ".old", "-"):
                    yield "/".join([*names[:depth], names[depth] + ending, *names[depth + 1 :]]), ""
        case Likeness.GLUED:
            yield above + name, ""
        case Likeness.LONGER:
            yield from ((path + ending, "") for ending in ("x", ".bak", "\n", " "))
        case Likeness.DOT:
            yield f"{above}{slash}.{name}", ""
        case Likeness.HIDDEN:
            yield paths.example(star, (".hidden",)), ""
            yield f".{path}", ""
        case Likeness.HIGHER:
            yield "/".join([*names[:-2], name]), ""
            yield name, ""
        case Likeness.DEEPER:
            yield f"{above}{slash}between/{name}", ""
        case Likeness.ELSEWHERE:
            yield f"elsewhere/{path}", ""
        case Likeness.DIRECTORY:
            yield path, None
        case Likeness.BELOW:
            yield f"{path}/inner", ""
        case Likeness.EMPTY_DIRECTORY:
            yield above, None
        case Likeness.LINK_INSIDE:
            yield path, Symlink(paths.example("a").rpartition("/")[2])
        case Likeness.LINK_OUTSIDE:
            yield path, Symlink(f"{way_out}outside.bin")
        case Likeness.LINKED_DIRECTORY:  # in the place of `**`, if there is one, and of the outermost directory
            kinds = [place.kind for place in paths.places]
            if Kind.DIRECTORIES in kinds:
                before = PathSet(paths.places[: kinds.index(Kind.DIRECTORIES)]).example(star)
                linked = f"{before}linked"
                yield linked, Symlink(f"{'../' * len(linked.split('/'))}outside", (path[len(before) :],))
            if slash:
                first, _, rest = path.partition("/")
                yield first, Symlink("../elsewhere", (rest,))
        case Likeness.COMPOSED | Likeness.DECOMPOSED:
            form: Literal["NFC", "NFD"] = "NFC" if likeness is Likeness.COMPOSED else "NFD"
            yield paths.example(unicodedata.normalize(form, "\u00e9")), ""
            if not path.isascii():
                yield unicodedata.normalize(form, path), ""


ANY_DISK = Folding()


class TreePlan:
    """A tree that grows. Paths that cannot be on the disk together with it are skipped."""

    def __init__(self, folding: Folding) -> None:
        self.tree: dict[str, str | bytes | Symlink | None] = {}
        self._folding = folding
        self._directories: set[str] = set()
        self._folded: dict[str, str] = {}

    def add(self, path: str, content: str | bytes | Symlink | None = "") -> bool:
        """Add an entry unless another entry is in its way. Return whether the entry is in the tree now."""
        above = list(directories_above(path))
        blocked = path in self.tree or any(self.tree.get(directory, None) is not None for directory in above)
        if blocked or not is_path(path) or (content is not None and path in self._directories):
            return False
        folded = {self._folding.fold(name): name for name in (path, *above)} if self._folding else {}
        if any(self._folded.get(key, name) != name for key, name in folded.items()):
            return False
        self.tree[path] = content
        self._directories.update(above)
        if content is None:
            self._directories.add(path)
        self._folded.update(folded)
        return True

    def remove(self, path: str) -> None:
        """Remove a file. Its directories stay, even if they are empty."""
        del self.tree[path]
        above = path.rpartition("/")[0]
        if above:
            self.tree.setdefault(above, None)

    def set_count(self, rule: Guardrail, number: int) -> None:
        """Change the tree until the rule counts `number` files, if other entries leave room."""
        counted = sorted(path for path in sizes_of(self.tree) if concerns(rule, path))
        for path in counted[number:]:
            self.remove(path)
        missing = number - len(counted)
        for index in range(2 * number):
            path = plain(rule, index)
            if missing > 0 and concerns(rule, path) and self.add(path, constraint_of(rule).content or ""):
                missing -= 1

    def add_if(self, rules: Collection[Guardrail], path: str, content: str | Symlink | None = "") -> None:
        """Add an entry only if no rule changes its verdict about the tree."""
        about = [rule for rule in rules if concerns(rule, path)] if content is not None else []
        before = [judge_tree(rule, self.tree).satisfied for rule in about]
        if self.add(path, content) and before != [judge_tree(rule, self.tree).satisfied for rule in about]:
            self.remove(path)


def corner_trees(rules: Sequence[Guardrail], folding: Folding) -> list[Tree]:
    """Return the corner cases: one tree with everything that only looks like the rules, one with all odd files that
    they select, and plain trees at, just below and just above the limits of each rule."""
    lookalike_plan, instance_plan = TreePlan(folding), TreePlan(folding)
    for likeness in Likeness:
        for rule in rules:
            for path, content in lookalikes(rule, likeness):
                lookalike_plan.add(path, content)
    for rule in rules:
        for path in instances(rule):
            instance_plan.add(path, constraint_of(rule).content or "")
    plans = [lookalike_plan, instance_plan]
    for rule in rules:
        for number in amounts(rule):
            plans.append(TreePlan(folding))
            plans[-1].set_count(rule, number)
    for rule in rules:
        for held in contents(rule):
            plans.append(TreePlan(folding))
            for path in instances(rule):
                plans[-1].add(path, held)
    return [plan.tree for plan in plans]
