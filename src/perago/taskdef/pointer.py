"""JSON pointers (RFC 6901)."""

from __future__ import annotations


def join_pointer(parent: str, key: str | int) -> str:
    """The pointer to item `key` of what `parent` points to; `""` is the whole document."""
    return f"{parent}/{str(key).replace('~', '~0').replace('/', '~1')}"
