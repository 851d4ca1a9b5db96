"""The command line. Slot processes import this module again, so it imports almost nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn

from perago import NOT_ON_WINDOWS

ORPHAN_PATIENCE = 10.0
"""Seconds that running attempts get to finish after the parent of a watched worker has ended."""


def main() -> None:
    """Run the `perago` command and exit."""
    if sys.platform == "win32":
        sys.stderr.write(f"error: {NOT_ON_WINDOWS}\n")
        sys.exit(2)  # `ExitCode.USAGE`, which is not worth an import here

    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        with contextlib.ExitStack() as stack:
            if command == "start":  # before anything slow, because SIGTERM can come at any time
                from perago.processes import ends_well

                stack.enter_context(ends_well(say_stopped))
            from perago.cli.app import run

            run()
    except SystemExit as end:
        if command != "start" or not isinstance(end.code, int):
            raise
        _exit_now(end.code)


def watched() -> None:
    """Run the command of a child of `perago dev`, which ends after its parent.

    The first argument is the reading end of a pipe that no process writes to. It ends with the parent, even after
    SIGKILL.
    """
    descriptor = int(sys.argv.pop(1))
    os.set_inheritable(descriptor, False)

    def watch() -> None:
        os.read(descriptor, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_PATIENCE)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="perago-parent-watchdog", daemon=True).start()
    main()


def say_stopped() -> None:
    """Report that a signal ended `perago start` before its worker."""
    from perago.cli import messages

    messages.note("stopped before anything was started")


def _exit_now(code: int) -> NoReturn:
    """End the process without shutting down the interpreter, because that takes 0.2 seconds of CPU time after a
    worker."""
    import atexit

    atexit._run_exitfuncs()  # of multiprocessing and logging, among others
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
