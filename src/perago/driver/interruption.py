"""How an attempt is told, from outside, that Conductor does not wait for it any more.

The delivery check asks at the steps that cannot be taken back. In between, a transfer may last for hours, or a service
that does not answer may be asked again and again. The worker that hears of a loss cuts that short.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from perago.attempt import commands as do


class Interrupted(BaseException):
    """The delivery is lost: what runs must end now. No `Exception`, so that no handler takes it for a failure
    of the call that it interrupts."""


Interruptible = Callable[[], AbstractContextManager[object]]
"""Makes a block that raises `Interrupted` at its beginning if the delivery is lost by then, and at any point within as
soon as it is."""

TIDYING = (do.RemoveStagingBranches, do.RemoveDirectory)
"""Commands that are carried out to their end, also and especially for a lost delivery."""

ON_THE_NETWORK = (
    do.ResolveJoin,
    do.ReadBranch,
    do.FindLeftovers,
    do.ListObjects,
    do.Fetch,
    do.CreateStagingBranch,
    do.RevertStale,
    do.CompareWithOthers,
    do.FindCommits,
    do.ReadAdopted,
    do.AwaitTurn,
    do.StageChanges,
    do.CarryChanges,
    do.StageFence,
    do.CommitStaging,
    do.VerifyStaging,
    do.CheckPublishFence,
    do.TryPublishFence,
    do.Merge,
    do.ReadPublication,
)
"""Commands that are cut short. What they have sent can be thrown away, or is found again: the delivery is lost, and
its staging branch goes unless a merge was sent. The others are short, or see to it themselves."""
