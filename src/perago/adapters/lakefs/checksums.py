"""MD5 as lakeFS records it."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_MD5 = re.compile(r"[0-9a-f]{32}")


def is_md5(checksum: str) -> bool:
    """Whether a listed checksum is an MD5; an imported object may carry any ETag instead."""
    return _MD5.fullmatch(checksum) is not None


def new_md5() -> _Hash:
    """A hash that works where MD5 is banned for security: here it guards against accidents only."""
    return hashlib.md5(usedforsecurity=False)
