"""What lakeFS accepts as the name of a repository, branch, tag or ref (`reference/lakefs.md` 2)."""

from __future__ import annotations

import re

from perago.embedded.lakefs.errors import Invalid, LakeFSError

_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_TAG_FORBIDDEN = re.compile(r"[\x00-\x20^:?*\[\\/]|\.\.|@\{")
_INVALID = "invalid value: validation error"


def check_repository_name(name: str) -> None:
    """Refuse all but 3 to 63 lower-case letters, digits and dashes that do not start with a dash.

    Raises:
        Invalid: a name that cannot be a repository's.
    """
    if not _REPOSITORY.fullmatch(name):
        raise Invalid(f"argument repository: repository id: {_INVALID}")


def check_branch_name(name: str, argument: str = "branch") -> None:
    """Refuse all but ASCII letters, digits, `_` and `-`, a leading `-`, and (with 500) no name.

    Raises:
        Invalid: a name that cannot be a branch's.
        LakeFSError: no name at all.
    """
    if not name:
        raise LakeFSError(f"argument {argument}: required value: validation error")
    if not _BRANCH.fullmatch(name):
        raise Invalid(f"argument {argument}: branch id: {_INVALID}")


def check_new_branch_name(name: str) -> None:
    """As `check_branch_name`, with the longer words that creating a branch has."""
    try:
        check_branch_name(name)
    except Invalid as error:
        raise Invalid(
            f"{error.message}: branch id must consist of letters, digits, underscores and dashes, "
            "and cannot start with a dash"
        ) from None


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
        Invalid: there is white space in it.
        LakeFSError: it is empty.
    """
    if not ref:
        raise LakeFSError(f"argument {argument}: required value: validation error")
    if ref.split() != [ref]:
        raise Invalid(f"argument {argument}: ref: {_INVALID}")
