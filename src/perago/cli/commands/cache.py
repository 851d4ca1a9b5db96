"""`perago cache`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli.errors import CommandError, ExitCode
from perago.failure import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from perago.cache import Usage, Verified

EXAMPLES = """\b
Workers keep the objects that they have fetched or published below the
workspace root, and copy them from there the next time. The ones that were
unused for longest make room for others. PERAGO_CACHE_MAX_BYTES says how much
the cache may hold; 0 switches it off.

\b
Examples:
  perago cache
  perago cache --clear      attempts may run at the same time
  perago cache --verify     finds a failing disk; attempts may run, too"""


def command(
    clear: Annotated[bool, typer.Option("--clear", help="Delete everything in the cache, and its counts.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every object, and delete the damaged ones.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Show how full the cache of objects is and how often it has helped, verify it, or clear it."""
    if clear and verify:
        raise CommandError(ExitCode.USAGE, "--clear and --verify exclude each other", "use one of them")
    from perago.settings import load_settings

    settings = load_settings()
    root = settings.workspace_root
    from perago import cache

    verified: Verified | None = None
    try:
        verified = cache.verify(root) if verify else None
        found = cache.clear(root) if clear else cache.usage(root)
        limit = settings.cache_max_bytes
        if limit is None and not clear:
            # The root itself, unless no worker has made it yet.
            limit = cache.default_limit(next(path for path in (root, *root.parents) if path.exists()))
    except (cache.CacheUnusable, OSError) as error:
        raise Failure(f"the cache cannot be used: {error}", "delete its directory") from error
    if as_json:
        document = {"path": str(root / ".cache"), "cleared": clear, "limit": limit, **asdict(found)}
        document |= {"verified": asdict(verified)} if verified else {}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif verified:
        sys.stdout.write("\n".join(_verified_lines(root, verified)) + "\n")
    elif clear:
        sys.stdout.write(f"removed {_held(found)} from {root / '.cache'}\n")
    else:
        sys.stdout.write("\n".join(_lines(root, found, limit or 0)) + "\n")
    if verified and verified.damaged:
        from perago.text import count

        what = (
            f"{count(len(verified.damaged), 'object')} in {root / '.cache'} had other bytes than when they were stored"
        )
        raise Failure(what, "check the disk; the next attempts download these objects again")


def _verified_lines(root: Path, verified: Verified) -> list[str]:
    from perago.text import count

    lines = [str(root / ".cache"), f"  sound    {count(verified.sound, 'object')}"]
    if verified.without_checksum:
        lines.append(
            f"  skipped  {count(verified.without_checksum, 'object')} of an earlier version, without a checksum"
        )
    return [*lines, *(f"  deleted  {name}" for name in verified.damaged)]


def _lines(root: Path, found: Usage, limit: int) -> list[str]:
    from perago.text import count, size

    asked = found.hits + found.misses
    share = f" ({found.hits / asked:.0%})" if asked else ""
    return [
        str(root / ".cache"),
        f"  holds   {_held(found)}",
        f"  limit   {size(limit) if limit else 'switched off'}",
        f"  helped  {found.hits:,} of {count(asked, 'object')}{share}, {size(found.hit_bytes)}",
    ]


def _held(found: Usage) -> str:
    from perago.text import count, size

    return f"{count(found.entries, 'object')}, {size(found.size)}"
