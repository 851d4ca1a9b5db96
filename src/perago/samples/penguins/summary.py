"""Last step, behind the join: one table of what the islands wrote."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from pydantic import BaseModel, Field

from perago import Example, RetryPolicy, TaskControls, WorkspaceSpec, require_file, require_glob, task


class Params(BaseModel):
    digits: int = Field(default=0, ge=0, le=3, description="Decimal places of the mean.")


class Result(BaseModel):
    islands: list[str]
    penguins: int
    mean_body_mass_g: float


@task(
    name="penguins.summary",
    description="Make one table of all islands.",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("islands/*.json", min_count=1)], post=[require_file("summary.csv")]),
    controls=TaskControls(retry=RetryPolicy(count=2, delay_seconds=5)),
    examples=[
        Example(
            id="two-islands",
            params={"digits": 1},
            tree={
                "islands/dream.json": '{"penguins": 1, "mean_body_mass_g": 3750.0}',
                "islands/biscoe.json": '{"penguins": 2, "mean_body_mass_g": 4500.0}',
            },
            result={"islands": ["biscoe", "dream"], "penguins": 3, "mean_body_mass_g": 4250.0},
        )
    ],
)
def summary(workspace: Path, params: Params) -> Result:
    """Write `summary.csv`, a line for each island."""
    islands = {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted((workspace / "islands").glob("*.json"))
    }
    with (workspace / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["island", "penguins", "mean_body_mass_g"])
        writer.writerows([island, row["penguins"], row["mean_body_mass_g"]] for island, row in islands.items())
    penguins = sum(row["penguins"] for row in islands.values())
    grams = sum(row["penguins"] * row["mean_body_mass_g"] for row in islands.values())
    return Result(islands=list(islands), penguins=penguins, mean_body_mass_g=round(grams / penguins, params.digits))
