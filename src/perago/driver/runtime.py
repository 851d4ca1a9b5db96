"""`AttemptRuntime`: the services, limits and hooks that a worker gives its attempts.

The delivery check asks at the steps that cannot be taken back. In between, a transfer may last for hours, or a service
that does not answer may be asked again and again. The worker that hears of a loss cuts that short.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from perago.driver.fencing import FenceProofs
from perago.driver.function import FunctionCaller, call_function
from perago.ports import Clock, DeliveryCheck, WorkspaceStore
from perago.settings.sources import PublishFence


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes, times seconds."""

    max_result_bytes: int = 1024 * 1024
    """`PERAGO_MAX_RESULT_BYTES`: a result travels whole in the publication's metadata."""
    max_workspace_bytes: int | None = None
    """`PERAGO_MAX_WORKSPACE_BYTES`; None: no limit."""
    max_workspace_objects: int = 10_000_000
    """`PERAGO_MAX_WORKSPACE_OBJECTS`: of objects below the task's prefix, and of the directories that they need."""
    history: int = 1000
    """Commits that are looked through between the branch head and the input ref."""
    publish_fence: PublishFence = PublishFence.AUTO
    """`PERAGO_PUBLISH_FENCE`: how strictly a publication insists on the publish fence."""
    answer_patience: float = 120.0
    """The seconds for which Conductor is asked again while it does not answer, and lakeFS while it does not accept the
    credentials: a worker reads them once, so that a proxy's trouble passes, and wrong ones do not."""
    outage_patience: float = 2700.0
    """The seconds for which an attempt waits for lakeFS while it does not answer, or fails itself. Restarts, upgrades
    and failovers are over by then, and a staging branch does not stand still for the hour after which `perago gc` may
    remove it. A task's `timeoutSeconds` ends the wait earlier."""
    rebase_tries: int = 100
    """The number of times that changes are put on another head while others advance the branch. Each try that is lost
    is one that another publisher has won."""
    fail_on_left_files: bool = False
    """An attempt fails if its function leaves files in its current directory; else they are noted."""
    allowed_workspaces: tuple[str, ...] | None = None
    """`PERAGO_ALLOWED_WORKSPACES`: glob patterns `repository/branch` that an input may name; None: any."""

    def allows(self, repository: str, branch: str) -> bool:
        """Whether an input may name this branch. Case counts, and no name holds a slash."""
        if self.allowed_workspaces is None:
            return True
        if "/" in repository or "/" in branch:
            return False
        return any(fnmatchcase(f"{repository}/{branch}", pattern) for pattern in self.allowed_workspaces)


Direction = Literal["download", "upload"]


class Observer:
    """Watches an attempt. Its methods may be called by several threads, must be quick and must not raise. An observer
    overrides those that it needs."""

    def step(self, name: str) -> None:
        """A command is about to be carried out."""

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """So many objects and bytes of a transfer are done."""

    def log(self, text: str) -> None:
        """The function called `current().log`."""

    def progress(self, done: int, total: int) -> None:
        """The function called `current().progress`."""

    def waiting(self, text: str) -> None:
        """lakeFS does not answer and is waited for, or answers again; `text` is a line about it."""

    def publishing(self, repository: str, branch: str, expected_head: str, words: str) -> None:
        """A merge that expects this head is about to be sent, or was answered. `words` say what becomes of it if
        nothing more is heard of the attempt; empty: nothing of the attempt is, or may appear, on the branch."""


SILENT = Observer()
"""For those who do not watch."""


class Interrupted(BaseException):
    """The delivery is lost: what runs must end now. No `Exception`, so that no handler takes it for a failure
    of the call that it interrupts."""


Interruptible = Callable[[], AbstractContextManager[object]]
"""Makes a block that raises `Interrupted` at its beginning if the delivery is lost by then, and at any point within as
soon as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRuntime:
    """Services and settings that a worker gives its attempts."""

    store: WorkspaceStore | None
    """lakeFS; None only for a task without a workspace."""
    delivery_check: DeliveryCheck
    """Answers whether the delivery is still current."""
    workspace_root: Path
    """The directory in which attempt directories are made."""
    clock: Clock
    limits: Limits = field(default_factory=Limits)
    call: FunctionCaller = call_function
    """The caller of the task function; a worker captures its output there."""
    observer: Observer = SILENT
    store_notes: Callable[[], tuple[str, ...]] = tuple
    """Notes for an operator about the store's transfers since the last call, such as a way that did not work."""
    worker_id: str = ""
    interruptible: Interruptible = nullcontext
    """Makes the blocks in which a loss that is noticed elsewhere ends the attempt at once."""
    around_guardrails: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered while guardrails look into files, as some are code of the author's."""
    proofs: FenceProofs | None = None
    """Proofs that this process has of lakeFS servers; None: the attempt tries its server itself."""
