"""The process of the tests survives the code of a task module, and the failure names the cause."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest

from perago.processes import running_processes
from pytest_perago.confinement import LastResort, ProcessEnded, TimeLimitExceeded, Watch, confined
from pytest_perago.user_code import Memory

from .projects import QUIET, add_module, copy_module, fork, free_module, free_modules, run, run_process, write_module

EXAMPLE = "Example(id='x', params={})"
CLOSING = {
    "closed": "import sys; print('first'); sys.stdout.close(); print('second'); return Model()",
    "wrapped": "import io, sys\nio.TextIOWrapper(sys.stdout.buffer).write('first')\nprint('second'); return Model()",
    "closed below": "import sys; print('first'); sys.stdout.buffer.close(); print('second'); return Model()",
    "replaced": "import io, sys; print('first'); print('second'); sys.stdout = io.StringIO(); return Model()",
}


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_a_function_cannot_take_the_output_away(pytester: pytest.Pytester, capture: str) -> None:
    free_modules(pytester, (("", body, EXAMPLE) for body in CLOSING.values()))
    pytester.makepyfile("def test_output(): print('third')")
    result = run_process(pytester, "--perago-modules", "work", f"--capture={capture}", "-rP", "-k", "run or output")
    result.assert_outcomes(passed=len(CLOSING) + 1, deselected=5 * len(CLOSING))
    lines = result.outlines
    assert [sum(word in line for line in lines) >= len(CLOSING) for word in ("first", "second")] == [True, True]
    result.stdout.fnmatch_lines(["*third*"])
    assert result.ret == 0


IMPORTS = {
    "bytes": "sys.stdout.buffer.write(b'seen\\n')",
    "settings": "sys.stdout.reconfigure(encoding='utf-8'); print('seen')",
    "closing": "print('seen'); sys.stdout.close()",
    "wrapping": "import io; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('seen')",
}


def test_a_module_may_treat_its_output_as_a_script_does(pytester: pytest.Pytester) -> None:
    names = [f"bad{number}" for number in range(len(IMPORTS))]
    for name, line in zip(names, IMPORTS.values(), strict=True):
        write_module(pytester, name, f"import sys\n{line}\nraise ValueError('and then this')")
    result = run_process(pytester, "--perago-modules", ",".join(names))
    result.assert_outcomes(failed=len(IMPORTS))
    result.stdout.fnmatch_lines(["*cannot be imported: ValueError: and then this", "seen"] * len(IMPORTS))


def test_ending_the_process_is_a_failure_of_the_function_or_the_module(pytester: pytest.Pytester) -> None:
    free_module(pytester, "shop.a", "import os; os._exit(3)", [EXAMPLE])
    free_module(pytester, "shop.b", "import os; os._exit(0)", ["Example(id='x', params={}, expect='failed')"])
    add_module(pytester, "shop.c", "later")
    write_module(pytester, "shop.d", "import os\nos._exit(0)")
    result = run_process(pytester, "--perago-modules", "shop", "-k", "run or import")
    result.assert_outcomes(passed=2, failed=2, deselected=15)
    result.stdout.fnmatch_lines(
        [
            "*the function raised ProcessEnded: os._exit(3) would end the whole worker process*",
            "*shop.d cannot be imported: ProcessEnded: os._exit(0) would end*",
            "*d.py:2*",
        ]
    )
    assert "pytest_perago" not in result.stdout.str()


SEVEN = "Example(id='x', params={}, result={'value': 7})"
FORKING = """
import os
child = os.fork()
if not child:
    os._exit(7)
