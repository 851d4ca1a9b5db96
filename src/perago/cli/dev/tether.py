"""`perago start` on a tether: a worker process that ends when the process that started it is gone, however it went.

Run as `python -m perago.cli.dev.tether DESCRIPTOR start MODULE ...`. The descriptor is the reading end of a pipe that
nobody writes to; its end is the end of the other process, SIGKILL included.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

PATIENCE = 10.0
"""Seconds that running attempts get to finish on their own once nobody is there to see it."""


def main() -> None:
    """Hold on to the tether and be `perago`."""
    descriptor = int(sys.argv.pop(1))
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_watch, args=(descriptor,), name="perago-tether", daemon=True).start()
    from perago.cli import main as perago

    perago()


def _watch(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
