"""Constraints on generated trees: sets of paths, and what satisfies each kind of guardrail or breaks it.

A set of paths is an automaton: a row of places. A path belongs to the set if its characters lead from the first place
to the end. Several places can be possible at the same time, so a state is a set of numbers. A glob is such a row, and
so is the single path of a rule about a file.

A kind of guardrail registers its recipe here, and its meaning in `perago.testing.oracle`.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import fnmatch
import heapq
import io
import itertools
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, lru_cache, singledispatch
from typing import Any, TypeAlias

from perago.authoring.workspace import Guardrail
from perago.guardrails.forbid_glob import ForbidGlob
from perago.guardrails.require_dir import RequireDir
from perago.guardrails.require_file import RequireFile
from perago.guardrails.require_glob import RequireGlob
from perago.guardrails.require_table import RequireTable
from perago.guardrails.table_rule import ColumnType, Format, TableRule
from perago.text import size

State = frozenset[int]

_MOST_STATES = 1_000
_LISTED = 64
"""Maximum size of a range of characters that is listed completely, if no rule distinguishes them. Of a larger range,
only the plainest characters are listed."""

PLAIN = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_-é漢"
"""Characters of readable names, the plainest first."""

_NAME, _DOT, _TWO_DOTS, _NOTHING = range(4)
"""The kind of the current name so far: an ordinary name, `.`, `..` or empty. Only an ordinary name is a valid one."""

TOO_INTRICATE = "the patterns of the rules are too complex together"

_Node = tuple[int, tuple[State, ...]]


class Undecided(Exception):
    """The existence of such a tree could not be decided within the limits; the message says why."""


class Kind(StrEnum):
    """The characters that a place accepts."""

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
    """A cache of the answers of `after`, because the same questions are frequent."""

    @classmethod
    @lru_cache(maxsize=1024)
    def only(cls, path: str) -> PathSet:
        """The one path."""
        return cls(tuple(Place(Kind.EXACTLY, character) for character in path))

    @classmethod
    @lru_cache(maxsize=1024)
    def matching(cls, pattern: str, below: str = "") -> PathSet:
        """Return the set of the paths that a glob matches below a directory, whose name is literal."""
        places = [*cls.only(f"{below}/").places] if below else []
        *directories, last = pattern.split("/")
        for name in directories:
            places += _DIRECTORIES if name == "**" else [*_name_places(name), Place(Kind.EXACTLY, "/")]
        places += [*_DIRECTORIES, Place(Kind.STAR)] if last == "**" else _name_places(last)
        return cls(tuple(places))

    @cached_property
    def start(self) -> State:
        """The state before the first character."""
        return self._reaching([0])

    def after(self, state: State, character: str) -> State:
        """The state after one more character; empty if no path of the set continues like this."""
        following = self._known.get((state, character))
        if following is None:
            reached = []
            for number in state:
                if number < len(self.places):
                    place = self.places[number]
                    if character == "/" and place.kind is Kind.IN_DIRECTORY:
                        reached.append(number - 1)
                    elif place.takes(character):
                        reached.append(number if place.kind in (Kind.STAR, Kind.IN_DIRECTORY) else number + 1)
            following = self._known[state, character] = self._reaching(reached)
        return following

    def ends(self, state: State) -> bool:
        """Whether a path may end here."""
        return len(self.places) in state

    def __contains__(self, path: str) -> bool:
        state = self.start
        for character in path:
            state = self.after(state, character)
        return self.ends(state)

    def example(self, star: str, directories: Sequence[str] = ()) -> str:
        """Return a path of the set with these texts in place of each `*` and each `**`, if such names are allowed."""
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
        """Return the places, and the places that can be reached from them without a character."""
        reachable: set[int] = set()
        pending = list(numbers)
        while pending:
            number = pending.pop()
            if number not in reachable:
                reachable.add(number)
                kind = self.places[number].kind if number < len(self.places) else None
                if kind is Kind.STAR:
                    pending.append(number + 1)
                elif kind is Kind.DIRECTORIES:
                    pending.append(number + 2)
        return frozenset(reachable)


_DIRECTORIES = [Place(Kind.DIRECTORIES), Place(Kind.IN_DIRECTORY)]


def _name_places(segment: str) -> list[Place]:
    """The places of one path segment of a glob."""
    places: list[Place] = []
    position = 0
    while position < len(segment):
        character = segment[position]
        # A bracket right after the opening one, or after `!`, is a member. Without a closing one there is no set.
        first_member = position + 2 if segment[position + 1 : position + 2] == "!" else position + 1
        end = segment.find("]", first_member + 1) + 1 if character == "[" else 0
        if character == "*":
            places.append(Place(Kind.STAR))
        elif character == "?":
            places.append(Place(Kind.ONE_OF, "?"))
        elif end:
            places.append(Place(Kind.ONE_OF, segment[position:end]))
            position = end - 1
        else:
            places.append(Place(Kind.EXACTLY, character))
        position += 1
    return places


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
        self._representatives: set[str] = set()
        """Letters that no set distinguishes from unlisted ones."""
        for low, high in itertools.pairwise([*sorted({0, ord("/"), *map(ord, known)}), sys.maxunicode + 1]):
            if high - low <= _LISTED:
                between = [chr(point) for point in range(low + 1, high)]
            else:
                between = [char for char in PLAIN if low < ord(char) < high] or [chr(low + 1)]
                self._representatives.update(between)
            self._letters += between
            self._probes += between[:1]
        ranks = {char: rank for rank, char in enumerate(PLAIN)}
        self._letters.sort(key=lambda char: (ranks.get(char, len(PLAIN)), char))

    def exist(self) -> bool:
        """Whether such a path exists.

        Raises:
            Undecided: this cannot be decided.
        """
        return any(self._ends(node) for node, _ in self._explored())

    def __contains__(self, path: str) -> bool:
        node: _Node | None = self._start
        for character in path:
            node = node and self._after(node, character)
        return node is not None and self._ends(node)

    def __iter__(self) -> Iterator[str]:
        """Yield the paths, readable ones first and then by length. It ends if there are no more, except for characters
        that no rule distinguishes: see `are_all`.

        Raises:
            Undecided: this cannot be decided.
        """
        yielded = set()
        stars = map("".join, itertools.chain(itertools.product(PLAIN), itertools.product(PLAIN, repeat=2)))
        examples = (paths.example(star) for star in stars for paths in self._inside)
        for path in itertools.chain((path for path in examples if path in self), self._shortest_first()):
            if path not in yielded:
                yielded.add(path)
                yield path

    def are_all(self, paths: Iterable[str]) -> bool:
        """Whether the yielded paths are complete, without representing others."""
        return not any(self._representatives.intersection(path) for path in paths)

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
        states, pending = {self._start}, deque([self._start])
        while pending:
            node = pending.popleft()
            following = {after for letter in self._probes if (after := self._after(node, letter))}
            yield node, following
            pending.extend(following - states)
            states |= following
            if len(states) > _MOST_STATES:
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


@dataclass(frozen=True, slots=True)
class FileSelection:
    """A selection of files: `FileSelection("raw", "**")` selects all files below `raw`. The name is literal, even if it
    contains wildcards.

    `name` is literal, `pattern` is a glob below it. One of them can be empty.
    """

    name: str = ""
    pattern: str = ""

    def __str__(self) -> str:
        return self.name or self.pattern


@lru_cache(maxsize=1024)
def path_set(files: FileSelection) -> PathSet:
    """The paths of the selection."""
    return PathSet.matching(files.pattern, below=files.name) if files.pattern else PathSet.only(files.name)


@dataclass(frozen=True, slots=True)
class CountConstraint:
    """A tree has from `least` to `most` (None: any number) of these files. With `content`, each of them has this
    content."""

    files: FileSelection
    least: int = 0
    most: int | None = None
    content: str | bytes | None = None

    def too_few(self) -> tuple[CountConstraint, ...]:
        """Return violations with too few files: one is missing, or more because of other rules."""
        most = self.least - 1
        return replace(self, least=most, most=most), replace(self, least=0, most=most)

    def too_many(self) -> tuple[CountConstraint, ...]:
        """Return violations with too many files: one more, or several because of other rules."""
        least = (self.most or 0) + 1
        return replace(self, least=least, most=least), replace(self, least=least, most=None)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The recipe of the trees for a rule.

    For a violation, the first of its constraints that the other rules allow is used. There are no violations if every
    tree satisfies the rule.
    """

    constraint: CountConstraint
    """The constraint whose trees satisfy the rule."""
    violations: Mapping[str, Sequence[CountConstraint]] = field(default_factory=dict)
    """The constraints whose trees break the rule, by the name of the violation."""


