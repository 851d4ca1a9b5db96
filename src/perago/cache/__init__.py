"""Objects that this machine has fetched or published before, on its disk (docs/workers.md).

    <root>/.cache/<40 hex digits>.xxh3    an object and its checksum, below the workspace root
    <root>/.cache/ledger.json             the size of the cache, and how often it helped

Any number of processes use it at the same time. A file appears by a rename, complete. Nothing is ever linked into a
workspace: it gets a copy, so that no task function can change the input of the next attempt.
"""

from __future__ import annotations

from perago.cache.objects import Addition, CacheUnusable, ObjectCache, ObjectId, Shelf, on_disk
from perago.cache.upkeep import Usage, Verified, clear, default_limit, give_room, trim, usage, verify

__all__ = [
    "Addition",
    "CacheUnusable",
    "ObjectCache",
    "ObjectId",
    "Shelf",
    "Usage",
    "Verified",
    "clear",
    "default_limit",
    "give_room",
    "on_disk",
    "trim",
    "usage",
    "verify",
]
