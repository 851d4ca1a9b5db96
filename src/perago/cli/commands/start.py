"""`perago start`."""

from __future__ import annotations

import functools
import json
import re
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.loading import able_to_run, importing, report, withhold_credentials
from perago.cli.messages import CommandError, ExitCode
from perago.cli.parameters import IMPORT_LIMIT, Timeout, argument, checked_module, complete, option
from perago.cli.rendering import Renderer
from perago.configuration import Configuration, cache_of, missing_services, read_configuration
from perago.failure import Failure
from perago.hanging import HANGS
from perago.processes import hand_over, raise_pending_signal
from perago.settings.sources import LogFormat
from perago.text import count

if TYPE_CHECKING:
    from perago.probe import TaskSummary
    from perago.settings import Settings
    from perago.worker.events import Listener
    from perago.worker.plan import HttpAddress, WorkerPlan


_HTTP_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]*):)?(?P<port>[0-9]{1,5})")
MOST_SLOTS = 999

EXAMPLES = """\b
Examples:
  perago start my_tasks.features
  perago start my_tasks.features -j 4
  perago start my_tasks -j 8                all task modules of a package
  perago start my_tasks my_tasks.big=2 -j 8     at most two attempts of this one
  perago start my_tasks.features --wait     when the servers may come up later

The first SIGTERM or Ctrl-C lets running attempts finish and ends with status 0;
the second one cancels them."""


def parse_http_address(text: str) -> HttpAddress:
    """Parse `PORT` or `HOST:PORT`. The default host is 127.0.0.1.

    Raises:
        typer.BadParameter: it is neither.
    """
    from perago.worker.plan import HttpAddress

    address = _HTTP_ADDRESS.fullmatch(text)
    if address is None or int(address["port"]) > 65535:
        raise typer.BadParameter("write HOST:PORT, or PORT for 127.0.0.1, such as 9090 or 0.0.0.0:9090.")
    return HttpAddress((address["host"] or "127.0.0.1").strip("[]"), int(address["port"]))


def _names(texts: list[str]) -> list[str]:
    """Return the arguments if each is an import path with at most one limit; otherwise raise a usage error."""
    first: dict[str, str] = {}
    for text in texts:
        name, has_limit, limit = text.partition("=")
        checked_module(name)
        if has_limit and not (limit.isascii() and limit.isdecimal() and 1 <= int(limit) <= MOST_SLOTS):
            problem = f"write the maximum of concurrent attempts after =, from 1 to {MOST_SLOTS}"
            raise typer.BadParameter(f"{text}: {problem}.")
        if first.setdefault(name, text) != text:
            raise typer.BadParameter(f"{first[name]} and {text} give {name} two limits; name it once.")
    return texts


LogFormatOption = Annotated[
    LogFormat | None,
    option("", "Write a log with the output of functions to standard error, instead of messages. [PERAGO_LOG_FORMAT]"),
]
HttpOption = Annotated[
    Any,
    option(
        "[HOST:]PORT", "Serve /livez, /readyz and /metrics. The default host is 127.0.0.1.", parser=parse_http_address
    ),
]