@singledispatch
def recipe_of(rule: Guardrail) -> Recipe | None:  # noqa: ARG001 - for the kinds that have one
    """Return how trees are made that satisfy the rule or break it; None if unknown, as for an author's function."""
    return None


@recipe_of.register
def _(rule: RequireFile) -> Recipe | None:
    return _sized(_required(FileSelection(rule.path)), rule.min_bytes)


@recipe_of.register
def _(rule: RequireDir) -> Recipe:
    return _required(FileSelection(rule.path, "**"))


@recipe_of.register
def _(rule: RequireGlob) -> Recipe | None:
    constraint = CountConstraint(FileSelection(pattern=rule.pattern), rule.min_count, rule.max_count)
    violations = {"missing": constraint.too_few()} if rule.min_count else {}
    if rule.max_count is not None:
        violations["too-many"] = constraint.too_many()
    return _sized(Recipe(constraint, violations), rule.min_bytes)


@recipe_of.register
def _(rule: ForbidGlob) -> Recipe:
    constraint = CountConstraint(FileSelection(pattern=rule.pattern), most=0)
    return Recipe(constraint, {"present": constraint.too_many()})


@recipe_of.register
def _(rule: RequireTable) -> Recipe | None:
    """Return no recipe for a schema, because its demands are unknown, or without pyarrow, because no table can be
    judged."""
    is_known = rule.rule.schema is None and (rule.rule.min_rows or 0) <= _MOST_ROWS and rule.missing() is None
    return _table_recipe(rule.pattern, rule.rule) if is_known else None


