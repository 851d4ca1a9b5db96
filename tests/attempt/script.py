"""Events that lead an attempt to a step, and a way to feed them to the protocol."""

from __future__ import annotations

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.protocol import advance, begin
from perago.attempt.state import Plan, State

from .builders import DELIVERY, PLAN, REF, STAGED, WORKSPACE, commit, publication_of

ACCEPTED = on.InputAccepted(WORKSPACE, "00")
NOTHING_LEFT = on.LeftoversFound(())
UNMOVED = on.BranchRead((), reaches_ref=True)
FENCED = on.PublishFenceSeen(on.FenceState.INSTALLED)
UNFENCED = on.PublishFenceSeen(on.FenceState.ABSENT)
ENFORCED = on.PublishFenceTried(enforced=True)
SATISFIED = on.GuardrailsChecked(())
RESULT = on.ResultAccepted({"n": 1})
ONE_ADDED = on.ChangesDetected(added=("out.txt",), size=3)
STAGING_COMMIT = on.StagingCommitted(commit(STAGED, REF, by=publication_of(DELIVERY).metadata))

TO_LISTING = (ACCEPTED, NOTHING_LEFT, UNMOVED, FENCED)
TO_CHANGES = (*TO_LISTING, on.ObjectsListed(), SATISFIED, on.Fetched(), on.FunctionReturned(), RESULT, SATISFIED)
TO_COMMITTED = (
    *TO_CHANGES,
    ONE_ADDED,
    on.StagingBranchCreated(),
    on.DeliveryConfirmed(),
    on.ChangesStaged(),
    STAGING_COMMIT,
    on.StagingVerified(),
    ENFORCED,
)
TO_MERGE = (*TO_COMMITTED, on.DeliveryConfirmed(), UNMOVED)


def run(*events: on.Event, plan: Plan = PLAN) -> tuple[State, list[do.Command | None]]:
    """Feed events; returns the last state and every command from the first on."""
    state, command = begin(plan)
    commands = [command]
    for event in events:
        state, command = advance(state, event)
        commands.append(command)
    return state, commands


def kinds(commands: list[do.Command | None]) -> list[str]:
    return [type(command).__name__ for command in commands]
