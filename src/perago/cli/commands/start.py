"""`perago start`."""

from __future__ import annotations

import functools
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode
from perago.cli.loading import able_to_run, report, withhold_credentials
from perago.cli.parameters import IMPORT_LIMIT, Timeout, checked_module, complete
from perago.configuration import (
    Configuration,
    cache_of,
    environment_of,
    limits_of,
    logs_of,
    missing_services,
    read_configuration,
)
from perago.failure import Failure
from perago.processes import end_if_told, hand_over
from perago.settings.sources import LogFormat

if TYPE_CHECKING:
    from perago.cli.services import OpenLakeFS
    from perago.probe import TaskSummary
    from perago.settings import Settings
    from perago.worker.plan import HttpAddress, WorkerPlan


_HTTP_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]*):)?(?P<port>[0-9]{1,5})")


def parse_http_address(text: str) -> HttpAddress:
    """`PORT` or `HOST:PORT`; without a host the loopback interface.

    Raises:
        typer.BadParameter: it is neither.
    """
    from perago.worker.plan import HttpAddress

    found = _HTTP_ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise typer.BadParameter("write HOST:PORT, or PORT for 127.0.0.1, such as 9090 or 0.0.0.0:9090.")
    return HttpAddress((found["host"] or "127.0.0.1").strip("[]"), int(found["port"]))


LogFormatOption = Annotated[
    LogFormat | None,
    typer.Option(
        help="Log to standard error, functions' output included, instead of printing lines. [PERAGO_LOG_FORMAT]"
    ),
]
HttpOption = Annotated[
    Any,
    typer.Option(
        metavar="[HOST:]PORT",
        parser=parse_http_address,
        help="Serve /livez, /readyz and /metrics; on 127.0.0.1 unless a host is given.",
    ),
]
_PRELOADED = ("perago.driver", "perago.adapters.lakefs", "lakefs_sdk")
"""Modules that slots share from their start. Never the task module."""
BRANCH_SWEEP = (sys.executable, "-m", "perago", "gc", "--json", "--")
"""With the limits of `perago gc` and the configuration of the worker."""

EXAMPLES = """\b
Examples:
  perago start my_tasks.features
  perago start my_tasks.features -j 4
  perago start my_tasks -j 8                all task modules of a package
  perago start my_tasks my_tasks.big=2 -j 8     no more than two of this one at a time
  perago start my_tasks.features --wait     when the servers may come up later

The first SIGTERM or Ctrl-C lets running attempts finish and ends with status 0;
the second one cancels them."""

MOST_SLOTS = 999


def _names(texts: list[str]) -> list[str]:
    """The arguments, if each is an import path, or one with a limit, and no name has two; otherwise a usage error."""
    first: dict[str, str] = {}
    for text in texts:
        name, has_limit, limit = text.partition("=")
        checked_module(name)
        if has_limit and not (limit.isascii() and limit.isdecimal() and 1 <= int(limit) <= MOST_SLOTS):
            raise typer.BadParameter(
                f"{text}: = is followed by how many attempts may run at a time, 1 to {MOST_SLOTS}."
            )
        if first.setdefault(name, text) != text:
            raise typer.BadParameter(f"{first[name]} and {text} give {name} two limits; name it once.")
    return texts


def command(
    modules: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE[=N]",
            callback=_names,
            autocompletion=complete,
            show_default=False,
            help="Import paths of task modules and packages, each with how many attempts may run at a time, if that "
            "is to be limited.",
        ),
    ],
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            max=MOST_SLOTS,
            show_default=False,
            help="Attempts at a time, of all modules together. Default: 1, or the largest =N.",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Start nothing if one of the modules is not valid.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Keep trying while a server does not let us in.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print what functions print, log and report as progress, while they run.")
    ] = False,
    log_format: LogFormatOption = None,
    http: HttpOption = None,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run workers for task modules against the configured servers. A package means all task modules below it.

    Modules and configuration are validated before any worker starts. A module that is not valid is left out and said;
    the start ends if there is no other. Then Conductor and, for a task with a workspace, lakeFS must answer. A TaskDef
    on the server that differs from the module's is warned about and left alone: `perago register` replaces it.
    """
    if watch and log_format:
        raise typer.BadParameter(
            "the log has what functions print; take --watch or --log-format.", param_hint="--watch"
        )
    wanted = {name: int(limit) if limit else None for name, _, limit in (text.partition("=") for text in modules)}
    slots = jobs or max([1, *filter(None, wanted.values())])
    raise typer.Exit(start_worker(StartOptions(wanted, slots, strict, wait, watch, log_format, http, timeout)))


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The request of the command line."""

    wanted: Mapping[str, int | None]
    """Modules and packages, each with how many attempts of a task may run at a time."""
    slots: int
    """The number of attempts that run at a time in all."""
    strict: bool
    wait: bool
    """Keep trying while a server does not answer or rejects the credentials."""
    watch: bool
    """Print at once what functions print, log and report as progress."""
    log_format: LogFormat | None
    """The format of the log on standard error; None: as configured."""
    http: HttpAddress | None
    """The address for probes and metrics; None: nowhere."""
    import_limit: float
    """Seconds that importing a module may take."""

    @property
    def name(self) -> str:
        """The name that the worker is called after."""
        return next(iter(self.wanted))

    def limit_of(self, module: str) -> int | None:
        """The limit of the longest name that selects the module."""
        names = [name for name in self.wanted if f"{module}.".startswith(f"{name}.")]
        return self.wanted[max(names, key=len)]