def constraint_of(rule: Guardrail) -> CountConstraint:
    """Return the constraint that satisfies the rule.

    Raises:
        ValueError: the rule is unknown.
    """
    recipe = recipe_of(rule)
    if recipe is None:
        raise ValueError(f"no tree can be made for {rule}")
    return recipe.constraint


def violations_of(rule: Guardrail) -> Mapping[str, Sequence[CountConstraint]]:
    """Return the constraints that break the rule, by the name of the violation; none for an unknown rule."""
    recipe = recipe_of(rule)
    return recipe.violations if recipe else {}


def _required(files: FileSelection, content: str | bytes | None = None) -> Recipe:
    constraint = CountConstraint(files, 1, content=content)
    return Recipe(constraint, {"missing": constraint.too_few()})


MOST_BYTES = 1024 * 1024
"""The largest size of all files of a generated tree."""


def too_large(rule: Guardrail) -> str:
    """Return why no tree is generated for a rule about sizes; empty if the rule is of another kind or small enough."""
    if not isinstance(rule, RequireFile | RequireGlob) or recipe_of(rule) is not None:
        return ""
    limit = f"generated trees have at most {size(MOST_BYTES)}"
    return f"{rule} wants files of {size(rule.min_bytes)} each, and {limit}; an example can have them"


def _sized(recipe: Recipe, least: int) -> Recipe | None:
    """Return the recipe for files with at least `least` bytes; None if a tree would be larger than `MOST_BYTES`."""
    bounds = recipe.constraint
    if not least or bounds.most == 0:
        return recipe
    if least * (max(bounds.least, 1) if bounds.most is None else bounds.most + 1) > MOST_BYTES:
        return None
    number = max(recipe.constraint.least, 1)
    small = replace(recipe.constraint, least=number, content="x" * (least - 1))
    violations = {**recipe.violations, "too-small": (replace(small, most=number), small)}
    return Recipe(replace(recipe.constraint, content="x" * least), violations)


# ------------------------------------------------------------- tables that a rule accepts, and that it refuses

_MOST_ROWS = 10_000
_FILLER = "filled"
"""The column that is added if none is declared, because a CSV row without any text is not a row."""
_DAY = datetime.datetime(2024, 1, 1)  # noqa: DTZ001 - as a file has it
_BROKEN: Mapping[Format, str | bytes] = {
    Format.CSV: "",
    Format.PARQUET: b"PAR1 and no footer",
    Format.JSONL: '{"broken": \n',
}
_Row: TypeAlias = "dict[str, Any]"


