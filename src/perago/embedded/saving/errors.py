"""Why a state cannot be used."""

from __future__ import annotations


class StateError(Exception):
    """The directory is in use, belongs to another version, is damaged, or is something else. Nothing in it was changed.

    The message names the file and says what to do.
    """
