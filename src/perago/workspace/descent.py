"""Opening directories and files below a root: never through a symlink, however deep, with few open files."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from types import TracebackType

KEPT_OPEN = 64
"""Directories kept open at once. A depth-first walk returns to an older one once in this many levels."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Descent:
    """Opens directories one component at a time, relative to the one above.

    So no path is ever too long for the system, and a directory that turns into a symlink under way is an `OSError`
    instead of a way out. Walk depth first: the chain of directories that led to the last one stays open. One descent
    belongs to one thread.
    """

    def __init__(self, root: Path, *, held: int | None = None, root_may_be_symlink: bool = False) -> None:
        """Open `root`, or the directory of the descriptor `held`.

        Raises:
            OSError: it is missing, no directory, or a symlink that may not be one.
        """
        flags = DIRECTORY & ~os.O_NOFOLLOW if root_may_be_symlink else DIRECTORY
        self.root = os.open(root if held is None else ".", flags, dir_fd=held)
        self._chain: deque[tuple[str, int]] = deque()

    def enter(self, path: str) -> int:
        """A descriptor of the directory `path` (`""` is the root), valid until the next call.

        Raises:
            OSError: a component is missing, is no directory, is a symlink, or may not be opened.
        """
        chain = self._chain
        while chain and not _is_at_or_below(path, chain[-1][0]):
            os.close(chain.pop()[1])
        above, descriptor = chain[-1] if chain else ("", self.root)
        if path == above:
            return descriptor
        for name in path[len(above) + 1 if above else 0 :].split("/"):
            descriptor = os.open(name, DIRECTORY, dir_fd=descriptor)
            above = f"{above}/{name}" if above else name
            chain.append((above, descriptor))
            if len(chain) > KEPT_OPEN:
                os.close(chain.popleft()[1])
        return descriptor

    def close(self) -> None:
        """Close every descriptor."""
        while self._chain:
            os.close(self._chain.pop()[1])
        os.close(self.root)

    def __enter__(self) -> Descent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_file(root: Path | int, path: str) -> int:
    """A descriptor for reading the file `path` below `root`, a directory or a descriptor of one.

    No part of `path` may be a symlink, and what has become a FIFO is not waited for.

    Raises:
        OSError: a part is missing, is a symlink, is no directory, or may not be opened.
    """
    *above, name = path.split("/")
    directory = os.dup(root) if isinstance(root, int) else os.open(root, DIRECTORY)
    try:
        for part in above:
            below = os.open(part, DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        return os.open(name, _FILE, dir_fd=directory)
    finally:
        os.close(directory)


def split(path: str) -> tuple[str, str]:
    """The directory of `path` (`""` for the root) and its last component."""
    above, _, name = path.rpartition("/")
    return above, name


def _is_at_or_below(path: str, directory: str) -> bool:
    return path.startswith(directory) and path[len(directory) : len(directory) + 1] in ("", "/")