@lru_cache(maxsize=256)
def _table_recipe(pattern: str, rule: TableRule) -> Recipe:
    files = FileSelection(pattern=pattern)
    names = (*rule.needed, _FILLER if _FILLER not in rule.needed else max(rule.needed, key=len) + "_")
    required = _required(files, write_table(names, table_rows(rule, names, _fewest(rule)), rule))
    refused = {name: write_table(columns, rows, rule) for name, columns, rows in _refused(rule, names)}
    limits = ((1, 1), (1, None), (2, None))  # the last, because another rule may want one of them as it is
    ways = {
        name: tuple(CountConstraint(files, least, most, content) for least, most in limits)
        for name, content in {**refused, "broken": _BROKEN[rule.format]}.items()
    }
    return Recipe(required.constraint, {**required.violations, **ways})


_KINDS = {
    ColumnType.BOOL: "bool",
    **dict.fromkeys((ColumnType.INT, ColumnType.DECIMAL, ColumnType.FLOAT), "number"),
    **dict.fromkeys((ColumnType.DATE, ColumnType.DATETIME), "date"),
}
"""Groups of types. Types of different groups have no common value. In a group, each type also accepts the values of the
later types."""
_NARROWEST = (*_KINDS, ColumnType.BYTES, ColumnType.STR, ColumnType.ANY)


class NoSuchTable(Exception):
    """No table satisfies several rules; the message says why."""


def table_for(rules: Sequence[RequireTable]) -> str | bytes | None:
    """Return a table that several rules accept; None if none is known.

    Raises:
        NoSuchTable: no such table exists.
    """
    tables = [constraint.rule for constraint in rules]
    if len({(table.format, table.delimiter) for table in tables}) > 1:
        return None
    least = max(table.min_rows or 0 for table in tables)
    most = min((table.max_rows for table in tables if table.max_rows is not None), default=None)
    if most is not None and least > most:
        raise NoSuchTable(f"a table would have at least {least:,} rows and at most {most:,}")
    filled = {name for table in tables for name in table.not_null if least}
    columns: dict[str, ColumnType] = {}
    for name, kind in (column for table in tables for column in table.columns):
        known = columns.setdefault(name, kind)
        if known in _KINDS and kind in _KINDS and _KINDS[known] != _KINDS[kind]:
            if name in filled:
                raise NoSuchTable(f"column {name!r} would be {known} and {kind}")
            most = 0  # without rows, both are right
        columns[name] = min(known, kind, key=_NARROWEST.index)
    merged = replace(
        tables[0],
        columns=tuple(columns.items()),
        min_rows=least,
        max_rows=most,
        unique=tuple(dict.fromkeys(name for table in tables for name in table.unique)),
        not_null=tuple(dict.fromkeys(name for table in tables for name in table.not_null)),
    )
    names = (*merged.needed, _FILLER)
    return write_table(names, table_rows(merged, names, _fewest(merged)), merged)


def contradictory_tables(rules: Iterable[Guardrail]) -> Iterator[tuple[Guardrail, Guardrail, str]]:
    """Yield pairs of contradicting table rules, with the reason. Every file of the second rule is also one of the
    first."""
    for first, other in itertools.permutations([rule for rule in rules if isinstance(rule, RequireTable)], 2):
        try:
            table_for([first, other])
        except NoSuchTable as reason:
            mine, theirs = (path_set(FileSelection(pattern=rule.pattern)) for rule in (first, other))
            if not Paths([theirs], [mine]).exist():
                yield first, other, str(reason)


def _fewest(rule: TableRule) -> int:
    """Rows of the smallest table that shows the types of its columns."""
    return max(rule.min_rows or 1, 1) if rule.max_rows != 0 else 0


def table_rows(rule: TableRule, names: Sequence[str], number: int) -> list[_Row]:
    """Return rows that the rule accepts."""
    makers = {name: _VALUES[rule.types.get(name, ColumnType.INT)] for name in names}
    return [{name: make(row) for name, make in makers.items()} for row in range(number)]


