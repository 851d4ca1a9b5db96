"""`require_table`: what it declares, what it finds in CSV, Parquet and JSON Lines, and what its messages say."""

from __future__ import annotations

import datetime
import decimal
import io
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perago import TaskDefinitionError, require_file, require_table
from perago.authoring.workspace import Guardrail, Listing
from perago.guardrails.evaluation import Finding, Phase, evaluate
from perago.guardrails.require_table import RequireTable
from perago.guardrails.tables import Checks, Keys, check_table
from perago.testing import oracle
from perago.testing.strategies import table_contents
from perago.workspace.scan import scan_tree

from ..workspace.building import write

PEOPLE = {"id": int, "name": str}


def problems(rule: RequireTable, content: str | bytes) -> list[str]:
    return check_table(io.BytesIO(content.encode() if isinstance(content, str) else content), rule.rule)


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink, row_group_size=2)
    return sink.getvalue()


def of(form: str, **options: Any) -> RequireTable:
    rule = require_table(f"t.{form}", **options)
    assert isinstance(rule, RequireTable)
    return rule


# ------------------------------------------------------------------------------------ messages

CSV: dict[str, tuple[dict[str, Any], str | bytes, list[str]]] = {
    "in order": ({"columns": PEOPLE, "min_rows": 1}, "id,name,more\n1,a,\n", []),
    "only a header": ({"columns": PEOPLE}, "id,name\n", []),
    "a byte order mark, CRLF, no last line end": ({"columns": PEOPLE}, b"\xef\xbb\xbfid,name\r\n1,a", []),
    "line ends in a name and in a value": ({"columns": {"two\nlines": int}}, '"two\nlines",b\n1,"x\ny"\n', []),
    "another delimiter": ({"columns": PEOPLE, "delimiter": ";"}, "id;name\n1;a\n", []),
    "empty": ({"columns": PEOPLE}, "", ["it is empty, and must have a header"]),
    "blank": ({}, "\n\n", ["it is empty, and must have a header"]),
    "no such column": ({"columns": PEOPLE}, "id,b\n1,a\n", ["column 'name' is missing"]),
    "other case": (
        {"columns": {"id": int}},
        "ID\n1\n",
        ["column 'id' is missing; one column differs only in case or blanks"],
    ),
    "other Unicode form": (
        {"columns": {"gr\u00f6\u00dfe": int}},
        "gro\u0308\u00dfe\n1\n",
        [
            "column 'gr\u00f6\u00dfe' is missing; one column looks the same but has a different Unicode form (NFC "
            "or NFD), "
            "so write both in one form"
        ],
    ),
    "a column twice": ({"columns": {"id": int}}, "id,id\n1,2\n", ["column 'id' occurs 2 times"]),
    "a column name with a line end": ({"columns": {"a\nb": int}}, "a\n1\n", ["column 'a\\nb' is missing"]),
    "wrong delimiter": (
        {"columns": PEOPLE},
        "id;name\n1;a\n",
        ["its columns seem to be separated by ';', not by ','; if that is intended, declare delimiter=';'"],
    ),
    "wrong type": (
        {"columns": PEOPLE},
        "id,name\n1,a\nx7,b\n,c\n",
        ["column 'id': the value in row 2 is not of type int"],
    ),
    "values shown": (
        {"columns": PEOPLE, "show_values": True},
        "id,name\n1,a\nx7,b\n",
        ["column 'id': the value in row 2 is not of type int: 'x7'"],
    ),
    "mixed types": (
        {"columns": {"x": float}},
        "x\n1\n2.5\n1e3\nnan\nyes\n",
        ["column 'x': the value in row 5 is not of type float"],
    ),
    "no such day": (
        {"columns": {"d": datetime.date}},
        "d\n2024-02-29\n2023-02-29\n",
        ["column 'd': the value in row 2 is not of type date"],
    ),
    "no value": ({"not_null": "id"}, 'id,b\n1,a\n"",a\n,a\n', ["column 'id' has no value in row 3"]),
    "too few rows": ({"min_rows": 2}, "a\n1\n", ["it has 1 row, but needs at least 2"]),
    "too many rows": ({"max_rows": 1}, "a\n1\n2\n3\n", ["it has 3 rows, but at most 1 are allowed"]),
    "a row twice": ({"unique": "id"}, "id,b\n1,a\n,\n,\n2,a\n1,b\n", ["column 'id': row 5 repeats an earlier one"]),
    "a pair twice": (
        {"unique": ["a", "b"]},
        "a,b\n1,1\n1,2\n1,1\n",
        ["columns 'a', 'b' together: row 3 repeats an earlier one"],
    ),
    "a short row": ({"columns": PEOPLE}, "id,name\n1,a\n2\n", ["row 2 has 1 field, not 2"]),
    "a long row": ({}, "id,name\n1,a\n2,b,c\n", ["row 2 has 3 fields, not 2"]),
    "not UTF-8": ({}, "id,name\n1,a\n2,é\n".encode("latin-1"), ["line 3 is not UTF-8"]),
    "a huge row": ({}, f"id\n1\n{'x' * 9_000_000}\n", ["a row after row 1 is longer than 4.0 MiB"]),
    "something else": ({}, b"PK\x03\x04\x00\x01\x02\xff\xfe\x00", ["line 1 is not UTF-8"]),
    "several": (
        {"columns": PEOPLE, "min_rows": 3, "not_null": "id"},
        "id\nx\n\n",
        [
            "column 'name' is missing",
            "column 'id': the value in row 1 is not of type int",
            "it has 1 row, but needs at least 3",
        ],
    ),
}


