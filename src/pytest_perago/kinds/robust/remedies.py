"""Changes of the guardrails that remove a finding.

A change is proposed only after it was tried: the changed guardrails refuse all inputs of the finding, they accept the
examples that they accepted, none of them raises an error on a tried input, and the function does not fail on the
smallest tree that they accept.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import itertools
import json
import math
import re
import sys
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from xml.etree import ElementTree

from pydantic import Field, TypeAdapter, ValidationError

from perago.authoring import TaskDefinitionError
from perago.authoring.workspace import Guardrail
from perago.guardrails import forbid_glob, guardrail, require_file, require_glob, require_table
from perago.guardrails.require_file import RequireFile
from perago.guardrails.require_glob import RequireGlob
from perago.guardrails.require_table import RequireTable
from perago.text import count
from perago.workspace.keys import compile_glob
from pytest_perago.kinds.robust.attacks import SMALLEST, Attack, AttackFinding, Mutant
from pytest_perago.kinds.robust.table_mutations import Csv

_TYPES = {"integer": int, "number": float, "text": str}
_TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"}


@dataclass(frozen=True, slots=True)
class Remedy:
    """A changed declaration."""

    changes: tuple[str, ...]
    """The changes of rules, as code for the author."""
    rules: tuple[Guardrail, ...]
    """The `pre` guardrails after all changes."""
    functions: tuple[str, ...] = ()
    """The code of new guardrail functions."""

    def __str__(self) -> str:
        return "; ".join((*self.changes, *(f"pre=[..., {_name_of(text)}]" for text in self.functions)))

    def to_paste(self, namespace: Mapping[str, Any], printed: dict[str, str]) -> str:
        """Return the code for a module with these names, with its imports.

        `printed` has the names of the functions that were printed for the module, by their code without a name. They
        are not printed again, and new ones are added.
        """
        added, texts = list[str](), list[str]()
        for text in self.functions:
            name = _name_of(text)
            anonymous = re.sub(rf"\b{name}\b", "_", text)
            if anonymous not in printed:
                names = (f"{name}_{number}".removesuffix("_1") for number in itertools.count(1))
                printed[anonymous] = next(free for free in names if free not in {*namespace, *printed.values()})
                texts.append(re.sub(rf"\b{name}\b", printed[anonymous], text))
            added.append(printed[anonymous])
        known = "  # with the function of an earlier fix" if len(texts) < len(added) else ""
        lines = [*self.changes, *([f"pre=[..., {', '.join(added)}]{known}"] if added else [])]
        used = {node.id for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        used |= set(re.findall(r"\b(?:require|forbid)_\w+(?=\()", "\n".join(self.changes)))
        imports = [statement for name, statement in _IMPORTS.items() if name in used - namespace.keys()]
        return "\n\n\n".join(("\n".join((*lines, *imports)), *texts))


def _name_of(function: str) -> str:
    match = re.search(r"^def (\w+)", function, re.MULTILINE)
    return match[1] if match else ""


def constraint_for(attack: Attack, mutants: Sequence[Mutant]) -> str | None:
    """Return the constraints of fields that refuse the params of a finding and accept those of all examples, as code;
    None if no constraint does."""
    codes = []
    for name in dict.fromkeys(mutant.label for mutant in mutants):
        values = [mutant.params[name] for mutant in mutants if mutant.label == name]
        accepted = [params[name] for params in attack.accepted_params if name in params]
        for chosen in (*((constraint,) for constraint in _CONSTRAINTS), *itertools.combinations(_CONSTRAINTS, 2)):
            kinds: list[Any] = [Annotated[Any, constraint] for _, constraint in chosen]
            is_refused = all(any(not _is_valid(kind, value) for kind in kinds) for value in values)
            if is_refused and all(_is_valid(kind, value) for kind in kinds for value in accepted):
                codes.append(f"{name}: ... = Field({', '.join(code for code, _ in chosen)})")
                break
        else:
            return None
    return "\n".join(codes)


_CONSTRAINTS = (
    ("gt=0", Field(gt=0)),
    ("ge=0", Field(ge=0)),
    ("min_length=1", Field(min_length=1)),
    ("le=1_000_000", Field(le=1_000_000)),
    ("max_length=50", Field(max_length=50)),
    (r'pattern=r"^[\w.-]+$"', Field(pattern=r"^[\w.-]+$")),
)
"""Constraints of a field, the plainest first."""


def _is_valid(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except (ValidationError, TypeError):  # TypeError: the constraint is not for such values
        return False
    return True


def remedy_for(attack: Attack, finding: AttackFinding) -> tuple[Remedy | None, list[str]]:
    """Return the weakest change that removes a finding, and the reasons why other changes do not.

    Several changes are joined if the inputs of the finding have several defects.
    """
    rules = attack.rules
    remedies: list[Remedy] = []
    failures: list[str] = []
    pending = [mutant for mutant in finding.mutants if not mutant.backwards]
    pending.sort(key=lambda mutant: mutant.label != "other-text")  # no check of single texts refuses it
    while pending and len(remedies) < _MOST_CHANGES:
        remedy = _best(attack, rules, pending, failures)
        if remedy is None:
            break
        rules = remedy.rules
        remedies.append(remedy)
        pending = [mutant for mutant in pending if not is_refused(attack, mutant, rules)]
        if not pending and finding.mutants[0].parts:
            pending = attack.causes_left(finding.failure.key, rules)
    if pending or not remedies:
        labels = ", ".join(dict.fromkeys(mutant.label for mutant in pending))
        if remedies:
            failures.insert(0, f"{count(len(remedies), 'change')} of the guardrails, which still accept {labels}")
        elif not failures:
            failures.append(f"perago has no guardrail to propose for {labels or 'the order of directories'}")
        return None, failures
    changes, functions = (
        tuple(itertools.chain.from_iterable(getattr(remedy, name) for remedy in remedies))
        for name in ("changes", "functions")
    )
    return Remedy(changes, rules, functions), failures


def _best(
    attack: Attack, rules: tuple[Guardrail, ...], mutants: Sequence[Mutant], failures: list[str]
) -> Remedy | None:
    """Return the change that refuses the first input and the most others, the weakest one first."""
    parts = [replace(part, files=mutant.files) for mutant in mutants for part in mutant.parts or (mutant,)]
    parts.sort(key=lambda part: part.label == "one-row")  # one row is legal in most tables
    best: tuple[int, Remedy] | None = None
    tried: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
    accepting: list[str] = []
    for remedy in itertools.chain.from_iterable(_candidates(rules, attack, part) for part in parts):
        if (remedy.changes, remedy.functions) in tried or len(tried) >= _MOST_CANDIDATES:
            continue
        tried.add((remedy.changes, remedy.functions))
        if not is_refused(attack, mutants[0], remedy.rules):
            accepting.append(str(next(rule for rule in remedy.rules if rule not in rules)))
            continue
        if problem := attack.problem_of(remedy.rules):
            failures.append(f"{remedy}: {problem}")
            continue
        number = sum(is_refused(attack, mutant, remedy.rules) for mutant in mutants)
        if number == len(mutants):
            return remedy
        if best is None or number > best[0]:
            best = number, remedy
    if best is None and accepting:
        others = f" and {count(len(accepting) - 1, 'other change')}" if len(accepting) > 1 else ""
        failures.append(f"{accepting[-1]}{others}: {mutants[0].label} is still accepted")
    return best[1] if best else None


_MOST_CHANGES = 6
_MOST_CANDIDATES = 30


def is_refused(attack: Attack, mutant: Mutant, rules: Sequence[Guardrail]) -> bool:
    """Whether a worker that has these guardrails ends the attempt for good."""
    return any(not finding.is_defect for finding in attack.judge(mutant.files, rules))


def _candidates(rules: tuple[Guardrail, ...], attack: Attack, mutant: Mutant) -> Iterator[Remedy]:
    """Yield candidates, the weakest change first."""
    if mutant.change is None or not mutant.path:
        return
    seed = mutant.seed.files
    pattern = _pattern(attack, mutant.path)
    if mutant.label == "odd-name" and pattern != mutant.path:  # any name will do, so no name is required
        yield from _with_functions(rules, _name_functions(mutant.path, pattern))
    tree_rules = () if mutant.label == SMALLEST else _tree_rules(mutant)  # a smaller number of files is legal
    for make in (*_size_rules(attack, mutant, pattern), *tree_rules, *_table_rules(mutant, pattern)):
        with suppress(TaskDefinitionError, ValueError):
            remedy = _as_change(rules, make())
            if remedy is not None:
                yield remedy
    column = mutant.change.column
    is_text = any(isinstance(rule, RequireTable) and dict(rule.rule.columns).get(column) == "str" for rule in rules)
    if not is_text or mutant.label not in ("nan", "inf", "zero", "negative", "wide-int"):  # a text need not be a number
        yield from _with_functions(rules, _functions(mutant, pattern, seed))


def _with_functions(rules: tuple[Guardrail, ...], functions: Iterable[tuple[str, Guardrail]]) -> Iterator[Remedy]:
    for text, rule in functions:
        yield Remedy((), (*rules, rule), (text,))


def _as_change(rules: tuple[Guardrail, ...], rule: Guardrail) -> Remedy | None:
    """Return the change of the `pre` guardrails. A rule of the same kind and pattern is narrowed. None if it is as
    narrow already."""
    target = _target(rule)
    for number, declared in enumerate(rules):
        if type(declared) is type(rule) and target is not None and _target(declared) == target:
            narrowed = _narrowed(declared, rule)
            if narrowed == declared:
                return None
            code = f"in place of {declared}: {narrowed}"
            if isinstance(declared, RequireTable) and isinstance(rule, RequireTable) and _is_apart(declared, rule):
                code = f"add {str(rule).removeprefix(f'require_table({target!r}, ').removesuffix(')')} to {declared}"
            return Remedy((code,), (*rules[:number], narrowed, *rules[number + 1 :]))
    return Remedy((f"pre=[..., {rule}]",), (*rules, rule))


def _is_apart(declared: RequireTable, added: RequireTable) -> bool:
    """Whether no option of the added rule is declared already."""
    options = ("columns", "min_rows", "unique", "not_null")
    return not any(getattr(declared.rule, name) and getattr(added.rule, name) for name in options)


def _narrowed(declared: Guardrail, added: Guardrail) -> Guardrail:
    """Return the declared rule with the limits of the other one, too."""
    match declared, added:
        case RequireTable(_, old), RequireTable(_, new):
            rule = replace(
                old,
                columns=tuple({**dict(new.columns), **dict(old.columns)}.items()),
                min_rows=max(filter(None, (old.min_rows, new.min_rows)), default=None),
                unique=old.unique or new.unique,
                not_null=tuple(dict.fromkeys((*old.not_null, *new.not_null))),
            )
            return replace(declared, rule=rule)
        case RequireGlob(), RequireGlob():
            limits = [limit for limit in (declared.max_count, added.max_count) if limit is not None]
            return replace(
                declared,
                min_count=max(declared.min_count, added.min_count),
                max_count=min(limits, default=None),
                min_bytes=max(declared.min_bytes, added.min_bytes),
            )
        case RequireFile(), RequireFile():
            return replace(declared, min_bytes=max(declared.min_bytes, added.min_bytes))
    return added


def _target(rule: Guardrail) -> str | None:
    """Return the pattern or the path that a rule is about; None for a function."""
    target: str | None = getattr(rule, "pattern", getattr(rule, "path", None))
    return target


def _pattern(attack: Attack, path: str) -> str:
    """Return the pattern of a declared rule that selects the file, or a glob if there are similar files, or its
    path."""
    for rule in attack.rules:
        pattern = getattr(rule, "pattern", "")
        if pattern and compile_glob(pattern).fullmatch(path) and type(rule).__name__ != "ForbidGlob":
            return str(pattern)
    file = PurePosixPath(path)
    siblings = {other for seed in attack.seeds for other in seed.files if PurePosixPath(other).parent == file.parent}
    if len([other for other in siblings if PurePosixPath(other).suffix == file.suffix]) > 1:
        return str(file.with_name(f"*{file.suffix}"))
    return path


def _size_rules(attack: Attack, mutant: Mutant, pattern: str) -> Iterator[Callable[[], Guardrail]]:
    """Yield the rule that selects the file, or a new one, with a minimum size."""
    if mutant.label == "empty-file" and PurePosixPath(mutant.path).suffix.lower() not in _TABLES:
        for rule in attack.rules:
            if isinstance(rule, RequireGlob | RequireFile) and _target(rule) == pattern:
                yield lambda rule=rule: replace(rule, min_bytes=1)  # type: ignore[misc]
        yield lambda: require_glob(pattern, min_bytes=1)


def _tree_rules(mutant: Mutant) -> Iterator[Callable[[], Guardrail]]:
    seed, files = mutant.seed.files, mutant.files
    file = PurePosixPath(mutant.path)
    added = sorted(files.keys() - seed.keys())
    same_suffix = str(file.with_name(f"*{file.suffix}"))
    number = sum(bool(compile_glob(same_suffix).fullmatch(path)) for path in seed)
    if seed.keys() - files.keys() and not added:
        yield lambda: require_file(mutant.path)
        yield lambda: require_glob(same_suffix, min_count=number)
    elif added:
        name = PurePosixPath(added[0])
        if name.name.startswith("._"):
            yield lambda: forbid_glob("**/._*")
        if name.suffix != file.suffix:
            yield lambda: forbid_glob(f"**/*{name.suffix}" if name.suffix else f"**/{name.name}")
        if name.parent != file.parent:
            yield lambda: forbid_glob(f"{file.parent}/*/**".removeprefix("./"))
        elif name.suffix != file.suffix:
            yield lambda: forbid_glob(str(name))
        yield lambda: require_glob(same_suffix, max_count=number)
        yield lambda: require_file(mutant.path)


def _table_rules(mutant: Mutant, pattern: str) -> Iterator[Callable[[], Guardrail]]:
    suffix = PurePosixPath(mutant.path).suffix.lower()
    if suffix not in _TABLES:
        return
    table = Csv.read(mutant.seed.files, mutant.path) if suffix in (".csv", ".tsv") else None
    dialect: dict[str, Any] = {"format": "csv"} if suffix == ".tsv" else {}
    if table is not None and table.delimiter != ",":
        dialect["delimiter"] = table.delimiter
    column = mutant.change.column if mutant.change is not None else ""
    types = _column_types(mutant.seed.files, mutant.path)
    keys = [name for name, kind in types.items() if kind is not float]
    options: list[dict[str, Any]] = [{}, {"min_rows": 1}]
    if column:
        if mutant.label not in _ON_COLUMNS:
            options.append({"not_null": [column]})
        if column in types:
            typed = {"columns": {column: types[column]}}
            options += [typed, {**typed, "not_null": [column]}]
    if mutant.label == "one-row":
        options.append({"min_rows": 2})
    if mutant.label in ("same-key", "duplicate-row"):
        options += [{"unique": keys}, {"unique": keys[:1]}]  # the weaker key first
    if types:
        options += [{"columns": types}, {"not_null": list(types)}]
    for arguments in options:
        yield lambda arguments=arguments: require_table(pattern, **dialect, **arguments)  # type: ignore[misc]


def _column_types(seed: Mapping[str, bytes], path: str) -> dict[str, type]:
    """Return the columns of the table in the seed."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in (".csv", ".tsv"):
        table = Csv.read(seed, path)
        kinds = {name: table.kind(column) for column, name in enumerate(table.header)} if table else {}
        return {name: _TYPES.get(kind, str) for name, kind in kinds.items()}
    if suffix in (".jsonl", ".ndjson"):
        with suppress(ValueError, IndexError):
            first = json.loads(seed[path].splitlines()[0])
            return {name: type(value) for name, value in first.items() if type(value) in (int, float, str, bool)}
        return {}
    with suppress(Exception):  # pyarrow is not there, or the file is not Parquet
        import pyarrow.parquet

        schema = pyarrow.parquet.read_schema(io.BytesIO(seed[path]))
        kinds_of = ((int, pyarrow.types.is_integer), (float, pyarrow.types.is_floating), (str, pyarrow.types.is_string))
        return {field.name: kind for field in schema for kind, fits in kinds_of if fits(field.type)}
    return {}


