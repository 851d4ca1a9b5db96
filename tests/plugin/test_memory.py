"""State that a module keeps between calls is found by what it does, and chance and time are not taken for it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pytest_perago.memory import Memory

from .projects import free_module, free_modules, run, write_module

pytest_plugins = ["pytester"]

EXAMPLE = "Example(id='x', params={})"
KEPT = {
    "a number": ("COUNT = 0", "global COUNT; COUNT += 1; return Model(value=COUNT)", "COUNT was 0, is 2"),
    "a list": ("ROWS = []", "ROWS.append(1); return Model(value=list(ROWS))", "ROWS was [[][]], is [[]1, 1]"),
    "a mark": (
        "DONE = set()",
        "first = 'x' not in DONE; DONE.add('x'); return Model(value=first)",
        "DONE was set(), is {'x'}",
    ),
    "a dictionary": (
        "from collections import Counter\nSEEN = Counter()",
        "SEEN['a'] += 1; return Model(value=SEEN['a'])",
        "SEEN was {}, is Counter({'a': 2})",
    ),
    "an iterator": (
        "import itertools\nIDS = itertools.count(5)",
        "return Model(value=next(IDS))",
        "IDS was count(5), *",
    ),
    "a class": (
        "class Store:\n    total = 0",
        "Store.total += 1; return Model(value=Store.total)",
        "Store.total was 0, is 2",
    ),
    "an object": (
        "class Store:\n    def __init__(self): self.rows = []\nSTORE = Store()",
        "STORE.rows.append(1); return Model(value=len(STORE.rows))",
        "STORE.rows was [[][]], is [[]1, 1]",
    ),
    "a default": (
        "def add(item, rows=[]):\n    rows.append(item)\n    return len(rows)",
        "return Model(value=add(1))",
        "add.__defaults__ was ([[][]],), is ([[]1, 1],)",
    ),
    "an attribute of a function": (
        "def helper(): pass\nhelper.calls = 0",
        "helper.calls += 1; return Model(value=helper.calls)",
        "helper.calls was 0, is 2",
    ),
    "a variable around a function": (
        "def make():\n    calls = 0\n    def count():\n        nonlocal calls\n        calls += 1\n"
        "        return calls\n    return count\nNEXT = make()",
        "return Model(value=NEXT())",
        "NEXT.calls was 0, is 2",
    ),
    "a cached object": (
        "import functools\n@functools.cache\ndef rows(): return []",
        "rows().append(1); return Model(value=len(rows()))",
        "rows was CacheInfo(*",
    ),
    "a new global": (
        "",
        "global LAST; LAST = globals().get('LAST', 0) + 1; return Model(value=LAST)",
        "LAST is new: 2",
    ),
}


def test_state_that_changes_the_output_breaks_the_contract(pytester: pytest.Pytester) -> None:
    free_modules(pytester, ((head, body, EXAMPLE) for head, body, _ in KEPT.values()))
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.assert_outcomes(failed=len(KEPT), deselected=5 * len(KEPT))
    result.stdout.fnmatch_lines(
        [
            line
            for _, _, words in KEPT.values()
            for line in (
                "broken contract: case 'x': the second run in the same process had another output than the first, "
                "so the module keeps state between calls",
                f"  state       {words}",
                "  first run   *",
                "  second run  *",
            )
        ]
    )


def test_state_in_another_module_of_the_package_is_found(pytester: pytest.Pytester) -> None:
    write_module(pytester, "shop.store", "ROWS = []\ndef add(): ROWS.append(1); return len(ROWS)")
    file = free_module(pytester, "shop.work", "return Model(value=add())", [EXAMPLE])
    file.write_text(f"from shop.store import add\n{file.read_text()}")
    result = run(pytester, "--perago-modules", "shop", "-k", "run")
    result.assert_outcomes(failed=1, deselected=5)
    result.stdout.fnmatch_lines(["*state * shop.store.ROWS was [[][]], is [[]1, 1]"])


HARMLESS = {
    "a cache": ("CACHE = {}", "return Model(value=CACHE.setdefault('k', 3))"),
    "a cached function and chance": (
        "import functools, uuid\n@functools.cache\ndef one(): return 1",
        "return Model(value=f'{one()} {uuid.uuid4()}')",
    ),
    "a container that must not be looked at": (
        "class Lazy(dict):\n    def __iter__(self): raise SystemExit\n    values = items = __iter__\nLAZY = Lazy(a=1)",
        "import uuid; return Model(value=str(uuid.uuid4()))",
    ),
    "chance": ("import uuid", "return Model(value=str(uuid.uuid4()))"),
    "a cache and chance": (
        "import uuid\nCACHE = {}",
        "CACHE['k'] = CACHE.get('k', 0) + 1; return Model(value=str(uuid.uuid4()))",
    ),
    "time": ("import time\nTIMES = []", "TIMES.append(time.time_ns()); return Model(value=TIMES[-1])"),
    "a counter for nobody": ("CALLS = 0", "global CALLS; CALLS += 1; return Model(value=1)"),
}


def test_sources_that_do_not_affect_calls_are_left_alone(pytester: pytest.Pytester) -> None:
    free_modules(pytester, ((head, body, EXAMPLE) for head, body in HARMLESS.values()))
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.assert_outcomes(passed=len(HARMLESS), deselected=5 * len(HARMLESS))


def test_files_are_compared_by_name_and_content(pytester: pytest.Pytester) -> None:
    write_module(
        pytester,
        "work",
        """
        from pathlib import Path
        from pydantic import BaseModel
        from perago import Example, WorkspaceSpec, task

        class Nothing(BaseModel):
            pass

        ROWS = []

        @task(name="work", owner_email="a@b.de", workspace=WorkspaceSpec(), examples=[Example(id="x", params={})])
        def work(workspace: Path, params: Nothing) -> Nothing:
            ROWS.append("row")
            (workspace / "all.txt").write_text(",".join(ROWS))
            (workspace / f"{len(ROWS)}.txt").touch()
            return Nothing()
        """,
    )
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.stdout.fnmatch_lines(
        [
            "  first run   1.txt",
            "  second run  2.txt",
            "  first run   all.txt: b'row'",
            "  second run  all.txt: b'row,row'",
        ]
    )


LATER: Any = object()
LARGE = list(range(20_000))


def test_values_that_are_not_plain_or_too_large_are_never_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(__name__)
    monkeypatch.setitem(globals(), "LATER", [1])
    monkeypatch.setitem(globals(), "LARGE", [1])
    monkeypatch.setitem(globals(), "ADDED", [1])
    assert memory.changes() == ["ADDED is new: [1]"]
    memory.restore()
    assert "ADDED" not in globals()
    assert [1] == LATER == LARGE


HELD: dict[str, Any] = {"rows": [1, [2]], "seen": {1}}
COUNTER = itertools.count()


def test_a_restored_object_has_the_old_content() -> None:
    held, memory = HELD, Memory(__name__)
    HELD["rows"][1].append(3)
    HELD["seen"] = None
    next(COUNTER)
    assert len(memory.changes()) == 2
    memory.restore()
    assert memory.changes() == []
    assert HELD is held == {"rows": [1, [2]], "seen": {1}}
    assert next(COUNTER) == 0
