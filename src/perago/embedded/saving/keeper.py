"""Writes down what has changed, twice a second, beside everything else that goes on.

Requests wait only while the rows are copied, which takes a few microseconds for each; comparing, turning into JSON and
writing happen without any lock. Conductor is looked at before lakeFS: a publication without its report is what the
attempt protocol recovers from, a report without its publication is not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from perago.embedded.saving.directory import StateDirectory
from perago.embedded.saving.errors import StateError
from perago.embedded.saving.records import Key

SECONDS = 0.5
"""How often changes are looked for: what is lost when the process is killed is at most a little more than this."""

_MOST = 10.0
"""A large state is looked at less often, so that this takes a tenth of the time at most."""


class Source(Protocol):
    """One service, as far as it is kept."""

    def capture(self) -> Mapping[Key, object]:
        """Everything that there is, as values that do not change any more. Quick."""
        ...

    def encode(self, key: Key, captured: object) -> Any:
        """The JSON value of something captured."""
        ...


class Keeper:
    """Keeps `sources` in `directory` from entering the context to leaving it. `on_problem` hears of a disk that does
    not take it, once until it does again."""

    def __init__(
        self, directory: StateDirectory, sources: tuple[Source, ...], on_problem: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._sources = sources
        self._on_problem = on_problem
        self._in_trouble = False
        self._kept: list[Mapping[Key, object]] = [{} for _ in sources]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perago-keeper", daemon=True)

    def __enter__(self) -> Keeper:
        """Rewrite the journal with what the services hold now, and go on from there.

        Raises:
            StateError: the disk refused.
        """
        try:
            self._rewrite()
        except OSError as error:
            raise StateError(f"{self._directory.path} cannot be written to: {error.strerror}") from error
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._in_trouble = False  # what is not kept now is lost, so it is told whatever was told before
        self._save()

    def _run(self) -> None:
        pause = SECONDS
        while not self._stopped.wait(pause):
            begun = time.monotonic()
            self._save()
            pause = max(SECONDS, _MOST * (time.monotonic() - begun))

    def _save(self) -> None:
        try:
            if self._directory.journal.is_long:
                self._rewrite()
            else:
                self._append()
        except (OSError, ValueError, RecursionError) as error:
            if not self._in_trouble:
                self._on_problem(f"the state is not being kept in {self._directory.path}: {error}")
            self._in_trouble = True
        else:
            self._in_trouble = False

    def _append(self) -> None:
        captured = [source.capture() for source in self._sources]
        put: list[tuple[Key, Any]] = []
        drop: list[Key] = []
        for source, old, new in zip(self._sources, self._kept, captured, strict=True):
            put += ((key, source.encode(key, new[key])) for key in _changed(old, new))
            drop += old.keys() - new.keys()
        if put or drop:
            self._directory.journal.append(put, drop)
        self._kept = captured

    def _rewrite(self) -> None:
        captured = [source.capture() for source in self._sources]
        self._directory.journal.rewrite(
            (key, source.encode(key, value))
            for source, values in zip(self._sources, captured, strict=True)
            for key, value in values.items()
        )
        self._kept = captured


def _changed(old: Mapping[Key, object], new: Mapping[Key, object]) -> Iterator[Key]:
    missing = object()
    for key, value in new.items():
        known = old.get(key, missing)
        if known is not value and known != value:
            yield key
