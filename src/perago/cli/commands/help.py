"""`perago help`."""

from __future__ import annotations

import difflib
import os
import sys
from typing import Annotated

import typer

from perago.cli.app import COMMANDS, app
from perago.cli.rendering import Renderer
from perago.cli.topics import TOPICS, page, topics
from perago.failure import Failure

WIDEST = 100
"""Characters of a line on a terminal, which is easier to read than a full screen."""
EXAMPLES = """\b
Examples:
  perago help
  perago help tutorial
  perago help configuration | grep CACHE"""


def command(
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="A topic, or the name of a command.")] = None,
) -> None:
    """Print a page of the documentation. Without a topic, list the topics.

    A terminal shows the page in a pager. Elsewhere it is plain Markdown.
    """
    if topic is None:
        _list_topics()
    elif topic in topics():
        _print_page(topic)
    elif topic in COMMANDS:
        app([topic, "--help"], prog_name="perago")
    else:
        near = difflib.get_close_matches(topic, (*topics(), *COMMANDS), n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise typer.BadParameter(f"There is no topic {topic!r}.{meant} 'perago help' lists all topics.")


def _list_topics() -> None:
    renderer = Renderer()
    width = max(map(len, topics())) + 4
    for group, found in TOPICS.items():
        renderer.line(f"{group}:")
        for topic, (_, summary) in found.items():
            renderer.line(f"  {topic:{width}}{summary}")
        renderer.line()
    renderer.line("perago help TOPIC prints the page. perago COMMAND --help explains a command.")


def _print_page(topic: str) -> None:
    """Print the page of a topic, in a pager if a person reads it.

    Raises:
        Failure: this installation has no pages.
    """
    try:
        text = page(topic)
    except OSError as error:
        raise Failure(
            f"this installation has no documentation: {error.filename}: {error.strerror}", "install perago again"
        ) from None
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    os.environ.setdefault("LESS", "-FRX")  # as git: show colors, and end if the page fits on the screen
    console = Console()
    with console.pager(styles=console.color_system is not None):
        console.print(Markdown(text, hyperlinks=False), width=min(console.width, WIDEST))
