"""What client and server of a store say to each other. Everything is pickled, over an authenticated connection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """A request: an operation of the port with its plain arguments. `watched`: the client wants progress."""

    operation: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    watched: bool


class Kind(StrEnum):
    """What a message from the server is. It is followed by one payload."""

    RESULT = "result"
    ERROR = "error"
    PROGRESS = "progress"  # (objects, bytes) of a download, (upload,) of an upload
    LAYOUT = "layout"  # a listing; the client answers with placements, or with None if its layout raised
