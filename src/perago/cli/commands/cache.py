"""`perago cache`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from perago.cache import Usage

EXAMPLES = """\b
Workers keep the objects that they have fetched or published below the
workspace root, and copy them from there the next time. The ones that were
unused for longest make room for others. PERAGO_CACHE_MAX_BYTES says how much
the cache may hold; 0 switches it off.

\b
Examples:
  perago cache
  perago cache --clear      workers may go on meanwhile"""


def command(
    clear: Annotated[bool, typer.Option("--clear", help="Delete everything in the cache, and its counts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Show how full the cache of objects is and how often it has helped, or clear it."""
    from perago.settings import load_settings

    settings = load_settings()
    root = settings.workspace_root
    from perago import cache

    try:
        found = cache.clear(root) if clear else cache.usage(root)
        limit = settings.cache_max_bytes
        if limit is None and not clear:
            limit = cache.default_limit(_existing(root))
    except (cache.CacheUnusable, OSError) as error:
        raise CommandError(ExitCode.FAILURE, f"the cache cannot be used: {error}", "delete its directory") from error
    if as_json:
        document = {"path": str(root / ".cache"), "cleared": clear, "limit": limit, **asdict(found)}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif clear:
        sys.stdout.write(f"removed {_held(found)} from {root / '.cache'}\n")
    else:
        sys.stdout.write("\n".join(_lines(root, found, limit or 0)) + "\n")


def _existing(root: Path) -> Path:
    """Where the free space of a root can be asked for that no worker has made yet."""
    return next(path for path in (root, *root.parents) if path.exists())


def _lines(root: Path, found: Usage, limit: int) -> list[str]:
    from perago.workspace.text import count, size

    asked = found.hits + found.misses
    share = f" ({found.hits / asked:.0%})" if asked else ""
    return [
        str(root / ".cache"),
        f"  holds   {_held(found)}",
        f"  limit   {size(limit) if limit else 'switched off'}",
        f"  helped  {found.hits:,} of {count(asked, 'object')}{share}, {size(found.hit_bytes)}",
    ]


def _held(found: Usage) -> str:
    from perago.workspace.text import count, size

    return f"{count(found.entries, 'object')}, {size(found.size)}"
