"""What a task module does to the process of its tests: they go on, and say what it was."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

import pytest

from perago.processes import running_processes
from pytest_perago.confinement import ProcessEnded, confined

from .projects import add_module, free_module, free_modules, run_process, write_module

pytest_plugins = ["pytester"]

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
