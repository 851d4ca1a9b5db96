"""`perago cache`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from perago.cli.messages import CommandError, ExitCode
from perago.cli.parameters import Json, option
from perago.cli.rendering import Renderer, print_json
from perago.failure import Failure

EXAMPLES = """\b
Workers keep the objects that they have fetched or published below the
workspace root, and copy them from there the next time. The least recently
used objects make room for new ones. PERAGO_CACHE_MAX_BYTES limits the cache;
0 switches it off.

\b
Examples:
  perago cache
  perago cache --clear      attempts may run at the same time
  perago cache --verify     finds a failing disk; attempts may run, too"""


def command(
    clear: Annotated[bool, option("--clear", "Delete everything in the cache, and its counts.")] = False,
    verify: Annotated[bool, option("--verify", "Read every object, and delete the damaged ones.")] = False,
    as_json: Json = False,
) -> None:
    """Show how full the object cache is and how often it has helped, verify it, or clear it."""
    if clear and verify:
        raise CommandError(ExitCode.USAGE, "--clear and --verify exclude each other", "use one of them")
    from perago import cache
    from perago.settings import load_settings
    from perago.text import count, size

    settings = load_settings()
    root = settings.workspace_root
    place, verified, limit = root / ".cache", None, settings.cache_max_bytes
    try:
        verified = cache.verify(root) if verify else None
        cached = cache.clear(root) if clear else cache.usage(root)
        if limit is None and not clear:
            # Ask for the disk of the root itself, unless no worker has created it yet.
            limit = cache.default_limit(next(path for path in (root, *root.parents) if path.exists()))
    except (cache.CacheUnusable, OSError) as error:
        raise Failure(f"the cache cannot be used: {error}", f"delete {place}") from error
    held, out = f"{count(cached.entries, 'object')}, {size(cached.size)}", Renderer()
    if as_json:
        document = {"path": str(place), "cleared": clear, "limit": limit, **asdict(cached)}
        print_json(document | ({"verified": asdict(verified)} if verified else {}))
    elif verified:
        out.line(str(place))
        out.line(f"  sound    {count(verified.sound, 'object')}")
        for name in verified.damaged:
            out.line(f"  deleted  {name}")
    elif clear:
        out.line(f"removed {held} from {place}")
    else:
        asked = cached.hits + cached.misses
        share = f" ({cached.hits / asked:.0%})" if asked else ""
        out.line(str(place))
        out.line(f"  holds   {held}")
        out.line(f"  limit   {size(limit) if limit else 'off'}")
        out.line(f"  helped  {cached.hits:,} of {count(asked, 'object')}{share}, {size(cached.hit_bytes)}")
    if verified and verified.damaged:
        what = f"{count(len(verified.damaged), 'object')} in {place} had damaged bytes"
        raise Failure(what, "check the disk; the next attempts download these objects again")