# ------------------------------------------------------------------------- functions, where no rule refuses it

_ON_BYTES = {
    "bom": ("no_byte_order_mark", 'data.startswith(b"\\xef\\xbb\\xbf")', "begins with a byte order mark"),
    "empty-file": ("no_empty_file", "not data", "is empty"),
    "crlf": ("no_crlf", 'b"\\r\\n" in data', "has lines that end with CRLF"),
    "no-final-newline": ("ends_with_newline", 'not data.endswith(b"\\n")', "has no line end at its end"),
    "blank-line-end": ("no_blank_line", 'b"\\n\\n" in data', "has a blank line"),
    "blank-line-middle": ("no_blank_line", 'b"\\n\\n" in data', "has a blank line"),
    "utf16": ("no_utf16", 'data.startswith((b"\\xff\\xfe", b"\\xfe\\xff"))', "is UTF-16, not UTF-8"),
    "latin1": ("is_utf8", '"\\ufffd" in data.decode(errors="replace")', "is not UTF-8"),
    "nul": ("no_nul", 'b"\\x00" in data', "has a NUL byte"),
    "unicode": ("is_ascii", "not data.isascii()", "has letters beyond ASCII"),
}
"""Checks of files by label: name, condition on the bytes, and description of the defect."""

_ON_CELLS = {
    "nan": ("is_finite", "not math.isfinite(float({cell} or 0))", "a number that is not finite"),
    "inf": ("is_finite", "not math.isfinite(float({cell} or 0))", "a number that is not finite"),
    "zero": ("is_not_zero", "float({cell} or 1) == 0", "0"),
    "negative": ("is_not_negative", "float({cell} or 0) < 0", "a negative number"),
    "wide-int": ("is_small", "abs(int({cell} or 0)) >= 2**63", "an integer beyond 64 bits"),
    "mixed-zones": ("has_no_zone", 'bool(re.search(r"(Z|[+-][0-9][0-9]:?[0-9][0-9])$", {cell}))', "a time with a zone"),
    "no-zone": ("has_a_zone", 'not re.search(r"(Z|[+-][0-9][0-9]:?[0-9][0-9])$", {cell})', "a time without a zone"),
    "na-text": ("is_not_na", '{cell} == "NA"', "the text NA"),
    "quoted-delimiter": ("has_no_delimiter", "{delimiter!r} in {cell}", "a delimiter"),
    "quoted-newline": ("has_no_newline", '"\\n" in {cell}', "a line end"),
    "doubled-quote": ("has_no_quote", "'\"' in {cell}", "a quote"),
    "slash-in-text": ("is_a_name", '"/" in {cell}', "a slash"),
    "dots": ("is_a_name", '{cell} in (".", "..")', "a text that is not a name"),
    "long-text": ("is_short", "len({cell}) > 200", "a text that is too long"),
    "empty-number": ("has_value", "not {cell}", "no value"),
    "empty-text": ("has_value", "not {cell}", "no value"),
    "all-empty-column": ("has_value", "not {cell}", "no value"),
    "exponent": ("is_plain", '"e" in {cell}.lower()', "an exponent"),
    "leading-zero": ("is_plain", '{cell}[:1] == "0" and {cell} != "0"', "a leading zero"),
}
"""Checks of cells by label: name, condition, and description of the value."""


