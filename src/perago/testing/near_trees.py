"""Paths close to a guardrail: some that it means, some that only look like it; and trees that grow from them.

This module does not say which are which: the oracle judges that, and the runtime has to agree. No hypothesis needed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Literal, TypeAlias

from perago.authoring.workspace import Guardrail
from perago.testing.oracle import concerns, judge_tree
from perago.testing.pathsets import Kind, Place, name_places, only
from perago.testing.tree_files import Symlink, Tree, sizes_of
from perago.workspace.keys import Folding

_COMPOSED = "\u00e9"
_DECOMPOSED = "e\u0301"
_FOR_ONE = "qa1Zz_.-é"
_MOST_COUNTED = 40

_Segments: TypeAlias = "list[list[Place] | None]"
"""The names of a pattern; None is `**`."""

Planting: TypeAlias = "tuple[str, str | Symlink | None]"
"""A path, and what stands there."""


class Likeness(StrEnum):
    """In which way a path is close to a rule."""

    OTHER_CASE = "the same in other case"
    TWIN_OF_DIRECTORY = "a directory whose name begins alike"
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
    """Paths that are ordinary for the rule, numbered; mostly different ones, and mostly ones that it counts."""
    return _filled(_segments(rule), star=f"f{number}")


def instances(rule: Guardrail) -> tuple[str, ...]:
    """Paths that the rule probably counts, odd ones among them: no directory for `**` and several, names that begin
    with a dot, stars that stand for nothing."""
    segments = _segments(rule)
    found = [
        _filled(segments, star=star, directories=between) for star in ("a", ".a", "", "a b") for between in _BETWEEN
    ]
    return tuple(dict.fromkeys(path for path in found if is_path(path)))


def amounts(rule: Guardrail) -> tuple[int, ...]:
    """Numbers of files at the limits of the rule, and one file beyond them; none above 40, so that trees stay small."""
    least, most = rule.constraint.least, rule.constraint.most
    near = {least - 1, least, *(() if most is None else (most, most + 1))}
    return tuple(sorted(number for number in near if 0 <= number <= _MOST_COUNTED)) or (0, 1)


def contents(rule: Guardrail) -> tuple[str | bytes, ...]:
    """What the rule says that files hold: in good trees first, then in those that break it."""
    constraints = [rule.constraint, *(way for ways in rule.violations().values() for way in ways)]
    return tuple(dict.fromkeys(each.content for each in constraints if each.content is not None))


def lookalikes(rule: Guardrail, likeness: Likeness) -> tuple[Planting, ...]:
    """What is like the rule in this way; for some rules nothing is."""
    found = _MAKERS[likeness](_segments(rule))
    return tuple((path, content) for path, content in found if is_path(path))


def is_path(path: str) -> bool:
    """Whether a file could have that path on any disk."""
    names = path.split("/")
    return len(path.encode()) <= 512 and all(
        name not in ("", ".", "..") and len(name.encode()) <= 200 and "\0" not in name for name in names
    )


_BETWEEN: Sequence[tuple[str, ...]] = ((), ("d",), ("d", "e"), (".d",))
"""Directories for `**`."""


def _segments(rule: Guardrail) -> _Segments:
    files = rule.constraint.files
    names: _Segments = [list(only(name).places) for name in files.name.split("/")] if files.name else []
    if files.pattern:
        names += [None if name == "**" else name_places(name) for name in files.pattern.split("/")]
    return [*names, [Place(Kind.STAR)]] if names[-1] is None else names


def _filled(segments: _Segments, *, star: str = "a", directories: Sequence[str] = ()) -> str:
    """A path of the pattern, with these in place of the wildcards."""
    names: list[str] = []
    for segment in segments:
        if segment is None:
            names += directories
        else:
            names.append("".join(_text(place, star) for place in segment))
    return "/".join(names)


def _text(place: Place, star: str) -> str:
    if place.kind is Kind.STAR:
        return star
    if place.kind is Kind.EXACTLY:
        return place.text
    return next((letter for letter in _FOR_ONE if place.takes(letter)), "x")


def _other_case(segments: _Segments) -> Iterator[Planting]:
    path = _filled(segments, star="case")
    above, slash, name = path.rpartition("/")
    yield path.swapcase(), ""
    yield f"{above}{slash}{name.swapcase()}", ""
    yield f"{above.swapcase()}{slash}{name}", ""


def _twin_of_directory(segments: _Segments) -> Iterator[Planting]:
    names = _filled(segments, star="twin").split("/")
    for depth in range(len(names) - 1):
        for ending in ("er", ".old", "-"):
            yield "/".join([*names[:depth], names[depth] + ending, *names[depth + 1 :]]), ""


def _glued(segments: _Segments) -> Iterator[Planting]:
    above, _, name = _filled(segments, star="glued").rpartition("/")
    yield above + name, ""


def _longer(segments: _Segments) -> Iterator[Planting]:
    path = _filled(segments, star="longer")
    yield from ((path + ending, "") for ending in ("x", ".bak", "\n", " "))


def _dot(segments: _Segments) -> Iterator[Planting]:
    above, slash, name = _filled(segments, star="dot").rpartition("/")
    yield f"{above}{slash}.{name}", ""


def _hidden(segments: _Segments) -> Iterator[Planting]:
    yield _filled(segments, star="hidden", directories=(".hidden",)), ""
    yield f".{_filled(segments, star='hidden')}", ""


def _higher(segments: _Segments) -> Iterator[Planting]:
    names = _filled(segments, star="higher").split("/")
    yield "/".join([*names[:-2], names[-1]]), ""
    yield names[-1], ""


def _deeper(segments: _Segments) -> Iterator[Planting]:
    above, slash, name = _filled(segments, star="deeper").rpartition("/")
    yield f"{above}{slash}between/{name}", ""


def _elsewhere(segments: _Segments) -> Iterator[Planting]:
    yield f"elsewhere/{_filled(segments, star='other')}", ""


def _directory(segments: _Segments) -> Iterator[Planting]:
    yield _filled(segments, star="folder"), None


def _below(segments: _Segments) -> Iterator[Planting]:
    yield f"{_filled(segments, star='filled')}/inner", ""


def _empty_directory(segments: _Segments) -> Iterator[Planting]:
    yield _filled(segments).rpartition("/")[0], None


def _link_inside(segments: _Segments) -> Iterator[Planting]:
    path = _filled(segments, star="link")
    yield path, Symlink(_filled(segments, star="a").rpartition("/")[2])


def _link_outside(segments: _Segments) -> Iterator[Planting]:
    path = _filled(segments, star="exit")
    yield path, Symlink(f"{_way_out(path)}outside.bin")


def _linked_directory(segments: _Segments) -> Iterator[Planting]:
    """In the place of `**`, if there is one, and of the outermost directory."""
    name = _filled(segments[-1:], star="a")
    whole = _filled(segments, star="a")
    if None in segments:
        above = _filled(segments[: segments.index(None)])
        path = f"{above}/linked" if above else "linked"
        rest = _filled(segments, star="a")[len(above) :].lstrip("/")
        yield path, Symlink(f"{_way_out(path)}outside", (rest or name,))
    if "/" in whole:
        first, _, rest = whole.partition("/")
        yield first, Symlink("../elsewhere", (rest,))


def _composed(segments: _Segments) -> Iterator[Planting]:
    yield from _in_form(segments, _COMPOSED, "NFC")


def _decomposed(segments: _Segments) -> Iterator[Planting]:
    yield from _in_form(segments, _DECOMPOSED, "NFD")


def _in_form(segments: _Segments, star: str, form: Literal["NFC", "NFD"]) -> Iterator[Planting]:
    yield _filled(segments, star=star), ""
    path = _filled(segments, star="form")
    if not path.isascii():
        yield unicodedata.normalize(form, path), ""


def _way_out(path: str) -> str:
    return "../" * (path.count("/") + 1)


_MAKERS: Mapping[Likeness, Callable[[_Segments], Iterator[Planting]]] = {
    Likeness.OTHER_CASE: _other_case,
    Likeness.TWIN_OF_DIRECTORY: _twin_of_directory,
    Likeness.GLUED: _glued,
    Likeness.LONGER: _longer,
    Likeness.DOT: _dot,
    Likeness.HIDDEN: _hidden,
    Likeness.HIGHER: _higher,
    Likeness.DEEPER: _deeper,
    Likeness.ELSEWHERE: _elsewhere,
    Likeness.DIRECTORY: _directory,
    Likeness.BELOW: _below,
    Likeness.EMPTY_DIRECTORY: _empty_directory,
    Likeness.LINK_INSIDE: _link_inside,
    Likeness.LINK_OUTSIDE: _link_outside,
    Likeness.LINKED_DIRECTORY: _linked_directory,
    Likeness.COMPOSED: _composed,
    Likeness.DECOMPOSED: _decomposed,
}


class TreePlan:
    """A tree that grows, and stays one that can be built on the disk: what does not fit to it is passed over."""

    def __init__(self, folding: Folding) -> None:
        self.tree: dict[str, str | bytes | Symlink | None] = {}
        self._folding = folding
        self._directories: set[str] = set()
        self._folded: dict[str, str] = {}

    def add(self, path: str, content: str | bytes | Symlink | None = "") -> bool:
        """Plant something, unless something else is in its way; whether it stands there now."""
        above = _above(path)
        blocked = path in self.tree or any(self.tree.get(directory, None) is not None for directory in above)
        if blocked or not is_path(path) or (content is not None and path in self._directories):
            return False
        if self._folding and any(self._twin(name) for name in (path, *above)):
            return False
        self.tree[path] = content
        self._directories.update(above)
        if content is None:
            self._directories.add(path)
        if self._folding:
            self._folded.update({self._folding.fold(name): name for name in (path, *above)})
        return True

    def remove(self, path: str) -> None:
        """Take a file away; its directories stay, empty if need be."""
        del self.tree[path]
        above = path.rpartition("/")[0]
        if above:
            self.tree.setdefault(above, None)

    def bring_to(self, rule: Guardrail, number: int) -> None:
        """Let the rule count so many files, as far as others leave room for them."""
        counted = sorted(path for path in sizes_of(self.tree) if concerns(rule, path))
        for path in counted[number:]:
            self.remove(path)
        missing = number - len(counted)
        for index in range(2 * number):
            path = plain(rule, index)
            if missing > 0 and concerns(rule, path) and self.add(path, rule.constraint.content or ""):
                missing -= 1

    def add_if(self, rules: Collection[Guardrail], path: str, content: str | Symlink | None = "") -> None:
        """Plant something only if no rule changes its mind about the tree."""
        about = [rule for rule in rules if concerns(rule, path)] if content is not None else []
        before = [judge_tree(rule, self.tree).satisfied for rule in about]
        if self.add(path, content) and before != [judge_tree(rule, self.tree).satisfied for rule in about]:
            self.remove(path)

    def _twin(self, name: str) -> bool:
        return self._folded.get(self._folding.fold(name), name) != name


def corner_trees(rules: Sequence[Guardrail], folding: Folding) -> list[Tree]:
    """The trees that no fuzzing should leave to chance: everything that only looks like the rules in one tree, all odd
    files that they mean in another, and plain trees at, just below and just above the limits of each rule."""
    crowd, meant = TreePlan(folding), TreePlan(folding)
    for likeness in Likeness:
        for rule in rules:
            for path, content in lookalikes(rule, likeness):
                crowd.add(path, content)
    for rule in rules:
        for path in instances(rule):
            meant.add(path, rule.constraint.content or "")
    held = [(rule, content) for rule in rules for content in contents(rule)]
    at_limits = []
    for rule in rules:
        for number in amounts(rule):
            plan = TreePlan(folding)
            plan.bring_to(rule, number)
            at_limits.append(plan.tree)
    return [crowd.tree, meant.tree, *at_limits, *(_holding(rule, content, folding) for rule, content in held)]


def _holding(rule: Guardrail, content: str | bytes, folding: Folding) -> Tree:
    """Files that the rule means, all with this content."""
    plan = TreePlan(folding)
    for path in instances(rule):
        plan.add(path, content)
    return plan.tree


def _above(path: str) -> list[str]:
    names = path.split("/")
    return ["/".join(names[:depth]) for depth in range(1, len(names))]
