"""Kind `robust`: the mutation that finds each mistake, no alarm about sound functions, ways to accept a finding."""

from __future__ import annotations

import gzip
import os
import re
import signal
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from perago import require_glob, require_table
from pytest_perago.kinds.robust import attacks, remedies
from pytest_perago.kinds.robust.mutations import CATALOG, apply, mutations_of
from pytest_perago.kinds.robust.table_mutations import Csv

from .projects import add_module, collected, fork, run, run_process
from .robust_tasks import PAIR, PLANTED, SOUND, Planted, write_tasks

ROBUST = ("--perago-modules", "work", "--perago-kinds", "robust", "-o", "perago_robust_seconds=600")
"""The seconds are a net for slow functions. No test but that of the budget may depend on how busy the machine is."""
FILES = (*ROBUST, "-k", "files")
ROUTINE = (*FILES, "-o", "perago_robust_level=1")
ONE = {"one file": PLANTED["one file"]}

TREE = {
    "raw/a.csv": b"id,name,value\n1,ann,1.5\n2,bob,2.5\n",
    "raw/b.csv": b"id,name,value\n3,cem,0.5\n",
    "raw/c.csv": b"id,name,value\n4,dan,0.5\n",
    "config.json": b'{"a": 1, "b": [{"c": "x"}], "d": 0.5, "e": "2024-01-01T10:00:00"}\n',
    "lines.jsonl": b'{"a": 1}\n{"a": 2}\n',
    "notes.txt": b"a\nb\nc\n",
    "image.png": b"\x89PNG....",
}


