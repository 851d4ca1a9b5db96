"""What there is to keep of a Conductor, and how it comes back.

Every attribute of `State` is listed in `KINDS` or in `NOT_KEPT`; a test fails if one is in neither. Rows are read back
through their own type hints, so a field that is added to a row is kept without a word here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from perago.embedded.conductor.core import ModelCore
from perago.embedded.conductor.state import HistoryEntry, Message, State, Status, TaskRow, WorkflowRow
from perago.embedded.persistence import Key, Records, grouped

NOT_KEPT = frozenset({"http_handler", "limits", "random", "last_polls", "_clock"})
"""How the server runs, what it rolls dice with, and which workers asked last: they ended with it."""

KINDS: Mapping[str, TypeAdapter[Any]] = {
    "task_definitions": TypeAdapter(dict[str, Any]),
    "workflow_definitions": TypeAdapter(dict[int, dict[str, Any]]),
    "tasks": TypeAdapter(TaskRow),
    "workflows": TypeAdapter(WorkflowRow),
    "queue": TypeAdapter(Message),
    "logs": TypeAdapter(list[dict[str, Any]]),
    "attention": TypeAdapter(bool),
    "timers": TypeAdapter(int),
    "sub_workflows": TypeAdapter(str),
    "history": TypeAdapter(HistoryEntry),
}
"""The types of what the state's tables hold, by the name of the attribute; attempts come before their workflows."""

_TABLES = tuple(kind for kind in KINDS if kind != "history")
"""Those that are mappings. The history is a list that only grows; its keys are positions."""


class ConductorSource:
    """One Conductor, as `perago.embedded.persistence.Persistence` sees it."""

    def __init__(self, model: ModelCore) -> None:
        self._model = model

    def capture(self) -> dict[Key, object]:
        """Every row of every table; the keys begin with the table's name. A row costs a few microseconds of the lock.

        Rows are copied, their payloads are shared with the copies: they are replaced, never changed.
        """
        with self._model._locked() as state:
            rows = [((kind, key), _copied(row)) for kind in _TABLES for key, row in _table(state, kind).items()]
            history = state.history.copy()
        captured: dict[Key, object] = {("history", number): entry for number, entry in enumerate(history)}
        for (kind, key), row in rows:
            captured[kind, *(key if isinstance(key, tuple) else (key,))] = row
        return captured

    def encode(self, key: Key, captured: Any) -> Any:  # noqa: ARG002 - the shape of a source
        """The JSON value of a captured row."""
        if not is_dataclass(captured):
            return captured
        return {field.name: getattr(captured, field.name) for field in fields(captured)}

    def restore(self, records: Records) -> None:
        """Take over what was kept by a model of the same kind. To be called before any other call.

        Raises:
            pydantic.ValidationError: a record is not what this version would have written.
            KeyError: a workflow names an attempt that is not there.
        """
        groups = grouped(records)
        with self._model._locked() as state:
            for kind in _TABLES:
                for parts, value in groups.get(kind, {}).items():
                    _table(state, kind)[parts if len(parts) > 1 else parts[0]] = _restored(state, kind, value)
            history = sorted(groups.get("history", {}).items())
            state.history.extend(KINDS["history"].validate_python(value) for _, value in history)
            _complete_queue(state)


def _table(state: State, kind: str) -> Any:
    return state.queue._messages if kind == "queue" else getattr(state, kind)


def _restored(state: State, kind: str, value: Any) -> Any:
    """A row; a workflow shares the rows of its attempts with the table of all attempts."""
    if kind != "workflows":
        return KINDS[kind].validate_python(value)
    row = KINDS[kind].validate_python({**value, "tasks": []})
    row.tasks.extend(state.tasks[task_id] for task_id in value["tasks"])
    return row


def _copied(row: Any) -> object:
    """Attempts have records of their own, so a workflow has their ids."""
    ids: Any = [task.task_id for task in row.tasks] if isinstance(row, WorkflowRow) else None
    return copy(row) if ids is None else replace(row, tasks=ids)


def _complete_queue(state: State) -> None:
    """Also queue what a poll had taken out but not handed over when the process ended."""
    messages = state.queue._messages
    state.queue._order = itertools.count(1 + max((message.order for message in messages.values()), default=-1))
    for row in state.tasks.values():
        if row.status is Status.SCHEDULED and row.kind == "SIMPLE" and row.task_id not in messages:
            state.queue.push(row, state.now())
