"""Branches of lakeFS as they are named on the command line."""

from __future__ import annotations

import re

import typer

from perago.cli.boundary import CommandError
from perago.cli.exit_codes import ExitCode

_BRANCH = re.compile(r"\w[-\w]*", re.ASCII)  # docs/servers/lakefs.md 2
_COMMIT = re.compile(r"[0-9a-f]{64}")


def checked_branch(name: str) -> str:
    """`name`, if a branch can have it; otherwise a usage error."""
    if _COMMIT.fullmatch(name):
        raise typer.BadParameter("that is a commit id; name the branch that the result shall go to.")
    if not _BRANCH.fullmatch(name):
        raise typer.BadParameter(f"{name!r} cannot be a branch: letters, digits, _ and - only.")
    return name


def branch_head(repository: str, branch: str) -> str:
    """The commit that a branch of the configured lakeFS points at now.

    Raises:
        CommandError: there is none.
    """
    from perago.settings import load_settings

    lakefs = load_settings().require_lakefs()
    from perago.adapters.lakefs import LakeFSStore
    from perago.ports import NotFound

    store = LakeFSStore(lakefs)
    try:
        return store.get_commit(repository, branch).id
    except NotFound as error:
        message = f"{lakefs.endpoint_url} has no branch {branch} in a repository {repository}: {error.detail}"
        raise CommandError(
            ExitCode.FAILURE, message, "check both names, and that the address is the right one"
        ) from error
    finally:
        store.close()