def blocks(result: pytest.RunResult) -> dict[str, str]:
    """The failures by the names of their tasks."""
    parts = re.split(r"^_+ \[perago\] ([\w-]+) robust\[\w+\] _+$", result.stdout.str(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_mistake_gets_a_verified_fix_and_sound_functions_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attacks, "_LEAST_LIMIT", 3.0)
    names = write_tasks(pytester, {**PLANTED, **SOUND})
    result = run(pytester, *ROBUST, "-k", "files or window-of-zero")
    failed = blocks(result)
    assert set(failed) == {names[title] for title in PLANTED}
    for title, planted in PLANTED.items():
        text = failed[names[title]]
        first = text.partition("\n--- ")[2].partition("\n--- ")[0]
        assert f"case 'two' with {planted.label}: " in first, title
        assert planted.fix in first, title
        assert "advice  handle it" not in first or "  or      refuse it, and legal files, too: " in first, title
        assert "/dev/shm" not in text, title
    assert "  or      refuse it, and legal files, too: quoted-delimiter, " in failed["split-by-commas"]
    assert "  advice  handle it: read the file with `csv`" in failed["split-by-commas"]
    lost = failed["rows-lost-silently"]
    assert "the result changes without an error: /value was 2.0, is 0.0" in lost
    assert 'accept  perago_skip = ["rows-lost-silently::robust[files:crlf]: ' in lost
    assert "pre guardrail readable: raised UnicodeDecodeError" in failed["rule-that-raises"]
    assert "advice  catch the exception in the guardrail" in failed["rule-that-raises"]
    assert result.parseoutcomes()["failed"] == len(PLANTED)


def test_a_guardrail_is_not_blamed_for_a_file_that_a_sibling_refuses(pytester: pytest.Pytester) -> None:
    rule = (
        "@guardrail\ndef everybody_has_a_name(workspace: Path) -> str | None:\n"
        "    for table in workspace.glob('raw/*.csv'):\n"
        "        for row in rows_of(table):\n            row['name'].strip()"
    )
    pre = "everybody_has_a_name, require_table('raw/*.csv', columns={'name': str}, min_rows=1, not_null=['name'])"
    write_tasks(pytester, {"sibling": Planted("return Result()", before=rule, pre=pre)})
    run(pytester, *FILES).assert_outcomes(passed=1, deselected=2)
    write_tasks(pytester, {"sibling": Planted("return Result()", before=rule, pre="everybody_has_a_name")})
    assert "an exception is retried" in blocks(run(pytester, *FILES))["sibling"]


def test_a_declared_guardrail_that_raises_does_not_prevent_other_fixes(pytester: pytest.Pytester) -> None:
    rule = (
        "@guardrail\ndef everybody_has_an_id(workspace: Path) -> str | None:\n"
        "    for row in rows_of(workspace / 'raw' / 'a.csv'):\n        row['id'].strip()"
    )
    pre = "require_table('raw/a.csv', columns={'value': float}, not_null=['value']), everybody_has_an_id"
    body = "return Result(value=sum(1 for _ in rows_of(tables[0])) / len(rows_of(tables[0])))"
    write_tasks(pytester, {"mean": Planted(body, before=rule, pre=pre)})
    findings = blocks(run(pytester, *FILES))["mean"].split("\n--- ")
    (division,) = (text for text in findings if text.startswith("ZeroDivisionError"))
    assert "  fix     refuse it" in division
    assert "add min_rows=1 to require_table('raw/a.csv'" in division


def test_the_order_of_directory_listings_must_not_matter(pytester: pytest.Pytester) -> None:
    tasks = {
        "first": Planted("tables = list(workspace.glob('raw/*.csv'))\nreturn Result(value=len(rows_of(tables[0])))"),
        "rows": Planted("return Result(value=','.join(row['id'] for row in rows_of(tables[0], 'utf-8-sig')))"),
    }
    wide = "require_glob('raw/*.csv'), require_table('raw/*.csv', columns={'id': str}, not_null=['id'])"
    names = write_tasks(pytester, {title: replace(task, pre=wide) for title, task in tasks.items()})
    failed = blocks(run(pytester, *FILES))
    text = failed[names["first"]]
    assert "the output depends on the order in which directories are listed" in text
    assert "there is a second file, 'raw/a-2.csv'" in text
    assert "handle it: sort what glob, iterdir, listdir and scandir return" in text
    assert "directories are listed" not in failed.get(names["rows"], "")


def test_a_proposed_rule_has_the_limits_of_the_declared_one() -> None:
    declared = require_table("a.csv", columns={"id": int}, min_rows=1, not_null=["id"])
    wider = require_table("a.csv", columns={"x": float}, min_rows=2)
    change = remedies._as_change((require_glob("*.txt"), declared), wider)
    assert change is not None
    code = str(change).removeprefix(f"in place of {declared}: ")
    assert str(eval(code, {"require_table": require_table})) == str(change.rules[1])
    assert str(change.rules[1]) == (
        "require_table('a.csv', columns={'x': float, 'id': int}, min_rows=2, not_null=['id'])"
    )
    assert remedies._as_change((declared,), require_table("a.csv")) is None
    narrowed = remedies._as_change((require_glob("*.csv", max_count=3),), require_glob("*.csv", min_count=2))
    assert narrowed is not None
    assert str(narrowed.rules[0]) == "require_glob('*.csv', min_count=2, max_count=3)"


def test_the_least_that_the_guardrails_allow_is_tried(pytester: pytest.Pytester) -> None:
    body = "first, second = (rows_of(each)[0] for each in tables[:2])\nreturn Result(value=first['id'])"
    rules = "require_table('raw/*.csv', columns={'id': int}, min_rows=1)"
    write_tasks(pytester, {"two": Planted(body, pre=f"require_glob('raw/*.csv'), {rules}", tree="TWO")})
    text = blocks(run(pytester, *FILES))["two"]
    assert "smallest-tree" in text
    file = pytester.path / "work" / "m00.py"
    file.write_text(file.read_text().replace("tree=TWO)", "tree={}, expect='pre')"))
    run(pytester, *FILES).assert_outcomes(skipped=1, deselected=2)  # it does not complete there
    file.write_text(file.read_text().replace("tables[:2])", "[tables[0]] * 2)"))
    result = run(pytester, *FILES)
    assert "case 'smallest tree' with bom" in result.stdout.str()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="crashes are confirmed in a copy of the process")