_ON_COLUMNS = ("extra-column", "reordered", "missing-column", "header-case", "header-space", "duplicate-header")

_READERS = {
    ".json": ("is_json", "json.loads(file.read_bytes())", "ValueError", "JSON"),
    ".toml": ("is_toml", 'tomllib.loads(file.read_text("utf-8"))', "ValueError", "TOML"),
    ".xml": ("is_xml", "ElementTree.parse(file)", "ElementTree.ParseError", "XML"),
    ".gz": ("is_gzip", "gzip.decompress(file.read_bytes())", "(OSError, EOFError, zlib.error)", "a complete gzip file"),
    ".zip": ("is_zip", "zipfile.ZipFile(file).testzip()", "zipfile.BadZipFile", "a complete ZIP file"),
}
"""Checks of files by suffix: name, the call that reads the file, its exceptions, and the expected format."""


def _functions(mutant: Mutant, pattern: str, seed: Mapping[str, bytes]) -> Iterator[tuple[str, Guardrail]]:
    loop, suffix = f"for file in sorted(workspace.glob({pattern!r})):", PurePosixPath(mutant.path).suffix.lower()
    if mutant.label in _ON_BYTES:
        name, condition, defect = _ON_BYTES[mutant.label]
        check = [f"    if {condition}:", f'        return f"{{file.name}} {defect}"']
        yield from _compiled(name, loop, "    data = file.read_bytes()", *check)
    if mutant.label in ("sub-directory", "foreign-file", "second-file"):
        yield from _name_functions(mutant.path, pattern)
    elif suffix in _READERS:
        name, call, errors, defect = _READERS[suffix]
        read = [loop, "    try:", f"        document = {call}", f"    except {errors}:"]
        read.append(f'        return f"{{file.name}} is not {defect}"')
        yield from _compiled(name, *(line.replace("document = ", "") for line in read))
        if suffix == ".json" and mutant.change is not None:
            yield from _document_functions(mutant.label, read, ["document"], mutant.change.keys, seed[mutant.path])
    column = mutant.change.column if mutant.change is not None else ""
    if suffix in (".jsonl", ".ndjson") and mutant.label in _ON_CELLS and column:
        reader = 'map(json.loads, filter(str.strip, file.read_text("utf-8-sig").splitlines()))'
        yield from _cell_functions(mutant.label, column, [loop], reader)
    if suffix in (".jsonl", ".ndjson") and mutant.change is not None:
        read = [loop, "    try:", f"        documents = [{_LINES}]", "    except ValueError:"]
        read.append('        return f"{file.name} is not JSON Lines"')
        first = seed[mutant.path].strip().partition(b"\n")[0]
        yield from _document_functions(mutant.label, read, ["*documents"], mutant.change.keys, first)
    if suffix == ".parquet" and mutant.label in _ON_PARQUET:
        yield from _parquet_functions(mutant.label, column, loop)
    table = Csv.read(seed, mutant.path) if suffix in (".csv", ".tsv") else None
    if table is None:
        return
    delimiter = "" if table.delimiter == "," else f", delimiter={table.delimiter!r}"
    reader = f"csv.DictReader(lines{delimiter})"
    opened = [loop, '    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:']
    for label in ("mixed-zones", "no-zone") if mutant.label == "mixed-zones" else (mutant.label,):
        if label in _ON_CELLS and column in table.header:
            yield from _cell_functions(label, column, opened, reader, table.delimiter)
    if mutant.label in ("quoted-delimiter", "quoted-newline", "doubled-quote"):
        check = ["    if b'\"' in file.read_bytes():", '        return f"{file.name} has quotes"']
        yield from _compiled("has_no_quotes", loop, *check)
    if mutant.label in _ON_COLUMNS:
        yield from _compiled(
            "has_the_columns",
            *opened,
            f"        if {reader}.fieldnames != {table.header!r}:",
            '            return f"{file.name} has other columns"',
        )
    if mutant.label == "unsorted":
        yield from _compiled(
            "is_sorted",
            *opened,
            f"        keys = [row[{table.header[0]!r}] for row in {reader}]",
            "        if keys != sorted(keys):",
            f'            return f"{{file.name}} is not sorted by {table.header[0]}"',
        )


