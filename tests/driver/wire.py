"""Merges that are held up on their way to lakeFS, and arrive when their sender has given up and the step runs again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from perago.ports import ServiceError, Unclear, WorkspaceStore
from perago.testing import InMemoryServices

from .world import World


class Wire:
    """The way to a store: passes calls on, but holds the first merges. Their sender gets no answer."""

    def __init__(self, store: object, *, held: int, tidied: bool = False) -> None:
        """`held`: how many merges are held. `tidied`: where they arrive, their staging branch goes."""
        self._store = store
        self._to_hold = held
        self._tidied = tidied
        self._held: list[Callable[[], object]] = []
        self._calls = 0
        self._arrive_at: int | None = None

    @property
    def is_holding(self) -> bool:
        """Whether a merge is on its way."""
        return bool(self._held)

    def arrive_before(self, number: int) -> None:
        """Let everything that is held arrive right before this call from now on; 0 is the next one."""
        self._arrive_at = self._calls + number

    def arrive(self) -> None:
        """Let everything that is held arrive, in order. Nobody hears the answers."""
        held, self._held, self._to_hold = self._held, [], 0
        for merge in held:
            with contextlib.suppress(ServiceError):
                merge()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self._arrive_at == self._calls:
                self.arrive()
            self._calls += 1
            if name == "merge" and self._to_hold:
                self._to_hold -= 1
                self._held.append(lambda: self._merge(*arguments, **options))
                raise Unclear("lakeFS", "merge", "connection cut")
            return method(*arguments, **options)

        return call

    def _merge(
        self, repository: str, source: str, branch: str, message: str, metadata: Mapping[str, str], **options: Any
    ) -> None:
        store = cast("WorkspaceStore", self._store)
        store.merge(repository, source, branch, message, metadata, **options)
        if self._tidied:
            store.delete_branch(repository, metadata["perago.staging_branch"])


def _lost(world: World) -> None:
    """Somebody ends the workflow; the attempt hears of it when it asks what became of its merge."""
    world.services.faults.between("is_current", world.terminate, nth=3)
    world.run(world.take())


def _handed_back_and_lost(world: World) -> None:
    """The same for a delivery that has a predecessor: without changes its merge is that of a fence commit."""
    world.hand_back()
    _lost(world)


def _gave_up(world: World) -> None:
    """No merge is answered as often as the attempt tries, and it says so."""
    world.run(world.take())


def _overtaken_by_a_failure(world: World) -> None:
    """The delivery is lost to another one, which cannot read its input."""
    faults = world.services.faults
    faults.between("is_current", lambda: world.services.conductor.hand_back(world.tried[-1].delivery), nth=3)
    world.run(world.take())
    faults.before("download", nth=faults.calls("download") + 1, error=OSError(28, "No space left on device"))
    world.run(world.take())


def _retry(world: World) -> None:
    world.services.clock.advance(2)


@dataclass(frozen=True, slots=True)
class Sender:
    """How a delivery ends whose merges are held."""

    send: Callable[[World], None]
    held: int = 1
    tidied: bool = False
    """It is slow rather than gone: it hears of its merge after all, and removes its staging branch."""


SENDERS = {
    "lost": Sender(_lost),
    "slow and lost": Sender(_lost, tidied=True),
    "handed back and lost": Sender(_handed_back_and_lost),
    "without an answer": Sender(_gave_up, held=3),
    "overtaken by a failure": Sender(_overtaken_by_a_failure),
}
RUNS_AGAIN: dict[str, Callable[[World], None]] = {
    "rerun": World.order_rerun,
    "restart": World.order_restart,
    "retry": _retry,
}


def play_late(
    services: InMemoryServices, sender: Sender, again: Callable[[World], None], arrives: int, *, quiet: str
) -> World:
    """A workflow whose step is begun again after a delivery that has merges on their way. They arrive right before call
    number `arrives` that the next delivery makes of lakeFS, or, if it makes fewer, after the end of everything."""
    world = World(services, quiet=quiet)
    wire = Wire(services.lakefs, held=sender.held, tidied=sender.tidied)
    world.store = wire
    sender.send(world)
    if not wire.is_holding:
        raise ValueError("no merge is on its way")
    again(world)
    wire.arrive_before(arrives)
    world.run(world.take())
    world.settle()
    wire.arrive()
    return world
