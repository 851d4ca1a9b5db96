"""What there is to keep of a Conductor, and how it comes back.

Every attribute of `State` is listed in `KINDS` or in `NOT_KEPT`; a test fails if one is in neither. Rows are read back
through their own type hints, so a field that is added to a row is kept without a word here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any, cast

from pydantic import TypeAdapter

from perago.embedded.conductor.core import ModelCore
from perago.embedded.conductor.queue import Message
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow
from perago.embedded.conductor.state import HistoryEntry, State
from perago.embedded.persistence import Key, Records, grouped

NOT_KEPT = frozenset({"http_handler", "limits", "random", "last_polls", "_clock"})
"""How the server runs, what it rolls dice with, and which workers asked last: they ended with it."""

_TASKS = "tasks"
_WORKFLOWS = "workflows"
_QUEUE = "queue"
_LISTS = ("history",)
"""Tables that are lists and only ever grow; their keys are positions."""

KINDS: Mapping[str, TypeAdapter[Any]] = {
    "task_definitions": TypeAdapter(dict[str, Any]),
    "workflow_definitions": TypeAdapter(dict[int, dict[str, Any]]),
    _TASKS: TypeAdapter(TaskRow),
    _WORKFLOWS: TypeAdapter(WorkflowRow),
    _QUEUE: TypeAdapter(Message),
    "logs": TypeAdapter(list[dict[str, Any]]),
    "attention": TypeAdapter(bool),
    "timers": TypeAdapter(int),
    "sub_workflows": TypeAdapter(str),
    "history": TypeAdapter(HistoryEntry),
}
"""The types of what the state's tables hold, by the name of the attribute."""

_ROWS: Mapping[str, tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(row))
    for kind, row in ((_TASKS, TaskRow), (_WORKFLOWS, WorkflowRow), (_QUEUE, Message))
}
"""The fields of those that are rows and change."""


class ConductorSource:
    """One Conductor, as `perago.embedded.persistence.Persistence` sees it."""

    def __init__(self, model: ModelCore) -> None:
        self._model = model
        self._listed: dict[Key, object] = {}
        self._lengths = dict.fromkeys(_LISTS, 0)

    def capture(self) -> dict[Key, object]:
        """Every row of every table; the keys begin with the table's name.

        Under the lock each row costs a few microseconds; of the lists only what is new is looked at.
        """
        with self._model._locked() as state:
            tables = {kind: _copied(kind, getattr(state, kind)) for kind in KINDS if kind not in (*_LISTS, _QUEUE)}
            tables[_QUEUE] = _copied(_QUEUE, state.queue._messages)
            news = {kind: getattr(state, kind)[self._lengths[kind] :] for kind in _LISTS}
        for kind, entries in news.items():
            self._listed.update(((kind, number), entry) for number, entry in enumerate(entries, self._lengths[kind]))
            self._lengths[kind] += len(entries)
        captured = self._listed.copy()
        for kind, rows in tables.items():
            captured.update(((kind, *_parts(key)), value) for key, value in rows)
        return captured

    def encode(self, key: Key, captured: object) -> Any:
        """The JSON value of a captured row."""
        if isinstance(captured, HistoryEntry):
            return asdict(captured)
        names = _ROWS.get(str(key[0]))
        return captured if names is None else dict(zip(names, cast("tuple[object, ...]", captured), strict=True))

    def restore(self, records: Records) -> None:
        """Take over what was kept by a model of the same kind. To be called before anybody else calls.

        Raises:
            pydantic.ValidationError: a record is not what this version would have written.
            KeyError: a workflow names an attempt that is not there.
        """
        groups = grouped(records)
        with self._model._locked() as state:
            for kind, adapter in KINDS.items():
                if kind not in (_WORKFLOWS, _QUEUE, *_LISTS):
                    table = getattr(state, kind)
                    for parts, value in groups.get(kind, {}).items():
                        table[_key(parts)] = adapter.validate_python(value)
            _restore_workflows(state, groups.get(_WORKFLOWS, {}))
            _restore_queue(state, groups.get(_QUEUE, {}))
            for kind in _LISTS:
                values = (value for _, value in sorted(groups.get(kind, {}).items()))
                getattr(state, kind).extend(map(KINDS[kind].validate_python, values))


def _copied(kind: str, table: Mapping[Any, Any]) -> list[tuple[Any, object]]:
    """The rows of a table as they are now. Their payloads are shared with them: they are replaced, never changed."""
    names = _ROWS.get(kind)
    if kind == _WORKFLOWS:
        return [(key, _copied_workflow(row)) for key, row in table.items()]
    if names is not None:
        return list(zip(table, map(attrgetter(*names), table.values()), strict=True))
    return [(key, value.copy() if isinstance(value, list | dict) else value) for key, value in table.items()]


def _copied_workflow(row: WorkflowRow) -> tuple[object, ...]:
    """With copies of its containers; its attempts by their ids, since they have records of their own."""
    values = attrgetter(*_ROWS[_WORKFLOWS])(row)
    return tuple(map(_copied_value, values))


def _copied_value(value: object) -> object:
    if isinstance(value, list):
        return [each.task_id if isinstance(each, TaskRow) else each for each in value]
    return value.copy() if isinstance(value, dict) else value


def _parts(key: object) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _key(parts: tuple[Any, ...]) -> Any:
    return parts if len(parts) > 1 else parts[0]


def _restore_workflows(state: State, kept: Mapping[Key, Any]) -> None:
    """Workflows share the rows of their attempts with the table of all attempts."""
    rows = [KINDS[_WORKFLOWS].validate_python({**value, "tasks": []}) for value in kept.values()]
    ids = [value["tasks"] for value in kept.values()]
    for row, task_ids in zip(rows, ids, strict=True):
        row.tasks.extend(state.tasks[task_id] for task_id in task_ids)
        state.workflows[row.workflow_id] = row


def _restore_queue(state: State, kept: Mapping[Key, Any]) -> None:
    """Also queue what a poll had taken out but not handed over when the process ended."""
    messages = [KINDS[_QUEUE].validate_python(value) for value in kept.values()]
    state.queue._messages.update((message.task_id, message) for message in messages)
    state.queue._order = itertools.count(1 + max((message.order for message in messages), default=-1))
    for row in state.tasks.values():
        waits = row.status is Status.SCHEDULED and row.kind == "SIMPLE"
        if waits and row.task_id not in state.queue._messages:
            state.queue.push(row, state.now())