return Model(value=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


DAEMON = """
import os, subprocess
read_end, write_end = os.pipe()
if not os.fork():
    os.setsid()
    daemon = subprocess.Popen(["sleep", "598"], env={}, start_new_session=True)
    os.write(write_end, str(daemon.pid).encode())
    os._exit(0)
os.wait()
(Path(__file__).with_suffix(".pid")).write_bytes(os.read(read_end, 100))
return Model()
"""
CHILD = """
import signal, subprocess
child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 598; done"])
child.returncode = 0  # no warning of its destructor
(Path(__file__).with_suffix(".pid")).write_text(str(child.pid))
return Model()
"""


BESIDE = """
import subprocess, sys
import pytest

@pytest.fixture(autouse=True, scope="session")
def beside():
    with subprocess.Popen(["sleep", "597"]) as child:
        yield
        assert child.poll() is None, "somebody ended it"
        child.kill()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere daemons cannot be found")
def test_a_process_that_is_left_behind_is_ended_and_a_failure(pytester: pytest.Pytester) -> None:
    """A child of the function may end, and a process that was there before is left alone."""
    pytester.makeconftest(BESIDE)
    free_modules(pytester, [("", DAEMON, EXAMPLE), ("", CHILD, EXAMPLE), ("", FORKING, SEVEN)])
    result = run_process(pytester, "--perago-modules", "work", "-k", "run")
    result.assert_outcomes(passed=1, failed=2, deselected=15)
    running = running_processes()
    for name, command in (("m00", "sleep 598"), ("m01", "sh -c trap*")):
        pid = int((pytester.path / "work" / f"{name}.pid").read_text())
        assert pid not in running
        said = f"mistake in the task: case 'x': the function left processes running: *{command}* (pid {pid})*"
        result.stdout.fnmatch_lines([said])


def test_a_thread_that_was_there_before_may_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-timeout ends it that way."""
    ended: list[int] = []

    def end(status: int) -> NoReturn:
        ended.append(status)
        sys.exit()

    monkeypatch.setattr(os, "_exit", end)
    called = threading.Event()

    def end_later() -> None:
        called.wait(60)
        with suppress(SystemExit):
            os._exit(1)

    timer = threading.Thread(target=end_later)
    timer.start()
    with confined():
        called.set()
        timer.join(60)
        with pytest.raises(ProcessEnded):
            os._exit(2)
    assert ended == [1]


# ------------------------------------------------------------------------------------------- state


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
            for _, _, change in KEPT.values()
            for line in (
                "broken contract: case 'x': the second run in the same process had another output than the first, "
                "so the module keeps state between calls",
                f"  state       {change}",
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
    file = copy_module(pytester, "work", "work", examples=["Example(id='x', params={}, tree={'a.txt': ''})"])
    keeps = """    ROWS.append("row")
    (workspace / "all.txt").write_text(",".join(ROWS))
    (workspace / f"{len(ROWS)}.txt").touch()
"""
    text = file.read_text().replace("@task(", "ROWS = []\n\n@task(")
    file.write_text(text.replace('    print("copied")\n', keeps))
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


# ------------------------------------------------------------------------------------- time limits


LIMIT = 0.1
ROUNDS = 5000
"""Of some milliseconds each: many times the limit. Rounds and not seconds, for the machine may stand still."""


def spin() -> None:
    until = time.monotonic() + 0.001
    while time.monotonic() < until:
        pass


class Owner:
    """Its destruction takes a while."""

    def __del__(self) -> None:
        spin()


def destroy() -> None:
    """Half of the time is spent in a destructor."""
    Owner()
    spin()


def forget() -> None:
    """The callback of a weak dictionary runs for each of these."""
    known: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
    for _ in range(1000):
        known[type("Key", (), {})()] = 1


def collect() -> None:
    """Half of the time is spent in a callback of the garbage collector, such as hypothesis has one."""
    gc.callbacks.append(pause)
    try:
        gc.collect(0)
    finally:
        gc.callbacks.remove(pause)
    spin()


def pause(phase: str, _: object) -> None:
    if phase == "start":
        spin()


@pytest.mark.parametrize("work", [destroy, forget, collect])
def test_the_limit_is_not_lost_in_code_that_drops_exceptions(work: Callable[[], None]) -> None:
    """Python would warn of a dropped one, and a warning fails these tests."""
    for _ in range(8):
        watch = Watch(LIMIT, LastResort(enabled=False))
        with pytest.raises(TimeLimitExceeded):
            work_under(watch, work, ROUNDS)
        assert watch.stuck is not None


def work_under(watch: Watch, work: Callable[[], None], rounds: int) -> None:
    with watch, watch.user_code():
        for _ in range(rounds):
            work()


def test_a_destructor_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever. What is raised in it is dropped, so the limit strikes again after it."""
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: dropped.append(unraisable.exc_type))

    class Endless:
        def __del__(self) -> None:
            while True:
                spin()

    def work() -> None:
        Endless()
        time.sleep(60)

    with pytest.raises(TimeLimitExceeded):
        work_under(Watch(LIMIT, LastResort(enabled=False)), work, 1)
    assert dropped == [TimeLimitExceeded]


# --------------------------------------------------------------------------------------- debuggers


def debug(pytester: pytest.Pytester, typed: str, *options: str) -> pytest.RunResult:
    """pytest in a process of its own, with a person who types this."""
    return fork(pytester, *QUIET, "--perago-modules", "work", "--perago-kinds", "run", *options, stdin=typed)


def test_pdb_opens_where_the_function_raised(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "table = {'x': 41 + 1}\nreturn table[params.value]", [EXAMPLE])
    result = debug(pytester, "p table['x'] * 10\nq\n", "--pdb")
    result.stdout.fnmatch_lines(["*the function raised KeyError: None*", "*work.py(*)work()", "(Pdb) 420"])


def test_an_error_that_is_declared_opens_no_debugger(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "raise TaskFailed('no')", ["Example(id='x', params={}, expect='failed')"])
    result = debug(pytester, "", "--pdb")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*Pdb*")


def test_no_time_limit_strikes_while_a_person_looks(pytester: pytest.Pytester) -> None:
    """Both runs of the case stop at the breakpoint."""
    free_module(pytester, "work", "breakpoint()\nreturn Model(value=1)", [EXAMPLE])
    wait = "import time; time.sleep(1.5); print('looked at', params)\nc\n"
    result = debug(pytester, wait * 2, "-o", "perago_run_timeout=1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*looked at value=None"] * 2)