def _cell_functions(
    label: str, column: str, opened: Sequence[str], reader: str, delimiter: str = ","
) -> Iterator[tuple[str, Guardrail]]:
    """Yield a guardrail about the values of one column. `opened` are the lines that open each file."""
    name, condition, defect = _ON_CELLS[label]
    is_text = not reader.startswith("map(")
    cell = f"(row.get({column!r}) or '')" if is_text else f"row.get({column!r})"
    condition = condition.format(cell=cell, delimiter=delimiter).replace(f"{cell} or", f"row.get({column!r}) or")
    if not is_text:  # the values are no texts, and 0 is a value
        condition = condition.replace(f"{cell} or 0", cell).replace(f"{cell} or 1", cell)
    readable = "".join(character if character.isalnum() else "_" for character in column)
    indent = "    " * len(opened)
    lines = [f"{indent}if any({condition} for row in {reader}):"]
    refusal = f'return f"{{file.name}} has {defect} in column {column}"'
    if "float(" in condition or "int(" in condition:
        lines = [f"{indent}try:", f"{indent}    is_bad = any({condition} for row in {reader})"]
        lines += [f"{indent}except (AttributeError, TypeError, ValueError):  # not even a number"]
        lines += [f"{indent}    is_bad = True", f"{indent}if is_bad:"]
    yield from _compiled(
        f"{readable}_{name}" if readable.isidentifier() else name, *opened, *lines, f"{indent}    {refusal}"
    )


