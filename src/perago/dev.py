"""A run of `perago dev`: servers, workers and workflows, which follow the source files.

A changed module is first checked in a separate process. If it is valid, its worker process drains, the TaskDef is
registered again if it changed, and a new process starts. If it is not valid, the worker drains as well, and tasks wait
in their queue until the next change.

One queue collects the events of all threads, so that lines are printed one after the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from perago.embedded.lakefs import commits, objects, references
from perago.failure import Failure
from perago.probe import ChildProcess, accept_workflows, refused_as_duplicate
from perago.processes import heard, raise_pending_signal
from perago.retry import RestartDelay
from perago.text import json_text

if TYPE_CHECKING:
    from perago.embedded.services import EmbeddedServices
    from perago.probe import ModuleProblem, Probed, TaskSummary, WorkflowSummary


READY = "ready: "
"""The beginning of the line that `perago start` prints once it polls."""
_OUTPUT_DRAIN = 1.0
"""Seconds for the last lines after the process ended. A process that it left running can hold its output open
forever."""


@dataclass(frozen=True, slots=True)
class ChildOutput:
    """A worker process printed a line."""

    module: str
    text: str


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """A worker process has ended, with this exit status (negative: the signal that killed it)."""

    module: str
    status: int


@dataclass(frozen=True, slots=True)
class Checked:
    """A changed module was checked."""

    module: str
    probed: Probed


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal asks this process to stop."""

    number: signal.Signals


DevEvent: TypeAlias = ChildOutput | ChildEnded | Checked | Signalled
Post: TypeAlias = Callable[[DevEvent], None]
"""Accepts an event from any thread and from signal handlers."""


class WorkerChild:
    """`perago start MODULE -j N` in its own process group, so that Ctrl-C reaches it only through this process.

    Posts `ChildOutput` for each line of its output, and `ChildEnded` once, as the last event.
    """

    def __init__(
        self, module: str, slots: int, environment: Mapping[str, str], import_limit: float, post: Post
    ) -> None:
        """Start the process.

        Args:
            module: The import path of the task module.
            slots: The number of concurrent attempts.
            environment: The complete environment of the process.
            import_limit: Seconds that importing the module may take.
            post: Takes its events, from other threads.
        """
        self.started: float = time.monotonic()
        self.asked_to_stop: int = 0
        """The number of requests. The second cancels running attempts, the third kills them."""
        self._module = module
        self._post = post
        held, self._lifeline = os.pipe()
        options = ["start", module, "--jobs", str(slots), "--watch", "--embedded", "--timeout", str(import_limit)]
        command = [sys.executable, "-c", "from perago.cli import watched; watched()", str(held), *options]
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[held],
            )
        finally:
            os.close(held)
        threading.Thread(target=self._attend, name=f"perago-dev-{module}", daemon=True).start()

    def stop(self) -> None:
        """Ask the process to end: first drain, then cancel, then kill."""
        self.asked_to_stop += 1
        if self.asked_to_stop <= 2:
            self._process.send_signal(signal.SIGTERM)
        elif self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _attend(self) -> None:
        reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        reader.start()
        status = self._process.wait()
        reader.join(_OUTPUT_DRAIN)
        os.close(self._lifeline)
        self._post(ChildEnded(self._module, status))

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._post(ChildOutput(self._module, line.decode("utf-8", "replace").rstrip("\n")))


class Check:
    """Imports a module in a child process, and posts the result."""

    def __init__(self, module: str, seconds: float, post: Post) -> None:
        self._module = module
        self._post = post
        self._child = ChildProcess(module, seconds, beside_threads=True)
        threading.Thread(target=self._run, name=f"perago-dev-check-{module}", daemon=True).start()

    def cancel(self) -> None:
        """End the check immediately, because its result no longer matters."""
        self._child.cancel()

    def _run(self) -> None:
        with self._child:
            probed = accept_workflows(self._child.result())
        self._post(Checked(self._module, probed))


CHECK_INTERVAL = 0.5
"""Seconds between two checks of the files."""

Fingerprint = tuple[tuple[int, int, int] | None, ...]
"""Modification time, size and inode of each file, None for one that is missing."""

_FRAME = re.compile(r'File "([^"<][^"]*)", line \d+')


