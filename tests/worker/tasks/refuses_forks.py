"""Preloaded by the fork server: its forks fail while a file exists, as they do at a limit of processes."""

import errno
import os
from pathlib import Path

_fork = os.fork


def _refuse() -> int:
    if Path(os.environ["TEST_REFUSED"]).exists():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return _fork()


os.fork = _refuse