def command(
    modules: Annotated[
        list[str],
        argument(
            "MODULE[=N]",
            "Import paths of task modules and packages. =N limits the attempts of a task at a time.",
            callback=_names,
            autocompletion=complete,
        ),
    ],
    jobs: Annotated[
        int | None,
        option(
            "--jobs -j N",
            "Attempts at a time, of all modules together. Default: 1, or the largest =N.",
            min=1,
            max=MOST_SLOTS,
        ),
    ] = None,
    strict: Annotated[bool, option("--strict", "Start nothing if a module is not valid.")] = False,
    wait: Annotated[bool, option("--wait", "Wait until the servers answer and accept the credentials.")] = False,
    watch: Annotated[
        bool, option("--watch", "Print the output, log and progress of functions while they run.")
    ] = False,
    embedded: Annotated[bool, option("--embedded", "Work for perago dev.", hidden=True)] = False,
    log_format: LogFormatOption = None,
    http: HttpOption = None,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run workers for task modules against the configured servers. A package means all task modules below it.

    perago validates modules and configuration before any worker starts. It reports modules that are not valid, and
    starts the others. Conductor and, for a task with a workspace, lakeFS must answer. A TaskDef on the server that
    differs from the module's causes a warning and stays as it is; `perago register` replaces it.
    """
    if watch and log_format:
        problem = "the log has the output of functions; take --watch or --log-format."
        raise typer.BadParameter(problem, param_hint="--watch")
    limits = {name: int(limit) if limit else None for name, _, limit in (text.partition("=") for text in modules)}
    from perago.worker.fork_server import ForkServerDied, check_fork_server, discard_fork_server

    try:
        with ExitStack() as stack, ExitStack() as unless_started:
            unless_started.callback(discard_fork_server)
            tasks, settings = _validated(limits, timeout, log_format, strict=strict, embedded=embedded)
            waiting = Renderer(sys.stderr)
            stack.callback(waiting.end)
            if not watch:
                waiting.begin("preparing")
            from perago.adapters.conductor import ConductorQueue
            from perago.adapters.lakefs import LakeFSStore
            from perago.cli.services import lakefs_problem, reach
            from perago.driver import SystemClock
            from perago.settings import prepare_roots
            from perago.worker.export_settings import wanted_signals
            from perago.worker.exporters import exporting
            from perago.worker.health import LakeFSCheck
            from perago.worker.plan import ExportContext, planned_worker
            from perago.worker.supervisor import Supervisor

            prepare_roots(settings)
            lakefs = settings.require_lakefs() if _need_lakefs(tasks) else None
            cache = cache_of(settings) if lakefs else None
            open_lakefs = None
            if lakefs:
                open_lakefs = functools.partial(LakeFSStore, lakefs, threads=settings.transfer_threads, cache=cache)
            if embedded:
                settings = settings.model_copy(update={"log_format": None, "log_files": True})
            plan = planned_worker(
                limits,
                tasks,
                settings,
                slots=jobs,
                watch=watch,
                embedded=embedded,
                store_factory=open_lakefs,
                cache_bytes=None if cache is None else cache.max_bytes,
            )
            _check_open_files(plan)
            _warn_of_id(plan)
            clock = SystemClock()
            reached = functools.partial(reach, wait=wait, clock=clock)
            signals = wanted_signals(messages.warning)
            queue = ConductorQueue(settings.require_conductor(), traced="traces" in signals)
            stack.callback(queue.close)
            context = ExportContext(
                plan=plan,
                settings=settings,
                notices=messages,
                http=http,
                signals=signals,
                read_end=queue.read_end,
                lakefs=LakeFSCheck(functools.partial(lakefs_problem, lakefs)) if lakefs else None,
            )
            listeners = stack.enter_context(exporting(context))
            waiting.doing("waiting for Conductor and lakeFS")
            reached(queue.ping)
            registered = {
                task.name: reached(functools.partial(queue.get_task_definition, task.name)) for task in tasks.values()
            }
            _warn_of_differences(registered, tasks)
            if open_lakefs is not None:
                with closing(open_lakefs()) as store:
                    reached(store.ping)
            check_fork_server()
            supervisor = Supervisor(plan, queue, _first_line(waiting), *listeners, clock=clock)
            raise_pending_signal()
            hand_over(supervisor.stop)
            unless_started.pop_all()
            HANGS.report_to(None)  # the supervisor reports its own calls
            waiting.doing(f"starting {count(plan.slots, 'slot')}: importing task modules")
            raise typer.Exit(supervisor.run())
    except ForkServerDied as error:
        fix = "start it again; if it fails every time, find out what ends processes here: dmesg, or the container's log"
        raise Failure(f"the slots cannot be started: {error}", fix) from error


def _first_line(renderer: Renderer) -> Listener:
    """Return a listener that removes the status line before an event is logged. No log has a `Pulse`."""
    from perago.worker.events import Pulse

    return lambda event: None if isinstance(event, Pulse) else renderer.end()


def _check_open_files(plan: WorkerPlan) -> None:
    from perago.worker.plan import too_few_files

    if (problem := too_few_files(plan.open_files)) is not None:
        what, advice = problem
        needed = f"{count(plan.slots, 'slot')} may need {plan.open_files:,} open files"
        raise Failure(f"{needed}, and {what}", f"{advice}; or take fewer slots (-j)")


def _warn_of_id(plan: WorkerPlan) -> None:
    """Warn of a running worker of this root with the same worker id."""
    from perago.worker.presence import CLASH_FIX, CLASH_WHY, worker_processes, workers_here

    for worker in worker_processes(workers_here(plan.workspace_root)):
        if worker.worker_id == plan.supervisor_id:
            place = f"process {worker.pid} on {worker.host}"
            messages.warning(f"{place} uses the worker id {worker.worker_id}, too: {CLASH_WHY}\n  fix: {CLASH_FIX}")


def _validated(
    limits: Mapping[str, int | None], timeout: float, log_format: LogFormat | None, *, strict: bool, embedded: bool
) -> tuple[dict[str, TaskSummary], Settings]:
    """Return the tasks by module, and the settings, after all problems of both were reported. Start the fork server as
    soon as the credentials are out of its environment."""
    from perago.probe import probing
    from perago.worker.fork_server import preloaded, warm_up

    with probing(tuple(limits), timeout, packages=True, progress=Progress(), waiting=importing) as results:
        configuration = read_configuration(local=embedded)
        if not embedded:  # the output goes to perago dev, which has also shown the warnings
            configuration = _with_log_format(configuration, log_format)
        if (settings := configuration.settings) is not None:
            withhold_credentials()
            warm_up(preloaded(settings))
        # Import these while child processes import the task modules, and the fork server what slots need.
        import perago.adapters.conductor
        import perago.worker.supervisor  # noqa: F401

        probed = able_to_run(results())
    report(probed)
    for text in () if embedded else configuration.warnings:
        messages.warning(text)
    tasks = {module.module: module.task for module in probed if module.task is not None}
    problems = configuration.problems + missing_services(configuration, lakefs=_need_lakefs(tasks))
    if problems:
        messages.configuration_errors(problems)
    if not tasks:
        raise CommandError(ExitCode.INVALID_MODULE)
    left_out = f"{len(probed) - len(tasks)} of {len(probed)} modules cannot run"
    if len(tasks) < len(probed) and strict:
        raise CommandError(ExitCode.INVALID_MODULE, f"{left_out}, so perago starts no worker (--strict)")
    if settings is None or problems:
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
    if len(tasks) < len(probed):
        messages.warning(f"{left_out}; perago starts the other ones")
    return tasks, settings


def _with_log_format(configuration: Configuration, log_format: LogFormat | None) -> Configuration:
    """Return the configuration of a worker that logs in `log_format` or the configured format. Messages use it, too."""
    from perago.settings import Problem

    settings = configuration.settings
    form = log_format or (settings.log_format if settings else None)
    if form is not None:
        messages.write_as(form)
    if settings is None:
        return configuration
    problems = configuration.problems
    if form is None and not settings.log_files:
        fix = "Set PERAGO_LOG_FORMAT=json, or leave PERAGO_LOG_FILES on."
        what = "off, and PERAGO_LOG_FORMAT is not set, so that there is no log"
        problems += (Problem("PERAGO_LOG_FILES", "", what, fix),)
    return replace(configuration, settings=settings.model_copy(update={"log_format": form}), problems=problems)


class Progress:
    """Reports, once a second, how many modules were checked."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 1

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` modules of `total` were checked."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1
            messages.note(f"checked {done} of {total} modules")


def _need_lakefs(tasks: Mapping[str, TaskSummary]) -> bool:
    return any(task.workspace is not None for task in tasks.values())


def _warn_of_differences(registered: Mapping[str, Mapping[str, Any] | None], tasks: Mapping[str, TaskSummary]) -> None:
    """Warn of TaskDefs that are missing on the server, or differ. Other workers may use them, so they stay."""
    from perago.taskdef import compare_definitions

    missing: dict[str, str] = {}
    for module, task in tasks.items():
        definition = registered[task.name]
        if definition is None:
            missing[task.name] = module
        elif differences := compare_definitions(definition, json.loads(task.definition)):
            title = f"the server's TaskDef {task.name} differs from the module's, and perago does not change it"
            lines = [title, *(difference.text for difference in differences)]
            messages.warning("\n  ".join([*lines, f"replace it with: perago register {module}"]))
    if missing:
        s, them = ("", "it") if len(missing) == 1 else ("s", "them")
        command = f"perago register {' '.join(missing.values())}"
        messages.warning(f"the server has no TaskDef{s} {', '.join(missing)}; create {them} with: {command}")
