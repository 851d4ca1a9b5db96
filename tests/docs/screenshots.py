"""Makes the pictures in `docs/images`: pages of the console in a headless Chromium, and a run in a terminal.

python -m tests.docs.screenshots

The pictures show the bundled workflow on its bundled data, on free ports of this machine. Ids and times differ from run
to run, so the pictures are made when what they show has changed, and not by a test.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from perago.cli.commands.local_runs import MODULES, PLACES

from ..cli.conftest import Project, make_project
from ..cli.dev_command import Dev, ready
from ..console.browser import Browser, find_browser, running_browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DATA = Path(__file__).parents[2] / "src" / "perago" / "samples" / "penguins" / "data"
WORKFLOW = "perago.samples.penguins.workflow"
COLUMNS = 128
NO_BROWSER = "no Chromium was found, so the pictures of the console stay as they are (Debian: apt-get install chromium)"


def main() -> None:
    """Make all pictures that this machine can make."""
    with tempfile.TemporaryDirectory(prefix="perago-screenshots-") as made:
        project = make_project(Path(made))
        project.environment["TZ"] = "UTC"
        picture_demo(project)
        executable = find_browser()
        if executable is None:
            print(NO_BROWSER)
            return
        files = project.directory / "files"
        for name, place in PLACES.items():
            (files / place).parent.mkdir(parents=True, exist_ok=True)
            (files / place).write_bytes((DATA / name).read_bytes())
        options = ("--workspace", "files", "--jobs", "3")
        with running_browser(executable, Path(made)) as browser, ready(project, *MODULES, WORKFLOW, *options) as dev:
            picture_console(browser, project, dev)


def picture_demo(project: Project) -> None:
    """Draw what `perago demo` prints in a terminal."""
    command = (sys.executable, "-m", "perago", "demo")
    ran = project.execute(*command, TTY_COMPATIBLE="1", TTY_INTERACTIVE="0", TERM="xterm-256color")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print("[bold]$ perago demo[/]")
    console.print(Text.from_ansi(re.sub(r"\x1b\[[?0-9;]*[A-Za-ln-z]", "", ran.out)))
    drawn = console.export_svg(title="perago demo", theme=MONOKAI, unique_id="perago-demo")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)  # a picture loads nothing from elsewhere
    drawn = re.sub(r"<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    content = drawn.replace("Fira Code, monospace", "monospace").encode()
    (IMAGES / "demo.svg").write_bytes(content)
    print(f"docs/images/demo.svg: {len(content):,} bytes")


def picture_console(browser: Browser, project: Project, dev: Dev) -> None:
    """Run workflows, and picture the pages that show them."""

    def sent(module: str) -> str:
        ran = project.run("send", module, "--branch", "dev/main", "--follow", **dev.variables())
        return ran.err.splitlines()[0].removeprefix("started workflow ")

    failed, completed = sent(MODULES[2]), sent(WORKFLOW)
    picture(browser, dev.url, "console.png")
    picture(browser, f"{dev.url}/workflows/{completed}", "workflow.png", height=1400)
    picture(browser, f"{dev.url}/workflows/{failed}", "failure.png", height=1200)


def picture(browser: Browser, url: str, name: str, *, height: float | None = None) -> None:
    """Save a page, or its upper `height` pixels."""
    file = IMAGES / name
    browser.open(url, width=1100)
    browser.screenshot(file, height=height)
    browser.close()
    print(f"{file.relative_to(IMAGES.parents[1])}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