def test_an_input_that_ends_the_process_is_named_by_the_next_run(pytester: pytest.Pytester) -> None:
    crash = "os.kill(os.getpid(), signal.SIGSEGV)"
    body = f"if tables[0].read_bytes().startswith(b'\\xef'):\n    {crash}\nreturn Result()"
    write_tasks(pytester, {"crash": Planted(body)})
    quiet = ("-p", "no:conductor-agents-testing", "-p", "no:hypothesispytest", "-p", "no:anyio")
    arguments = (*quiet, "-p", "no:faulthandler", *FILES)
    assert fork(pytester, *arguments).ret == -signal.SIGSEGV
    for _ in range(2):  # the note stays as long as the input crashes
        result = fork(pytester, *arguments)
        result.assert_outcomes(failed=1, deselected=2)
        result.stdout.fnmatch_lines(
            ["--- the function ends the process (SIGSEGV)", "  input   case 'two' with bom: *", "*no_byte_order_mark*"]
        )
    file = pytester.path / "work" / "m00.py"
    file.write_text(file.read_text().replace(crash, "pass"))
    fork(pytester, *arguments).assert_outcomes(passed=1, deselected=2)
    assert list(pytester.path.glob(".pytest_cache/d/perago/*")) == []


def test_it_is_opt_in(pytester: pytest.Pytester) -> None:
    add_module(pytester, "work", "add")
    result = run(pytester, "--perago-modules", "work", "-o", "perago_kinds=", "-m", "perago_run or perago_robust")
    result.assert_outcomes(
        passed=1, deselected=len(collected(pytester, "--perago-modules=work", "-o", "perago_kinds=")) - 1
    )


def test_a_failure_that_needs_two_mutations_is_found_by_the_search(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tasks(pytester, {"pair": PAIR})
    result = run(pytester, *ROBUST, "-k", "files or search")
    result.assert_outcomes(passed=1, failed=1, deselected=1)
    block = blocks(result)["pair"]
    assert "LookupError" in block
    assert len(re.findall(r"with ([\w-]+ \+ [\w-]+): ", block)) == 1
    monkeypatch.setenv("CI", "true")
    run(pytester, *ROBUST, "-k", "search").assert_outcomes(skipped=1, deselected=2)


def test_the_search_leaves_out_what_a_single_mutation_causes(pytester: pytest.Pytester) -> None:
    body = "return Result(value=str([float(row['value']) for table in tables for row in rows_of(table, 'utf-8-sig')]))"
    rule = "require_table('raw/*.csv', columns={'id': int, 'name': str, 'value': float}, min_rows=1)"
    write_tasks(pytester, {"single": Planted(body, pre=rule)})
    run(pytester, *ROBUST, "-k", "files or search").assert_outcomes(failed=1, passed=1, deselected=1)


def test_a_combination_describes_the_places_that_it_changed(pytester: pytest.Pytester) -> None:
    body = (
        "text = (workspace / 'a.json').read_text('utf-8-sig', errors='ignore').replace('\\0', '')\n"
        "found = json.loads(text or '{}')\n"
        "if isinstance(found, dict) and found.get('a') == '' and found.get('b', 'y') != 'y':\n    raise LookupError\n"
        "return Result()"
    )
    write_tasks(pytester, {"places": Planted(body, pre="", tree='{\'a.json\': \'{"a": "x", "b": "y"}\\n\'}')})
    text = blocks(run(pytester, *ROBUST, "-k", "search"))["places"]
    first, then = re.findall(r" at (\w);? ?", text.partition("  input ")[2].partition("\n")[0])
    assert {first, then} == {"a", "b"}


def test_the_budget_is_always_reported_and_its_end_is_not_a_failure(pytester: pytest.Pytester) -> None:
    names = write_tasks(pytester, {"reads with care": SOUND["reads with care"]})
    result = run(pytester, *ROUTINE)
    line = next(line for line in result.outlines if "inputs made" in line)
    assert re.fullmatch(
        rf".*::{names['reads with care']}::robust\[files\]: \d+ inputs made, \d+ refused .* guardrails, \d+ tried", line
    )
    result = run(pytester, *ROUTINE, "-o", "perago_robust_seconds=0.000001")
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["*stopped after 0 of *: 1e-06 s have passed (perago_robust_seconds)"])


