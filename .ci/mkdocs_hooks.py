"""What mkdocs needs to know of these pages (mkdocs.yml, `hooks`)."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put in the help of commands, and leave out info strings for the tests, such as `file=my_tasks/features.py`."""
    markdown = re.sub(r"^<!-- help: (\w+) -->$", lambda found: _help(found[1]), markdown, flags=re.MULTILINE)
    return re.sub(r"^( *```\w+) .*$", r"\1", markdown, flags=re.MULTILINE)


def _help(command: str) -> str:
    shown = subprocess.run(
        [sys.executable, "-m", "perago", command, "--help"], capture_output=True, check=True, text=True, timeout=60
    )
    return f"```text\n{shown.stdout.strip()}\n```"


def on_post_page(output: str, page: Any, **_: Any) -> None:
    """Every public name is in the reference of the Python API, and the classes of `perago.records` have parameters.

    Raises:
        ValueError: names or parameters are missing.
    """
    if page.file.src_uri != "api.md":
        return
    names = {name for module in ("perago", "perago.testing") for name in import_module(module).__all__}
    missing = names - set(re.findall(r'id="perago\.[\w.]+\.(\w+)"', output)) - {"__version__"}
    if missing:
        raise ValueError(f"the Python API has no entry for {', '.join(sorted(missing))}")
    testing = import_module("perago.testing")
    shown = set(re.findall(r'id="perago\.[\w.]+\.(\w+)"(?:(?!</h)[\s\S])*</h3>\s*<div class="doc-signature', output))
    bare = {name for name in testing.__all__ if is_dataclass(getattr(testing, name))} - shown
    if bare:
        raise ValueError(f"the Python API has no parameters of {', '.join(sorted(bare))}")