def _name_functions(path: str, pattern: str) -> Iterator[tuple[str, Guardrail]]:
    """Yield guardrails about the names of files: each name once, and only names like that of the file."""
    file = PurePosixPath(path)
    names = f"[file.name for file in workspace.glob({pattern!r}) if file.is_file()]"
    yield from _compiled(
        "has_unique_names",
        f"names = {names}",
        "if len(set(names)) < len(names):",
        '    return "two files have the same name"',
    )
    shape = re.sub(r"[A-Za-z]+|[0-9]+", lambda run: r"\d+" if run[0].isdigit() else "[A-Za-z]+", re.escape(file.stem))
    for stem in (r"[\w-]+", shape):
        yield from _compiled(
            "has_plain_names",
            f"for file in workspace.glob({str(file.with_name('*'))!r}):",
            f'    if not re.fullmatch(r"{stem}{re.escape(file.suffix)}", file.name, re.ASCII):',
            f'        return f"{{file.name}} is not a name such as {file.name}"',
        )


_MODULES = (csv, gzip, json, math, re, tomllib, zipfile, zlib, ElementTree)
"""The modules that the functions use."""
_IMPORTS = {
    **{module.__name__: f"import {module.__name__}" for module in _MODULES[:-1]},
    "ElementTree": "from xml.etree import ElementTree",
    "pyarrow": "import pyarrow.parquet",
    "Path": "from pathlib import Path",
    **{rule.__name__: f"from perago import {rule.__name__}" for rule in (forbid_glob, guardrail, require_file)},
    **{rule.__name__: f"from perago import {rule.__name__}" for rule in (require_glob, require_table)},
}
"""The import of each name that a change can use."""

