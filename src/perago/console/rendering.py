"""Templates to HTML. Whatever is printed is escaped, and its invisible characters are spelled out."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from perago.console.text import plural
from perago.console.times import zone
from perago.workspace.text import visible


class Renderer:
    """The templates of this package."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("perago.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_printed,
        )
        self._environment.filters["plural"] = plural

    def render(self, template: str, view: Any) -> str:
        """The page `template` with the values of `view`."""
        return self._environment.get_template(template).render(view=view, zone=zone())


def _printed(value: Any) -> Any:
    """Plain text only: what a template made of it already (`Markup`) has been through here."""
    return visible(value) if type(value) is str else value
