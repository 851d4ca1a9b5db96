"""`perago start`."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.configuration import (
    cache_of,
    environment_of,
    limits_of,
    logs_of,
    look_at_configuration,
    look_at_services,
    with_log_format,
    withhold_credentials,
)
from perago.cli.errors import CommandError, ExitCode
from perago.cli.loading import able_to_run, report
from perago.cli.parameters import IMPORT_LIMIT, Module, Timeout
from perago.cli.signals import end_if_told, hand_over
from perago.cli.status import HttpAddress, status_served
from perago.settings.values import LogFormat

if TYPE_CHECKING:
    from perago.cli.probe import Probed, TaskSummary
    from perago.cli.services import OpenLakeFS
    from perago.ports import TaskQueue
    from perago.settings import Settings
    from perago.worker import TaskPlan, WorkerPlan


LogFormatOption = Annotated[
    LogFormat | None,
    typer.Option(
        help="Log to standard error, functions' output included, instead of printing lines. [PERAGO_LOG_FORMAT]"
    ),
]
HttpOption = Annotated[
    HttpAddress | None,
    typer.Option(
        metavar="[HOST:]PORT",
        parser=HttpAddress.parsed,
        help="Serve /livez, /readyz and /metrics; on 127.0.0.1 unless a host is given.",
    ),
]
_PRELOADED = ("perago.driver", "perago.adapters.lakefs", "lakefs_sdk")
"""What slots share from their birth. Never the task module."""
BRANCH_SWEEP = (sys.executable, "-m", "perago", "gc", "--json", "--")
"""With the limits of `perago gc` and the configuration of the worker."""

EXAMPLES = """\b
Examples:
  perago start my_tasks.features
  perago start my_tasks.features -j 4
  perago start my_tasks.features --wait     when the servers may come up later

The first SIGTERM or Ctrl-C lets running attempts finish and ends with status 0;
the second one cancels them."""


def command(
    module: Module,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, max=999, help="Attempts at a time.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Keep trying while a server does not let us in.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print what functions print, log and report as progress, while they run.")
    ] = False,
    log_format: LogFormatOption = None,
    http: HttpOption = None,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run workers for a task module against the configured servers.

    Module and configuration are validated before any worker starts. Then Conductor and, for a task with a workspace,
    lakeFS must answer. A TaskDef on the server that differs from the module's is warned about and left alone:
    `perago register` replaces it.
    """
    if watch and log_format:
        raise typer.BadParameter(
            "the log has what functions print; take --watch or --log-format.", param_hint="--watch"
        )
    raise typer.Exit(
        start_worker(module, jobs, wait=wait, watch=watch, log_format=log_format, http=http, import_limit=timeout)
    )


def start_worker(
    module: str,
    slots: int,
    *,
    wait: bool,
    watch: bool,
    log_format: LogFormat | None,
    http: HttpAddress | None,
    import_limit: float,
) -> int:
    """Run a worker until it is stopped.

    Args:
        module: The import path of the task module.
        slots: How many attempts run at a time.
        wait: Keep trying while a server does not answer or rejects the credentials.
        watch: Print at once what functions print, log and report as progress.
        log_format: How to log to standard error; None: as configured.
        http: Where to serve probes and metrics; None: nowhere.
        import_limit: Seconds that importing the module may take.

    Returns:
        The exit code.

    Raises:
        CommandError: module or configuration are not valid, and all that is wrong has been said; or the fork server
            died.
        ServiceError: a server does not let us in, and `wait` is not set.
    """
    task, settings = _validated(module, import_limit, log_format)
    from perago.adapters.conductor import ConductorQueue
    from perago.cli.services import ping_lakefs, reach
    from perago.driver import SystemClock
    from perago.settings import prepare_roots
    from perago.worker import (
        ForkServerDied,
        LogStream,
        PlainLines,
        Supervisor,
        TaskPlan,
        check_fork_server,
        warm_up,
    )

    prepare_roots(settings)
    withhold_credentials()
    open_lakefs = _open_lakefs(settings) if task.workspace else None
    planned = TaskPlan(module=module, name=task.name, environment=environment_of(task), store_factory=open_lakefs)
    plan = replace(_plan(planned, slots, settings, open_lakefs), watch=watch)
    warm_up(plan.preload)  # takes its time, beside everything else that happens here
    clock = SystemClock()
    queue = ConductorQueue(settings.require_conductor())
    try:
        with status_served(http, plan, open_lakefs.settings if open_lakefs else None) as listeners:
            reach(queue.ping, wait=wait, clock=clock)
            reach(functools.partial(_compare, queue, module, task), wait=wait, clock=clock)
            if open_lakefs is not None:
                reach(functools.partial(ping_lakefs, open_lakefs), wait=wait, clock=clock)
            lines = LogStream(plan, settings.log_format) if settings.log_format else PlainLines(sys.stdout)
            supervisor = Supervisor(plan, queue, lines, *listeners, clock=clock)
            check_fork_server()
            end_if_told()
            hand_over(supervisor.stop)
            return supervisor.run()
    except ForkServerDied as error:
        fix = "start it again; if it dies every time, find out what ends processes here: a limit of memory, for example"
        raise CommandError(ExitCode.FAILURE, f"the slots cannot be started: {error}", fix) from error
    finally:
        queue.close()


