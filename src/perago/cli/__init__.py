"""The command line. Slot processes import this module again, so it must cost nothing."""

from __future__ import annotations


def main() -> None:
    """Run the `perago` command and exit."""
    from perago.cli.app import run

    run()
