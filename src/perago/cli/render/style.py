"""Colour, where somebody is there to see it."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TextIO


class Colour(IntEnum):
    """ANSI foreground colours."""

    RED = 31
    GREEN = 32
    YELLOW = 33
    CYAN = 36


def painted(text: str, colour: Colour, stream: TextIO) -> str:
    """`text` in bold colour if `stream` is a terminal that shows colours and nobody set NO_COLOR."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[1;{colour.value}m{text}\x1b[0m"