def _open_lakefs(settings: Settings) -> OpenLakeFS:
    from perago.cli.services import OpenLakeFS

    return OpenLakeFS(settings.require_lakefs(), settings.transfer_threads, cache_of(settings))


def _validated(module: str, seconds: float, log_format: LogFormat | None) -> tuple[TaskSummary, Settings]:
    """The task and the settings; both are looked at before either is complained about."""
    from perago.cli.probe import probing

    with probing([module], seconds) as results:
        configuration = with_log_format(look_at_configuration(), log_format)
        _import_meanwhile()
        (probed,) = able_to_run(results())
    report([probed])
    for text in configuration.warnings:
        messages.warning(text)
    problems = configuration.problems + look_at_services(configuration, lakefs=_needs_lakefs(probed))
    if problems:
        messages.configuration_errors(problems)
    if probed.task is None:
        raise CommandError(ExitCode.INVALID_MODULE)
    if configuration.settings is None or problems:
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
    return probed.task, configuration.settings


def _needs_lakefs(probed: Probed) -> bool:
    return probed.task is not None and probed.task.workspace is not None


def _import_meanwhile() -> None:
    """Load what the start will need while the child process is busy with the task module."""
    import perago.adapters.conductor
    import perago.worker  # noqa: F401


def _plan(planned: TaskPlan, slots: int, settings: Settings, open_lakefs: OpenLakeFS | None) -> WorkerPlan:
    from perago.settings import configured_mask, default_worker_id_prefix
    from perago.worker import WorkerPlan

    return WorkerPlan(
        name=planned.module,
        tasks=(planned,),
        worker_prefix=settings.worker_id_prefix or default_worker_id_prefix(planned.module),
        workspace_root=settings.workspace_root,
        logs=replace(logs_of(settings), files=settings.log_files, forward=settings.log_format is not None),
        slots=slots,
        mask=configured_mask(),
        limits=limits_of(settings),
        shutdown_grace=settings.shutdown_grace,
        maintenance=settings.maintenance,
        cache_bytes=(open_lakefs and open_lakefs.cache and open_lakefs.cache.max_bytes) or None,
        branch_sweep=BRANCH_SWEEP if open_lakefs is not None else (),
        preload=_PRELOADED if open_lakefs is not None else _PRELOADED[:1],
    )


def _compare(queue: TaskQueue, module: str, task: TaskSummary) -> None:
    """Warn if the server's TaskDef is not the module's. Never replaced here: others may work with it."""
    from perago.taskdef import compare_definitions

    registered = queue.get_task_definition(task.name)
    if registered is None:
        messages.warning(f"the server has no TaskDef {task.name}; create it with: perago register {module}")
        return
    differences = compare_definitions(registered, json.loads(task.definition))
    if differences:
        title = f"the server's TaskDef {task.name} differs from the module's, and stays as it is"
        lines = [title, *(difference.text for difference in differences)]
        messages.warning("\n  ".join([*lines, f"replace it with: perago register {module}"]))
