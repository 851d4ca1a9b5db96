"""Files that commands write and read for people."""

from __future__ import annotations

from pathlib import Path

from perago.atomic_file import replace_file
from perago.cli.boundary import CommandError
from perago.cli.exit_codes import ExitCode


def write_atomically(path: Path, content: bytes) -> None:
    """Write `path` so that it has its old content or its new one at any time, never half of either.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe; a directory refuses by itself
            path.write_bytes(content)
        else:
            replace_file(path.resolve(), content)  # a symlink stays one
    except OSError as error:
        raise CommandError(ExitCode.FAILURE, f"cannot write {path}: {error.strerror}") from error