def _refused(rule: TableRule, names: Sequence[str]) -> Iterator[tuple[str, Sequence[str], list[_Row]]]:
    """Yield defects, each with a table that has it: its columns and its rows."""
    fewest, most = _fewest(rule), rule.max_rows
    rows = table_rows(rule, names, fewest)
    if rule.needed and (fewest or rule.format is not Format.JSONL):
        yield "no-column", names[1:], rows
    wrong = next(((name, value) for name, kind in rule.columns if (value := _wrong(kind, rule.format))), None)
    if wrong and (fewest or rule.format is Format.PARQUET):
        # A column of Parquet has one type.
        first = 0 if rule.format is Format.PARQUET else fewest - 1
        yield "wrong-type", names, [*rows[:first], *(row | dict([wrong]) for row in rows[first:])]
    if rule.min_rows:
        yield "too-few-rows", names, rows[: rule.min_rows - 1]
    if most is not None and most < _MOST_ROWS:
        yield "too-many-rows", names, table_rows(rule, names, most + 1)
    if rule.unique and (most is None or most > 1):
        first_row, second, *others = table_rows(rule, names, max(2, fewest))
        yield "duplicate", names, [first_row, second | {name: first_row[name] for name in rule.unique}, *others]
    if rule.not_null and fewest:
        # The last row, so that in JSON Lines another row has a value if there are several.
        yield "null", names, [*rows[:-1], rows[-1] | {rule.not_null[0]: None}]


_VALUES: Mapping[ColumnType, Callable[[int], Any]] = {
    ColumnType.INT: lambda row: row + 1,
    ColumnType.ANY: lambda row: row + 1,
    ColumnType.FLOAT: lambda row: row + 0.5,
    ColumnType.STR: lambda row: f"text {row}",
    ColumnType.BOOL: lambda row: row % 2 == 0,
    ColumnType.BYTES: lambda row: b"%d" % row,
    ColumnType.DATE: lambda row: _DAY.date() + datetime.timedelta(days=row),
    ColumnType.DATETIME: lambda row: _DAY + datetime.timedelta(seconds=row),
    ColumnType.DECIMAL: lambda row: decimal.Decimal(row) + decimal.Decimal("0.25"),
}
"""Makes the value of a row, a different one for each row if the type has enough values."""


def _wrong(kind: ColumnType, form: Format) -> Any:
    """Return a value of another type; None if the type accepts all values."""
    if kind is ColumnType.ANY or (form is Format.CSV and kind in (ColumnType.STR, ColumnType.BYTES)):
        return None
    is_number = kind in (ColumnType.INT, ColumnType.FLOAT, ColumnType.DECIMAL)
    return "n/a" if is_number or form is Format.CSV else 1


def write_table(names: Sequence[str], rows: Sequence[_Row], rule: TableRule, **csv_form: Any) -> str | bytes:
    """Return a file of the rule's format with these rows.

    Args:
        names: the columns.
        rows: the values by column. JSON Lines leaves out missing values.
        rule: the format, the delimiter, and the types of Parquet columns.
        csv_form: other options of `csv.writer`.
    """
    if rule.format is Format.PARQUET:
        return _parquet(names, rows, rule)
    if rule.format is Format.JSONL:
        return "".join(f"{json.dumps({name: _text(row[name]) for name in names if name in row})}\n" for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, **{"delimiter": rule.delimiter, "lineterminator": "\n", **csv_form})
    writer.writerows([names, *([_text(row[name]) for name in names] for row in rows)])
    return text.getvalue()


def _text(value: Any) -> Any:
    """Return the form of a value in JSON and CSV."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal) else value


def _parquet(names: Sequence[str], rows: Sequence[_Row], rule: TableRule) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    arrays = []
    for name in names:
        values = [row[name] for row in rows]
        try:
            arrays.append(pa.array(values, arrow_type(rule.types.get(name, ColumnType.INT))))
        except (pa.ArrowException, TypeError):  # it is a column of the wrong type
            arrays.append(pa.array(values))
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(arrays, names=list(names)), sink)
    return sink.getvalue()


def arrow_type(kind: ColumnType) -> Any:
    """Return the type of a Parquet column that the rule accepts."""
    import pyarrow as pa

    types = {
        ColumnType.FLOAT: pa.float64(),
        ColumnType.STR: pa.string(),
        ColumnType.BOOL: pa.bool_(),
        ColumnType.BYTES: pa.binary(),
        ColumnType.DATE: pa.date32(),
        ColumnType.DATETIME: pa.timestamp("us"),
        ColumnType.DECIMAL: pa.decimal128(20, 2),
    }
    return types.get(kind, pa.int64())
