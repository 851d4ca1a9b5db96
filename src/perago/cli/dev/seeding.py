"""The repository that every task of `perago dev` works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perago.cli.boundary import CommandError
from perago.cli.dev.workflows import BRANCH, REPOSITORY
from perago.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from perago.embedded.http.services import EmbeddedServices


def seed(services: EmbeddedServices, directory: Path | None) -> None:
    """Make repository and branch where they are missing, and commit what `directory` has that the branch has not.

    Nothing is removed from the branch: what tasks have published stays. Links are refused, never followed.

    Raises:
        CommandError: the directory cannot be a workspace.
    """
    from perago.cli.trees import TreeRefused, files_below
    from perago.embedded.lakefs.errors import LakeFSError, Missing, NoChanges
    from perago.workspace.errors import WorkspaceError

    server = services.lakefs.server
    try:
        server.get_branch(REPOSITORY, BRANCH)
    except Missing:
        server.create_repository(REPOSITORY, default_branch=BRANCH)
    if directory is None:
        return
    try:
        files = files_below(directory, "")
        blobs = {key: server.blobs.of_file(file) for key, file in files.items() if isinstance(file, Path)}
        for key, blob in blobs.items():  # only now, when nothing can fail half-way any more
            server.put_object(REPOSITORY, BRANCH, key, blob)
        server.commit(REPOSITORY, BRANCH, f"The files of {directory}")
    except NoChanges:
        return
    except (TreeRefused, WorkspaceError, OSError) as error:
        raise CommandError(ExitCode.FAILURE, str(error)) from error
    except LakeFSError as error:
        raise CommandError(ExitCode.FAILURE, f"{directory} cannot be committed: {error.message}") from error


def head(services: EmbeddedServices) -> str:
    """The commit that the branch points at now."""
    return services.lakefs.server.get_branch(REPOSITORY, BRANCH).commit_id
