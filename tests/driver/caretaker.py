"""Somebody who removes what attempts have left."""

from __future__ import annotations

from pathlib import Path

from perago.driver.gc import BranchAges, BranchClearing, Fate, Leftover, Policy
from perago.embedded.lakefs import references

from .world import REPOSITORY, World

HOUR, DAY = 3600.0, 86_400.0


class Caretaker:
    """Somebody who calls `perago gc` now and then."""

    def __init__(self, world: World, file: Path) -> None:
        self._world = world
        self._file = file
        self.clearing: BranchClearing | None = None

    def clear(
        self, *, older_than: float = DAY, dry_run: bool = False, conductor: bool = True, server: str = "here"
    ) -> list[Leftover]:
        services = self._world.services
        ages = BranchAges(self._file, server)
        policy = Policy(older_than, services.clock.now(), dry_run)
        fence = services.conductor if conductor else None
        self.clearing = BranchClearing(services.lakefs, fence, ages, policy)
        found = list(self.clearing.clear(REPOSITORY))
        if not dry_run:
            ages.save()
        return found

    def fate(self, **options: float | bool | str) -> Fate | None:
        """Of the one branch that is found; None if there is none."""
        found = self.clear(**options)  # type: ignore[arg-type]
        return found[0].fate if found else None

    @property
    def branches(self) -> list[str]:
        repository = self._world.services.lakefs.server.repository(REPOSITORY)
        return [branch.name for branch in references.list_branches(repository, show_hidden=True).results]
