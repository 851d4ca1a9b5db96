"""A worker with its queue in a process of its own: `python -m worker.standalone DIRECTORY SECONDS`.

One attempt that writes its process id to `DIRECTORY/running` and sleeps; events go to standard output.
"""

from __future__ import annotations

import sys
from pathlib import Path

from perago.worker import PlainLines, Supervisor
from perago.worker.events import Event, SlotReady

from .bench import make_plan
from .small_queue import SmallQueue


def main(directory: Path, what: str, seconds: float) -> int:
    """Run until stopped."""
    queue = SmallQueue()
    queue.put(what=what, file=str(directory / "running"), seconds=seconds)
    lines = PlainLines(sys.stdout)

    def listen(event: Event) -> None:
        if isinstance(event, SlotReady):
            print(f"slot {event.pid}", flush=True)
        lines(event)

    plan = make_plan(directory, shutdown_grace=2.0, preload=("perago.driver",))
    return Supervisor(plan, queue, listen).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
