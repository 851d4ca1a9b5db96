"""Makes the pictures in `docs/images`: pages of the console in a headless Chromium, and a run in a terminal.

python -m tests.docs.screenshots

The pictures show the bundled workflow on its bundled data, on free ports of this machine. Ids and times differ from run
to run, so the pictures are made when what they show has changed, and not by a test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from perago.cli.commands.demo import MODULES, PLACES
from perago.samples.penguins.workflow import penguins

from ..console.browser import Browser, find_browser, running_browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DATA = Path(__file__).parents[2] / "src" / "perago" / "samples" / "penguins" / "data"
LIMIT_SECONDS = 120.0
COLUMNS = 128
NAMES = tuple(module.removeprefix("perago.samples.") for module in MODULES)
"""The task types of the bundled modules."""
NO_BROWSER = "no Chromium was found, so the pictures of the console stay as they are (Debian: apt-get install chromium)"


def main() -> None:
    """Make all pictures that this machine can make."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CONDUCTOR_", "LAKECTL_"))}
    with tempfile.TemporaryDirectory(prefix="perago-screenshots-") as made:
        scratch = Path(made)
        environment |= {"HOME": made, "XDG_STATE_HOME": made, "XDG_CACHE_HOME": made, "TZ": "UTC"}
        picture_demo(scratch, environment)
        executable = find_browser()
        if executable is None:
            print(NO_BROWSER)
            return
        with running_browser(executable, scratch) as browser, perago_dev(scratch, environment) as lines:
            picture_console(browser, "\n".join(lines))


def picture_demo(scratch: Path, environment: Mapping[str, str]) -> None:
    """Draw what `perago demo` prints in a terminal."""
    colours = {**environment, "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "0", "TERM": "xterm-256color"}
    ran = subprocess.run(
        [sys.executable, "-m", "perago", "demo"], cwd=scratch, env=colours, capture_output=True, check=True
    )
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print("[bold]$ perago demo[/]")
    console.print(Text.from_ansi(re.sub(r"\x1b\[[?0-9;]*[A-Za-ln-z]", "", ran.stdout.decode())))
    drawn = console.export_svg(title="perago demo", theme=MONOKAI, unique_id="perago-demo")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)  # a picture loads nothing from elsewhere
    drawn = re.sub(r"<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    write("demo.svg", drawn.replace("Fira Code, monospace", "monospace").encode())


@contextlib.contextmanager
def perago_dev(scratch: Path, environment: Mapping[str, str]) -> Iterator[list[str]]:
    """`perago dev` with the bundled tasks and files, once all workers are ready; gives the lines that it printed."""
    files = scratch / "files"
    for name, place in PLACES.items():
        (files / place).parent.mkdir(parents=True, exist_ok=True)
        (files / place).write_bytes((DATA / name).read_bytes())
    command = [
        sys.executable,
        "-u",
        "-m",
        "perago",
        "dev",
        "--curl",
        *MODULES,
        "--workspace",
        str(files),
        "--port",
        "0",
        "--jobs",
        "3",
    ]
    process = subprocess.Popen(command, cwd=scratch, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield _until_ready(process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_SECONDS)


def _until_ready(process: subprocess.Popen[str]) -> list[str]:
    """The lines up to the address of the page. The rest is read and dropped."""
    queue: SimpleQueue[str] = SimpleQueue()
    assert process.stdout is not None
    threading.Thread(target=lambda stream: [*map(queue.put, stream)], args=(process.stdout,), daemon=True).start()
    lines: list[str] = []
    while not any(line.startswith("  page ") for line in lines):
        try:
            lines.append(queue.get(timeout=LIMIT_SECONDS).rstrip("\n"))
        except Empty:
            raise SystemExit(f"perago dev said nothing for {LIMIT_SECONDS:g} s; last: {lines[-1:]}") from None
    return lines


def picture_console(browser: Browser, printed: str) -> None:
    """Run workflows, and picture the pages that show them. `printed` is what `perago dev` said of its services."""
    page = found(r"page +(\S+)/$", printed)
    address = found(r"Conductor +(\S+)$", printed)
    conductor = Conductor(address)
    for name in NAMES:
        wait_for_worker(address, name)
    commit = {"repository": "dev", "branch": "main", "ref_type": "commit", "ref": found(r"\b([0-9a-f]{64})\b", printed)}
    failed = run(conductor, f"dev.{NAMES[2]}", {"workspace": commit, "params": {}})
    conductor.create_workflow_definition(penguins.definition())
    completed = run(conductor, penguins.definition()["name"], {"workspace": commit})
    browser.open(page, width=1100)
    picture(browser, "console.png")
    browser.open(f"{page}/workflows/{completed}", width=1100)
    picture(browser, "workflow.png", height=1400)
    browser.open(f"{page}/workflows/{failed}", width=1100)
    picture(browser, "failure.png", height=1200)


class Conductor:
    """The Conductor of `perago dev` at an address; proxies are passed by."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._opener = build_opener(ProxyHandler({}))

    def create_workflow_definition(self, definition: Mapping[str, Any]) -> None:
        self._send("/metadata/workflow", definition)

    def start_workflow(self, name: str, payload: Mapping[str, Any]) -> str:
        return self._send(f"/workflow/{name}", payload).decode()

    def status(self, workflow_id: str) -> str:
        return str(json.loads(self._send(f"/workflow/{workflow_id}/status"))["status"])

    def _send(self, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        with self._opener.open(Request(self._address + path, data, {"Content-Type": "application/json"})) as answer:
            content: bytes = answer.read()
            return content


def wait_for_worker(address: str, name: str) -> None:
    """Return once a worker polls for a task type."""
    opener = build_opener(ProxyHandler({}))
    until(
        lambda: opener.open(f"{address}/tasks/queue/polldata?taskType={name}").read() != b"[]",
        f"no worker polls for {name}",
    )


def run(conductor: Conductor, name: str, payload: Mapping[str, Any]) -> str:
    """Start a workflow and wait for its end; returns its id."""
    workflow_id = conductor.start_workflow(name, payload)
    until(
        lambda: conductor.status(workflow_id) != "RUNNING",
        f"workflow {name} does not end",
    )
    return workflow_id


def until(is_so: Callable[[], bool], otherwise: str) -> None:
    """Wait for a condition, and end with a message where it is not met in time."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{otherwise} within {LIMIT_SECONDS:g} s")
        time.sleep(0.1)


def picture(browser: Browser, name: str, *, height: float | None = None) -> None:
    """Save the open page, or its upper `height` pixels."""
    file = IMAGES / name
    browser.screenshot(file, height=height)
    browser.close()
    print(f"{file.relative_to(IMAGES.parents[1])}: {file.stat().st_size:,} bytes")


def write(name: str, content: bytes) -> None:
    """Save a picture that was drawn here."""
    (IMAGES / name).write_bytes(content)
    print(f"docs/images/{name}: {len(content):,} bytes")


def found(pattern: str, text: str) -> str:
    """What the group of the pattern matches."""
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise SystemExit(f"perago dev did not print {pattern}:\n{text}")
    return match[1]


if __name__ == "__main__":
    main()
