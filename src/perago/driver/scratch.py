"""Where the function stands: its current and its temporary directory, beside the workspace and removed with it.

Only the workspace is published. A file that the function writes under a relative name would be lost in production and
would litter the author's project in a test, so it goes to a directory of the attempt, and is named.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import get_temp_dir
from pathlib import Path

from perago.authoring import Task
from perago.workspace.errors import WorkspaceError
from perago.workspace.glob import compile_glob
from perago.workspace.scan import IrregularKind, scan_tree
from perago.workspace.text import listing, quoted

_MOST = 1000
"""Names of left files that are kept."""

_TEMPORARY = ("TMPDIR", "TEMP", "TMP")
_one_at_a_time = threading.RLock()


@contextmanager
def standing_in(scratch: tuple[Path, Path] | None, former: str | None) -> Iterator[None]:
    """Make these two this process's current and temporary directory. None: there is no attempt.

    Relative entries of `sys.path` mean `former`, the current directory so far, all the same. The caller puts the
    current directory and the environment back. A second attempt on another thread gets no scratch directories: the
    current directory belongs to the process.
    """
    if scratch is None or not _one_at_a_time.acquire(blocking=False):
        yield
        return
    get_temp_dir()  # multiprocessing keeps what it gets here for the life of the process
    current, temporary = map(str, scratch)
    cached, tempfile.tempdir = tempfile.tempdir, temporary
    relative = _absolute_imports(former)
    try:
        os.environ.update(dict.fromkeys(_TEMPORARY, temporary))
        os.chdir(current)
        yield
    finally:
        sys.path[:] = [relative.get(entry, entry) for entry in sys.path]
        tempfile.tempdir = cached
        _one_at_a_time.release()


def _absolute_imports(former: str | None) -> dict[str, str]:
    """Make entries of `sys.path` absolute; returns what they were."""
    if former is None:
        return {}
    made = {entry: os.path.join(former, entry).rstrip("/") for entry in sys.path if not os.path.isabs(entry)}  # noqa: PTH117, PTH118
    before = set(sys.path)
    sys.path[:] = [made.get(entry, entry) for entry in sys.path]
    return {absolute: entry for entry, absolute in made.items() if absolute not in before}


def left_files(current: Path, task: Task) -> tuple[str, ...]:
    """The files that the function has left in `current` and that its task does not allow, sorted; at most 1,000.

    Empty directories, links and sockets hold nothing that could be lost. Temporary files are temporary.
    """
    try:
        found = scan_tree(current)
    except (WorkspaceError, OSError):
        return ()
    odd = [entry.path for entry in found.irregular if entry.kind is IrregularKind.NOT_UTF8]
    allowed = [compile_glob(pattern) for pattern in task.scratch_files]
    left = (path for path in sorted([*found.files, *odd]) if not any(glob.fullmatch(path) for glob in allowed))
    return tuple(path for path, _ in zip(left, range(_MOST), strict=False))


def left_words(left: tuple[str, ...], task: Task) -> str | None:
    """A sentence that names them; None if there are none."""
    if not left:
        return None
    names = ("at least " if len(left) == _MOST else "") + listing([quoted(path) for path in left])
    published = "only the workspace is published" if task.workspace else "a task without a workspace publishes no files"
    return f"The function wrote {names} to its current directory; {published}."


def what_to_do(task: Task) -> str:
    """The advice that follows."""
    place = "Write below `workspace`" if task.workspace else "Give the task a workspace"
    return f"{place}, or name what may be lost: @task(scratch_files=[...])."


def relative_hint(error: BaseException, former: str | None) -> str:
    """What to add to the reason of a file that was not found because its name is relative; mostly nothing."""
    name = getattr(error, "filename", None)
    if not isinstance(error, FileNotFoundError) or former is None or not isinstance(name, str | os.PathLike):
        return ""
    try:
        path = os.fspath(name)
        is_meant = isinstance(path, str) and not os.path.isabs(path) and os.path.exists(os.path.join(former, path))  # noqa: PTH110, PTH117, PTH118
    except ValueError:
        return ""
    if not is_meant:
        return ""
    return (
        f". {quoted(str(path))} is relative, and the function's current directory is a scratch directory of the "
        "attempt: write Path(__file__).parent / ... for a file of your project, or workspace / ..."
    )
