"""What registering changes, on standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from perago.cli.render.style import Colour, painted
from perago.workspace.text import one_line

if TYPE_CHECKING:
    from perago.taskdef import Difference


def comparison(name: str, is_new: bool, differences: Sequence[Difference]) -> None:
    """One TaskDef against what the server has: a line, and one for every difference."""
    kind, colour = ("new", Colour.GREEN) if is_new else ("changed", Colour.YELLOW)
    if not is_new and not differences:
        sys.stdout.write(f"unchanged  {name}\n")
        return
    sys.stdout.write(f"{painted(f'{kind:9}', colour, sys.stdout)}  {name}\n")
    for difference in differences:
        sys.stdout.write(f"  {one_line(difference.text)}\n")


def summary(count: int, server: str, *, dry_run: bool) -> None:
    """What was done, or would have been."""
    sys.stdout.flush()
    what = f"{count} TaskDef{'' if count == 1 else 's'}"
    if count == 0:
        text = f"nothing to register on {server}"
    elif dry_run:
        text = f"dry run: {what} would be registered on {server}"
    else:
        text = f"registered {what} on {server}"
    sys.stdout.write(text + "\n")
