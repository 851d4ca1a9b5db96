"""Files that commands write and read for people."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
            _replace(path.resolve(), content)  # a symlink stays one
    except OSError as error:
        raise CommandError(ExitCode.FAILURE, f"cannot write {path}: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        new.chmod(_mode(path))
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """What the file has now, or what a new file gets."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0o022)
    os.umask(umask)
    return 0o666 & ~umask
