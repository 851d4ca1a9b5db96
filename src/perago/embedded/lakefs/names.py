"""What lakeFS accepts as a name, and ref expressions: `main`, `main@`, `main$`, `main~2`, `main^1`, commit ids."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perago.embedded.lakefs.errors import ImpossibleName, Invalid, LakeFSError

MAX_PATH_BYTES = 1024

_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_TAG_FORBIDDEN = re.compile(r"[\x00-\x20^:?*\[\\/]|\.\.|@\{")
_INVALID = "invalid value: validation error"


def check_repository_name(name: str) -> None:
    """Refuse all but 3 to 63 lower-case letters, digits and dashes that do not start with a dash.

    Raises:
        ImpossibleName: a name that cannot be a repository's.
    """
    if not _REPOSITORY.fullmatch(name):
        raise ImpossibleName(f"argument repository: repository id: {_INVALID}")


def check_branch_name(name: str, argument: str = "branch") -> None:
    """Refuse all but ASCII letters, digits, `_` and `-`, a leading `-`, and (with 500) no name.

    Raises:
        ImpossibleName: a name that cannot be a branch's.
        LakeFSError: no name at all.
    """
    if not name:
        raise LakeFSError(f"argument {argument}: required value: validation error")
    if not _BRANCH.fullmatch(name):
        raise ImpossibleName(
            f"argument {argument}: branch id: {_INVALID}: branch id must consist of letters, digits, underscores and "
            "dashes, and cannot start with a dash"
        )


def check_tag_name(name: str) -> None:
    """Refuse what git refuses in a tag, but allow `~`; without a name it is 500.

    Raises:
        Invalid: a name that cannot be a tag's.
        LakeFSError: no name at all.
    """
    if not name:
        raise LakeFSError("argument tagID: required value: validation error")
    if name == "@" or name.endswith((".", ".lock")) or _TAG_FORBIDDEN.search(name):
        raise Invalid(f"argument tagID: tag id: {_INVALID}")


def check_ref(ref: str, argument: str = "ref") -> None:
    """Refuse a ref with white space, and (with 500) none at all. Whether it resolves is another question.

    Raises:
        ImpossibleName: there is white space in it.
        LakeFSError: it is empty.
    """
    if not ref:
        raise LakeFSError(f"argument {argument}: required value: validation error")
    if ref.split() != [ref]:
        raise ImpossibleName(f"argument {argument}: ref: {_INVALID}")


def check_path(path: str) -> None:
    """Raise `Invalid` for an empty path, one that is not UTF-8, or one of more than 1,024 bytes."""
    if not path:
        raise Invalid("argument path: missing path: required value: validation error")
    check_length("path", path)


def check_length(argument: str, text: str) -> None:
    """Raise `Invalid` for text that is not UTF-8 or has more than 1,024 bytes."""
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid(f"argument {argument}: {_INVALID}: not UTF-8") from None
    if length > MAX_PATH_BYTES:
        raise Invalid(f"argument {argument}: {_INVALID}: {length} is above maximum length ({MAX_PATH_BYTES})")


INVALID_REF = "ref: invalid value: validation error"
SHOULD_BE_A_COMMIT = f"{INVALID_REF}: should point to a commit"
"""What some calls say about a branch with its staged changes (`main$`)."""

_MODIFIER = re.compile(r"[~^@$][^~^@$]*")
_BASE = re.compile(r"[^~^@$]+")
_NUMBER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Step:
    """One modifier: `~N` follows first parents N times, `^N` takes the N-th parent; `@` leaves staged changes out, `$`
    has them."""

    mark: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class RefExpression:
    """A parsed ref: a name and what follows it, in order."""

    name: str
    steps: tuple[Step, ...]

    @property
    def suffix(self) -> str:
        """`@` or `$` if that is all there is behind the name, else `""`."""
        return self.steps[0].mark if len(self.steps) == 1 and self.steps[0].mark in "@$" else ""


@dataclass(frozen=True, slots=True)
class ResolvedRef:
    """What a ref points at. `branch` is set where staged changes are shown: a bare branch, or a branch with `$`."""

    commit_id: str
    branch: str | None = None
    explicit_staging: bool = False
    """Written with `$`: not a commit, so no source of a branch or merge."""


def parse_ref(text: str) -> RefExpression:
    """Take a ref expression apart.

    Raises:
        Invalid: no name, a step that is not a number, or a number behind `@` or `$`.
    """
    base = _BASE.match(text)
    if base is None:
        raise Invalid(INVALID_REF)
    return RefExpression(base.group(), tuple(map(_step, _MODIFIER.findall(text, base.end()))))


def _step(modifier: str) -> Step:
    mark, number = modifier[0], modifier[1:]
    if mark in "@$":
        if number:
            raise Invalid(INVALID_REF)
        return Step(mark)
    if number and not _NUMBER.fullmatch(number):
        raise Invalid(f"could not parse modifier {modifier}: {INVALID_REF}")
    return Step(mark, int(number or "1"))
