"""The end of what a function leaves running."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from perago.processes import Process, end_processes, is_running, running_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process is found")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def test_a_process_that_one_search_misses_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    """One that forks all the time is another one whenever the look comes to it."""
    looks = 0

    def find() -> list[Process]:
        nonlocal looks
        looks += 1
        return [running_processes()[sleeper.pid]] if looks == 2 else []

    assert end_processes(find) == []
    assert sleeper.wait(30) == -9


def test_only_attempts_that_have_not_ended_are_running(sleeper: subprocess.Popen[bytes]) -> None:
    assert is_running(sleeper.pid)
    sleeper.kill()
    sleeper.wait(30)
    assert not is_running(sleeper.pid)