def test_runs_with_other_hashes_another_order_and_workers_report_the_same(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tasks(pytester, {**ONE, "split by commas": PLANTED["split by commas"]})
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    more = ("--perago-modules", "work.m01,work.m00", "-p", "xdist", "-n", "2")
    again = run_process(pytester, *ROUTINE, *more)
    first = run(pytester, *ROUTINE)
    texts = [
        {name: text[text.index("mistake") : text.index("accept all")] for name, text in blocks(result).items()}
        for result in (first, again)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 2


def test_a_mutation_is_opted_out_of_with_a_reason(pytester: pytest.Pytester) -> None:
    write_tasks(pytester, ONE)
    skip = "perago_skip=one-file::robust[files:second-file]: there is one\none-file::robust[files:foreign-*]: none"
    result = run(pytester, *ROUTINE, "-o", skip)
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["*perago opt-outs*", "*robust[[]files]: second-file: there is one"])


def test_findings_are_accepted_in_a_file_with_reasons(pytester: pytest.Pytester) -> None:
    write_tasks(pytester, ONE)
    file = pytester.path / "tests/perago_robust/one-file.files.toml"
    run(pytester, *ROUTINE, "--perago-update=new").assert_outcomes(passed=1, deselected=2)
    written = file.read_text()
    assert 'label = "second-file"' in written
    result = run(pytester, *ROUTINE)
    result.assert_outcomes(failed=1, deselected=2)
    assert "accepted finding 1 has no reason" in result.stdout.str()
    file.write_text(written.replace('reason = ""', 'reason = "there is one file"'))
    result = run(pytester, *ROUTINE)
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["*1 accepted in tests/perago_robust/one-file.files.toml"])
    file.write_text(
        file.read_text() + 'expires = "2020-01-01"\n[[accepted]]\nkey = "KeyError in x: y"\nreason = "old"\n'
    )
    result = run(pytester, *ROUTINE)
    result.assert_outcomes(failed=1, deselected=2)
    assert "accepts a finding that no longer happens: KeyError in x: y" in result.stdout.str()


def test_the_printed_example_of_a_violated_post_guardrail_accepts_it(pytester: pytest.Pytester) -> None:
    body = "if rows_of(tables[0], 'utf-8-sig'):\n    (workspace / 'out.txt').write_text('1')\nreturn Result()"
    rules = "require_table('raw/*.csv', columns={'id': int})], post=[require_file('out.txt')"
    write_tasks(pytester, {"rows": Planted(body, pre=rules)})
    printed = re.findall(r"accept  (Example\(.*?expect=.*?\))\n", run(pytester, *FILES).stdout.str(), re.DOTALL)
    file = pytester.path / "work" / "m00.py"
    file.write_text(file.read_text().replace("examples=[", f"examples=[{', '.join(printed)}, "))
    result = run(pytester, "--perago-modules", "work", "--perago-kinds", "robust,run", "-k", "files or run")
    result.assert_outcomes(passed=len(printed) + 2, deselected=2)


def test_a_task_needs_a_case_that_completes_and_a_recorded_one_will_do(pytester: pytest.Pytester) -> None:
    write_tasks(pytester, {"none": SOUND["strict rule"]})
    file = pytester.path / "work" / "m00.py"
    file.write_text(file.read_text().replace("tree=ONE)", "tree=TWO, expect='pre')"))
    run(pytester, *ROBUST).assert_outcomes(skipped=3)
    recorded = pytester.path / "tests/perago_cases/none/recorded"
    (recorded / "input/raw").mkdir(parents=True)
    (recorded / "input/raw/a.csv").write_text("id,name,value\n1,ann,1.5\n2,bob,2.5\n")
    (recorded / "case.json").write_text('{"params": {}, "expect": "completed"}')
    run(pytester, *FILES).assert_outcomes(passed=1, deselected=2)