_LINES = 'json.loads(line) for line in file.read_text("utf-8-sig").splitlines() if line.strip()'
_EXPECTED: tuple[tuple[type, str, str], ...] = (
    (bool, "not isinstance(value, bool)", "true or false"),
    (int, "type(value) is not int", "an integer"),
    (int, "type(value) is not int or value == 0", "an integer other than 0"),
    (int, "type(value) is not int or value < 0", "an integer that is not negative"),
    (int, "type(value) is not int or not 0 < value < 2**63", "a positive integer of 64 bits"),
    (float, "type(value) not in (int, float) or not math.isfinite(value)", "a number"),
    (float, "type(value) not in (int, float) or not math.isfinite(value) or value == 0", "a number other than 0"),
    (float, "type(value) not in (int, float) or not 0 <= value < math.inf", "a number that is not negative"),
    (str, "not isinstance(value, str)", "a text"),
    (str, "not isinstance(value, str) or not value", "a text that is not empty"),
    (list, "not isinstance(value, list)", "a list"),
    (list, "not isinstance(value, list) or not value", "a list that is not empty"),
    (dict, "not isinstance(value, dict)", "an object"),
    (dict, "not isinstance(value, dict) or not value", "an object that is not empty"),
)
"""Checks of JSON values by type: the condition that finds a different value, and the expected value. The first one of a
type accepts empty values, because they are legal."""


