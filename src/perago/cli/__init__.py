"""The command line. Slot processes import this module again, so it imports almost nothing."""

from __future__ import annotations

import contextlib
import sys
from typing import NoReturn

from perago import NOT_ON_WINDOWS


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


def say_stopped() -> None:
    """Report that a signal ended `perago start` before its worker."""
    from perago.cli import messages

    messages.note("stopped before anything was started")


def _exit_now(code: int) -> NoReturn:
    """End the process without shutting down the interpreter, because that takes 0.2 seconds of CPU time after a
    worker."""
    import atexit
    import os

    atexit._run_exitfuncs()  # of multiprocessing and logging, among others
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
