"""Checks of task types: is the server's TaskDef that of the module, and does a worker take what waits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perago.diagnosis.findings import Finding, Level
from perago.diagnosis.queues import Overview, TaskTypeStatus, look_at_queues
from perago.ports import TaskQueue
from perago.taskdef.compare import comparable
from perago.taskdef.compatibility import Impact, classify
from perago.workspace.text import age, count, listing, one_line


@dataclass(frozen=True, slots=True)
class Declared:
    """A task of a module here, with its TaskDef as JSON text."""

    module: str
    name: str
    definition: str


def drift(queue: TaskQueue, task: Declared) -> Iterator[Finding]:
    """How the TaskDef on the server differs from the module's.

    Raises:
        ServiceError: Conductor did not answer.
    """
    registered = queue.get_task_definition(task.name)
    register = f"perago register {task.module}"
    if registered is None:
        why = "Conductor then uses its own retries and time-outs: 3 retries, and an hour until a dead worker is noticed"
        yield Finding(task.name, Level.PROBLEM, "the server has no TaskDef of this name", why, register)
        return
    changes = classify(*comparable(registered, json.loads(task.definition)))
    breaking = [change for change in changes if change.impact is Impact.BREAKING]
    if not changes:
        yield Finding(task.name, Level.OK, "the TaskDef on the server is that of the module")
        return
    level = Level.PROBLEM if breaking else Level.WARNING
    shown = listing([one_line(change.difference) for change in breaking or changes], 3)
    what = f"the TaskDef on the server differs in {count(len(changes), 'place')}: {shown}"
    why = "workflows that were written for one of both may fail" if breaking else "workflows that run do not notice"
    yield Finding(task.name, level, what, why, f"perago diff {task.module}, then perago register {task.module}")


def queues(overview: Overview, root: Path, tasks: Sequence[Declared] | None, now: float) -> Iterator[Finding]:
    """Whether anything waits for a worker that does not come. `tasks`: None for all that are in use.

    Raises:
        ServiceError: Conductor did not answer.
    """
    names = None if tasks is None else [task.name for task in tasks]
    modules = {task.name: task.module for task in tasks or ()}
    report = look_at_queues(overview, root, names, now)
    stuck = [row for row in report.rows if row.is_unattended(now) or (row.domain and row.waiting)]
    for row in stuck:
        yield _stuck(row, now, modules.get(row.task_name, "MODULE"))
    silent = [row for row in report.rows if row.silent]
    for row in silent:
        yield _silent(row, now)
    if not stuck and not silent:
        waiting, running = sum(row.waiting for row in report.rows), sum(row.running or 0 for row in report.rows)
        types = count(len(report.rows), "task type")
        yield Finding("queues", Level.OK, f"{types}: {count(waiting, 'attempt')} waiting, {running:,} running")


def _silent(row: TaskTypeStatus, now: float) -> Finding:
    first = row.silent[0]
    what = (
        f"{count(len(row.silent), 'attempt')} of {row.task_name} with a worker that is silent, the first for "
        f"{age(now - first.since / 1000)}: task {first.task_id}, worker {first.worker_id}"
    )
    left = first.freed / 1000 - now
    freed = f"in {age(left)}" if left > 0 else "when it looks at this workflow the next time"
    why = f"the worker was killed, or does not reach Conductor, which hands the attempt out again {freed}"
    return Finding(
        "queues", Level.WARNING, one_line(what), why, f"perago show {one_line(first.task_id)}; start a worker"
    )


def _stuck(row: TaskTypeStatus, now: float, module: str) -> Finding:
    since = f", the oldest for {age(now - row.oldest.since / 1000)}" if row.oldest else ""
    waits = f"{count(row.waiting, 'attempt')} of {row.task_name} {'waits' if row.waiting == 1 else 'wait'}{since}"
    if row.domain:
        what = f"{waits}, in the domain {row.domain}"
        advice = "start the workflow without taskToDomain for this task"
        return Finding("queues", Level.PROBLEM, one_line(what), "perago's workers poll no domain", advice)
    why = "there is no worker, or it is down, or it polls another Conductor"
    return Finding("queues", Level.PROBLEM, one_line(f"{waits}, and {row.absence(now)}"), why, f"perago start {module}")
