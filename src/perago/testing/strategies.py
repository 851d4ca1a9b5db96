"""Hypothesis strategies for trees, tables, guardrail paths and the params of tasks. Needs hypothesis.

    @given(satisfying_trees(build_features), params(build_features))
    def test_features_are_built(tree, params):
        with TaskRunner() as run:
            assert run(build_features, params, tree=tree).status == "COMPLETED"

Examples are constructed near the rules and never filtered, so none is thrown away.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import unittest
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st
from pydantic import BaseModel, PydanticUserError, ValidationError

from perago.authoring import Example, Task, WorkspaceSpec
from perago.authoring.workspace import Guardrail
from perago.guardrails.require_table import RequireTable
from perago.guardrails.table_rule import ColumnType, Format, TableRule
from perago.taskdef.schema import RecursiveModel, integer_range, shape_of
from perago.testing.constraints import (
    Undecided,
    arrow_type,
    constraint_of,
    recipe_of,
    table_rows,
    violations_of,
    write_table,
)
from perago.testing.near_trees import ANY_DISK, Likeness, TreePlan, amounts, contents, instances, lookalikes
from perago.testing.samples import edges, plain_schema, sample_model, validated
from perago.testing.tasks import TaskFunction, known_params, no_params, provided_params, task_of
from perago.testing.trees import Contradiction, entangled_violation, smallest_tree
from perago.trees import Tree, as_bytes
from perago.workspace.keys import EVERYTHING, Folding, View

_MOST_ROWS = 6

_ODD_TEXTS = (
    *("", "a", "Größe", "漢字", "🙂", "a b", 'say "x"', "a,b", "a;b", "two\nlines", "NA", "null", "'"),
    *("0", "-7", "+8", "007", "9" * 30, "1.0", "0x10", "1_000", " 1", "1e3", "٣", "--1", "-"),
    *(".5", "5.", "1E-3", "nan", "-inf", "Infinity", "1,5", "e5", "1_0.0"),
    *("True", "FALSE", "yes", "t", "2024-02-29", "2023-02-29", "2024-13-01", "2024-1-1", "20240101", "2024-W01-1"),
    *("2024-02-29T23:59:59", "2024-02-29 23:59", "2024-02-29T23:59:59.123456789Z", "2024-02-29T23:59:59+05:30"),
    *("2024-02-29T23:59:59-0530", "2023-02-29T00:00:00", "2024-02-29T24:00:00", "2024-02-29T23", "2024-02-29t23:59:59"),
    "2024-02-29T23:59:59.",
)
_ODD_VALUES: Sequence[Any] = (1, 1.5, True, [], {}, [1], {"a": 1}, 2**53 + 1, 2**70)
_ODD_LINES = (b"", b"  ", b"[1]", b"1", b"{", b'{"a": NaN}', b'{"a": "\xff"}', b"{} {}", b'{"a":1,"a":2}')


@st.composite
def table_contents(draw: st.DrawFn, rule: TableRule) -> bytes:
    """Generate files that are close to valid ones: a few of their columns, values and bytes are odd."""
    names = list(dict.fromkeys((*rule.needed, *draw(st.lists(st.sampled_from(("extra", "a,b")), max_size=2))))) or ["x"]
    change, name = draw(st.sampled_from(("", "", "", "drop", "double", "case", "blank", "order"))), names[0]
    changed = {
        "drop": names[1:] or ["other"],
        "double": [*names, name],
        "case": [name.swapcase(), *names[1:]],
        "blank": [f" {name}", *names[1:]],
        "order": names[::-1],
    }.get(change, names)
    if rule.format is Format.PARQUET:
        return draw(_parquet(rule, list(dict.fromkeys(changed))))
    rows = table_rows(rule, list(dict.fromkeys(changed)), draw(st.integers(0, _MOST_ROWS)))
    odd = (*_ODD_TEXTS, None) if rule.format is Format.CSV else (*_ODD_TEXTS, *_ODD_VALUES, None)
    for row in rows:
        for cell in draw(st.lists(st.sampled_from(changed), max_size=1)):
            row[cell] = draw(st.sampled_from(odd))
    if rule.format is Format.JSONL:
        content = as_bytes(write_table(list(dict.fromkeys(changed)), rows, rule))
        at = draw(st.sampled_from((None, None, None, 0, len(content))))
        return content if at is None else content[:at] + draw(st.sampled_from(_ODD_LINES)) + b"\n" + content[at:]
    form = {"quoting": draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))}
    body = as_bytes(write_table(changed, rows, rule, **form, lineterminator=draw(st.sampled_from(("\n", "\r\n")))))
    ending = draw(st.sampled_from((b"", b"", b"", b"\n", b"1" + rule.delimiter.encode() * len(changed), b"\xff\n")))
    return draw(st.sampled_from((b"", b"", b"", b"\xef\xbb\xbf", b"\n"))) + body + ending


@st.composite
def _parquet(draw: st.DrawFn, rule: TableRule, names: Sequence[str]) -> bytes:
    """Generate a column with the declared type or another one, in one of its forms."""
    import pyarrow as pa
    import pyarrow.parquet

    kinds = [
        *(pa.int8(), pa.uint32(), pa.float32(), pa.timestamp("ms", "UTC"), pa.large_string(), pa.decimal128(10, 2)),
        *map(arrow_type, ColumnType),
    ]
    rows = draw(st.integers(0, _MOST_ROWS))
    arrays = []
    for name in names:
        declared = arrow_type(rule.types.get(name, ColumnType.ANY))
        kind = declared if draw(st.integers(0, 3)) else draw(st.sampled_from(kinds))
        some = st.lists(st.sampled_from((*range(rows + 2), None)), min_size=rows, max_size=rows)
        numbers = draw(st.one_of(st.just(list(range(rows))), some))
        array = pa.array(numbers, pa.int32() if pa.types.is_date(kind) else pa.int64())
        is_cast_from_text = str(kind).startswith(("decimal", "string", "large_string", "binary"))
        arrays.append((array.cast(pa.string()) if is_cast_from_text else array).cast(kind))
    sink = io.BytesIO()
    groups, has_statistics = draw(st.sampled_from((1, 2, 100))), draw(st.booleans())
    pyarrow.parquet.write_table(
        pa.table(arrays, names=names), sink, row_group_size=groups, write_statistics=has_statistics
    )
    parquet = sink.getvalue()
    return parquet[: draw(st.sampled_from((None, None, None, None, len(parquet) // 2, len(parquet) - 1)))]


_MOST_DRAWS = 5
_ANY_TEXT = st.characters(exclude_categories=["Cs"])
_Documents = st.SearchStrategy[Any]


class NoParams(unittest.SkipTest):
    """No params of a task can be made. A test that meets this is skipped; the message says how to provide some."""


def params(
    function: TaskFunction | Task, provided: Iterable[Mapping[str, Any] | Example] = ()
) -> st.SearchStrategy[BaseModel]:
    """Generate valid params of a task: from the schema of its model, and from examples, `provide_params` and
    `provided`. A value that the model refuses is drawn again a few times, then replaced by a known valid value.

    Raises:
        TypeError: it is not a task function.
        NoParams: when an example is drawn, and no valid value is known.
    """
    task = task_of(function)
    model = task.params_model
    generated = sample_model(model)
    known = [
        *known_params(task, (*provided_params(task.name), *provided)),
        *(sample.document for sample in generated.samples),
    ]
    options: list[_Documents] = [st.sampled_from(known)] if known else []
    with contextlib.suppress(RecursiveModel, PydanticUserError, ValueError):  # it has no schema without references
        options.append(documents(plain_schema(model)))
    return _valid(task.name, model, known, st.one_of(options), generated.problem or "its model refuses every value")


@st.composite
def _valid(
    draw: st.DrawFn, name: str, model: type[BaseModel], known: Sequence[Any], documents: _Documents, problem: str
) -> BaseModel:
    if not known:
        raise NoParams(no_params(name, problem))
    for _ in range(_MOST_DRAWS):
        try:
            return validated(model, draw(documents))
        except ValidationError:
            continue
    return validated(model, draw(st.sampled_from(known)))


def documents(schema: Mapping[str, Any]) -> _Documents:
    """Generate JSON documents for a schema of the subset that pydantic writes."""
    shape = shape_of(schema)
    if shape.values:
        return st.sampled_from(shape.values)
    if shape.options:
        return st.one_of([documents(option) for option in shape.options])
    makers = [_BY_TYPE.get(kind, _near_the_edges) for kind in shape.kinds] or [_near_the_edges]
    return st.one_of([make(shape.schema) for make in makers])


def _near_the_edges(schema: Mapping[str, Any]) -> _Documents:
    """Generate the few values near the edges that hypothesis would rarely draw."""
    values = edges(schema)
    return st.sampled_from(values) if values else st.nothing()


def _integers(schema: Mapping[str, Any]) -> _Documents:
    least, most = integer_range(schema)
    step = schema.get("multipleOf", 1)
    low = None if least is None else math.ceil(least / step)
    high = None if most is None else math.floor(most / step)
    if step != int(step) or (low is not None and high is not None and low > high):
        return _near_the_edges(schema)
    return st.integers(low, high).map(lambda number: int(number * step))


def _numbers(schema: Mapping[str, Any]) -> _Documents:
    if "multipleOf" in schema:
        return _near_the_edges(schema)
    least = schema.get("exclusiveMinimum", schema.get("minimum"))
    most = schema.get("exclusiveMaximum", schema.get("maximum"))
    low, high = (None if bound is None else float(bound) for bound in (least, most))
    open_low, open_high = "exclusiveMinimum" in schema, "exclusiveMaximum" in schema
    return st.floats(low, high, exclude_min=open_low, exclude_max=open_high, allow_nan=False, allow_infinity=False)


def _strings(schema: Mapping[str, Any]) -> _Documents:
    if schema.keys() & {"format", "pattern", "contentMediaType"}:
        return _near_the_edges(schema)
    return st.text(_ANY_TEXT, min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))


def _arrays(schema: Mapping[str, Any]) -> _Documents:
    if "prefixItems" in schema:
        return st.tuples(*map(documents, schema["prefixItems"])).map(list)
    return st.lists(
        documents(schema.get("items", {})),
        min_size=schema.get("minItems", 0),
        max_size=schema.get("maxItems"),
        unique_by=repr if schema.get("uniqueItems") else None,
    )


def _objects(schema: Mapping[str, Any]) -> _Documents:
    if "properties" not in schema:
        return _near_the_edges(schema)
    fields = {name: documents(field) for name, field in schema["properties"].items()}
    required = {name: fields[name] for name in schema.get("required", ()) if name in fields}
    return st.fixed_dictionaries(
        required, optional={name: field for name, field in fields.items() if name not in required}
    )


_BY_TYPE: Mapping[str, Callable[[Mapping[str, Any]], _Documents]] = {
    "integer": _integers,
    "number": _numbers,
    "string": _strings,
    "array": _arrays,
    "object": _objects,
}


__all__ = [
    "NoParams",
    "guardrail_paths",
    "hostile_paths",
    "near_trees",
    "params",
    "satisfying_trees",
    "trees",
    "violating_trees",
]

Rules: TypeAlias = WorkspaceSpec | TaskFunction | Iterable[Guardrail]
"""Some rules, or a workspace or a task function with the rules of one phase."""

Phase: TypeAlias = Literal["pre", "post"]

Written: TypeAlias = str | PurePosixPath | PureWindowsPath
"""A path as an author writes it in a guardrail."""


def trees(rules: Rules, *, phase: Phase = "pre") -> st.SearchStrategy[Tree]:
    """Generate trees that satisfy the rules, that break them, and that are at their limits."""
    rules_of_phase = _rules(rules, phase)
    options = [near_trees(rules_of_phase)]
    with contextlib.suppress(Contradiction, Undecided):
        options.append(satisfying_trees(rules_of_phase))
    with contextlib.suppress(Contradiction, Undecided):
        options.append(violating_trees(rules_of_phase))
    return st.one_of(options)


def satisfying_trees(rules: Rules, *, phase: Phase = "pre") -> st.SearchStrategy[Tree]:
    """Generate trees that satisfy all rules: the smallest one, and more.

    Raises:
        Contradiction: no such tree exists.
        Undecided: the rules are too complex.
    """
    rules_of_phase = _rules(rules, phase)
    view = _view(rules)
    return _grown([smallest_tree(rules_of_phase, _view=view)], rules_of_phase, view)


def violating_trees(rules: Rules, *, phase: Phase = "pre") -> st.SearchStrategy[Tree]:
    """Generate trees that violate exactly one rule if possible, and as few others as possible if not.

    Raises:
        Contradiction: no rule can be violated.
        Undecided: the rules are too complex.
    """
    rules_of_phase, view = _rules(rules, phase), _view(rules)
    seeds = []
    for rule in rules_of_phase:
        for violation in violations_of(rule):
            with contextlib.suppress(Contradiction):
                seeds.append(entangled_violation(rule, rules_of_phase, violation, view=view))
    if not seeds:
        raise Contradiction(rules_of_phase, "no tree breaks any rule")
    return _grown(seeds, rules_of_phase, view)


@st.composite
def near_trees(draw: st.DrawFn, rules: Rules, *, phase: Phase = "pre", _folding: Folding = ANY_DISK) -> Tree:
    """Generate trees near the rules: with odd files that the rules select, with paths that only look similar (see
    `Likeness`), and with counts at, below and above each limit.

    Args:
        draw: given by hypothesis.
        rules: guardrails, or the workspace or the task that has them.
        phase: the phase of the rules, if there are two.
        _folding: the names that the disk treats as the same.
    """
    rules_of_phase = _rules(rules, phase)
    plan = TreePlan(_folding)
    for rule in rules_of_phase:
        options = instances(rule)
        number = min(draw(st.sampled_from(amounts(rule))), len(options))
        chosen = st.lists(st.sampled_from(options), min_size=number, max_size=number, unique=True) if options else _NONE
        for path in draw(chosen):
            plan.add(path, draw(_content(rule)))
    for likeness in _drawn_likenesses(draw):
        for rule in draw(st.lists(st.sampled_from(rules_of_phase), min_size=1, unique=True)) if rules_of_phase else ():
            for path, content in lookalikes(rule, likeness):
                plan.add(path, content)
    last = draw(st.one_of(st.none(), st.sampled_from(rules_of_phase))) if rules_of_phase else None
    counted = [rule for rule in rules_of_phase if constraint_of(rule).most != 0 and not constraint_of(rule).files.name]
    for rule in (*counted, *([last] if last else [])):
        plan.set_count(rule, draw(st.sampled_from(amounts(rule))))
    return dict(plan.tree)


@st.composite
def _grown(
    draw: st.DrawFn, seeds: Sequence[dict[str, str | bytes | None]], rules: Sequence[Guardrail], view: View
) -> Tree:
    """Draw one of the seeds, and add entries in `view` that change no verdict."""
    plan = TreePlan(ANY_DISK)
    for path, seed in draw(st.sampled_from(seeds)).items():
        plan.add(path, seed)
    for likeness in _drawn_likenesses(draw):
        for rule in rules:
            for path, content in lookalikes(rule, likeness):
                if isinstance(content, str | None) and view.sees(path):
                    plan.add_if(rules, path, content)
    return dict(plan.tree)


def _content(rule: Guardrail) -> st.SearchStrategy[str | bytes]:
    """Return contents of a file that the rule counts."""
    some = st.sampled_from([*_CONTENTS, *contents(rule)])
    return st.one_of(some, table_contents(rule.rule).map(_readable)) if isinstance(rule, RequireTable) else some


def _readable(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


_CONTENTS = ("", "x\n1\n")
_NONE: st.SearchStrategy[list[str]] = st.just([])


def _drawn_likenesses(draw: st.DrawFn) -> list[Likeness]:
    chosen = draw(st.lists(st.booleans(), min_size=len(Likeness), max_size=len(Likeness)))
    return [likeness for likeness, is_drawn in zip(Likeness, chosen, strict=True) if is_drawn]


def _view(rules: Rules) -> View:
    spec = task_of(rules).workspace if callable(rules) else rules
    return View.of(spec) if isinstance(spec, WorkspaceSpec) else EVERYTHING


def _rules(rules: Rules, phase: Phase) -> tuple[Guardrail, ...]:
    if callable(rules):
        rules = task_of(rules).workspace or ()
    if isinstance(rules, WorkspaceSpec):
        rules = rules.pre if phase == "pre" else rules.post
    return tuple(dict.fromkeys(rule for rule in rules if recipe_of(rule)))


_NAMES = ("raw", "a.csv", ".cache", "x y", "Größe", "漢字", "...", "..a", "a..", "~", "-", "con", "e\u0301", "$HOME")
_DEFAULT = ("raw/a.csv",)
_CONTROL = ("\0", "\n", "\t", "\x1b", "\x7f", "\u0085", "\ud800")


@st.composite
def guardrail_paths(draw: st.DrawFn, near: Sequence[str] = ()) -> tuple[Written, str]:
    """Draw a valid path in some spelling, with its canonical form; sometimes one of `near`."""
    near_path = st.sampled_from(near or _DEFAULT).map(lambda path: path.split("/"))
    names = draw(st.one_of(near_path, st.lists(st.sampled_from(_NAMES), min_size=1)))
    canonical = "/".join(names)
    spellings: list[Written] = [
        canonical,
        "./" + "/./".join(names),
        "//".join(names) + "/",
        PurePosixPath(canonical),
        PureWindowsPath(*names),
    ]
    return draw(st.sampled_from(spellings)), canonical


@st.composite
def hostile_paths(draw: st.DrawFn, near: Sequence[str] = ()) -> Written:
    """Generate a path that guardrails must refuse: it leaves the workspace, belongs to another system, or is not a path
    at all. It is a good path, sometimes one of `near`, with a defect."""
    names = draw(st.sampled_from(near or _DEFAULT)).split("/")
    path = "/".join(names)
    place = draw(st.integers(0, len(names)))
    with_parent = "/".join([*names[:place], "..", *names[place:]])
    letter = draw(st.sampled_from("cCzZ"))
    server = draw(st.sampled_from(["server/share", "?/C:", "./pipe"]))
    middle = draw(st.integers(0, len(path)))
    forms: list[Written] = [
        f"/{path}",
        f"///{path}",
        PurePosixPath(f"/{path}"),
        with_parent,
        f"./{with_parent}/.",
        PurePosixPath(with_parent),
        PureWindowsPath(with_parent),
        f"{letter}:{path}",
        f"{letter}:/{path}",
        f"{letter}:\\{path}",
        *map(PureWindowsPath, (f"{letter}:{path}", f"{letter}:\\{path}", f"\\{path}")),
        f"//{server}/{path}",
        f"\\\\{server}\\{path}".replace("/", "\\"),
        PureWindowsPath(f"//server/share/{path}"),
        f"{path[:middle]}\\{path[middle:]}",
        f"{path[:middle]}{draw(st.sampled_from(_CONTROL))}{path[middle:]}",
        "",
        ".",
        "./",
        "././/.",
        "/",
    ]
    return draw(st.sampled_from(forms))
