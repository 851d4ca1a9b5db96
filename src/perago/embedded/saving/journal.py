"""The journal: a text file of JSON lines that grows with every change and is rewritten when it has become long.

    {"perago": "state", "format": 1}
    {"put": [[["task", "<id>"], {...}], ...], "drop": [[...], ...]}

A line is one change of everything it names, so a process that is killed leaves the state before a change or after it:
an unfinished last line is as if it had never been begun.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from perago.embedded.saving.errors import StateError
from perago.embedded.saving.records import Key, Records

FORMAT = 1
REWRITE_BYTES = 32 * 1024 * 1024
"""A journal is rewritten when it has grown by this much and to twice its size."""


class Journal:
    """The file, open for appending once it was read or begun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._size = 0
        self._rewritten_size = 0

    @property
    def is_long(self) -> bool:
        """Whether it is time to rewrite it."""
        return self._size - self._rewritten_size > max(REWRITE_BYTES, self._rewritten_size)

    def read(self) -> Records:
        """All records as they are after the last complete change. Changes nothing.

        Raises:
            StateError: it was written by another version, or is damaged.
        """
        lines = iter(self._complete_lines())
        self._check_header(next(lines, b""))
        records: dict[Key, Any] = {}
        for number, line in enumerate(lines, start=2):
            try:
                change = json.loads(line)
                records.update((tuple(key), value) for key, value in change["put"])
                for key in change["drop"]:
                    records.pop(tuple(key), None)
            except (ValueError, KeyError, TypeError) as error:
                raise self._damaged(number) from error
        return records

    def rewrite(self, records: Iterable[tuple[Key, Any]]) -> None:
        """Replace the file, at once, by one with just these records, and append to that from now on.

        Raises:
            OSError: the disk refused; the old file is untouched.
        """
        new = self.path.with_name(unfinished(self.path.name))
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size = _write(descriptor, _line({"perago": "state", "format": FORMAT}))
            for key, value in records:
                size += _write(descriptor, _line({"put": [[key, value]], "drop": []}))
            os.fsync(descriptor)
            new.replace(self.path)
        except BaseException:
            os.close(descriptor)
            new.unlink(missing_ok=True)
            raise
        self.close()
        self._descriptor, self._size, self._rewritten_size = descriptor, size, size

    def append(self, put: Iterable[tuple[Key, Any]], drop: Iterable[Key]) -> None:
        """Write down one change.

        Raises:
            OSError: the disk refused; the file is as before.
        """
        try:
            self._size += _write(self._descriptor, _line({"put": list(put), "drop": list(drop)}))
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise

    def close(self) -> None:
        """Give the file back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _complete_lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line

    def _check_header(self, line: bytes) -> None:
        try:
            header = json.loads(line)
            is_ours, version = header["perago"] == "state", header["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(1) from error
        if not is_ours:
            raise self._damaged(1)
        if version != FORMAT:
            raise StateError(
                f"{self.path} has format {version}, but this version of perago reads format {FORMAT}; use the version "
                "that wrote it, or another directory"
            )

    def _damaged(self, number: int) -> StateError:
        return StateError(
            f"{self.path}:{number}: this line is damaged, so the state cannot be read; nothing was changed. Take the "
            "directory from a backup, or use another one"
        )


def unfinished(name: str) -> str:
    """What a file is called until all of it is written; a kill may leave one behind."""
    return f"{name}.new"


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _write(descriptor: int, data: bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    return len(data)
