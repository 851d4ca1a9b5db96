"""`perago demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  perago demo
  perago demo --output ./penguins     keep the files that it made

The task modules are perago.samples.penguins.clean and .features: read them as an
example of your own."""


def command(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="Write the final tree to DIR, which must be new or empty.",
        ),
    ] = None,
) -> None:
    """Run the bundled sample workflow on real data.

    The tables of the Palmer penguins go through two tasks, each in a worker process of its own: `penguins.clean` makes
    the field records one tidy table, `penguins.features` standardises the measurements. Conductor and lakeFS are
    embedded and served over HTTP on this machine; everything else is what runs in production.
    """
    from perago.cli.demonstration import demonstrate

    raise typer.Exit(demonstrate(output))
