"""`perago help`: the pages of the documentation, as topics with a line each.

The pages are those of `docs/`. A wheel has them in `perago/_docs`, where the build configuration puts them.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from perago.cli.app import COMMANDS, app
from perago.cli.parameters import argument
from perago.cli.rendering import Renderer
from perago.failure import Failure

WIDEST = 100
"""Characters of a line on a terminal, which is easier to read than a full screen."""
EXAMPLES = """\b
Examples:
  perago help
  perago help tutorial
  perago help configuration | grep CACHE"""


def command(topic: Annotated[str | None, argument("TOPIC", "A topic, or the name of a command.")] = None) -> None:
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
    for group, entries in TOPICS.items():
        renderer.line(f"{group}:")
        for topic, (_, summary) in entries.items():
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
        problem = f"this installation has no documentation: {error.filename}: {error.strerror}"
        raise Failure(problem, "install perago again") from None
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    os.environ.setdefault("LESS", "-FRX")  # as git: show colors, and end if the page fits on the screen
    console = Console()
    with console.pager(styles=console.color_system is not None):
        console.print(Markdown(text, hyperlinks=False), width=min(console.width, WIDEST))


# ---------------------------------------------------------------------------------------------- topics

TOPICS = {
    "Start": {
        "concepts": ("concepts.md", "an overview in ten minutes, and a glossary"),
        "tutorial": ("tutorial.md", "write, test and run a first task"),
        "install": ("how-to/install.md", "extras, and the pip line"),
    },
    "How to": {
        "write-a-task": ("how-to/write-a-task.md", "in a new project or in an existing one"),
        "check-contents": ("how-to/check-contents.md", "guardrails for tables, and guardrails of your own"),
        "write-a-workflow": ("how-to/write-a-workflow.md", "typed steps in Python instead of JSON"),
        "wait-for-a-signal": ("how-to/wait-for-a-signal.md", "workflows that wait for people and times"),
        "fork-and-join": ("how-to/fork-and-join.md", "several tasks that publish to one branch"),
        "test-a-task": ("how-to/test-a-task.md", "which kind of test answers which question"),
        "run-locally": ("how-to/run-locally.md", "one attempt, or a workflow on embedded servers"),
        "use-the-sdks": ("how-to/use-the-sdks.md", "scripts and notebooks with conductor-python and lakefs"),
        "test-with-the-sdks": ("how-to/test-with-the-sdks.md", "official clients on embedded servers"),
        "deploy": ("how-to/deploy.md", "Docker, Kubernetes and systemd"),
        "upgrade": ("how-to/upgrade.md", "new versions of perago, without a stop"),
        "on-call": ("how-to/on-call.md", "what to do when an alert fires"),
        "troubleshooting": ("troubleshooting.md", "messages, their causes and fixes"),
        "look-into-a-failure": ("how-to/look-into-a-failure.md", "from a failed workflow to its cause"),
        "production-attempt": ("how-to/production-attempt.md", "capture, replay and compare past attempts"),
    },
    "Reference": {
        "tasks": ("authoring.md", "everything that a task can declare"),
        "workflow-forms": ("workflow-forms.md", "failures, choices, maps and limits of workflows"),
        "cli": ("cli.md", "commands, exit codes and JSON documents"),
        "configuration": ("configuration.md", "variables of the environment and of .env"),
        "workers": ("workers.md", "processes, disks, cache and log files of a worker"),
        "operations": ("operations.md", "sizing, probes, metrics, traces and printed lines"),
        "perago-dev": ("perago-dev.md", "the embedded servers, and the pages of the console"),
        "fixtures": ("testing/fixtures.md", "write tests with the fixtures of the plugin"),
        "generated": ("testing/generated.md", "tests that pytest generates from your modules"),
        "faults": ("testing/faults.md", "tests that inject faults, and fuzz tests"),
        "pytest": ("testing/reference.md", "options, ini values, markers and hooks of the plugin"),
        "security": ("security.md", "what perago protects against, and what not"),
        "compatibility": ("compatibility.md", "what stays the same in later versions"),
    },
}
"""Group, topic, then page and summary. The tables of docs/index.md are written from it:
`WRITE_DOCS=1 pytest tests/cli/test_help.py`."""
_PAGES = {topic: page for group in TOPICS.values() for topic, (page, _) in group.items()}
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[\])+)\]\(([^)\s]+)\)")


def directory() -> Path:
    """Return the directory of the pages: that of the wheel, or that of the checkout."""
    package = Path(__file__).parents[2]
    packaged = package / "_docs"
    return packaged if packaged.is_dir() else package.parents[1] / "docs"


def topics() -> tuple[str, ...]:
    """Return the names of all topics."""
    return tuple(_PAGES)


def page(topic: str) -> str:
    """Return the page of a topic as Markdown for a terminal.

    Pictures become their description. Links lose their targets, and the last line names the topics that they lead to.

    Raises:
        OSError: the page is not there.
    """
    text = (directory() / _PAGES[topic]).read_text(encoding="utf-8")
    linked = dict.fromkeys(
        name for _, target in _LINK.findall(text) if (name := _topic_of(topic, target)) not in (None, topic)
    )
    text = re.sub(r"^<!-- help: (\w+) -->$", r"`perago \1 --help` lists the options.", text, flags=re.MULTILINE)
    text = re.sub(r"^( *```\w+) .*$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"!\[([^\]]+)\]\([^)]+\)", r"*Picture: \1*", text)
    text = _LINK.sub(lambda match: f"{match[1]} ({match[2]})" if "://" in match[2] else match[1], text)
    if linked:
        text += f"\nRead on with `perago help TOPIC`: {', '.join(str(name) for name in linked)}.\n"
    return text


def _topic_of(topic: str, target: str) -> str | None:
    """Return the topic of the page that a link leads to, or None."""
    root = directory().resolve()
    file = (root / _PAGES[topic]).parent / target.partition("#")[0]
    pages = {(root / path).resolve(): name for name, path in _PAGES.items()}
    return pages.get(file.resolve())
