"""The workflow: clean, then each island at the same time, then a summary of what the islands wrote."""

from __future__ import annotations

from pydantic import BaseModel

from perago.samples.penguins import clean, measure, summary
from perago.workflows import Flow, workflow

ISLANDS = ("Biscoe", "Dream", "Torgersen")


class Params(BaseModel):
    digits: int = 0


@workflow(
    name="penguins",
    version=1,
    owner_email="data@example.com",
    description="Clean the records of the penguins, measure each island separately, and sum up.",
)
def penguins(flow: Flow, params: Params) -> summary.Result:
    """Run the three tasks of this package."""
    flow.step("clean", clean.clean, clean.Params)
    flow.fork("islands", ISLANDS, lambda island: flow.step("measure", measure.measure, measure.Params, island=island))
    return flow.step("summary", summary.summary, summary.Params, digits=params.digits).result
