"""Whether the changes that a model has noted are all there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from perago.embedded import persistence
from perago.embedded.conductor.model import ConductorModel, ModelCore
from perago.embedded.conductor.state import State
from perago.embedded.journal import Journal, Key, Table
from perago.embedded.lakefs.repository import LakeFSServer
from perago.embedded.persistence import ConductorSource, LakeFSSource, StateDirectory
from perago.ports import Clock


class Increments:
    """What persistence would have written of a model since it was fresh."""

    def __init__(self, model: ModelCore | LakeFSServer) -> None:
        self._model = model
        self._source = (
            ConductorSource(model)
            if isinstance(model, ModelCore)
            else LakeFSSource(model, StateDirectory(Path("unused")))
        )
        self._source.restore({})
        self.written: dict[Key, Any] = {}

    def take(self) -> None:
        """Write the changes."""
        self.written.update(self._source.take())

    def missed(self) -> list[Key]:
        """The records that differ from the model, which is not used any more."""
        if isinstance(self._model, CheckedConductor):
            self._model.increments = None
        self.take()
        for table in _tables(self._model):
            for key in table:
                table.touch(key)
        everything = self._source.take()
        written = {key: row for key, row in self.written.items() if row is not Journal.DELETED}
        return [key for key in everything.keys() | written if everything.get(key) != written.get(key)]


class CheckedConductor(ConductorModel):
    """Fails if a call before this one changed one of the newest workflows without noting it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.increments: Increments | None = None
        self.increments = Increments(self)

    @contextmanager
    def _locked(self) -> Iterator[State]:
        with super()._locked() as state:
            if self.increments is not None:
                written = self.increments.written
                written.update((key, persistence._copied(row)) for key, row in state.journal.take().items())
                for workflow_id in islice(reversed(state.workflows), 5):
                    record = written["workflows", workflow_id]
                    assert record == persistence._copied(state.workflows[workflow_id]), f"{workflow_id} changed unnoted"
            yield state


def _tables(model: ModelCore | LakeFSServer) -> Iterator[Table[Any, Any]]:
    owners: list[object] = [model]
    if isinstance(model, ModelCore):
        owners = [model._state, model._state.queue]
        yield from model._state.logs.values()
    else:
        owners += model.repositories.values()
        for repository in model.repositories.values():
            yield repository.graph
            yield from (branch.staged for branch in repository.branches.values())
    for owner in owners:
        yield from (attribute for attribute in vars(owner).values() if isinstance(attribute, Table))


def unless_late(problem: str) -> None:
    """Fail, unless this machine was too slow."""
    assert re.search(r"\d s late;", problem), problem
