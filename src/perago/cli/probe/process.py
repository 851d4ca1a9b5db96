"""The child process from outside: started in a session of its own, watched, and ended with everything it started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from perago.cli.probe import child
from perago.cli.probe.launch import Output, launch
from perago.cli.probe.report import Code, ModuleProblem, Probed, from_json
from perago.cli.signals import end_if_told

_BACKSTOP = 30.0
"""Seconds on top of the limit until the child is killed. It ends by itself when time is up, unless the module has
stopped it or taken its timer."""
_LOOK = 0.5
"""Seconds between two looks whether a signal has come."""
_KILLED = 10.0
"""Seconds that a killed process gets to be gone."""


class ChildProcess:
    """One module being imported elsewhere. Use as a context manager: nothing of it survives the block."""

    def __init__(self, module: str, seconds: float, *, examine: str = "", beside_threads: bool = False) -> None:
        self._module = module
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds + _BACKSTOP
        self._directory = tempfile.TemporaryDirectory(prefix="perago-probe-")
        reading, writing = os.pipe()
        try:
            self._process = launch(
                module, self._directory.name, seconds, examine, writing, beside_threads=beside_threads
            )
        finally:
            os.close(writing)
        self._output = Output(reading)

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        self._directory.cleanup()

    def result(self) -> Probed:
        """Wait for the child, which ends by itself when time is up, and say what came of it."""
        try:
            status = self._wait()
            left_running = self._end()
            probed = self._reported() or Probed(self._module, None, self._ended_without_report(status))
        except subprocess.TimeoutExpired:
            left_running = False
            self._end()
            probed = Probed(self._module, None, self._too_slow())
        self._output.finish()
        return replace(probed, output=self._output.text(), printed=self._output.size, left_running=left_running)

    def _wait(self) -> int:
        """The exit status. A signal that told this process to end is not waited out, even if its exception was lost."""
        while True:
            end_if_told()
            left = max(0.0, self._deadline - time.monotonic())
            try:
                return self._process.wait(min(left, _LOOK))
            except subprocess.TimeoutExpired:
                if left <= _LOOK:
                    raise

    def cancel(self) -> None:
        """End the child now, from another thread than the one that waits for its result."""
        self._process.kill()

    def _end(self) -> bool:
        """Kill what is left of the child's process group; whether anything outlived the child itself."""
        outlived = False
        over = self._process.poll() is not None
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
                outlived = over
        if not over:
            self._process.kill()  # it may not have made its own group yet
            self._process.wait(_KILLED)
        return outlived

    def _file(self, name: str) -> str:
        try:
            return Path(self._directory.name, name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _reported(self) -> Probed | None:
        report = self._file(child.REPORT)
        return from_json(self._module, json.loads(report)) if report else None

    def _ended_without_report(self, status: int) -> ModuleProblem:
        stack = self._file(child.STACK)
        if stack.startswith(child.TIME_IS_UP):
            return self._too_slow()
        if status < 0:
            message = f"module {self._module} cannot be imported: the process was killed by {_signal_name(-status)}"
            where = _innermost_line(stack)
            return ModuleProblem(Code.CRASH, message, where, _crash_advice(-status, where))
        message = f"module {self._module} cannot be imported: it ends the process with status {status}"
        fix = "a task module only declares; put what a script does under `if __name__ == '__main__':`"
        return ModuleProblem(Code.EXIT, message, fix=fix)

    def _too_slow(self) -> ModuleProblem:
        message = f"module {self._module} was not imported after {self._seconds:g} seconds"
        fix = "move slow work from the module's top level into the task function, or raise --timeout"
        return ModuleProblem(Code.TIMEOUT, message, _innermost_line(self._file(child.STACK)), fix)


def _crash_advice(number: int, where: str) -> str:
    if number == signal.SIGKILL:
        return "it may have used too much memory: load data inside the task function, not when the module is imported"
    if where:  # only a fault leaves a stack behind
        return "a library that this line uses may be broken; leave it out, or use it inside the task function"
    return "a task module only declares; take out what ends the process, or find out who else did"


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _innermost_line(stack: str) -> str:
    """Where a hanging module stands, from a faulthandler dump: the innermost line below the current directory,
    otherwise the innermost at all."""
    frames = re.findall(r'File "([^<"][^"]*)", line (\d+)', stack)
    here = [(file, line) for file, line in frames if Path(file).is_relative_to(Path.cwd())]
    for file, line in here:
        return f"{Path(file).relative_to(Path.cwd())}:{line}"
    return f"{frames[0][0]}:{frames[0][1]}" if frames else ""