class SourceFiles:
    """The files of one module, and their state at the last check."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = tuple(sorted(set(files)))
        self._fingerprint = self._take_fingerprint()

    def changed(self) -> bool:
        """Whether the files have changed since the last call."""
        now = self._take_fingerprint()
        changed = now != self._fingerprint
        self._fingerprint = now
        return changed

    def replace(self, files: Iterable[str]) -> None:
        """Watch these files instead. The state of files in both sets is kept, so that a change in between is not
        missed."""
        known = dict(zip(self._files, self._fingerprint, strict=True))
        self._files = tuple(sorted(set(files)))
        self._fingerprint = tuple(known[file] if file in known else _print_of(file) for file in self._files)

    def forget_bytecode(self) -> None:
        """Remove the bytecode of each file. Python compares only full seconds and sizes, so it would miss an edit of
        the same length within one second."""
        for file in self._files:
            if file.endswith(".py"):
                with contextlib.suppress(OSError, NotImplementedError):
                    os.unlink(cache_from_source(file))  # noqa: PTH108

    def add_suspects(self, traceback: str) -> None:
        """After a failed import, add the files of its traceback below the current directory, and the directories of all
        files, because a file may be missing."""
        here = Path.cwd()
        named = {file for file in _FRAME.findall(traceback) if Path(file).is_relative_to(here)}
        files = {*self._files, *named}
        self.replace({*files, str(here), *(str(Path(file).parent) for file in files)})

    def _take_fingerprint(self) -> Fingerprint:
        return tuple(map(_print_of, self._files))


def _print_of(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116 - called all the time
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


REPOSITORY = "dev"
BRANCH = "main"
REFERENCE = "task"
"""The one step of the workflow of a task."""


def workflow_name(task: TaskSummary, command: str = "dev") -> str:
    """Return a distinct name, so that a workflow that a user registers under the task's name is not replaced."""
    return f"{command}.{task.name}"


def workflow_definition(task: TaskSummary, command: str = "dev") -> dict[str, Any]:
    """Return a workflow with the input and output of the task. `command` is the command that makes it."""
    from perago.taskdef.definition import workflow_of_one

    has_workspace = task.workspace is not None
    inputs = ("workspace", "params") if has_workspace else ("params",)
    made = ("workspace", "result") if has_workspace else ("result",)
    return {
        **workflow_of_one(workflow_name(task, command), task.name, inputs, REFERENCE),
        "description": f"One attempt of {task.name}, made by perago {command}.",
        "ownerEmail": json.loads(task.definition).get("ownerEmail"),
        "outputParameters": {key: f"${{{REFERENCE}.output.{key}}}" for key in made},
    }


def params_of(task: TaskSummary) -> Any:
    """Return parameters to start with: those of the first example, or a skeleton."""
    if task.example is not None:
        return task.example
    from perago.taskdef.schema import skeleton_of

    return skeleton_of(json.loads(task.definition)["inputSchema"]["data"]["properties"]["params"])


def payload_of(task: TaskSummary, ref: str) -> dict[str, Any]:
    """Return an input that starts the workflow on commit `ref`."""
    params = params_of(task)
    if task.workspace is None:
        return {"params": params}
    from perago.taskdef.payload import workspace_block

    return {"workspace": workspace_block(REPOSITORY, BRANCH, ref), "params": params}