@pytest.mark.parametrize(("options", "content", "expected"), CSV.values(), ids=CSV)
def test_a_csv_table(options: dict[str, Any], content: str | bytes, expected: list[str]) -> None:
    assert problems(of("csv", **options), content) == expected


JSONL: dict[str, tuple[dict[str, Any], str | bytes, list[str]]] = {
    "in order": ({"columns": PEOPLE}, '{"id": 1, "name": "a"}\n\n{"id": 2, "other": [1]}\n', []),
    "empty": ({"columns": PEOPLE}, "", []),
    "wrong type": (
        {"columns": PEOPLE},
        '{"id": 1, "name": "a"}\n{"id": "x7", "name": "b"}\n',
        ["column 'id': the value in row 2 is not of type int"],
    ),
    "mixed types": (
        {"columns": {"x": float}},
        '{"x": 1}\n{"x": 1.5}\n{"x": true}\n',
        ["column 'x': the value in row 3 is not of type float"],
    ),
    "beyond 64 bits": ({"columns": {"x": int}}, '{"x": 99999999999999999999}\n', []),
    "numbers as text": ({"columns": {"x": decimal.Decimal}}, '{"x": "1.50"}\n{"x": 2}\n', []),
    "no such day": (
        {"columns": {"d": datetime.datetime}},
        '{"d": "2023-02-29"}\n',
        ["column 'd': the value in row 1 is not of type datetime"],
    ),
    "no such column": ({"columns": PEOPLE}, '{"id": 1}\n', ["column 'name' is missing: no row has a value for it"]),
    "no value": ({"not_null": ["id"]}, '{"id": 1}\n{"id": null}\n', ["column 'id' has no value in row 2"]),
    "a row twice": (
        {"columns": PEOPLE, "unique": "id"},
        '{"id": 1, "name": "a"}\n' * 2,
        ["column 'id': row 2 repeats an earlier one"],
    ),
    "no JSON": ({}, '{"id": 1}\n{"id": \n', ["row 2 is not JSON"]),
    "NaN": ({"columns": {"x": float}}, '{"x": NaN}\n', ["row 1 is not JSON"]),
    "no object": ({}, "[1, 2]\n", ["row 1 is not a JSON object"]),
    "not UTF-8": ({}, b'{"a": "\xe9"}\n', ["row 1 is not UTF-8"]),
    "a huge row": ({}, f'{{"a": "{"x" * 9_000_000}"}}\n', ["a row after row 0 is longer than 4.0 MiB"]),
    "a deep row": ({}, '{"a":' * 100_000, ["row 1 is not JSON"]),
}


@pytest.mark.parametrize(("options", "content", "expected"), JSONL.values(), ids=JSONL)
def test_a_table_of_json_lines(options: dict[str, Any], content: str | bytes, expected: list[str]) -> None:
    assert problems(of("jsonl", **options), content) == expected