def _document_functions(
    label: str, read: Sequence[str], documents: Sequence[str], keys: Sequence[str | int], content: bytes
) -> Iterator[tuple[str, Guardrail]]:
    """Yield guardrails for JSON: that each document has such a value at the place. `read` are the lines that read a
    file, and `documents` the items of a list of its documents."""
    node: Any = None
    lines = [f"    values = [{', '.join(documents)}]"]
    with suppress(ValueError, LookupError, TypeError):
        node = json.loads(content)
        for key in keys:
            node = node[key]
            inner = f"value.get({key!r}) if isinstance(value, dict) else None for value in values"
            if isinstance(key, int):
                inner = "inner for value in values if isinstance(value, list) for inner in value"
            lines.append(f"    values = [{inner}]")
    if not keys or node is None:
        return
    checks = [(condition, expected) for kind, condition, expected in _EXPECTED if type(node) is kind]
    if label in _ON_CELLS and isinstance(node, str):
        _, condition, defect = _ON_CELLS[label]
        text = condition.format(cell="value", delimiter=",")
        checks.append((f"not isinstance(value, str) or {text}", f"a text, or has {defect}"))
    place = "/".join(str(key) for key in keys if isinstance(key, str)) or "value"
    for condition, expected in checks:
        refusal = f"has no {place} that is {expected}"
        yield from _compiled(
            "has_the_keys",
            *read,
            *lines,
            f"    if any({condition} for value in values):",
            f'        return f"{{file.name}} {refusal}"',
        )


