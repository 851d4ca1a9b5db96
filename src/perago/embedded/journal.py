"""Tables of the models that record their changed rows, so that persistence can write increments.

A model without persistence records nothing. Nothing here locks: the lock of the model covers its tables and its
journal.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, TypeAlias, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Key: TypeAlias = tuple[str | int | None, ...]
"""The key of a record: its kind, then names and ids."""


class Journal:
    """The rows of one model that changed since the last `take`."""

    def __init__(self) -> None:
        self.is_recording = False
        """Whether changes are noted."""
        self.changed: dict[Key, tuple[Table[Any, Any], Any]] = {}

    def take(self) -> dict[Key, Any]:
        """Return the changed rows and clear the list of changes. `Journal.DELETED` marks a deleted row."""
        rows = {key: table.get(own, self.DELETED) for key, (table, own) in self.changed.items()}
        self.changed = {}
        return rows

    DELETED: Any = object()


class Table(dict[K, V]):
    """Rows by key. Call `touch` after changing a row in place; a table that is dropped must be cleared."""

    def __init__(self, journal: Journal, *prefix: str) -> None:
        """`prefix`: the first parts of the keys of all its records."""
        super().__init__()
        self._journal = journal
        self._prefix = prefix

    def touch(self, key: K) -> None:
        """Note that the row of `key` has changed."""
        if self._journal.is_recording:
            parts = key if isinstance(key, tuple) else (key,)
            self._journal.changed[*self._prefix, *parts] = (self, key)

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.touch(key)

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self.touch(key)

    def pop(self, key: K, *default: Any) -> Any:
        if key in self:
            self.touch(key)
        return super().pop(key, *default)

    # Those of `dict` pass by the methods above.
    popitem: Any = MutableMapping.popitem
    clear: Any = MutableMapping.clear
    update: Any = MutableMapping.update
    setdefault: Any = MutableMapping.setdefault
