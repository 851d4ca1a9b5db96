"""What a guardrail is: a rule about the tree before or after the task function (docs/design/contract.md 2).

The kinds are the modules of `perago.guardrails`. All that perago does with a rule goes through `Guardrail`, so a
new kind is one module.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

from perago.authoring.paths import canonical_path, canonical_pattern
from perago.authoring.source import calling_line

Path: TypeAlias = str | os.PathLike[str]


class Listing:
    """The regular files of a tree with their sizes in bytes, and its directories. Paths are relative, with `/`.

    A scan of a disk and the listing of a server are both this, and a rule cannot tell them apart.
    """

    def __init__(self, sizes: Mapping[str, int], directories: Collection[str] = ()) -> None:
        self.sizes = sizes
        self._given = directories

    @cached_property
    def directories(self) -> frozenset[str]:
        """Every directory: those above a file, and those given. Only hints need them."""
        found = set(self._given)
        for path in self.sizes:
            above = path.rpartition("/")[0]
            while above and above not in found:
                found.add(above)
                above = above.rpartition("/")[0]
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`matched` files are what the rule is about; `complaint` says what is wrong with them, or is None."""

    matched: int
    complaint: str | None = None


@dataclass(frozen=True, slots=True)
class FileSelection:
    """Some files: `FileSelection("raw", "**")` is all below `raw`, whatever characters that name has.

    `name` is taken as it is, `pattern` is a glob below it. One of them may be empty.
    """

    name: str = ""
    pattern: str = ""

    def __str__(self) -> str:
        return self.name or self.pattern


@dataclass(frozen=True, slots=True)
class CountConstraint:
    """A tree has from `least` to `most` (None: any number) of these files; with `content`, each of them holds it."""

    files: FileSelection
    least: int = 0
    most: int | None = None
    content: str | bytes | None = None

    def too_few(self) -> tuple[CountConstraint, ...]:
        """How a tree has too few: one file is missing, or as many as other rules want."""
        most = self.least - 1
        return replace(self, least=most, most=most), replace(self, least=0, most=most)

    def too_many(self) -> tuple[CountConstraint, ...]:
        """How a tree has too many: one file, or as many as other rules want."""
        least = (self.most or 0) + 1
        return replace(self, least=least, most=least), replace(self, least=least, most=None)


class Guardrail(ABC):
    """A rule about the files of a tree. A kind is a frozen dataclass; equal declarations are equal rules.

    Such a rule is about the shape of the tree: paths, sizes and numbers, which a listing shows before any file is
    downloaded. Rules about what is in the files are `perago.guardrails.content.ContentGuardrail`s.
    """

    __slots__ = ()

    @abstractmethod
    def __str__(self) -> str:
        """As an author writes it: `require_dir('raw')`."""

    @property
    def brief(self) -> str:
        """In messages, where a long declaration would leave no room for what is wrong."""
        return str(self)

    @property
    @abstractmethod
    def label(self) -> str:
        """In the name of a test: `require_dir(raw)`."""

    @abstractmethod
    def evaluate(self, tree: Listing) -> Verdict:
        """Whether the rule holds for the tree."""

    def hint(self, tree: Listing) -> str | None:  # noqa: ARG002 - for the kinds that have one
        """What the author may have meant, if the rule is violated and matched nothing."""
        return None

    @property
    def is_derivable(self) -> bool:
        """Whether trees that satisfy and violate the rule can be made from `constraint` and `violations`. A function of
        the author's can only be tried."""
        return True

    @property
    @abstractmethod
    def constraint(self) -> CountConstraint:
        """What satisfies the rule in generated trees."""

    @abstractmethod
    def violations(self) -> Mapping[str, Sequence[CountConstraint]]:
        """What breaks the rule in generated trees, by the name of the violation. Of several constraints the first one
        that the other rules allow is taken. Empty if every tree satisfies the rule."""


def declared_path(rule: str, path: object) -> str:
    """The canonical form of a path that an author gives to `rule`.

    Raises:
        TaskDefinitionError: not a relative path inside the workspace.
    """
    return _canonical(rule, canonical_path, path)


def declared_pattern(rule: str, pattern: object) -> str:
    """Like `declared_path`, for a glob."""
    return _canonical(rule, canonical_pattern, pattern)


def _canonical(rule: str, canonicalise: Callable[[object], str], path: object) -> str:
    try:
        return canonicalise(path)
    except ValueError as error:
        raise calling_line().error(
            f"{rule}: {error}", fix="use a relative path with forward slashes, such as 'raw/a.csv'"
        ) from None
