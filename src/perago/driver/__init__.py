"""The driver: carries out the commands of one attempt, one at a time, through the ports and the workspace.

It makes no decisions about the protocol. Each command of `perago.attempt.commands` has one method that does the work
and returns one event of `perago.attempt.events`. Errors become events, too.
"""

from perago.driver.attempt import run_attempt
from perago.driver.delivery import Delivered, deliver_report
from perago.driver.function import FunctionCaller, Raised, Returned, call_function
from perago.driver.runtime import (
    SILENT,
    AttemptRecord,
    AttemptRuntime,
    Interrupted,
    Interruptible,
    Limits,
    Observer,
    StepTime,
)
from perago.ports import SystemClock

__all__ = [
    "SILENT",
    "AttemptRecord",
    "AttemptRuntime",
    "Delivered",
    "FunctionCaller",
    "Interrupted",
    "Interruptible",
    "Limits",
    "Observer",
    "Raised",
    "Returned",
    "StepTime",
    "SystemClock",
    "call_function",
    "deliver_report",
    "run_attempt",
]
