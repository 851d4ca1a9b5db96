"""A signal ends a command also where Python drops or wraps what its handler raises."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

LOST = """
class Owner:
    def __del__(self):
        os.kill(os.getpid(), number)
        time.sleep(0.1)

Owner()
print("dropped", flush=True)
"""

WRAPPED = """
class Attribute:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), number)
        time.sleep(0.1)

class Owner:
    attribute = Attribute()
"""

IMPORTS = """
import os, signal, sys, time
from perago.cli import say_stopped
from perago.cli.messages import error_boundary
from perago.probe import probing
from perago.cli.services import reach
from perago.processes import ends_well, hand_over, sigterm_unwinds
from perago.ports import Unavailable

number = int(sys.argv[1])
"""

COMMAND = """
with error_boundary(), sigterm_unwinds():
    exec(sys.argv[2])
print("goes on")
"""

PROBE = """
with error_boundary(), probing(["slow"], 600) as results:
    exec(sys.argv[2])
    list(results())
print("goes on")
"""

START = """
with ends_well(say_stopped):
    with error_boundary(), sigterm_unwinds():
        exec(sys.argv[2])
    print("goes on")
"""

WAITING = """
class Clock:
    slept = 0.0

    def now(self):
        return self.slept

    def sleep(self, seconds):
        self.slept += seconds
        if when == "pausing" and self.slept >= 65:  # in the middle of a long pause
            exec(sys.argv[2], globals())

def ask():
    if when == "asking":
        exec(sys.argv[2], globals())
    raise Unavailable("Conductor", "answer", "it is down")

clock = Clock()
try:
    with ends_well(say_stopped), error_boundary():
        reach(ask, wait=True, clock=clock)
finally:
    print("slept", clock.slept)
"""


HANDED_OVER = """
with ends_well(say_stopped), error_boundary():
    try:
        exec(sys.argv[2])
    finally:
        hand_over(lambda number: print("told", number.name))
        os.kill(os.getpid(), number)
        raise SystemExit(7)
"""

IMPATIENT = """
with ends_well(say_stopped), error_boundary():
    try:
        os.kill(os.getpid(), number)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("tidied up")
"""


def run(directory: Path, program: str, number: signal.Signals, code: str) -> subprocess.CompletedProcess[str]:
    (directory / "slow.py").write_text("import time\ntime.sleep(600)\n")
    command = [sys.executable, "-c", IMPORTS + program, str(int(number)), code]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


deaf_code = pytest.mark.parametrize("code", [LOST, WRAPPED], ids=["in a destructor", "in the making of a class"])


@deaf_code
@pytest.mark.parametrize("program", [COMMAND, PROBE], ids=["command", "probe"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_met_deaf_code_ends_the_command(
    tmp_path: Path, number: signal.Signals, status: int, program: str, code: str
) -> None:
    ended = run(tmp_path, program, number, code)
    assert ended.returncode in (status, -number)  # both are `status` in a shell
    assert "goes on" not in ended.stdout
    assert ("dropped" in ended.stdout) is (code is LOST)
    assert "Exception ignored" not in ended.stderr
    assert ("error: interrupted" in ended.stderr) is (number is signal.SIGINT)


@deaf_code
@pytest.mark.parametrize(
    ("program", "last"),
    [(START, ""), (f"when = 'asking'\n{WAITING}", "slept 0.0\n"), (f"when = 'pausing'\n{WAITING}", "slept 65.0\n")],
    ids=["starting", "asking", "pausing"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_met_deaf_code_stops_a_start(
    tmp_path: Path, number: signal.Signals, program: str, last: str, code: str
) -> None:
    ended = run(tmp_path, program, number, code)
    assert ended.returncode == 0, ended.stderr
    assert "goes on" not in ended.stdout
    assert "stopped before anything was started" in ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert ended.stdout.endswith(last)


@pytest.mark.parametrize(("program", "number"), [(COMMAND, signal.SIGINT), (START, signal.SIGHUP)])
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path, program: str, number: signal.Signals) -> None:
    ignoring = f"import signal\nsignal.signal({int(number)}, signal.SIG_IGN)\n"
    ended = run(tmp_path, ignoring + program, number, "os.kill(os.getpid(), number)")
    assert (ended.returncode, ended.stdout) == (0, "goes on\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_was_dropped_is_handed_over_with_the_next(tmp_path: Path, number: signal.Signals) -> None:
    ended = run(tmp_path, HANDED_OVER, number, LOST)
    assert ended.returncode == 7, ended.stderr
    assert ended.stdout.splitlines() == ["dropped", f"told {number.name}", f"told {number.name}"]


def test_a_second_signal_does_not_interrupt_the_clean_up_of_the_first(tmp_path: Path) -> None:
    ended = run(tmp_path, IMPATIENT, signal.SIGTERM, "")
    assert (ended.returncode, ended.stdout) == (0, "tidied up\n")
