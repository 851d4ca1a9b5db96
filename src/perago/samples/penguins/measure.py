"""Second step, once for each island and side by side: what the penguins of that island weigh.

All three publish to one branch. `on_moved_head="rebase"` puts the file of each on top of what the others published.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, Field

from perago import Example, RetryPolicy, TaskControls, TaskFailed, WorkspaceSpec, require_file, require_glob, task


class Params(BaseModel):
    island: Literal["Biscoe", "Dream", "Torgersen"]


class Result(BaseModel):
    penguins: int
    species: dict[str, int] = Field(description="Number of penguins of each species.")
    mean_body_mass_g: float


@task(
    name="penguins.measure",
    description="Count and weigh the penguins of one island.",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(
        pre=[require_file("clean/penguins.csv")],
        post=[require_glob("islands/*.json", min_count=1)],
        on_moved_head="rebase",
    ),
    controls=TaskControls(retry=RetryPolicy(count=2, delay_seconds=5)),
    examples=[
        Example(
            id="one-penguin",
            params={"island": "Dream"},
            tree={"clean/penguins.csv": "species,island,body_mass_g\nAdelie,Dream,3750\n"},
        )
    ],
)
def measure(workspace: Path, params: Params) -> Result:
    """Write `islands/<island>.json`, a file that no other island writes."""
    with (workspace / "clean" / "penguins.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["island"] == params.island]
    if not rows:
        raise TaskFailed(f"clean/penguins.csv has no penguin of {params.island}")
    result = Result(
        penguins=len(rows),
        species=dict(sorted(Counter(row["species"] for row in rows).items())),
        mean_body_mass_g=round(fmean(float(row["body_mass_g"]) for row in rows), 1),
    )
    target = workspace / "islands" / f"{params.island.lower()}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result.model_dump(), indent=2) + "\n", encoding="utf-8")
    return result
