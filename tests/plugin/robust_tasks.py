"""Task functions that fail on an input which their guardrails accept, and ones that tolerate all such inputs.

Each is the body of a function `work(workspace, params)`, which also has `tables`, the sorted CSV files in `raw`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import pytest

from .projects import write_module

_HEAD = """
import csv, datetime, hashlib, itertools, json, math, os, random, signal, time, uuid
from pathlib import Path
from pydantic import BaseModel, Field
from perago import Example, TaskTerminalError, WorkspaceSpec, guardrail, require_file, require_glob, require_table, task

ONE = {{"raw/a.csv": "id,name,value\\n1,ann,1.5\\n2,bob,2.5\\n"}}
TWO = {{**ONE, "raw/b.csv": "id,name,value\\n3,cem,0.5\\n4,dan,4.5\\n"}}

class Params(BaseModel):
    window: int = Field(default=1, ge={least})
    names: list[str] = Field(default=["ann"], min_length=1)

class Result(BaseModel):
    value: float | str = ""

def rows_of(table, encoding="utf-8"):
    with table.open(newline="", encoding=encoding) as lines:
        return list(csv.DictReader(lines))

{before}

@task(
    name={name!r},
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[{pre}]),
    examples=[{examples}],
)
def work(workspace: Path, params: Params) -> Result:
    tables = sorted(workspace.glob("raw/*.csv"))
{body}
"""

_FULL = (
    "require_glob('raw/*.csv', max_count=2), "
    "require_table('raw/*.csv', columns={'id': int, 'name': str, 'value': float}, min_rows=1, unique='id', "
    "not_null=['id', 'name', 'value'])"
)
_EXAMPLE = "Example(id='two', params={{}}, tree={tree})"


@dataclass(frozen=True, slots=True)
class Planted:
    """A task with one mistake. `label` names a mutation that finds it, `fix` is a part of the proposed guardrail."""

    body: str
    label: str = ""
    fix: str = ""
    pre: str = _FULL
    tree: str = "ONE"
    before: str = ""
    least: int = 1
    examples: str = ""


PLANTED: dict[str, Planted] = {
    "mean of nothing": Planted(
        "values = [float(row['value']) for row in rows_of(tables[0], 'utf-8-sig')]\n"
        "return Result(value=math.fsum(value for value in values if math.isfinite(value)) / len(values))",
        "header-only",
        "min_rows=1",
        pre="require_glob('raw/*.csv'), require_table('raw/*.csv', columns={'value': float}, not_null=['value'])",
    ),
    "byte order mark": Planted(
        "return Result(value=','.join(row['id'] for row in rows_of(tables[0])))",
        "bom",
        "def no_byte_order_mark(",
    ),
    "split by commas": Planted(
        "for line in tables[0].read_text(encoding='utf-8-sig').splitlines():\n"
        "    if line and not line.startswith('\"') and '\"' not in line.partition(',')[0]:\n"
        "        id, name, value, *_ = line.split(',')\n"
        "        if '\"' in name:\n            raise ValueError(name)\n"
        "return Result()",
        "quoted-delimiter",
        "def has_no_quotes(",
    ),
    "one file": Planted(
        "[table] = tables\nreturn Result(value=table.name)",
        "second-file",
        "max_count=1",
        pre="require_glob('raw/*.csv')",
    ),
    "undeclared file": Planted(
        "return Result(value=json.loads((workspace / 'config.json').read_text('utf-8-sig')).get('a', 0) is None)",
        "optional-file-gone",
        "require_file('config.json')",
        tree="{**ONE, 'config.json': '{\"a\": 1}\\n'}",
    ),
    "times with and without a zone": Planted(
        "times = [datetime.datetime.fromisoformat(row['at']) for row in rows_of(tables[0], 'utf-8-sig')]\n"
        "return Result(value=str(max(times).hour))",
        "mixed-zones",
        "def at_has_no_zone(",
        pre="require_table('raw/*.csv', columns={'at': datetime.datetime}, min_rows=1, not_null=['at'])",
        tree="{'raw/a.csv': 'id,at\\n1,2026-01-31T10:00:00\\n2,2026-01-31T11:00:00\\n'}",
    ),
    "not a number": Planted(
        "return Result(value=sum(float(row['value']) for row in rows_of(tables[0], 'utf-8-sig')))",
        "nan",
        "def value_is_finite(",
    ),
    "waits for a sentinel": Planted(
        "text = tables[0].read_text(encoding='utf-8-sig').replace('\"', '')\nposition = 0\n"
        "while not text.endswith('\\n'):\n    position += 1\nreturn Result()",
        "no-final-newline",
        "def ends_with_newline(",
    ),
    "file named after a cell": Planted(
        "(workspace / 'out').mkdir(exist_ok=True)\n"
        "for row in rows_of(tables[0]):\n"
        "    name = ''.join(each for each in row['name'] or 'none' if each.isalnum() or each in './')[:50]\n"
        "    if name.strip('.'):\n        (workspace / 'out' / f'{name}.txt').write_text('1')\nreturn Result()",
        "slash-in-text",
        "def name_is_a_name(",
    ),
    "rule that raises": Planted(
        "return Result()",
        "latin1",
        pre="readable",
        before="@guardrail\ndef readable(workspace: Path) -> str | None:\n"
        "    for table in workspace.glob('raw/*.csv'):\n"
        "        if table.is_file() and not table.read_text(encoding='utf-8'):\n            return 'empty'\n"
        "    return None",
    ),
    "empty note": Planted(
        "return Result(value=(workspace / 'note.txt').read_text(errors='replace').splitlines()[0])",
        "empty-file",
        "in place of require_file('note.txt'): require_file('note.txt', min_bytes=1)",
        pre="require_file('note.txt')",
        tree="{'note.txt': 'a\\nb\\n'}",
    ),
    "same name in two directories": Planted(
        "names = [each.name for each in workspace.glob('**/*.bin')]\n"
        "return Result(value=1 / (len(set(names)) == len(names)))",
        "sub-directory",
        "def has_unique_names(",
        pre="require_glob('**/*.bin')",
        tree="{'a/b.bin': 'x', 'a/x/c.bin': 'y'}",
    ),
    "parts of a name": Planted(
        "values = [each.stem.split('_')[1] for each in workspace.glob('in/*.bin')]\nreturn Result(value=values[0])",
        "odd-name",
        "def has_plain_names(",
        pre="require_glob('in/*.bin')",
        tree="{'in/a_1.bin': 'x'}",
    ),
    "gzip that ends early": Planted(
        "import gzip\nreturn Result(value=str(gzip.decompress((workspace / 'a.gz').read_bytes())))",
        "cut-half",
        "def is_gzip(",
        pre="require_file('a.gz', min_bytes=1)",
        tree="{'a.gz': __import__('gzip').compress(b'x' * 9)}",
    ),
    "line without the key": Planted(
        "rows = [json.loads(line) for line in (workspace / 'a.jsonl').read_text('utf-8-sig').splitlines() if line]\n"
        "return Result(value=str([row['kind'] for row in rows]))",
        "missing-key",
        "add not_null=['kind'] to require_table('a.jsonl'",
        pre="require_table('a.jsonl', columns={'kind': str}, min_rows=1)",
        tree="{'a.jsonl': '{\"kind\": \"x\"}\\n' * 2}",
    ),
    "logarithm": Planted(
        "rows = [json.loads(line) for line in (workspace / 'a.jsonl').read_text('utf-8-sig').splitlines() if line]\n"
        "return Result(value=math.log(rows[0]['factor'] if rows else 1))",
        "zero",
        "def factor_is_not_zero(",
        pre="require_table('a.jsonl', columns={'factor': float}, min_rows=1, not_null=['factor'])",
        tree="{'a.jsonl': '{\"factor\": 1.5}\\n'}",
    ),
    "rows lost silently": Planted(
        "return Result(value=float(tables[0].read_bytes().count(b'.5\\n')))",
        "crlf",
        "def no_crlf(",
        pre="require_glob('raw/*.csv')",
    ),
    "window of zero": Planted("return Result(value=1 / params.window)", "window", "Field(", least=0),
}

SOUND: dict[str, Planted] = {
    "reads with care": Planted(
        "values = [float(row['value']) for table in tables if table.is_file() for row in rows_of(table, 'utf-8-sig')]\n"
        "return Result(value=math.fsum(value for value in values if math.isfinite(value)))",
        tree="TWO",
    ),
    "ends for good": Planted(
        "try:\n    [table] = tables\n    return Result(value=str(float(rows_of(table)[0]['id'])))\n"
        "except Exception as error:\n    raise TaskTerminalError(str(error))",
        pre="",
    ),
    "copies bytes": Planted(
        "for table in tables:\n    if table.is_file():\n"
        "        (workspace / 'out').mkdir(exist_ok=True)\n"
        "        (workspace / 'out' / 'copy').write_bytes(table.read_bytes())\n"
        "return Result()",
        pre="",
    ),
    "describes bytes": Planted(
        "data = b''.join(table.read_bytes() for table in tables if table.is_file())\n"
        "return Result(value=f'{hashlib.md5(data).hexdigest()}' if params.window > 1 else len(data) / 1024)",
        pre="",
    ),
    "random and slow at first": Planted(
        "if not SEEN:\n    time.sleep(0.3)\nSEEN.append(1)\nreturn Result(value=f'{uuid.uuid4()} {time.time()}')",
        before="SEEN = []",
    ),
    "strict rule": Planted(
        "return Result(value=rows_of(tables[0])[1]['value'])",
        pre="exact",
        before="@guardrail\ndef exact(workspace: Path) -> str | None:\n"
        "    found = [path for path in workspace.rglob('*') if path.is_file()]\n"
        "    same = len(found) == 1 and found[0].read_bytes() == ONE['raw/a.csv'].encode()\n"
        "    return None if same else 'something else'",
    ),
    "declared failure": Planted(
        "[table] = tables\nreturn Result(value=table.name)",
        pre="require_glob('raw/*.csv')",
        examples=", Example(id='many', params={}, tree=TWO, expect='failed')",
    ),
}


PAIR = Planted(
    "known = {}\nfor row in rows_of(tables[0], 'utf-8-sig'):\n"
    "    if row['id'] in known and not all(known.values()):\n        raise LookupError(row['id'])\n"
    "    known[row['id']] = row['value']\nreturn Result()",
    "same-key + empty-number",
    "not_null=",
    pre="require_table('raw/*.csv', columns={'id': int, 'name': str, 'value': float})",
)
"""Fails if a key is there twice and a value is missing, and on neither of the two alone."""


def write_tasks(pytester: pytest.Pytester, tasks: dict[str, Planted]) -> dict[str, str]:
    """Write a module for each; returns the names of the tasks."""
    names = {}
    for number, (title, planted) in enumerate(tasks.items()):
        names[title] = name = title.replace(" ", "-")
        text = _HEAD.format(
            name=name,
            least=planted.least,
            before=planted.before,
            pre=planted.pre,
            examples=_EXAMPLE.format(tree=planted.tree) + planted.examples,
            body=textwrap.indent(planted.body, "    "),
        )
        write_module(pytester, f"work.m{number:02}", text)
    return names
