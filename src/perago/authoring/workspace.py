"""The workspace of a task: canonical paths, the base of guardrails, and WorkspaceSpec.

The kinds of guardrails are the modules of `perago.guardrails`. perago uses rules only through `Guardrail`, so a new
kind is one module.
"""

from __future__ import annotations

import os
import pathlib
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import PureWindowsPath
from types import FunctionType
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from pydantic import field_validator, model_validator

from perago.authoring.declaration import Declaration, calling_line

_DRIVE = re.compile(r"[A-Za-z]:")
_METADATA_DIRECTORY = "_lakefs_actions"


def canonical_path(path: object) -> str:
    """Return the canonical form of a path: `./raw//a.csv` and `PureWindowsPath("raw") / "a.csv"` become `raw/a.csv`.

    Raises:
        ValueError: the path is not a relative path inside the workspace; the message says which rule it breaks.
    """
    text = _posix_text(path)
    if not text:
        raise ValueError("the path is empty")
    categories = set(map(unicodedata.category, text))
    if "Cc" in categories:
        raise ValueError(f"{text!r} contains a control character")
    if "Cs" in categories:
        raise ValueError(f"{text!r} contains half of a surrogate pair, which has no UTF-8 form")
    if _DRIVE.match(text):
        raise ValueError(f"{text!r} names a drive; write it relative to the workspace")
    if text.startswith("/") and text.strip("/"):
        raise ValueError(f"{text!r} is absolute; write it relative to the workspace: {text.lstrip('/')!r}")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"{text!r} contains '..', which could leave the workspace")
    if not parts:
        raise ValueError(f"{text!r} is empty after normalising: it names the workspace itself, not something in it")
    return "/".join(parts)


def canonical_pattern(pattern: object) -> str:
    """Return the canonical form of a glob, as `canonical_path` does. `**` must be a complete component."""
    text = canonical_path(pattern)
    glued = next((part for part in text.split("/") if "**" in part and part != "**"), None)
    if glued is not None:
        advice = "/".join(("**", re.sub(r"\*{2,}", "*", glued)))
        raise ValueError(f"{text!r}: '**' must be a whole path component; write {advice!r} in place of {glued!r}")
    return text


def canonical_prefix(prefix: object) -> str:
    """Return the part of the repository that a task sees as its root: `""` for `/`, or for example `audio/render`.

    Raises:
        ValueError: as `canonical_path`, or for a prefix inside `_lakefs_actions`.
    """
    text = _posix_text(prefix)
    if text and not text.strip("/"):
        return ""
    if text in (".", "./"):
        raise ValueError(f"{text!r} is not a prefix; the whole repository is '/'")
    if not text:
        raise ValueError("the prefix is empty; the whole repository is '/'")
    canonical = canonical_path(text.lstrip("/"))
    if canonical.split("/")[0] == _METADATA_DIRECTORY:
        raise ValueError(f"{text!r} lies in {_METADATA_DIRECTORY}/, which is never part of a workspace")
    return canonical


def _posix_text(path: object) -> str:
    """Return the path with forward slashes. Windows paths are recognized."""
    if isinstance(path, PureWindowsPath):
        _refuse_anchor(path, str(path))
        return path.as_posix()
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise ValueError(f"a path is a str or an os.PathLike of str, not {type(path).__name__}")  # noqa: TRY004
    if "\\" in text:
        _refuse_anchor(PureWindowsPath(text), text)
        raise ValueError(f"{text!r} contains a backslash; write forward slashes, or pass a PureWindowsPath")
    return text


def _refuse_anchor(path: PureWindowsPath, text: str) -> None:
    if path.drive.startswith("\\\\"):
        raise ValueError(f"{text!r} is a UNC path; write it relative to the workspace")
    if path.drive:
        raise ValueError(f"{text!r} names a drive; write it relative to the workspace")
    if path.root:
        raise ValueError(f"{text!r} is absolute; write it relative to the workspace")


Path: TypeAlias = str | os.PathLike[str]


