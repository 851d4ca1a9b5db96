"""Forked processes are like others."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from .forked import Finished, Forks

BODIES = {
    "all that it is given": (
        "import os, sys; print(sys.argv[1:], sys.stdin.read(), dict(os.environ), os.getcwd())",
        0,
        "['one', 'two'] typed {'NAME': 'value'} {here}\n",
        "",
    ),
    "a status": ("import sys; sys.exit(3)", 3, "", ""),
    "a last word": ("import sys; sys.exit('no')", 1, "", "no\n"),
    "a signal": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, "", ""),
    "what is done at exit": ("import atexit; atexit.register(print, 'bye')", 0, "bye\n", ""),
    "threads": ("import threading; threading.Timer(0.05, print, ['late']).start()", 0, "late\n", ""),
    "modules beside it": ("import beside; print(__name__, beside.__name__)", 0, "__main__ beside\n", ""),
}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks("json")
    yield forks
    forks.close()


@pytest.mark.parametrize(("body", "code", "out", "err"), BODIES.values(), ids=BODIES)
def test_a_process_keeps_its_own_identity(
    forks: Forks, tmp_path: Path, body: str, code: int, out: str, err: str
) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(body))
    (tmp_path / "beside.py").touch()
    finished = forks.run("script", ["one", "two"], tmp_path, {"NAME": "value"}, b"typed")
    assert finished == Finished(code, out.replace("{here}", str(tmp_path)).encode(), err.encode())


def test_an_error_is_shown_and_the_next_process_starts_clean(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import json, sys; json.spoilt = True; raise KeyError('x')")
    (tmp_path / "next.py").write_text("import json; print(hasattr(json, 'spoilt'))")
    failed = forks.run("script", [], tmp_path, {})
    assert (failed.code, failed.stdout) == (1, b"")
    assert failed.stderr.endswith(b"KeyError: 'x'\n")
    assert forks.run("next", [], tmp_path, {}).stdout == b"False\n"


def test_one_that_takes_too_long_is_killed(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import time; time.sleep(600)")
    with pytest.raises(subprocess.TimeoutExpired):
        forks.run("script", [], tmp_path, {}, seconds=0.2)
    (tmp_path / "script.py").write_text("print(1)")
    assert forks.run("script", [], tmp_path, {}).stdout == b"1\n"
