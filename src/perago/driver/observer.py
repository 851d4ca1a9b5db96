"""Watching an attempt while it runs."""

from __future__ import annotations

from typing import Literal, Protocol

Direction = Literal["download", "upload"]


class Observer(Protocol):
    """Is told what happens. Methods may be called by several threads, must be quick and must not raise."""

    def step(self, name: str) -> None:
        """A command is about to be carried out."""
        ...

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """So many objects and bytes of a transfer are done."""
        ...

    def log(self, text: str) -> None:
        """The function called `current().log`."""
        ...

    def progress(self, done: int, total: int) -> None:
        """The function called `current().progress`."""
        ...

    def waiting(self, text: str) -> None:
        """lakeFS does not answer and is waited for, or answers again; `text` is a line about it."""
        ...

    def publishing(self, repository: str, branch: str, expected_head: str, words: str) -> None:
        """A merge that expects this head is about to be sent, or was answered. `words` say what becomes of it if
        nothing more is heard of the attempt; empty: nothing of the attempt is, or may appear, on the branch."""
        ...


class _Silent:
    def step(self, name: str) -> None:
        """Does nothing."""

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """Does nothing."""

    def log(self, text: str) -> None:
        """Does nothing."""

    def progress(self, done: int, total: int) -> None:
        """Does nothing."""

    def waiting(self, text: str) -> None:
        """Not said anywhere."""

    def publishing(self, repository: str, branch: str, expected_head: str, words: str) -> None:
        """Not said anywhere."""


SILENT: Observer = _Silent()
"""For those who do not watch."""
