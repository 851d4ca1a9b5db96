"""A worker with its queue in a process of its own: `python -m worker.standalone DIRECTORY WHAT GRACE`.

One attempt that does `WHAT` with the file `DIRECTORY/running`; events go to standard output, and the process id of the
slot to the file `DIRECTORY/slot`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from perago.processes import hand_over
from perago.settings import load_settings
from perago.worker.events import Event, SlotReady
from perago.worker.exporters import exporting
from perago.worker.plan import ExportContext
from perago.worker.supervisor import Supervisor

from .bench import make_plan
from .small_queue import SmallQueue


def main(directory: Path, what: str, shutdown_grace: float) -> int:
    """Run until stopped."""
    queue = SmallQueue()
    what, _, then = what.partition("_and_")
    queue.put(what=f"{what}_and" if then else what, then=then, file=str(directory / "running"), seconds=600.0)
    plan = make_plan(directory, shutdown_grace=shutdown_grace, preload=("perago.driver",))

    def tell_slot(event: Event) -> None:
        if isinstance(event, SlotReady):
            (directory / "slot").write_text(str(event.pid))

    with exporting(ExportContext(plan=plan, settings=load_settings())) as listeners:
        supervisor = Supervisor(plan, queue, tell_slot, *listeners)
        hand_over(supervisor.stop)
        return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