GOOD = parquet(id=[1, 2, 3], name=["a", None, "c"])
PARQUET: dict[str, tuple[dict[str, Any], bytes, list[str]]] = {
    "in order": ({"columns": PEOPLE, "min_rows": 3, "max_rows": 3, "unique": "id", "not_null": "id"}, GOOD, []),
    "a dictionary": ({"columns": {"s": str}}, parquet(s=pa.array(["a", "a"]).dictionary_encode()), []),
    "wrong type": ({"columns": {"id": float}}, GOOD, ["column 'id' is int64, not float"]),
    "no such column": ({"columns": {"key": int}}, GOOD, ["column 'key' is missing"]),
    "no value": ({"not_null": "name"}, GOOD, ["column 'name' has no value in row 2"]),
    "no value in a list": ({"not_null": "l"}, parquet(l=[[1], [None], None]), ["column 'l' has no value in row 3"]),
    "a row twice": ({"unique": "id"}, parquet(id=[1, 2, 1, 2]), ["column 'id': row 3 repeats an earlier one"]),
    "too few rows": ({"min_rows": 4}, GOOD, ["it has 3 rows, but needs at least 4"]),
    "a broken footer": ({}, GOOD[:-6] + b"xxPAR1", ["it is not a Parquet file, or its footer is broken"]),
    "cut off": ({}, GOOD[: len(GOOD) // 2], ["it is not a Parquet file, or its footer is broken"]),
    "empty": ({}, b"", ["it is not a Parquet file, or its footer is broken"]),
    "broken data": ({"unique": "id"}, GOOD[:4] + b"\xff" * 60 + GOOD[64:], ["its data are broken after row 0"]),
}


@pytest.mark.parametrize(("options", "content", "expected"), PARQUET.values(), ids=PARQUET)
def test_a_parquet_table(options: dict[str, Any], content: bytes, expected: list[str]) -> None:
    assert problems(of("parquet", **options), content) == expected


def test_a_complete_footer_is_sufficient() -> None:
    """The data are broken, and no rule needs them."""
    broken = GOOD[:4] + b"\xff" * 60 + GOOD[64:]
    assert problems(of("parquet", columns=PEOPLE, min_rows=3, not_null="id"), broken) == []


# -------------------------------------------------------------------------- the slow second opinion

RULES: list[dict[str, Any]] = [
    {},
    {"columns": {"a": int}},
    {"columns": {"a": float, "b": str}, "not_null": ["a"]},
    {"columns": {"d": "date"}, "unique": "d"},
    {"columns": {"d": "datetime", "x": "decimal"}},
    {"columns": {"f": bool, "o": object}, "min_rows": 1, "max_rows": 3},
    {"columns": {"u": int}, "unique": ["u", "v"]},
    {"columns": {"s": str}, "unique": "s", "not_null": "s"},
]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("options", RULES, ids=str)
def test_it_agrees_with_a_slow_reading_of_tables_near_the_rule(form: str, options: dict[str, Any]) -> None:
    rule = of(form, **options)

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(table_contents(rule.rule))
    def agree(content: bytes) -> None:
        violations = problems(rule, content)
        assert (not violations) is oracle.is_table(rule.rule, content), violations

    agree()


@given(st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=60))
@settings(deadline=None, database=None, derandomize=True, max_examples=10)
def test_keys_in_files_are_the_same_as_keys_in_memory(numbers: list[int | None]) -> None:
    earlier: set[int] = set()
    repetition = None
    for row, key in enumerate(numbers):
        if key is not None and key in earlier and repetition is None:
            repetition = row
        earlier.add(-1 if key is None else key)
    for memory_limit in (0, 10**6):
        with closing(Keys(memory_limit=memory_limit)) as keys:
            for start in range(0, len(numbers), 7):
                keys.add([pa.array(numbers[start : start + 7], pa.int64())])
            assert keys.first_repetition() == repetition


def test_a_large_table_is_read_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    check_batch = Checks.batch

    def batch(self: Checks, columns: Any, rows: int) -> None:
        batches.append(rows)
        check_batch(self, columns, rows)

    monkeypatch.setattr(Checks, "batch", batch)
    rows = "".join(f"{number},name {number}\n" for number in range(300_000))
    assert problems(of("csv", columns=PEOPLE, unique="id", min_rows=300_000), f"id,name\n{rows}") == []
    assert len(batches) > 1
    assert sum(batches) == 300_000


# ------------------------------------------------------------------------------- the whole rule


def judged(root: Path, rule: Guardrail) -> Finding:
    scan = scan_tree(root)
    (finding,) = evaluate([rule], scan.listing, phase=Phase.PRE, disk=scan)
    return finding


def test_every_matching_file_is_looked_into_and_named(tree: Path) -> None:
    write(tree, {"raw/a.csv": "id\n1\n", "raw/x/b\n.csv": "id\nx\n", "raw/c.csv": "", "raw/d.txt": "id\nx\n"})
    finding = judged(tree, require_table("raw/**/*.csv", columns={"id": int}))
    assert (finding.satisfied, finding.matched) == (False, 3)
    assert finding.message == (
        "pre guardrail require_table('raw/**/*.csv'): 'raw/c.csv': it is empty, and must have a header; "
        "'raw/x/b\\n.csv': column 'id': the value in row 1 is not of type int"
    )


def test_a_message_names_some_of_many_files(tree: Path) -> None:
    write(tree, {f"{number:03}.csv": "" for number in range(200)})
    finding = judged(tree, require_table("*.csv"))
    assert finding.message.endswith("'010.csv': it is empty, and must have a header; further files were not read")


def test_no_file_at_all_is_decided_on_the_listing() -> None:
    (finding,) = evaluate([require_table("raw/*.csv")], Listing({"raw/a.CSV": 1}), phase=Phase.PRE)
    assert finding.message.endswith("matched 0 files; 'raw/a.CSV' differs only in case")


def test_a_file_that_became_a_link_in_the_meantime_is_not_followed(tree: Path, tmp_path: Path) -> None:
    write(tree, {"t.csv": "id\n1\n"})
    scan = scan_tree(tree)
    (tmp_path / "outside.csv").write_text("id\n1\n")
    (tree / "t.csv").unlink()
    (tree / "t.csv").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(OSError, match="symbolic links"):
        of("csv").evaluate_contents(scan)


def test_a_missing_library_is_a_defect_that_names_the_command(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree, {"a.csv": "id\n1\n"})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    finding = judged(tree, require_table("a.csv"))
    assert finding.is_defect
    assert finding.message.endswith("with pyarrow, which is not installed here: pip install 'pyarrow>=19'")


# ----------------------------------------------------------------------------- declarations

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "raw/*": ({}, "the pattern does not show the format of the tables"),
    "raw/**": ({}, "the pattern does not show the format of the tables"),
    "a.tsv": ({"format": "tsv"}, "format is 'tsv'"),
    "a.csv": ({"columns": ["id"]}, "columns is an object of type list, not a mapping"),
    "b.csv": ({"columns": {"id": "integer"}}, "column 'id' has the type 'integer'"),
    "c.csv": ({"columns": {"id": list}}, "column 'id' has the type 'list'"),
    "d.csv": ({"columns": {3: int}}, "the column name 3 is not a text"),
    "e.csv": ({"min_rows": -1}, "min_rows is -1, not a number of rows"),
    "f.csv": ({"min_rows": 3, "max_rows": 2}, "max_rows 2 is less than min_rows 3"),
    "g.csv": ({"unique": 3}, "unique is 3, not names of columns"),
    "h.csv": ({"not_null": [""]}, "not_null is [''], not names of columns"),
    "i.csv": ({"delimiter": ";;"}, "delimiter is ';;', not one character"),
    "j.csv": ({"schema": int}, "schema is an object of type type, not a model of pandera"),
    "k.csv": ({"columns": {"id": True}}, "column 'id' has the type True"),
}