def start_worker(options: StartOptions) -> int:
    """Run a worker until it is stopped.

    Returns:
        The exit code.

    Raises:
        CommandError: no module or the configuration is not valid, and all that is wrong has been said; too few files
            may be open for so many slots; or the fork server died.
        ServiceError: a server does not let us in, and `wait` is not set.
    """
    tasks, settings = _validated(options)
    from perago.adapters.conductor import ConductorQueue
    from perago.cli.services import OpenLakeFS, lakefs_problem, ping_lakefs, reach
    from perago.driver import SystemClock
    from perago.settings import prepare_roots
    from perago.worker.exporters import exporting, wanted_signals
    from perago.worker.plan import ExportContext
    from perago.worker.processes import ForkServerDied, check_fork_server, discard_fork_server, warm_up
    from perago.worker.supervisor import Supervisor

    prepare_roots(settings)
    withhold_credentials()
    open_lakefs = None
    if _need_lakefs(tasks):
        open_lakefs = OpenLakeFS(settings.require_lakefs(), settings.transfer_threads, cache_of(settings))
    plan = _plan(options, tasks, settings, open_lakefs)
    _check_open_files(plan)
    try:
        with ExitStack() as stack, ExitStack() as unless_started:
            unless_started.callback(discard_fork_server)
            warm_up(plan.preload)  # takes its time, concurrently with everything else that happens here
            clock = SystemClock()
            context = ExportContext(
                plan=plan,
                settings=settings,
                notices=messages,
                http=options.http,
                signals=wanted_signals(messages),
                lakefs_problem=functools.partial(lakefs_problem, open_lakefs.settings) if open_lakefs else None,
            )
            queue = ConductorQueue(settings.require_conductor(), traced="traces" in context.signals)
            stack.callback(queue.close)
            listeners = stack.enter_context(exporting(context))
            reach(queue.ping, wait=options.wait, clock=clock)
            _compare(
                lambda name: reach(functools.partial(queue.get_task_definition, name), wait=options.wait, clock=clock),
                tasks,
            )
            if open_lakefs is not None:
                reach(functools.partial(ping_lakefs, open_lakefs), wait=options.wait, clock=clock)
            check_fork_server()
            supervisor = Supervisor(plan, queue, *listeners, clock=clock)
            end_if_told()
            hand_over(supervisor.stop)
            unless_started.pop_all()
            return supervisor.run()
    except ForkServerDied as error:
        fix = "start it again; if it fails every time, find out what stops or ends processes here: dmesg, the container"
        raise Failure(f"the slots cannot be started: {error}", fix) from error


def _check_open_files(plan: WorkerPlan) -> None:
    from perago.text import count
    from perago.worker.plan import too_few_files

    if (problem := too_few_files(plan.open_files)) is not None:
        what = f"{count(plan.slots, 'slot')} may need {plan.open_files:,} open files, and {problem.what}"
        raise Failure(what, f"{problem.advice}; or take fewer slots (-j)")


