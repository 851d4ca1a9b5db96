"""Constraints on generated trees: what satisfies each kind of guardrail, and what breaks it.

A kind of guardrail registers its recipe here, and its meaning in `perago.testing.oracle`.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, singledispatch
from typing import Any, TypeAlias

from perago.authoring.workspace import Guardrail
from perago.guardrails.forbid_glob import ForbidGlob
from perago.guardrails.require_dir import RequireDir
from perago.guardrails.require_file import RequireFile
from perago.guardrails.require_glob import RequireGlob
from perago.guardrails.require_table import ColumnType, Format, RequireTable, TableRule
from perago.testing.pathsets import PathSet


@dataclass(frozen=True, slots=True)
class FileSelection:
    """Some files: `FileSelection("raw", "**")` is all below `raw`, whatever characters that name has.

    `name` is taken as it is, `pattern` is a glob below it. One of them may be empty.
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
    """A tree has from `least` to `most` (None: any number) of these files; with `content`, each of them holds it."""

    files: FileSelection
    least: int = 0
    most: int | None = None
    content: str | bytes | None = None

    def too_few(self) -> tuple[CountConstraint, ...]:
        """Return ways to have too few: one file is missing, or as many as other rules want."""
        most = self.least - 1
        return replace(self, least=most, most=most), replace(self, least=0, most=most)

    def too_many(self) -> tuple[CountConstraint, ...]:
        """Return ways to have too many: one more file, or as many as other rules want."""
        least = (self.most or 0) + 1
        return replace(self, least=least, most=least), replace(self, least=least, most=None)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The recipe of the trees for a rule.

    Of the constraints of a violation, the first one that the other rules allow is taken. There are no violations if
    every tree satisfies the rule.
    """

    constraint: CountConstraint
    """Trees that meet it satisfy the rule."""
    violations: Mapping[str, Sequence[CountConstraint]] = field(default_factory=dict)
    """Trees that meet one of these break the rule, by the name of the violation."""


@singledispatch
def recipe_of(rule: Guardrail) -> Recipe | None:  # noqa: ARG001 - for the kinds that have one
    """Return how trees are made that satisfy the rule or break it; None if unknown, as for an author's function."""
    return None


@recipe_of.register
def _(rule: RequireFile) -> Recipe:
    return _required(FileSelection(rule.path))


@recipe_of.register
def _(rule: RequireDir) -> Recipe:
    return _required(FileSelection(rule.path, "**"))


@recipe_of.register
def _(rule: RequireGlob) -> Recipe:
    constraint = CountConstraint(FileSelection(pattern=rule.pattern), rule.min_count, rule.max_count)
    violations = {"missing": constraint.too_few()} if rule.min_count else {}
    if rule.max_count is not None:
        violations["too-many"] = constraint.too_many()
    return Recipe(constraint, violations)


@recipe_of.register
def _(rule: ForbidGlob) -> Recipe:
    constraint = CountConstraint(FileSelection(pattern=rule.pattern), most=0)
    return Recipe(constraint, {"present": constraint.too_many()})


@recipe_of.register
def _(rule: RequireTable) -> Recipe | None:
    """A schema may want anything. Without pyarrow no table can be judged."""
    is_known = rule.rule.schema is None and (rule.rule.min_rows or 0) <= _MOST_ROWS and rule.missing() is None
    return _table_recipe(rule.pattern, rule.rule) if is_known else None


def constraint_of(rule: Guardrail) -> CountConstraint:
    """Return the constraint that satisfies the rule.

    Raises:
        ValueError: nothing is known of the rule.
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


# ------------------------------------------------------------- tables that a rule accepts, and that it refuses

_MOST_ROWS = 10_000
_FILLER = "filled"
"""A column that is not declared: a CSV row without any text would be no row."""
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
    required = _required(files, _written(names, _rows(rule, names, _fewest(rule)), rule))
    refused = {name: _written(columns, rows, rule) for name, columns, rows in _refused(rule, names)}
    ways = {
        name: (CountConstraint(files, 1, 1, content=content), CountConstraint(files, 1, content=content))
        for name, content in {**refused, "broken": _BROKEN[rule.format]}.items()
    }
    return Recipe(required.constraint, {**required.violations, **ways})


def _fewest(rule: TableRule) -> int:
    """Rows of the smallest table that shows the types of its columns."""
    return max(rule.min_rows or 1, 1) if rule.max_rows != 0 else 0


def _rows(rule: TableRule, names: Sequence[str], number: int) -> list[_Row]:
    return [{name: _value(rule.types.get(name, ColumnType.INT), row) for name in names} for row in range(number)]


def _refused(rule: TableRule, names: Sequence[str]) -> Iterator[tuple[str, Sequence[str], list[_Row]]]:
    """Yield what is wrong, and a table of which it is true: its columns and its rows."""
    fewest, most = _fewest(rule), rule.max_rows
    rows = _rows(rule, names, fewest)
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
        yield "too-many-rows", names, _rows(rule, names, most + 1)
    if rule.unique and (most is None or most > 1):
        first_row, second, *others = _rows(rule, names, max(2, fewest))
        yield "duplicate", names, [first_row, second | {name: first_row[name] for name in rule.unique}, *others]
    if rule.not_null and fewest:
        # The last row, so that in JSON Lines another row has a value where there are several.
        yield "null", names, [*rows[:-1], rows[-1] | {rule.not_null[0]: None}]


def _value(kind: ColumnType, row: int) -> Any:
    """A value of the type; another one for each row where the type has so many."""
    match kind:
        case ColumnType.FLOAT:
            return row + 0.5
        case ColumnType.STR:
            return f"text {row}"
        case ColumnType.BOOL:
            return row % 2 == 0
        case ColumnType.BYTES:
            return b"%d" % row
        case ColumnType.DATE:
            return _DAY.date() + datetime.timedelta(days=row)
        case ColumnType.DATETIME:
            return _DAY + datetime.timedelta(seconds=row)
        case ColumnType.DECIMAL:
            return decimal.Decimal(row) + decimal.Decimal("0.25")
    return row + 1


def _wrong(kind: ColumnType, form: Format) -> Any:
    """A value of another type; None if the type takes them all."""
    if kind is ColumnType.ANY or (form is Format.CSV and kind in (ColumnType.STR, ColumnType.BYTES)):
        return None
    is_number = kind in (ColumnType.INT, ColumnType.FLOAT, ColumnType.DECIMAL)
    return "n/a" if is_number or form is Format.CSV else 1


def _written(names: Sequence[str], rows: Sequence[_Row], rule: TableRule) -> str | bytes:
    if rule.format is Format.PARQUET:
        return _parquet(names, rows, rule)
    texts = [{name: _text(row[name]) for name in names} for row in rows]
    if rule.format is Format.JSONL:
        return "".join(f"{json.dumps(row)}\n" for row in texts)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, delimiter=rule.delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(texts)
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

    types = {
        ColumnType.FLOAT: pa.float64(),
        ColumnType.STR: pa.string(),
        ColumnType.BOOL: pa.bool_(),
        ColumnType.BYTES: pa.binary(),
        ColumnType.DATE: pa.date32(),
        ColumnType.DATETIME: pa.timestamp("us"),
        ColumnType.DECIMAL: pa.decimal128(20, 2),
    }
    arrays = []
    for name in names:
        values = [row[name] for row in rows]
        try:
            arrays.append(pa.array(values, types.get(rule.types.get(name, ColumnType.INT), pa.int64())))
        except (pa.ArrowException, TypeError):  # it is a column of the wrong type
            arrays.append(pa.array(values))
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(arrays, names=list(names)), sink)
    return sink.getvalue()