def test_every_mutation_changes_the_tree_and_gives_the_same_each_time() -> None:
    mutations = mutations_of(TREE, 3)
    assert {mutation.label for mutation in mutations} >= set(CATALOG) - PARQUET_ONLY
    for mutation in mutations:
        change = apply(TREE, mutation)
        assert change is not None
        assert change.applied(TREE) != TREE
        assert change == apply(TREE, mutation)


PARQUET_ONLY = {"zero-rows", "nulls", "int-nulls", "null-type", "narrow", "dictionary", "large-string", "row-groups"}


@pytest.mark.parametrize(
    ("rows", "labels"),
    [(2, PARQUET_ONLY | {"mixed-zones"}), (0, {"null-type", "narrow", "extra-column", "missing-column"})],
)
def test_parquet_mutations_are_valid_tables(rows: int, labels: set[str]) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    target = arrow.BufferOutputStream()
    times = arrow.array([0, 1], arrow.timestamp("us", tz="UTC"))
    table = arrow.table({"id": [1, 2], "value": [0.5, 1.5], "name": ["a", "b"], "at": times})
    parquet.write_table(table.slice(0, rows), target)
    tree = {"a.parquet": target.getvalue().to_pybytes()}
    mutations = [mutation for mutation in mutations_of(tree, 1) if mutation.label != "empty-file"]
    assert {mutation.label for mutation in mutations} >= labels
    for mutation in mutations:
        change = apply(tree, mutation)
        assert change is not None
        for path, content in change.files.items():
            if content is not None and path.endswith(".parquet") and "._" not in path:
                changed = parquet.read_table(arrow.BufferReader(content))
                assert mutation.label != "mixed-zones" or changed.schema.field("at").type.tz is None


def test_a_changed_cell_leaves_the_other_lines_of_a_table_as_they_are(tmp_path: Path) -> None:
    table = Csv("a.csv", b'id;name\r\n1;"a;b"\r\n2;c\r\n')
    assert (table.header, table.rows) == (["id", "name"], [["1", "a;b"], ["2", "c"]])
    assert table.with_row("", 1, ["2", "x"]).files == {"a.csv": b'id;name\r\n1;"a;b"\r\n2;x\r\n'}


def paste(file: Path, finding: str) -> list[str]:
    """Paste the fix of a finding as an author does. Return the names of its guardrails."""
    head, _, code = finding.partition("  fix     ")[2].partition("\n  or  ")[0].partition("\n")
    names = head.partition("pre=[..., ")[2].removesuffix("]")
    text = file.read_text().replace("@task(", f"{textwrap.dedent(code)}\n\n@task(", 1)
    file.write_text(text.replace("pre=[", f"pre=[{names}, ", 1))
    return names.split(", ")


def test_a_pasted_guardrail_removes_its_finding(pytester: pytest.Pytester) -> None:
    """It has the imports that the module lacks, no others, and a name that is free there."""
    names = write_tasks(pytester, {"not a number": PLANTED["not a number"]})
    file = pytester.path / "work" / "m00.py"
    text = file.read_text().replace("import csv, datetime, hashlib, itertools, json, math", "import csv")
    file.write_text(text.replace("@task(", "value_is_finite = 1\n\n@task(", 1))
    finding = blocks(run(pytester, *FILES))[names["not a number"]]
    assert paste(file, finding) == ["value_is_finite_2"]
    assert re.findall("(?:import|from) .*", finding.partition("  fix     ")[2]) == ["import math"]
    run(pytester, *FILES).assert_outcomes(passed=1, deselected=2)