def _validated(options: StartOptions) -> tuple[dict[str, TaskSummary], Settings]:
    """The tasks by their modules, and the settings; all are looked at before any is complained about."""
    from perago.probe import probing

    with probing(tuple(options.wanted), options.import_limit, packages=True, progress=Progress()) as results:
        configuration = _with_log_format(read_configuration(), options.log_format)
        # Loaded while the child processes are busy with the task modules.
        import perago.adapters.conductor
        import perago.worker.supervisor  # noqa: F401

        probed = able_to_run(results())
    report(probed)
    for text in configuration.warnings:
        messages.warning(text)
    tasks = {one.module: one.task for one in probed if one.task is not None}
    problems = configuration.problems + missing_services(configuration, lakefs=_need_lakefs(tasks))
    if problems:
        messages.configuration_errors(problems)
    if not tasks:
        raise CommandError(ExitCode.INVALID_MODULE)
    left_out = f"{len(probed) - len(tasks)} of {len(probed)} modules cannot run"
    if len(tasks) < len(probed) and options.strict:
        raise CommandError(ExitCode.INVALID_MODULE, f"{left_out}, so none is started (--strict)")
    if configuration.settings is None or problems:
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
    if len(tasks) < len(probed):
        messages.warning(f"{left_out}; the others are started")
    return tasks, configuration.settings


def _with_log_format(configuration: Configuration, given: LogFormat | None) -> Configuration:
    """Return the configuration of a worker that logs in the `given` or the configured format; messages do so, too."""
    from perago.settings import Problem

    settings = configuration.settings
    form = given or (settings.log_format if settings else None)
    if form is not None:
        messages.write_as(form)
    if settings is None:
        return configuration
    problems = configuration.problems
    if form is None and not settings.log_files:
        fix = "Set PERAGO_LOG_FORMAT=json, or leave PERAGO_LOG_FILES on."
        problems += (
            Problem("PERAGO_LOG_FILES", "", "off, and PERAGO_LOG_FORMAT is not set: there would be no log", fix),
        )
    return replace(configuration, settings=settings.model_copy(update={"log_format": form}), problems=problems)


class Progress:
    """Says how far the look at the modules has come, once a second."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 1

    def __call__(self, done: int, total: int) -> None:
        """`done` modules of `total` have been looked at."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1
            messages.note(f"looked at {done} of {total} modules")


def _need_lakefs(tasks: Mapping[str, TaskSummary]) -> bool:
    return any(task.workspace is not None for task in tasks.values())


def _plan(
    options: StartOptions, tasks: Mapping[str, TaskSummary], settings: Settings, open_lakefs: OpenLakeFS | None
) -> WorkerPlan:
    from perago.settings import configured_mask, default_worker_id_prefix
    from perago.worker.plan import TaskPlan, WorkerPlan

    return WorkerPlan(
        name=options.name,
        tasks=tuple(
            TaskPlan(
                module=module,
                name=task.name,
                limit=options.limit_of(module),
                environment=environment_of(task),
                store_factory=open_lakefs if task.workspace is not None else None,
            )
            for module, task in tasks.items()
        ),
        worker_prefix=settings.worker_id_prefix or default_worker_id_prefix(options.name),
        workspace_root=settings.workspace_root,
        logs=replace(logs_of(settings), files=settings.log_files, forward=settings.log_format is not None),
        slots=options.slots,
        mask=configured_mask(),
        limits=limits_of(settings),
        shutdown_grace=settings.shutdown_grace,
        maintenance=settings.maintenance,
        cache_bytes=(open_lakefs and open_lakefs.cache and open_lakefs.cache.max_bytes) or None,
        branch_sweep=BRANCH_SWEEP if open_lakefs is not None else (),
        preload=_PRELOADED if open_lakefs is not None else _PRELOADED[:1],
        watch=options.watch,
    )


def _compare(ask: Callable[[str], Mapping[str, Any] | None], tasks: Mapping[str, TaskSummary]) -> None:
    """Warn of TaskDefs that the server lacks, or has otherwise. Never replaced here: others may work with them."""
    from perago.taskdef import compare_definitions

    missing: dict[str, str] = {}
    for module, task in tasks.items():
        registered = ask(task.name)
        if registered is None:
            missing[task.name] = module
        elif differences := compare_definitions(registered, json.loads(task.definition)):
            title = f"the server's TaskDef {task.name} differs from the module's, and stays as it is"
            lines = [title, *(difference.text for difference in differences)]
            messages.warning("\n  ".join([*lines, f"replace it with: perago register {module}"]))
    if missing:
        s, them = ("", "it") if len(missing) == 1 else ("s", "them")
        command = f"perago register {' '.join(missing.values())}"
        messages.warning(f"the server has no TaskDef{s} {', '.join(missing)}; create {them} with: {command}")
