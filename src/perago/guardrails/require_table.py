"""`require_table`: a rule about the rows and columns of tables. Only its evaluation needs pyarrow."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perago.authoring.declaration import calling_line, declares
from perago.authoring.workspace import Guardrail, Listing, Path, Verdict, declared_pattern
from perago.guardrails.evaluation import ContentGuardrail, GuardrailDefect
from perago.guardrails.paths import for_pattern, matching
from perago.guardrails.table_rule import ENDINGS, PYTHON_TYPES, ColumnType, Format, TableRule
from perago.text import quoted
from perago.workspace.keys import compile_glob
from perago.workspace.scan import Tree, open_file

INSTALL = "pip install 'pyarrow>=19'"
_MODULE = "pyarrow"
_MOST_PROBLEMS = 10
_TYPES = ", ".join(kind.__name__ for kind in PYTHON_TYPES)


@dataclass(frozen=True, slots=True)
class RequireTable(ContentGuardrail):
    """At least one file matches `pattern`, and each matching file is such a table."""

    pattern: str
    rule: TableRule

    def __str__(self) -> str:
        return f"require_table({', '.join([repr(self.pattern), *self._options()])})"

    def _options(self) -> Iterable[str]:
        rule = self.rule
        if rule.columns:
            yield f"columns={{{', '.join(f'{name!r}: {_written(kind)}' for name, kind in rule.columns)}}}"
        for name in ("min_rows", "max_rows"):
            if (number := getattr(rule, name)) is not None:
                yield f"{name}={number}"
        for name in ("unique", "not_null"):
            if names := getattr(rule, name):
                yield f"{name}={list(names)!r}"
        if rule.schema is not None:
            yield f"schema={getattr(rule.schema, '__name__', None) or getattr(rule.schema, 'name', None) or 'schema'}"
        if _by_name(self.pattern) is not rule.format:
            yield f"format={rule.format.value!r}"
        if rule.delimiter != ",":
            yield f"delimiter={rule.delimiter!r}"
        if rule.show_values:
            yield "show_values=True"

    @property
    def brief(self) -> str:
        return f"require_table({self.pattern!r})"

    def evaluate(self, tree: Listing) -> Verdict:
        """Judge by the listing whether such a file exists."""
        matched = len(matching(self.pattern, tree))
        return Verdict(matched, None if matched else "matched 0 files")

    def hint(self, tree: Listing) -> str | None:
        return for_pattern(self.pattern, tree)

    def reads(self, path: str) -> bool:
        return compile_glob(self.pattern).fullmatch(path) is not None

    def missing(self) -> tuple[str, str] | None:
        if importlib.util.find_spec(_MODULE) is not None:
            return None
        return f"require_table reads tables with {_MODULE}, which is not installed here", INSTALL

    def evaluate_contents(self, tree: Tree) -> Verdict:
        if missing := self.missing():
            raise GuardrailDefect(": ".join(missing))
        from perago.guardrails.tables import check_table

        paths = [path for path in tree.files if self.reads(path)]
        problems: list[str] = []
        for path in paths:
            if len(problems) > _MOST_PROBLEMS:
                problems.append("further files were not read")
                break
            with os.fdopen(open_file(tree.root, path), "rb") as file:
                problems += [f"{quoted(path)}: {problem}" for problem in check_table(file, self.rule)]
        return Verdict(len(paths), "; ".join(problems) or None)


@declares("require_table")
def require_table(
    pattern: Path,
    columns: Mapping[str, Any] | None = None,
    min_rows: int | None = None,
    max_rows: int | None = None,
    unique: str | Sequence[str] | None = None,
    not_null: str | Sequence[str] | None = None,
    schema: Any = None,
    format: str | None = None,  # noqa: A002 - the word of all libraries for it
    delimiter: str = ",",
    show_values: bool = False,
) -> Guardrail:
    """At least one file must match `pattern`, and each matching file must be such a table.

    It reads CSV (`.csv`), Parquet (`.parquet`) and JSON Lines (`.jsonl`, `.ndjson`), in batches, with pyarrow.

    Args:
        pattern: a glob. Its last part ends in one of these endings, unless `format` is given.
        columns: the required columns and their types: int, float, str, bool, bytes, date, datetime, Decimal, or object
            for any. Further columns are allowed. In CSV and JSON Lines each value must have the form of its type.
        min_rows: the minimum number of rows, without the header.
        max_rows: the maximum number of rows.
        unique: a column, or several together, whose values must not repeat. Rows without a value there are ignored.
        not_null: the columns in which every row must have a value.
        schema: a model of pandera that the table must also satisfy. It needs the complete table in memory.
        format: `csv`, `parquet` or `jsonl`, if the pattern does not show it.
        delimiter: the delimiter of a CSV file.
        show_values: whether messages may quote wrong values. Conductor stores them in reasons.

    Raises:
        TaskDefinitionError: the pattern is not a relative path inside the workspace, or no table can satisfy the rule.
    """
    canonical = declared_pattern("require_table", pattern)
    rule = TableRule(
        format=_format(canonical, format),
        columns=tuple(_columns(canonical, columns)),
        min_rows=_number(canonical, "min_rows", min_rows),
        max_rows=_number(canonical, "max_rows", max_rows),
        unique=_names(canonical, "unique", unique),
        not_null=_names(canonical, "not_null", not_null),
        schema=schema,
        delimiter=_delimiter(canonical, delimiter),
        show_values=bool(show_values),
    )
    if rule.min_rows is not None and rule.max_rows is not None and rule.max_rows < rule.min_rows:
        problem = f"max_rows {rule.max_rows} is less than min_rows {rule.min_rows}, so no table can satisfy it"
        raise _wrong(canonical, problem, "raise max_rows or lower min_rows")
    if schema is not None and not rule.schema_module:
        problem = f"schema is an object of type {type(schema).__name__}, not a model of pandera"
        raise _wrong(canonical, problem, "give a subclass of pandera.DataFrameModel, or a pandera.DataFrameSchema")
    return RequireTable(canonical, rule)


def _wrong(pattern: str, problem: str, fix: str) -> Exception:
    return calling_line().error(f"require_table({pattern!r}): {problem}", fix=fix)


def _by_name(pattern: str) -> Format | None:
    name = pattern.rpartition("/")[2]
    return next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), None)


def _format(pattern: str, declared: object) -> Format:
    if declared is not None:
        if declared not in tuple(Format):
            raise _wrong(pattern, f"format is {declared!r}", f"write one of {', '.join(map(repr, map(str, Format)))}")
        return Format(str(declared))
    format_of_pattern = _by_name(pattern)
    if format_of_pattern is None:
        fix = f"let it end in {', '.join(ENDINGS)}, or give format='csv'"
        raise _wrong(pattern, "the pattern does not show the format of the tables", fix)
    return format_of_pattern


def _columns(pattern: str, columns: object) -> Iterable[tuple[str, ColumnType]]:
    if columns is None:
        return
    fix = f"write columns={{'name': type}} with one of the types {_TYPES}"
    if not isinstance(columns, Mapping):
        raise _wrong(pattern, f"columns is an object of type {type(columns).__name__}, not a mapping", fix)
    for name, kind in columns.items():
        if not isinstance(name, str) or not name:
            raise _wrong(pattern, f"the column name {name!r} is not a text", fix)
        if isinstance(kind, str) and kind in tuple(ColumnType):
            yield name, ColumnType(kind)
        elif isinstance(kind, type) and kind in PYTHON_TYPES:
            yield name, PYTHON_TYPES[kind]
        else:
            raise _wrong(pattern, f"column {name!r} has the type {getattr(kind, '__name__', kind)!r}", fix)


def _number(pattern: str, what: str, number: object) -> int | None:
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        fix = f"write {what}=1, or another number from 0"
        raise _wrong(pattern, f"{what} is {number!r}, not a number of rows", fix)
    return number


def _names(pattern: str, what: str, names: object) -> tuple[str, ...]:
    columns = (names,) if isinstance(names, str) else names if names is not None else ()
    if not isinstance(columns, Sequence) or not all(isinstance(name, str) and name for name in columns):
        raise _wrong(pattern, f"{what} is {names!r}, not names of columns", f"write {what}=['name']")
    return tuple(dict.fromkeys(columns))


def _delimiter(pattern: str, delimiter: object) -> str:
    if not isinstance(delimiter, str) or len(delimiter.encode()) != 1 or delimiter in '\r\n"':
        raise _wrong(pattern, f"delimiter is {delimiter!r}, not one character", "write delimiter=';', for example")
    return delimiter


def _written(kind: ColumnType) -> str:
    """Return the source of a type: its bare name if it is a built-in, or a text."""
    simple = {python_type.__name__ for python_type in PYTHON_TYPES if python_type.__module__ == "builtins"}
    return str(kind) if str(kind) in simple else repr(str(kind))