@pytest.mark.parametrize(
    ("tree", "body", "failure"),
    [
        (
            '{\'e.jsonl\': \'{"user": {"age": 30}}\\n{"user": {"age": 41}}\\n\'}',
            "lines = (workspace / 'e.jsonl').read_text('utf-8-sig').splitlines()\n"
            "rows = map(json.loads, filter(None, lines))\n"
            "return Result(value=sum(row['user']['age'] for row in rows))",
            "TypeError: unsupported operand type(s) for +: 'int' and 'NoneType'",
        ),
        (
            "{'c.json': '{\"scale\": {\"factor\": 2.0}}\\n'}",
            "return Result(value=1 / json.loads((workspace / 'c.json').read_text('utf-8-sig'))['scale']['factor'])",
            "ZeroDivisionError",
        ),
        (
            "{'m.parquet': PARQUET}",
            "import pyarrow.parquet\nrows = pyarrow.parquet.read_table(workspace / 'm.parquet').to_pylist()\n"
            "return Result(value=math.floor(sum(row['value'] for row in rows)))",
            "ValueError: cannot convert float NaN to integer",
        ),
    ],
    ids=["JSON Lines", "JSON", "Parquet"],
)
def test_a_pasted_fix_of_a_document_or_of_parquet_removes_its_finding(
    pytester: pytest.Pytester, tree: str, body: str, failure: str
) -> None:
    before = (
        "import io, pyarrow, pyarrow.parquet\nTABLE = io.BytesIO()\n"
        "pyarrow.parquet.write_table(pyarrow.table({'value': [1.5, 2.5]}), TABLE)\nPARQUET = TABLE.getvalue()\n"
    )
    write_tasks(pytester, {"nested": Planted(body, pre="", tree=tree, before=before)})
    findings = blocks(run(pytester, *FILES))["nested"].split("\n--- ")
    (finding,) = (text for text in findings if text.startswith(failure))
    paste(pytester.path / "work" / "m00.py", finding)
    assert f"--- {failure}" not in blocks(run(pytester, *FILES)).get("nested", "")


def test_a_function_of_several_fixes_is_printed_once(pytester: pytest.Pytester) -> None:
    body = (
        "values = [float(row['value']) for row in rows_of(tables[0], 'utf-8-sig')]\n"
        "if any(math.isnan(value) for value in values):\n    raise KeyError('nan')\n"
        "if any(math.isinf(value) for value in values):\n    raise IndexError('inf')\nreturn Result()"
    )
    write_tasks(pytester, {"finite": Planted(body)})
    block = blocks(run(pytester, *FILES))["finite"]
    assert block.count("pre=[..., value_is_finite]") == 2
    assert block.count("with the function of an earlier fix") == 1
    assert block.count("def value_is_finite") == 1


def test_an_accepted_example_covers_a_guardrail_that_raises(pytester: pytest.Pytester) -> None:
    rule = "@guardrail\ndef has_ids(workspace: Path) -> str | None:\n    for file in workspace.glob('raw/*.csv'):\n"
    rule += "        [row['id'] for row in rows_of(file, 'utf-8-sig')]\n    return None\n\n"
    write_tasks(pytester, {"ids": Planted("return Result()", pre="has_ids", before=rule)})
    file = pytester.path / "work" / "m00.py"
    findings = blocks(run(pytester, *FILES))["ids"].split("\n--- ")
    (raised,) = (text for text in findings if "KeyError" in text and "guardrail" in text.partition("\n")[0])
    example = textwrap.dedent(raised.partition("  accept  ")[2].partition('expect="failed")')[0] + 'expect="failed")')
    file.write_text(file.read_text().replace("examples=[", f"examples=[{example}, ", 1))
    assert "KeyError: 'id'" not in blocks(run(pytester, *FILES)).get("ids", "")