_ON_PARQUET = {
    "nan": ("is_finite", "isinstance(value, float) and not math.isfinite(value)", "a number that is not finite"),
    "zero": ("is_not_zero", "value == 0", "0"),
    "empty-text": ("has_value", "not value", "no value"),
    "mixed-zones": ("has_no_zone", 'getattr(value, "tzinfo", None) is not None', "a time with a zone"),
    "no-zone": ("has_a_zone", "value is not None and value.tzinfo is None", "a time without a zone"),
}
"""Checks of values in Parquet files by label, as `_ON_CELLS`."""


def _parquet_functions(label: str, column: str, loop: str) -> Iterator[tuple[str, Guardrail]]:
    for kind in ("mixed-zones", "no-zone") if label == "mixed-zones" else (label,):
        name, condition, defect = _ON_PARQUET[kind]
        yield from _compiled(
            f"{column}_{name}" if column.isidentifier() else name,
            loop,
            "    try:",
            f"        values = pyarrow.parquet.read_table(file)[{column!r}].to_pylist()",
            "    except (KeyError, OSError, pyarrow.ArrowException):",
            f'        return f"{{file.name}} has no column {column}"',
            f"    if any({condition} for value in values):",
            f'        return f"{{file.name}} has {defect} in column {column}"',
        )


def _compiled(name: str, *body: str) -> Iterator[tuple[str, Guardrail]]:
    """Return a guardrail function of these lines, as code and as a rule."""
    head = "@guardrail", f"def {name}(workspace: Path) -> str | None:"
    text = "\n".join([*head, *(f"    {line}" for line in (*body, "return None"))])
    modules: dict[str, Any] = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
    if "pyarrow." in text:
        modules["pyarrow"] = sys.modules.get("pyarrow")  # the mutation has imported it
    names: dict[str, Any] = {"guardrail": guardrail, "Path": Path, **modules}
    try:
        exec(compile(text, f"<guardrail {name}>", "exec"), names)  # noqa: S102 - the text above, made here
    except (SyntaxError, TaskDefinitionError):  # a column has a name that the text cannot quote
        return
    yield text, names[name]
