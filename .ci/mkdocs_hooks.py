"""What mkdocs needs to know of these pages (mkdocs.yml, `hooks`)."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leave out what info strings tell the tests of the documentation, as in `python file=my_tasks/features.py`."""
    return re.sub(r"^( *```\w+) .*$", r"\1", markdown, flags=re.MULTILINE)


def on_post_page(output: str, page: Any, **_: Any) -> None:
    """Every public name is in the reference of the Python API.

    Raises:
        ValueError: names are missing.
    """
    if page.file.src_uri != "api.md":
        return
    names = {name for module in ("perago", "perago.testing") for name in import_module(module).__all__}
    missing = names - set(re.findall(r'id="perago\.[\w.]+\.(\w+)"', output)) - {"__version__"}
    if missing:
        raise ValueError(f"the Python API has no entry for {', '.join(sorted(missing))}")
