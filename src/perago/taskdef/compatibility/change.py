"""The words of the classification."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from typing import Any

from perago.taskdef.compare import ABSENT, Difference, same_json
from perago.taskdef.problems import join_pointer


class Impact(StrEnum):
    """What a change does to workflows that are already running."""

    BREAKING = "breaking"
    COMPATIBLE = "compatible"


_FOR_PEOPLE = frozenset({"description", "ownerEmail", "title", "examples", "$comment"})


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `pointer` leads to it in the new definition, or in the old one for what is gone.

    `old` or `new` is `ABSENT` for something added or removed; `reason` is for people.
    """

    pointer: str
    old: Any
    new: Any
    impact: Impact
    reason: str

    @property
    def difference(self) -> str:
        """What changed, in one line."""
        return Difference(self.pointer, self.old, self.new).text

    @property
    def text(self) -> str:
        """The change and what it means, in one line."""
        return f"{self.impact}: {self.difference} ({self.reason})"

    @property
    def word(self) -> str:
        """The impact, or `cosmetic` for a text that people read and no workflow does."""
        *above, key = self.pointer.split("/")
        is_annotation = key in _FOR_PEOPLE and above[-1:] != ["properties"]
        return "cosmetic" if is_annotation and self.impact is Impact.COMPATIBLE else str(self.impact)


class AffectedParty(Flag):
    """Who may fail because a schema changed.

    Senders write values by the old schema: they are affected if it got narrower. Readers understand values of the old
    schema: they are affected if it got wider.
    """

    NEITHER = 0
    SENDERS = auto()
    READERS = auto()
    BOTH = SENDERS | READERS

    @classmethod
    def of(cls, *, senders: bool, readers: bool) -> AffectedParty:
        """Return the parties for which the answer is yes."""
        return (cls.SENDERS if senders else cls.NEITHER) | (cls.READERS if readers else cls.NEITHER)


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A change inside a schema, before it is known whether it describes parameters or results."""

    pointer: str
    old: Any
    new: Any
    affected: AffectedParty
    reason: str


def keyword_changes(
    pointer: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    keywords: Iterable[str],
    affected: AffectedParty,
    reason: str,
) -> Iterator[SchemaChange]:
    """One change for each of these keywords that differs; they are judged together.

    Args:
        pointer: The JSON pointer to the schema.
        old: The schema as it was.
        new: The schema as it is.
        keywords: The keywords to compare.
        affected: Which party such a change affects.
        reason: Why, for people.
    """
    for keyword in keywords:
        before, after = old.get(keyword, ABSENT), new.get(keyword, ABSENT)
        if not same_json(before, after):
            yield SchemaChange(join_pointer(pointer, keyword), before, after, affected, reason)


def differ(old: Mapping[str, Any], new: Mapping[str, Any], keywords: Iterable[str]) -> bool:
    """Whether any of these keywords differs."""
    return any(not same_json(old.get(keyword, ABSENT), new.get(keyword, ABSENT)) for keyword in keywords)


def affected_by(changes: Iterable[SchemaChange]) -> AffectedParty:
    """Return whom several changes affect together."""
    return functools.reduce(operator.or_, (change.affected for change in changes), AffectedParty.NEITHER)
