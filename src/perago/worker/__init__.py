"""Worker processes: a supervisor that talks to Conductor and slots that run attempts (docs/dev/contract.md 7)."""

from perago.worker.events import Event, Listener
from perago.worker.plan import LogPlan, TaskPlan, WorkerPlan
from perago.worker.processes import ForkServerDied, check_fork_server, discard_fork_server, start_process, warm_up
from perago.worker.supervisor import Supervisor

__all__ = [
    "Event",
    "ForkServerDied",
    "Listener",
    "LogPlan",
    "Supervisor",
    "TaskPlan",
    "WorkerPlan",
    "check_fork_server",
    "discard_fork_server",
    "start_process",
    "warm_up",
]