def test_a_fix_of_two_guardrails_gives_them_two_names(pytester: pytest.Pytester) -> None:
    body = "rates = json.loads((workspace / 'a.json').read_bytes())\nreturn Result(value=rates['a'] * 1.5 + rates['b'])"
    write_tasks(pytester, {"rates": Planted(body, pre="", tree="{'a.json': '{\"a\": 1.0, \"b\": 2.0}\\n'}")})
    findings = blocks(run(pytester, *FILES))["rates"].split("\n--- ")
    fixes = [names for text in findings if len(names := re.findall(r"def (has_the_keys\w*)", text)) > 1]
    assert fixes == [["has_the_keys", "has_the_keys_2"]] * len(fixes)
    assert fixes


def test_a_fix_for_a_missing_key_accepts_an_empty_list(pytester: pytest.Pytester) -> None:
    body = "return Result(value=len(json.loads((workspace / 'a.json').read_bytes())['ids']))"
    write_tasks(pytester, {"ids": Planted(body, pre="", tree="{'a.json': '{\"ids\": [\"001\"]}\\n'}")})
    findings = blocks(run(pytester, *FILES))["ids"].split("\n--- ")
    (missing,) = (text for text in findings if text.startswith("KeyError: 'ids'"))
    assert "if any(not isinstance(value, list) for value in values):\n" in missing


def test_a_fix_imports_what_its_code_uses(pytester: pytest.Pytester) -> None:
    body = "import gzip\nfor file in sorted(workspace.glob('*.csv.gz')):\n    gzip.decompress(file.read_bytes())"
    packed = gzip.compress(b"1", mtime=0)
    tree = repr({"a.csv.gz": packed, "b.csv.gz": packed})
    write_tasks(pytester, {"unpack": Planted(f"{body}\nreturn Result()", pre="", tree=tree)})
    block = blocks(run(pytester, *FILES))["unpack"]
    assert "import gzip\n          import zlib\n\n" in block
    assert "import csv" not in block


def test_a_fix_of_the_search_leaves_no_other_cause(pytester: pytest.Pytester) -> None:
    body = (
        "values = [float(row['value']) for row in rows_of(tables[0], 'utf-8-sig')]\n"
        "is_bad = any(not 0 < value < math.inf for value in values)\n"
        "return Result(value=1 / (1 - (is_bad and b'\\r' in tables[0].read_bytes())))"
    )
    write_tasks(pytester, {"mean-of-onea": Planted(body)})
    finding = blocks(run(pytester, *ROBUST, "-k", "search"))["mean-of-onea"]
    assert finding.count("\n--- ") == 1
    assert len(paste(pytester.path / "work" / "m00.py", finding)) > 1
    run(pytester, *ROBUST, "-k", "search").assert_outcomes(passed=1, deselected=2)


def test_a_list_of_bad_texts_is_no_fix_for_an_unknown_text(pytester: pytest.Pytester) -> None:
    body = "limits = {'ann': 1, 'bob': 2}\nreturn Result(value=sum(limits[row['name']] for row in rows_of(tables[0])))"
    write_tasks(pytester, {"limits": Planted(body.replace("tables[0]", "tables[0], 'utf-8-sig'"))})
    findings = blocks(run(pytester, *FILES))["limits"].split("\n--- ")
    (unknown,) = (text for text in findings if text.startswith("KeyError: 'nna'"))
    assert "  tried   " in unknown
    assert "other changes: other-text is still accepted" in unknown
    assert "  advice  handle it: test whether the function knows the text" in unknown


def test_a_finding_without_a_fix_says_what_was_tried(pytester: pytest.Pytester) -> None:
    body = "names = [path.name for path in workspace.iterdir()]\nreturn Result(value={'a.txt': 1}[names[0]])"
    write_tasks(pytester, {"first": Planted(body, pre="", tree="{'a.txt': 'x', 'b.txt': 'y'}")})
    unordered, missing = blocks(run(pytester, *FILES))["first"].split("\n--- ")[1:]
    assert all(("  fix     " in text) != ("  tried   " in text) for text in (unordered, missing))
    assert "  tried   perago has no guardrail to propose for the order of directories" in unordered
