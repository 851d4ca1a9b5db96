"""The command line. Slot processes import this module again, so it must cost nothing."""

from __future__ import annotations

import contextlib
import sys

from perago import NOT_ON_WINDOWS


def main() -> None:
    """Run the `perago` command and exit."""
    if sys.platform == "win32":
        sys.stderr.write(f"error: {NOT_ON_WINDOWS}\n")
        sys.exit(2)  # `ExitCode.USAGE`, which is not worth an import here

    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    with contextlib.ExitStack() as stack:
        if command == "start":  # before anything that takes time: a worker may be told to stop at any moment
            from perago.cli.signals import ends_well

            stack.enter_context(ends_well())
        from perago.cli.app import run

        run()
