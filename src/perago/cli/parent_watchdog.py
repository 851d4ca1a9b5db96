"""`perago start` with a watchdog: a worker process that ends when its parent has ended.

Run it as `python -m perago.cli.parent_watchdog DESCRIPTOR start MODULE ...`. The descriptor is the reading end of a
pipe that no process writes to. It ends with the parent, even after SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

PATIENCE = 10.0
"""Seconds that running attempts get to finish after the parent has ended."""


def main() -> None:
    """Start the watchdog, and run `perago`."""
    descriptor = int(sys.argv.pop(1))
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_watch, args=(descriptor,), name="perago-parent-watchdog", daemon=True).start()
    from perago.cli import main as perago

    perago()


def _watch(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
