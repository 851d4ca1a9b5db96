"""A note of the input that a function is called with, which survives if the call ends the process of pytest.

A crash in C code ends pytest, or a worker of pytest-xdist, without a report. The next run finds the note, calls the
function with that input in a child process, and reports the crash. The notes are in the cache directory of pytest.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from perago.atomic_file import replace_file

_POLL_SECONDS = 0.002


class CrashNotes:
    """The notes of one test. Without a file nothing is noted."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._confirmed: list[str] = []
        """Inputs that ended a child process in this run."""
        self._suspects: set[str] = set()
        """Inputs with which an earlier run was ended."""
        if file is not None:
            with suppress(OSError, ValueError, TypeError):
                self._suspects = set(map(str, json.loads(file.read_text(encoding="utf-8"))))

    def crash_of(self, name: str, call: Callable[[], object], seconds: float) -> str:
        """Call the function before it is called here, if an earlier run ended with this input: in a child process.
        Return the signal that ended the child; empty for none."""
        if name not in self._suspects or not hasattr(os, "fork"):
            self._write(name)
            return ""
        ended_by = _ended_by(call, seconds)
        if ended_by and name not in self._confirmed:
            self._confirmed.append(name)
        return ended_by

    def close(self) -> None:
        """Keep the confirmed crashes for the next run, and nothing else."""
        if self._file is not None:
            self._write()
            if not self._confirmed:
                self._file.unlink(missing_ok=True)

    def _write(self, *names: str) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk; the note is not worth a failure
                replace_file(self._file, json.dumps([*self._confirmed, *names]).encode())


def _ended_by(call: Callable[[], object], seconds: float) -> str:
    """Call in a copy of this process. Return the name of the signal that ended the copy; empty for none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the copy needs none of them
        child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()
            call()
        finally:
            os._exit(0)
    deadline = time.monotonic() + seconds
    while (answer := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return ""
        time.sleep(_POLL_SECONDS)
    return signal.Signals(os.WTERMSIG(answer[1])).name if os.WIFSIGNALED(answer[1]) else ""
