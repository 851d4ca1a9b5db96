"""The driver: carries out the commands of one attempt, one at a time, through the ports and the workspace.

It decides nothing about the protocol. Each command of `perago.attempt.commands` has one method that does the work and
answers with one event of `perago.attempt.events`; what goes wrong becomes an event, too.
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
