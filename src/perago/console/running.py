"""`/running` and `/workers`: the attempts of all workflows that are with a worker, and the workers."""

from __future__ import annotations

from collections import Counter

from starlette.requests import Request

from perago.adapters.conductor import LastPoll, OpenAttempt
from perago.console import links
from perago.console.source import Source
from perago.console.text import Link, PageView, RowView, duration, line, link, moment, paged

_ROWS = 100
_TYPES_SHOWN = 20


def worker_link(worker_id: str) -> Link:
    """Return a worker by its id."""
    return link(worker_id, links.worker(worker_id)) if worker_id else link("unnamed")


def running(source: Source, request: Request) -> PageView:
    """Show the attempts that are with a worker, the oldest first."""
    attempts, is_all = source.conductor.running()
    now = source.conductor.now()
    page = paged(attempts, request, size=_ROWS)
    rows = [_attempt_row(each, now) for each in page.items]
    return PageView("Running", live=True, attempts=page.showing(rows), is_all=is_all)


def _attempt_row(attempt: OpenAttempt, now: int) -> RowView:
    return RowView(
        attempt=link(attempt.reference_name, links.workflow(attempt.workflow_id, attempt.task_id)),
        task_type=link(attempt.task_name, links.task_type(attempt.task_name)),
        worker=worker_link(attempt.worker_id),
        age=duration(now - attempt.started),
        heartbeat=duration(now - attempt.updated),
        is_silent=0 < attempt.response_timeout * 1000 < now - attempt.updated,
        workflow=link(attempt.workflow_id, links.workflow(attempt.workflow_id)),
    )


def workers(source: Source, request: Request) -> PageView:
    """Show the workers of the last polls and of the running attempts, the one that was last heard of first, or the one
    of `?worker=`."""
    attempts, is_all = source.conductor.running()
    busy = Counter(each.worker_id for each in attempts)
    polls: dict[str, list[LastPoll]] = {}
    for poll in source.conductor.last_polls():
        polls.setdefault(poll.worker_id, []).append(poll)
    heard = {name: max(poll.time for poll in found) for name, found in polls.items()}
    for each in attempts:
        heard[each.worker_id] = max(heard.get(each.worker_id, 0), each.updated)
    wanted = request.query_params.get("worker")
    names = [name for name in heard if wanted in (None, name)]
    page = paged(sorted(names, key=lambda name: (-heard[name], name)), request, size=_ROWS)
    now = source.conductor.now()

    def row(name: str) -> RowView:
        found = polls.get(name, [])
        types = dict.fromkeys(poll.task_name for poll in found)
        return RowView(
            worker=worker_link(name),
            heard=moment(heard[name]),
            silence=duration(now - heard[name]),
            running=busy[name],
            types=[link(each, links.task_type(each)) for each in list(types)[:_TYPES_SHOWN]],
            more=max(0, len(types) - _TYPES_SHOWN),
        )

    rows = page.showing([row(name) for name in page.items])
    return PageView("Workers", live=True, workers=rows, is_all=is_all, wanted=None if wanted is None else line(wanted))
