"""Task domains: a part of a task type's attempts that only some of its workers ask for (`taskToDomain`)."""

from __future__ import annotations

from perago.embedded.conductor.rows import TaskRow, WorkflowRow
from perago.embedded.conductor.state import State

ACTIVE_MS = 10_000
"""How long after a poll a domain counts as served (`docs/servers/conductor.md` 2 "Queue semantics")."""

NO_DOMAIN = "NO_DOMAIN"


def domain_of(state: State, workflow: WorkflowRow, row: TaskRow) -> str | None:
    """The domain of a fresh attempt: what is said of all types, unless something is said of its own."""
    given = workflow.task_to_domain
    domain = row.domain
    if (given.get("*") or "").strip():
        domain = _active(state, row.task_type, given["*"].split(","))
    if row.task_type in given:
        domain = _active(state, row.task_type, given[row.task_type].split(","))
    return domain


def _active(state: State, task_type: str, domains: list[str]) -> str | None:
    """The first domain that was polled of late, else the last one."""
    for domain in (domain.strip() for domain in domains if domain.upper() != NO_DOMAIN):
        poll = state.last_polls.get((task_type, domain))
        if poll is not None and state.now() - poll.time < ACTIVE_MS:
            return domain
    last = domains[-1].strip()
    return None if last.upper() == NO_DOMAIN else last
