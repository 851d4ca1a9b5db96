"""The kinds of guards that the protocol has, each with the case that breaks a promise once it is taken away."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pytest

from perago.driver import Limits
from perago.settings import PublishFence
from perago.testing import InMemoryServices
from perago.workspace.directory import AttemptDirectory, sweep
from tests.attempt.builders import DELIVERY
from tests.attempt.judging import CASES

from .matrix import CELLS, FRESH, PAIRS, STUBBORN, Opening, named, play
from .meeting import Play
from .mutating import Mutate, leave_the_marker_unlocked
from .reviving import play_revived
from .wire import RUNS_AGAIN, SENDERS, play_late

BY_NAME = {named(case): case for case in ((), *CELLS, *PAIRS, STUBBORN)}


class Removable(Protocol):
    """A guard that can be taken away."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def where(self) -> str:
        """The case in which it alone keeps its promise."""

    @property
    def promise(self) -> str:
        """What it keeps, or the words of the violation without it."""

    @property
    def mutate(self) -> Mutate:
        """Takes it away."""

    def breaks(self) -> bool:
        """Whether the promise is broken when the case is played."""


@dataclass(frozen=True, slots=True)
class Guard:
    """`promise` is broken in the `case` of the matrix once `mutate` has taken the guard away."""

    name: str
    mutate: Mutate
    case: str
    promise: str
    fenced: bool = True
    """False: the publish fence is switched off."""
    opening: Opening = FRESH

    @property
    def where(self) -> str:
        """The case, and on what kind of branch it is played."""
        kind = "" if self.fenced else ", fence switched off"
        return f"{self.opening}: {self.case or 'no trouble'}{kind}"

    def breaks(self) -> bool:
        """Whether the promise is broken when the case is played."""
        policy = PublishFence.AUTO if self.fenced else PublishFence.OFF
        opening = self.opening if self.fenced else replace(self.opening, fence=None)
        with InMemoryServices(limits=Limits(publish_fence=policy)) as services:
            world = play(services, BY_NAME[self.case], opening=opening)
            return any(self.promise in violation for violation in world.violations())


@dataclass(frozen=True, slots=True)
class Condition:
    """Once `mutate` has taken it away, the range of a `case` of the recovery table is judged in another way."""

    name: str
    mutate: Mutate
    case: str
    promise: str

    @property
    def where(self) -> str:
        """The case."""
        return f"recovery: {self.case}"

    def breaks(self) -> bool:
        """Whether the case is judged in another way than it should be."""
        (case,) = (case for case in CASES if case.name == self.case)
        return not case.holds()


@dataclass(frozen=True, slots=True)
class MarkerLock:
    """The lock on the marker of an attempt directory."""

    name: str = "lock on the marker"
    mutate: Mutate = leave_the_marker_unlocked
    where: str = "a sweep beside a living attempt"
    promise: str = "the directory of a living attempt stays"

    def breaks(self) -> bool:
        """Whether a sweep removes the directory of an attempt that is alive."""
        with tempfile.TemporaryDirectory() as root:
            living = AttemptDirectory.create(Path(root), DELIVERY)
            sweep(Path(root))
            return not living.workspace.exists()


@dataclass(frozen=True, slots=True)
class Revival:
    """A guard against an attempt that is handed out again although it has been retried (`tests.driver.reviving`)."""

    name: str
    mutate: Mutate
    promise: str
    where: str = "a chain that is rerun from its second step"

    def breaks(self) -> bool:
        """Whether the promise is broken when the case is played."""
        with InMemoryServices() as services:
            return any(self.promise in violation for violation in play_revived(services).violations())


@dataclass(frozen=True, slots=True)
class Meeting:
    """A guard against what changes do that meet (`tests.driver.meeting`)."""

    name: str
    mutate: Mutate
    play: Play
    promise: str

    @property
    def where(self) -> str:
        """The case, in words."""
        return (self.play.__doc__ or "").rstrip(".")

    def breaks(self) -> bool:
        """Whether the promise is broken when the case is played."""
        with InMemoryServices() as services:
            return any(self.promise in violation for violation in self.play(services))


@dataclass(frozen=True, slots=True)
class LateMerge:
    """A guard against a merge that arrives `arrives` calls after the step was begun again (`tests.driver.wire`)."""

    name: str
    mutate: Mutate
    sender: str
    promise: str
    again: str = "rerun"
    arrives: int = 4
    quiet: str = "later"

    @property
    def where(self) -> str:
        """The case, in words."""
        return f"{self.again}, sender {self.sender}, merge {self.arrives} calls later"

    def breaks(self) -> bool:
        """Whether the promise is broken when the case is played."""
        with InMemoryServices() as services:
            world = play_late(services, SENDERS[self.sender], RUNS_AGAIN[self.again], self.arrives, quiet=self.quiet)
            return any(self.promise in violation for violation in world.violations())


def is_needed(guard: Removable) -> tuple[bool, bool]:
    """Whether its promise is broken with the guard, and without it."""
    with pytest.MonkeyPatch.context() as patch:
        before = guard.breaks()
        guard.mutate(patch)
        return before, guard.breaks()
