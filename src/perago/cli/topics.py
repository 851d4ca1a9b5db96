"""The pages of the documentation that `perago help` prints, as topics with a line each.

The pages are those of `docs/`. A wheel has them in `perago/_docs`, where the build configuration puts them.
"""

from __future__ import annotations

import re
from pathlib import Path

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
        "fork-and-join": ("how-to/fork-and-join.md", "several tasks that publish to one branch"),
        "test-a-task": ("how-to/test-a-task.md", "which kind of test answers which question"),
        "run-locally": ("how-to/run-locally.md", "one attempt, or a workflow on embedded servers"),
        "deploy": ("how-to/deploy.md", "Docker, Kubernetes and systemd"),
        "upgrade": ("how-to/upgrade.md", "new versions of perago, without a stop"),
        "on-call": ("how-to/on-call.md", "what to do when an alert fires"),
        "troubleshooting": ("troubleshooting.md", "messages, their causes and fixes"),
        "look-into-a-failure": ("how-to/look-into-a-failure.md", "from a failed workflow to its cause"),
        "production-attempt": ("how-to/production-attempt.md", "capture, replay and compare past attempts"),
    },
    "Reference": {
        "tasks": ("authoring.md", "everything that a task can declare"),
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
    package = Path(__file__).parents[1]
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
    text = _LINK.sub(lambda found: f"{found[1]} ({found[2]})" if "://" in found[2] else found[1], text)
    if linked:
        text += f"\nRead on with `perago help TOPIC`: {', '.join(str(name) for name in linked)}.\n"
    return text


def _topic_of(topic: str, target: str) -> str | None:
    """Return the topic of the page that a link leads to, or None."""
    root = directory().resolve()
    file = (root / _PAGES[topic]).parent / target.partition("#")[0]
    pages = {(root / path).resolve(): name for name, path in _PAGES.items()}
    return pages.get(file.resolve())