@pytest.mark.parametrize("pattern", REFUSED)
def test_an_impossible_table_rule_is_an_error_at_the_line_of_the_author(pattern: str) -> None:
    options, problem = REFUSED[pattern]
    with pytest.raises(TaskDefinitionError) as caught:
        require_table(pattern, **options)
    assert caught.value.message.startswith(f"require_table({pattern!r}): ")
    assert problem in caught.value.message
    assert caught.value.file == __file__
    assert caught.value.fix


def test_a_declaration_is_data_and_is_written_as_declared() -> None:
    rule = require_table(
        "raw/*.txt",
        columns={"id": int, "day": datetime.date, "x": object},
        min_rows=1,
        max_rows=9,
        unique="id",
        not_null=("id", "day"),
        format="csv",
        delimiter="\t",
        show_values=True,
    )
    assert str(rule) == (
        "require_table('raw/*.txt', columns={'id': int, 'day': 'date', 'x': object}, min_rows=1, max_rows=9, "
        "unique=['id'], not_null=['id', 'day'], format='csv', delimiter='\\t', show_values=True)"
    )
    assert eval(str(rule), {"require_table": require_table}) == rule
    assert rule.label == "require_table(raw/*.txt)"


def test_a_missing_table_names_the_tables_that_are_there() -> None:
    listing = Listing({"out.csv": 1, "notes.txt": 1})
    (finding,) = evaluate([require_table("by_shop.csv")], listing, phase=Phase.POST)
    assert finding.message.endswith("matched 0 files; there is 'out.csv'")
    listing = Listing({f"{letter}.csv": 1 for letter in "abcdefghijkl"})
    (finding,) = evaluate([require_file("totals.csv")], listing, phase=Phase.POST)
    assert "there are 'a.csv', 'b.csv'" in finding.message
