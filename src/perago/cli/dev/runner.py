"""One module under `perago dev`: its worker process, its source files, and when the one follows the other.

A change of the files is looked at first, in a process that is thrown away. If the module is still valid, the worker
process drains (so a reload happens when its slots are idle), the TaskDef is registered again if it changed, and a new
one starts. If not, the worker drains as well and nothing runs until the next change: tasks wait in their queue instead
of being done by code that is no longer there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from perago.back_off import RestartDelay
from perago.cli.dev.processes import READY, Check, Checked, ChildEnded, ChildSaid, Post, WorkerChild
from perago.cli.dev.watching import SourceFiles

if TYPE_CHECKING:
    from perago.cli.probe import ModuleProblem, Probed


class Surroundings(Protocol):
    """What a runner needs of the session that it belongs to."""

    def register(self, runner: ModuleRunner) -> None:
        """Put the TaskDef and the workflow of the runner's task on the embedded Conductor."""
        ...

    def told_apart(self, probed: Probed) -> Probed:
        """The same, or a problem if another module declares a task of that name."""
        ...

    def say(self, runner: ModuleRunner, text: str) -> None:
        """Print a line about a module."""
        ...

    def show_problem(self, runner: ModuleRunner, probed: Probed) -> None:
        """Print why a module cannot be used."""
        ...

    def show_start(self, runner: ModuleRunner) -> None:
        """Print how its workflow is started now."""
        ...


class ModuleRunner:
    """What one module is doing. All methods are called by the session's thread."""

    def __init__(
        self,
        module: str,
        probed: Probed,
        slots: int,
        environment: Mapping[str, str],
        import_limit: float,
        post: Post,
        session: Surroundings,
    ) -> None:
        """Begin with a module that was found valid; its worker starts at the first `tick`.

        Args:
            module: The import path of the task module.
            probed: What was found in it.
            slots: How many attempts run at a time.
            environment: The whole environment of its worker.
            import_limit: Seconds that importing it may take.
            post: Takes the events of the threads that attend to its processes.
            session: The session that it belongs to.

        Raises:
            ValueError: the module has no task.
        """
        if probed.task is None:
            raise ValueError(f"{module} has no task to run")
        self.module = module
        self.task = probed.task
        self.was_ready = False
        """Whether a worker of it has ever polled."""
        self._slots = slots
        self._environment = environment
        self._import_limit = import_limit
        self._post = post
        self._session = session
        self._files = SourceFiles(probed.files)
        self._delay = RestartDelay()
        self._child: WorkerChild | None = None
        self._check: Check | None = None
        self._problem: ModuleProblem | None = None
        self._start_at = 0.0
        self._reloaded = False
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Whether a process of its runs."""
        return self._child is not None or self._check is not None

    def tick(self) -> None:
        """Look at the files, and start what is due."""
        if self._stopping or self._check is not None:
            return
        if self._files.changed():
            self._files.forget_bytecode()
            self._check = Check(self.module, self._import_limit, self._post)
        elif self._child is None and self._problem is None and time.monotonic() >= self._start_at:
            self._start()

    def stop(self) -> None:
        """Once: drain. Twice: cancel. From the third time on: kill."""
        self._stopping = True
        if self._check is not None:
            self._check.cancel()
        if self._child is not None:
            self._child.stop()

    # ------------------------------------------------------------------- what is heard

    def said(self, event: ChildSaid) -> None:
        """A line of its worker process."""
        if not event.text.startswith(READY):
            self._session.say(self, event.text)
            return
        self.was_ready = True
        self._session.say(self, "reloaded" if self._reloaded else "ready")
        if self._reloaded:
            self._session.show_start(self)
        self._reloaded = False

    def ended(self, event: ChildEnded) -> None:
        """Its worker process is gone: as it was told, or by itself."""
        child, self._child = self._child, None
        if child is None or child.asked_to_stop or self._stopping:
            return
        pause = self._delay.after_crash(time.monotonic() - child.started)
        self._start_at = time.monotonic() + pause
        how = f"was killed by signal {-event.status}" if event.status < 0 else f"ended with status {event.status}"
        self._session.say(self, f"the worker {how}; it is started again in {pause:g} s")

    def checked(self, event: Checked) -> None:
        """What a change amounted to."""
        self._check = None
        if self._stopping:
            return
        probed = self._session.told_apart(event.probed)
        if probed.task is None:
            self._break(probed)
            return
        self._problem = None
        self._start_at = 0.0
        self._reloaded = True
        changed = probed.task != self.task
        self.task = probed.task
        self._files.replace(probed.files)
        if changed:
            self._session.register(self)
        self._drain()

    # ---------------------------------------------------------------------- what is done

    def _start(self) -> None:
        post, module = self._post, self.module
        self._files.forget_bytecode()
        self._child = WorkerChild(
            module,
            self._slots,
            self._environment,
            self._import_limit,
            on_line=lambda text: post(ChildSaid(module, text)),
            on_end=lambda status: post(ChildEnded(module, status)),
        )

    def _break(self, probed: Probed) -> None:
        if probed.problem is not None:
            self._files.add_suspects(probed.problem.traceback)
        if probed.problem != self._problem:  # a file beside it may have changed that has nothing to do with it
            self._session.show_problem(self, probed)
            self._session.say(self, "not running; waiting for the next change")
        self._problem = probed.problem
        self._drain()

    def _drain(self) -> None:
        if self._child is not None and not self._child.asked_to_stop:
            self._child.stop()
