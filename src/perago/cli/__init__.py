"""The command line. Slot processes import this module again, so it must cost nothing."""

from __future__ import annotations

import sys

from perago import NOT_ON_WINDOWS


def main() -> None:
    """Run the `perago` command and exit."""
    if sys.platform == "win32":
        sys.stderr.write(f"error: {NOT_ON_WINDOWS}\n")
        sys.exit(2)  # `ExitCode.USAGE`, which is not worth an import here
    from perago.cli.app import run

    run()
