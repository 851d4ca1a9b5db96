"""Processes that begin with their imports done: each is forked from one that has imported what it needs.

Such a process is as real as any other: its standard streams, current directory, environment and exit status are its
own. Only what Python reads from the environment when it starts does not reach it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

READ_AT_START = ("PYTHON", "LC_", "LANG")
"""Beginnings of variables that Python reads when it starts."""
STREAMS = ("stdin", "stdout", "stderr")
IMPORTED_BY = {
    "perago": (
        "encodings.idna",
        "perago.adapters.conductor",
        "perago.adapters.lakefs",
        "perago.diagnosis.doctor",
        "perago.diagnosis.queues",
        "perago.history.attempt_facts",
        "perago.diagnosis.operations",
        "perago.history.replay",
        "perago.history.running",
        "perago.settings.variables",
        "platformdirs.unix",
        "typer._adapters",
    ),
    "pytest": (
        "pytest",
        "perago.testing.services",
        "pytest_perago.kinds.faults.checks",
        "pytest_perago.kinds.robust.remedies",
        "pytest_perago.report",
        "pytest_perago.snapshots",
        "pytest_perago.unused",
    ),
}
"""Modules that these programs import when they are run, along with those of the commands and of the kinds of tests."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a process has left behind."""

    code: int
    """Its exit status, or the negative number of the signal that ended it."""
    stdout: bytes
    stderr: bytes


class Forks:
    """Runs modules in processes that are forked from one that has imported `preloaded`."""

    def __init__(self, *preloaded: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._parent = subprocess.Popen(
            [sys.executable, __file__, *preloaded],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._one_at_a_time = threading.Lock()

    def run(
        self,
        module: str,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        stdin: bytes = b"",
        *,
        seconds: float = 60.0,
        merged: bool = False,
        script: bool = False,
    ) -> Finished:
        """Run `python -m module arguments` to its end.

        Args:
            module: is run as `__main__`.
            arguments: those after the module.
            cwd: the current directory.
            environment: all variables of the process; see `READ_AT_START`.
            stdin: what it reads on standard input.
            seconds: how long it may take.
            merged: whether standard error goes to standard output.
            script: whether it is run by an installed script, which does not import from the current directory.

        Raises:
            subprocess.TimeoutExpired: it took longer, and was killed.
        """
        with tempfile.TemporaryDirectory(prefix="forked-") as directory:
            streams = [Path(directory, name) for name in STREAMS]
            streams[0].write_bytes(stdin)
            outputs = (streams[1], streams[1]) if merged else streams[1:]
            order = {
                "module": module,
                "arguments": list(arguments),
                "cwd": str(cwd),
                "beside": str(Path(sys.executable).parent if script else cwd),
                "environment": dict(environment),
                "streams": [str(path) for path in (streams[0], *outputs)],
            }
            with self._one_at_a_time:
                code = self._code(json.dumps(order), seconds)
            if code is None:
                raise subprocess.TimeoutExpired([module, *arguments], seconds)
            return Finished(code, streams[1].read_bytes(), b"" if merged else streams[2].read_bytes())

    def close(self) -> None:
        """End the process that others are forked from."""
        with self._parent:
            pass

    def _code(self, order: str, seconds: float) -> int | None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(order + "\n")
        self._parent.stdin.flush()
        pid, over = int(self._parent.stdout.readline()), False

        def kill() -> None:
            nonlocal over
            over = True
            os.kill(pid, signal.SIGKILL)

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            code = int(self._parent.stdout.readline())
        finally:
            timer.cancel()
        return None if over else code


def kind_modules() -> set[str]:
    """Return the modules of perago's own kinds of tests."""
    from pytest_perago.kinds import KINDS

    return {str(kind.cases).partition(":")[0] for kind in KINDS.values()}


@cache
def forks_of(program: str) -> Forks:
    """Return where `perago` or `pytest` is run, until the tests end."""
    from perago.cli.app import COMMANDS, file_of

    parts = {file_of(name) for name in COMMANDS} if program == "perago" else kind_modules()
    forks = Forks(*sorted(parts), *IMPORTED_BY[program])
    atexit.register(forks.close)
    return forks


# ------------------------------------------------------------------- the process that is forked


def main(preloaded: Sequence[str]) -> None:
    """Fork a process for each order, a line of standard input; answer with its id, and with its status at its end."""
    for name in preloaded:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the process that gives the orders
    with os.fdopen(os.dup(0)) as orders, os.fdopen(os.dup(1), "w", buffering=1) as answers:
        for line in orders:
            pid = os.fork()
            if not pid:
                orders.close()
                _become(**json.loads(line))
            print(pid, file=answers)
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), file=answers)


def _become(
    module: str, arguments: list[str], cwd: str, beside: str, environment: dict[str, str], streams: list[str]
) -> NoReturn:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in enumerate(streams):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[0] = beside
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, but leave it to the system to free memory: most of it is the parent's."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):  # the command has closed it
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
