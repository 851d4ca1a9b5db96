"""What every page reads from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from perago.embedded.conductor.model import ConductorModel
from perago.embedded.lakefs.server import LakeFSServer

DeliveryKey: TypeAlias = tuple[str, int, int]
"""Task id, poll count and start time: one delivery (docs/design/contract.md 1)."""

StepTimes: TypeAlias = tuple[tuple[str, float], ...]
"""Steps of one delivery in their order, with their seconds."""

StepSource: TypeAlias = Callable[[str], dict[DeliveryKey, StepTimes]]
"""The steps of every known delivery of a task id."""


@dataclass(frozen=True, slots=True)
class Models:
    """The services, and where the steps of attempts are known from: Conductor does not hear of them."""

    conductor: ConductorModel
    lakefs: LakeFSServer
    steps: StepSource
    prefix: str = ""
    """What Conductor's paths begin with."""


def no_steps(task_id: str) -> dict[DeliveryKey, StepTimes]:  # noqa: ARG001 - a `StepSource`
    """For those who have no log of a worker."""
    return {}


class NoSuchPage(Exception):
    """There is nothing at this address; the message is shown."""