def curl_line(conductor_url: str, task: TaskSummary, ref: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a line for a POSIX shell that starts the workflow and prints its id.

    Args:
        conductor_url: The address of Conductor's API.
        task: The task of the workflow.
        ref: The commit that the workflow works on.
        environment: The environment, whose proxy the line bypasses.
    """
    payload = json_text(payload_of(task, ref), separators=(",", ":"))
    arguments = ["curl", "-sS", "-w", r"\n"]
    if any(environment.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY")):
        arguments += ["--noproxy", "*"]
    url = f"{conductor_url}/workflow/{workflow_name(task)}"
    return shlex.join([*arguments, "-H", "Content-Type: application/json", "-d", payload, url])


def send_line(module: str, task: TaskSummary) -> str:
    """Return a line that starts a workflow on the current head of the branch."""
    place = [] if task.workspace is None else ["--branch", f"{REPOSITORY}/{BRANCH}"]
    params = json_text(params_of(task), separators=(",", ":"))
    return shlex.join(["perago", "send", module, *place, "--params", params, "--follow"])


def send_workflow_line(module: str, flow: WorkflowSummary) -> str:
    """Return a line that starts a declared workflow with its defaults, on the head that the branch has then."""
    from perago.taskdef.schema import skeleton_of

    place = ["--branch", f"{REPOSITORY}/{BRANCH}"] if "workspace" in flow.inputs else []
    definition = json.loads(flow.definition)
    schema = definition.get("inputSchema", {"data": {"type": "object", "required": flow.inputs}})  # the SDK has none
    needed = skeleton_of(schema["data"])
    params = {name: value for name, value in {**needed, **definition["inputTemplate"]}.items() if name != "workspace"}
    options = ["--params", json_text(params, separators=(",", ":"))] if params else []
    return shlex.join(["perago", "send", module, *place, *options, "--workflow", flow.name, "--follow"])


def seed(services: EmbeddedServices, directory: Path | None) -> None:
    """Create the repository and the branch if they are missing, and commit the new and changed files of `directory`.

    No file is removed from the branch, so publications of tasks stay. Links are refused, never followed.

    Raises:
        Failure: the directory cannot be a workspace.
    """
    from perago.embedded.lakefs.values import LakeFSError, Missing, NoChanges
    from perago.history.running import files_below
    from perago.workspace.scan import WorkspaceError

    server = services.lakefs.server
    try:
        references.get_branch(server.repository(REPOSITORY), BRANCH)
    except Missing:
        server.create_repository(REPOSITORY, default_branch=BRANCH)
    if directory is None:
        return
    try:
        files = files_below(directory, "")
        blobs = {key: server.blobs.of_file(file) for key, file in files.items() if isinstance(file, Path)}
        for key, blob in blobs.items():  # only now, when nothing can fail half-way
            objects.put_object(server.repository(REPOSITORY), BRANCH, key, blob)
        commits.commit(server.repository(REPOSITORY), BRANCH, f"The files of {directory}")
    except NoChanges:
        return
    except (WorkspaceError, OSError) as error:
        raise Failure(str(error)) from error
    except LakeFSError as error:
        raise Failure(f"{directory} cannot be committed: {error.message}") from error


def head(services: EmbeddedServices) -> str:
    """Return the current head of the branch."""
    return references.get_branch(services.lakefs.server.repository(REPOSITORY), BRANCH).commit_id


_START_FAILURES = (3, 4, 5)
"""Exit codes of a worker whose module or configuration is not valid, or whose servers cannot be reached."""
_CLEANUP_LIMIT = 10.0
"""Seconds that worker processes get if this process ends because of its own defect."""


class View(Protocol):
    """Shows the events to a person."""

    def line(self, module: str, text: str) -> None:
        """Show one line about a module."""

    def starting(self, workers: int) -> None:
        """Show that workers are starting."""

    def start(self, task: TaskSummary, once: str, always: str) -> None:
        """Show the commands that start a workflow of the task now, and at any time."""

    def start_workflow(self, flow: WorkflowSummary, line: str) -> None:
        """Show the command that starts a workflow that the module declares."""

    def stopping(self, signals: int) -> None:
        """Show the reaction to the first, second or third signal."""

    def problem(self, probed: Probed) -> None:
        """Show why a module cannot be used."""


class Session:
    """Decides, in one thread, about all modules. Other threads only put events into its queue."""

    def __init__(
        self,
        services: EmbeddedServices,
        probed: Sequence[Probed],
        slots: int,
        environment: Mapping[str, str],
        import_limit: float,
        samples: dict[str, Any],
        view: View,
    ) -> None:
        """Create a session that has not started anything yet.

        Args:
            services: The running embedded services.
            probed: The results of the checks of all modules; each has a task.
            slots: How many attempts of each module run at a time.
            environment: The whole environment of the workers.
            import_limit: Seconds that importing a module may take.
            samples: Gets the parameters that the console's forms begin with, by workflow.
            view: Shows what happens.
        """
        self.slots = slots
        self.environment = environment
        self.import_limit = import_limit
        self.view = view
        self.is_ready: bool = False
        self._services = services
        self._samples = samples
        self._events: SimpleQueue[DevEvent] = SimpleQueue()  # the one queue that a signal handler may put into
        self._stopping = False
        self._signals = 0
        self._exit_code = 0
        self._runners = {module.module: ModuleRunner(module, self) for module in probed}

    def post(self, event: DevEvent) -> None:
        """Accept an event from any thread and from signal handlers."""
        self._events.put(event)

    def run(self, is_ready: Callable[[], None]) -> int:
        """Start everything, and call `is_ready` once all workers poll. Continue until a signal arrives. Return the exit
        code."""
        for runner in self._runners.values():
            self.register(runner)
        workers = sum(runner.task is not None for runner in self._runners.values())
        if workers:
            self.view.starting(workers)
        with heard(lambda number: self.post(Signalled(number))), self._ending():
            raise_pending_signal()  # by a signal that came before there was anything to end, and was dropped
            self._tick()
            while not self._stopping or any(runner.alive for runner in self._runners.values()):
                if not (self.is_ready or self._stopping) and all(
                    runner.is_settled for runner in self._runners.values()
                ):
                    self.is_ready = True
                    is_ready()
                with contextlib.suppress(Empty):
                    self._handle(self._events.get(timeout=CHECK_INTERVAL))
                self._tick()
        return self._exit_code

    # --------------------------------------------------------------- for the runners

    def register(self, runner: ModuleRunner) -> None:
        """Put the TaskDef and the workflow of the runner's task on the embedded Conductor."""
        conductor = self._services.conductor
        if runner.task is not None:
            conductor.register_task_definitions([json.loads(runner.task.definition)])
            conductor.create_workflow_definition(workflow_definition(runner.task), overwrite=True)
            self._samples[workflow_name(runner.task)] = params_of(runner.task)
        for flow in runner.workflows:
            conductor.create_workflow_definition(json.loads(flow.definition), overwrite=True)
            if flow.schedule is None:
                conductor.delete_schedule(flow.name)
            else:
                schedule = deepcopy(dict(flow.schedule))
                request = schedule["startWorkflowRequest"]
                if "workflowDef" in request:
                    request["input"]["workspace"] = {"repository": REPOSITORY, "branch": BRANCH}
                conductor.save_schedule(schedule)

    def without_duplicate(self, probed: Probed) -> Probed:
        """Return the same, or a problem if another module declares a task of that name."""
        for runner in self._runners.values():
            taken = runner.task is not None and probed.task is not None and runner.task.name == probed.task.name
            if taken and runner.module != probed.module:
                return refused_as_duplicate(probed, runner.module)
        return probed

    def show_starts(self) -> None:
        """Print how the workflows of all modules are started now."""
        for runner in self._runners.values():
            self.show_start(runner)

    def show_start(self, runner: ModuleRunner) -> None:
        """Print how the workflows of one module are started now."""
        services, task = self._services, runner.task
        if task is not None:
            once = curl_line(services.conductor_url, task, head(services))
            self.view.start(task, once, send_line(runner.module, task))
        for flow in runner.workflows:
            self.view.start_workflow(flow, send_workflow_line(runner.module, flow))

    # ---------------------------------------------------------------------- mechanics

    def _tick(self) -> None:
        for runner in self._runners.values():
            runner.tick()

    def _handle(self, event: DevEvent) -> None:
        match event:
            case Signalled(number):
                self._signalled(number)
            case ChildOutput():
                self._runners[event.module].print_output(event)
                self._services.changed()  # the line is in the worker's log, too, which the console reads
            case Checked():
                self._runners[event.module].checked(event)
            case ChildEnded():
                runner = self._runners[event.module]
                runner.ended(event)
                if not runner.was_ready and event.status in _START_FAILURES and not self._stopping:
                    self._exit_code = event.status  # it said why, and trying again would not mend it
                    self._stop()

    def _signalled(self, number: signal.Signals) -> None:
        """React to a signal: the first drains, the second cancels, later ones kill."""
        self._signals += 1
        if self._signals == 2:
            self._exit_code = 128 + number
        self.view.stopping(self._signals)
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for runner in self._runners.values():
            runner.stop()

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """End all processes in any case."""
        try:
            yield
        finally:
            deadline = time.monotonic() + _CLEANUP_LIMIT
            while any(runner.alive for runner in self._runners.values()):
                for runner in self._runners.values():
                    runner.stop()
                if time.monotonic() > deadline:
                    break
                self._forget_one()

    def _forget_one(self) -> None:
        with contextlib.suppress(Empty):
            event = self._events.get(timeout=CHECK_INTERVAL)
            if isinstance(event, ChildEnded):
                self._runners[event.module].ended(event)
            elif isinstance(event, Checked):
                self._runners[event.module].checked(event)


class ModuleRunner:
    """One module: its worker, its files and its checks. All methods are called by the session's thread."""

    def __init__(self, probed: Probed, session: Session) -> None:
        """Begin with a valid module. Its worker starts at the first `tick`."""
        self.module: str = probed.module
        self.task = probed.task
        """The task; None for a module that only declares workflows and needs no worker."""
        self.workflows: tuple[WorkflowSummary, ...] = probed.workflows
        self.was_ready: bool = False
        """Whether one of its worker processes has ever polled."""
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
    def is_settled(self) -> bool:
        """Whether the module is settled: its worker has polled, it needs no worker, or the reason was shown."""
        return self.task is None or self.was_ready or self._problem is not None

    @property
    def alive(self) -> bool:
        """Whether its worker process is running."""
        return self._child is not None or self._check is not None

    def tick(self) -> None:
        """Check the files, and start a due check or restart."""
        if self._stopping or self._check is not None:
            return
        if self._files.changed():
            self._files.forget_bytecode()
            self._check = Check(self.module, self._session.import_limit, self._session.post)
        elif (
            self.task is not None
            and self._child is None
            and self._problem is None
            and self._start_at <= time.monotonic()
        ):
            self._start()

    def stop(self) -> None:
        """Stop. The first call drains, the second cancels, and later ones kill."""
        self._stopping = True
        if self._check is not None:
            self._check.cancel()
        if self._child is not None:
            self._child.stop()

    # ------------------------------------------------------------------- what is heard

    def print_output(self, event: ChildOutput) -> None:
        """Print a line of its worker process."""
        if not event.text.startswith(READY):
            self._session.view.line(self.module, event.text)
            return
        self.was_ready = True
        self._session.view.line(self.module, "reloaded" if self._reloaded else "ready")
        if self._reloaded and self._session.is_ready:
            self._session.show_start(self)
        self._reloaded = False

    def ended(self, event: ChildEnded) -> None:
        """Plan a restart, unless the worker process was asked to end."""
        child, self._child = self._child, None
        if child is None or child.asked_to_stop or self._stopping:
            return
        pause = self._delay.after_crash(time.monotonic() - child.started)
        self._start_at = time.monotonic() + pause
        how = f"was killed by signal {-event.status}" if event.status < 0 else f"ended with status {event.status}"
        self._session.view.line(self.module, f"the worker {how}; it is started again in {pause:g} s")

    def checked(self, event: Checked) -> None:
        """React to the result of a check."""
        self._check = None
        if self._stopping:
            return
        probed = self._session.without_duplicate(event.probed)
        if probed.problem is not None:
            self._break(probed)
            return
        self._problem = None
        self._start_at = 0.0
        self._reloaded = True
        changed = (probed.task, probed.workflows) != (self.task, self.workflows)
        self.task, self.workflows = probed.task, probed.workflows
        self._files.replace(probed.files)
        if changed:
            self._session.register(self)
        if self.task is None:
            self._session.view.line(self.module, "reloaded")
        self._drain()

    # ---------------------------------------------------------------------- what is done

    def _start(self) -> None:
        session = self._session
        self._files.forget_bytecode()
        self._child = WorkerChild(self.module, session.slots, session.environment, session.import_limit, session.post)

    def _break(self, probed: Probed) -> None:
        if probed.problem is not None:
            self._files.add_suspects(probed.problem.traceback)
        if probed.problem != self._problem:  # an unrelated file may have changed
            self._session.view.problem(probed)
            self._session.view.line(self.module, "not running; waiting for the next change")
        self._problem = probed.problem
        self._drain()

    def _drain(self) -> None:
        if self._child is not None and not self._child.asked_to_stop:
            self._child.stop()
