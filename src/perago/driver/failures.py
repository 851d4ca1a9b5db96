"""Which failures a retry may cure (docs/design/contract.md 4)."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence
from pathlib import Path

from perago.attempt import commands as do
from perago.attempt.events import CommandFailed, GuardrailsChecked
from perago.attempt.outcome import violated
from perago.attempt.steps import Step
from perago.guardrails.evaluation import Finding
from perago.ports import NotFound, ServiceError
from perago.taskdef.problems import TOO_DEEP
from perago.workspace.directory import root_problem
from perago.workspace.errors import EXHAUSTED, DirectoryRefused, LayoutRefused, NoRoom, WorkspaceError
from perago.workspace.layout import RESERVE

_OF_THE_INPUT = (Step.VALIDATED, Step.RECOVERED, Step.LISTED)


def failure_of(error: ServiceError | WorkspaceError | OSError, step: Step) -> CommandFailed:
    """The event for a command that could not be carried out at `step`.

    An unknown repository, branch or commit is final, as long as it is the input's; names that perago made itself can
    only have been taken away. A listing or an id that no disk takes is final, a disk that is full or too small is not.
    """
    if isinstance(error, DirectoryRefused | LayoutRefused):
        return CommandFailed(str(error), terminal=not error.retryable)
    if isinstance(error, ServiceError):
        return CommandFailed(str(error), terminal=isinstance(error, NotFound) and step in _OF_THE_INPUT)
    if isinstance(error, OSError):
        return CommandFailed(_words(error), terminal=False)
    return CommandFailed(str(error), terminal=False)


MOST_HAND_BACKS = 5
"""Deliveries of an attempt whose input would not fit even into an empty root. Another host gets this many chances."""


def is_of_this_host(error: Exception | SystemExit, root: Path, poll_count: int) -> bool:
    """Whether the disk of this host is why a command failed, so that another host could carry it out now.

    An input that is larger than the disk is a failure of the attempt, and so is a connection that broke. Where other
    programs leave too little space even for an empty `root`, it is a failure from delivery `MOST_HAND_BACKS` on.
    """
    if isinstance(error, NoRoom):
        return error.is_passing or poll_count < MOST_HAND_BACKS
    if isinstance(error, ConnectionError | TimeoutError) or not isinstance(error, OSError | DirectoryRefused):
        return False
    number = error.errno if isinstance(error, OSError) else None
    return number in _OF_THE_DISK or (number not in EXHAUSTED and root_problem(root, RESERVE) is not None)


def judged(findings: Sequence[Finding]) -> CommandFailed | GuardrailsChecked:
    """The event for the verdicts of one phase. Where only guardrails are wrong, not the data, another attempt may find
    them mended, so that is not final in any phase."""
    broken = tuple(finding.message for finding in findings if not finding.satisfied)
    if broken and all(finding.satisfied or finding.is_defect for finding in findings):
        return CommandFailed(violated(broken), terminal=False)
    return GuardrailsChecked(broken)


_CHECKED = {do.ValidateInput: "input", do.ValidateResult: "result"}
_DEEPEST_FRAMES = -15


def unexpected(error: Exception | SystemExit, command: do.Command) -> CommandFailed:
    """The event for a command that ended in an unforeseen way: a defect, no memory, an author's validator.

    What is nested too deeply in an input or a result stays so; everything else may go better another time. The text of
    the exception is left out where it may quote params or the result (docs/design/contract.md 4).
    """
    checked = _CHECKED.get(type(command))
    if checked and isinstance(error, RecursionError):
        return CommandFailed(f"Invalid {checked}: it {TOO_DEEP}", terminal=True)
    text = "" if checked or isinstance(command, do.RunFunction) else f": {error}"
    return CommandFailed(
        f"perago could not carry out {type(command).__name__}: {type(error).__name__}{text}", terminal=False
    )


def where(error: BaseException) -> str:
    """The frames that an exception came through, for the log; without its text, which may quote values."""
    return f"{type(error).__name__}, raised at:\n{''.join(traceback.format_tb(error.__traceback__, _DEEPEST_FRAMES))}"


def _words(error: OSError) -> str:
    if isinstance(error, ConnectionError | TimeoutError):
        return f"A connection broke: {error.strerror or type(error).__name__}."
    if error.errno in EXHAUSTED:
        return (
            f"Too many files are open here ({errno.errorcode[error.errno]}). A task function must close its files; if "
            "it needs so many at once, raise the limit (ulimit -n)."
        )
    where = f": {error.filename}" if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    advice = " Free space, or point PERAGO_WORKSPACE_ROOT elsewhere." if error.errno in _FULL else ""
    return f"The local disk refused{where}: {reason}.{advice}"


_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_DISK = (*_FULL, errno.EROFS)