class Listing:
    """The regular files of a tree with their sizes in bytes, and its directories. Paths are relative, with `/`.

    The scan of a disk and the listing of a server both have this form, so a rule cannot distinguish them.
    """

    def __init__(self, sizes: Mapping[str, int], directories: Collection[str] = ()) -> None:
        self.sizes = sizes
        self._given = directories

    @cached_property
    def directories(self) -> frozenset[str]:
        """Every directory: those above a file, and those given. Only hints need them."""
        directories = set(self._given)
        for path in self.sizes:
            above = path.rpartition("/")[0]
            while above and above not in directories:
                directories.add(above)
                above = above.rpartition("/")[0]
        return frozenset(directories)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`matched` is the number of files that the rule concerns. `complaint` names their problem, or is None."""

    matched: int
    complaint: str | None = None


class Guardrail(ABC):
    """A rule about the files of a workspace. Equal declarations are equal rules."""

    __slots__ = ()

    @abstractmethod
    def __str__(self) -> str:
        """Return the rule as an author writes it: `require_dir('raw')`."""

    @property
    def brief(self) -> str:
        """The rule in messages, where a long declaration would leave no room for the problem."""
        return str(self)

    @property
    @abstractmethod
    def label(self) -> str:
        """In the name of a test: `require_dir(raw)`."""


class GuardrailFunction(Guardrail):
    """A rule of the author. Call it like the function to test it: `has_header(tmp_path)`."""

    __slots__ = ()

    @abstractmethod
    def __call__(self, workspace: pathlib.Path) -> str | list[str] | None:
        """Return what the function returns."""


class Rule(Guardrail):
    """The base of all kinds of guardrails. A kind is a frozen dataclass.

    Such a rule is about the shape of the tree: paths, sizes and numbers, which a listing shows before the download.
    Rules about the contents of files are `perago.guardrails.evaluation.ContentGuardrail`s. The first field of a kind is
    the path or the pattern of its files.
    """

    __slots__ = ()

    @property
    def label(self) -> str:
        """The kind, and its first field."""
        files = next(field.name for field in fields(self))  # type: ignore[arg-type]
        return f"{str(self).partition('(')[0]}({getattr(self, files)})"

    @abstractmethod
    def evaluate(self, tree: Listing) -> Verdict:
        """Whether the rule holds for the tree."""

    def hint(self, tree: Listing) -> str | None:  # noqa: ARG002 - for the kinds that have one
        """Return what the author may have meant, if the rule is violated and matched nothing."""
        return None


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


class WorkspaceSpec(Declaration):
    """The versioned tree that a task reads and changes."""

    prefix: str = ""
    """The canonical prefix: `""` for the complete repository (declared as `/`), else a path without leading or trailing
    slash."""
    pre: tuple[Guardrail, ...] = ()
    """Rules that must hold before the function is called."""
    post: tuple[Guardrail, ...] = ()
    """Rules that must hold after it, before anything is published."""
    read_only: bool = False
    """Publish nothing, and treat any change as a failure."""
    on_moved_head: Literal["fail", "rebase"] = "fail"
    """The reaction if others have advanced the branch since the input ref: fail for good, or apply the task's own
    changes to the new head, unless they conflict."""
    include: tuple[str, ...] = ()
    """Globs of the files that the task sees; none: all. Others are neither downloaded nor removed, and cannot be
    written."""
    exclude: tuple[str, ...] = ()
    """Globs of files that the task does not see, although they are included."""
    reads: tuple[str, ...] = ()
    """Globs of files that the task's own changes depend on. A change of these files by others is a conflict. For
    `on_moved_head="rebase"`."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            prefix: str | os.PathLike[str] = "/",
            pre: Iterable[Guardrail] = (),
            post: Iterable[Guardrail] = (),
            read_only: bool = False,
            on_moved_head: Literal["fail", "rebase"] = "fail",
            include: Iterable[str] = (),
            exclude: Iterable[str] = (),
            reads: Iterable[str] = (),
        ) -> None: ...

    @property
    def key_prefix(self) -> str:
        """Return what every object key of the workspace begins with: `""` or like `audio/render/`."""
        return f"{self.prefix}/" if self.prefix else ""

    @field_validator("prefix", mode="before")
    @classmethod
    def _canonical_prefix(cls, prefix: object) -> str:
        return canonical_prefix(prefix)

    @field_validator("include", "exclude", "reads", mode="plain")
    @classmethod
    def _patterns(cls, patterns: object) -> tuple[str, ...]:
        if isinstance(patterns, str) or not isinstance(patterns, Iterable):
            wrap = f"; wrap it: [{patterns!r}]" if isinstance(patterns, str) else ""
            raise ValueError(f"must be a list of globs, not {type(patterns).__name__}{wrap}")  # noqa: TRY004
        return tuple(canonical_pattern(pattern) for pattern in patterns)

    @model_validator(mode="after")
    def _reads_need_a_rebase(self) -> Self:
        if self.reads and self.on_moved_head != "rebase":
            raise ValueError("reads is only for on_moved_head='rebase'; without it, every moved head fails the attempt")
        return self

    @field_validator("pre", "post", mode="plain")
    @classmethod
    def _guardrails(cls, rules: object) -> tuple[Guardrail, ...]:
        checked: list[Guardrail] = []
        if isinstance(rules, str) or not isinstance(rules, Iterable):
            wrap = f"; wrap it: [{rules}]" if isinstance(rules, Guardrail) else ""
            raise ValueError(  # noqa: TRY004 - pydantic only takes ValueError
                f"must be a list of guardrails, not {type(rules).__name__}{wrap}"
            )
        for index, rule in enumerate(rules):
            if isinstance(rule, FunctionType):
                raise ValueError(  # noqa: TRY004 - pydantic only takes ValueError
                    f"item {index} is the function {rule.__name__} without @guardrail; write @guardrail above its def"
                )
            if not isinstance(rule, Guardrail):
                raise ValueError(  # noqa: TRY004 - pydantic only takes ValueError
                    f"item {index} is a {type(rule).__name__}, not a guardrail such as require_file('a.csv')"
                )
            if any(str(other) == str(rule) and other != rule for other in checked):
                raise ValueError(f"item {index} has the name of another guardrail, {rule}; give one of them name=...")
            checked.append(rule)
        return tuple(checked)
