"""Both services and their key pair in one directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from perago.embedded.conductor.core import ModelCore
from perago.embedded.conductor.saving import ConductorSource
from perago.embedded.keys import KeyPair
from perago.embedded.lakefs.saving import LakeFSSource, kept_blobs
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.saving.directory import StateDirectory
from perago.embedded.saving.errors import StateError
from perago.embedded.saving.keeper import Keeper
from perago.embedded.saving.records import Key

_KEYS: Key = ("keys",)


@contextmanager
def kept_in(
    path: Path, conductor: ModelCore, lakefs: LakeFSServer, keys: KeyPair, on_problem: Callable[[str], None]
) -> Iterator[KeyPair]:
    """Fill both fresh models with what `path` holds and keep what becomes of them; gives the key pair to use, which is
    `keys` only if there was none.

    Raises:
        StateError: the directory cannot be used; nothing in it was changed.
    """
    with StateDirectory(path) as directory:
        kept_conductor, kept_lakefs = ConductorSource(conductor), LakeFSSource(lakefs, directory.keep)
        if not directory.is_new:
            records = directory.journal.read()
            with _understood(directory):
                kept_conductor.restore(records)
                kept_lakefs.restore(records, directory.blob)
                keys = KeyPair(**records[_KEYS])
                directory.forget_blobs_except(kept_blobs(records))
        with Keeper(directory, (kept_conductor, kept_lakefs, _Keys(keys)), on_problem):
            yield keys


@contextmanager
def _understood(directory: StateDirectory) -> Iterator[None]:
    try:
        yield
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"{directory.journal.path} cannot be understood ({type(error).__name__}): it was written by another "
            "version of perago, or is damaged; nothing was changed. Use that version, or another directory"
        ) from error


class _Keys:
    """The key pair as one more thing to keep."""

    def __init__(self, keys: KeyPair) -> None:
        self._keys = keys

    def capture(self) -> dict[Key, object]:
        """The one record."""
        return {_KEYS: self._keys}

    def encode(self, key: Key, captured: object) -> Any:  # noqa: ARG002 - the shape that the keeper calls
        """Its JSON value."""
        return asdict(self._keys)
