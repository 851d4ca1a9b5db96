"""Second step: from the tidy table to features per island and a summary per species."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean, pstdev

from pydantic import BaseModel, Field

from perago import RetryPolicy, TaskControls, TaskFailed, WorkspaceSpec, current, require_file, require_glob, task

MEASUREMENTS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")

Row = dict[str, str]


class Params(BaseModel):
    min_rows: int = Field(default=1, ge=1, description="Fail if an island has fewer penguins than this.")
    digits: int = Field(default=4, ge=0, le=10)


class Result(BaseModel):
    rows: int
    islands: dict[str, int]
    mean_body_mass_g: dict[str, float] = Field(description="Per species.")


@task(
    name="penguins.features",
    description="Standardise the measurements and summarise them per species.",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(
        pre=[require_file("clean/penguins.csv")],
        post=[require_glob("features/*.csv", min_count=1), require_file("features/summary.json")],
    ),
    controls=TaskControls(retry=RetryPolicy(count=2, delay_seconds=5)),
)
def features(workspace: Path, params: Params) -> Result:
    """Write `features/<island>.csv` with z-scores and the bill ratio, and `features/summary.json`."""
    with (workspace / "clean" / "penguins.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    target = workspace / "features"
    target.mkdir(exist_ok=True)
    islands = _grouped(rows, "island")
    scales = {column: _scale(rows, column) for column in MEASUREMENTS}
    for done, (island, members) in enumerate(sorted(islands.items()), start=1):
        if len(members) < params.min_rows:
            raise TaskFailed(f"island {island} has {len(members)} penguins, fewer than min_rows ({params.min_rows})")
        _write(target / f"{island.lower()}.csv", [_features(row, scales, params.digits) for row in members])
        current().progress(done, len(islands))
    masses = {
        species: round(fmean(float(row["body_mass_g"]) for row in members), 1)
        for species, members in sorted(_grouped(rows, "species").items())
    }
    (target / "summary.json").write_text(json.dumps({"mean_body_mass_g": masses}, indent=2) + "\n", encoding="utf-8")
    counts = {island: len(members) for island, members in sorted(islands.items())}
    return Result(rows=len(rows), islands=counts, mean_body_mass_g=masses)


def _grouped(rows: list[Row], column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return groups


def _scale(rows: list[Row], column: str) -> tuple[float, float]:
    values = [float(row[column]) for row in rows]
    return fmean(values), pstdev(values) or 1.0


def _features(row: Row, scales: dict[str, tuple[float, float]], digits: int) -> Row:
    made = {"species": row["species"], "sex": row["sex"], "year": row["year"]}
    for column, (mean, deviation) in scales.items():
        made[f"{column}_z"] = f"{(float(row[column]) - mean) / deviation:.{digits}f}"
    made["bill_ratio"] = f"{float(row['bill_length_mm']) / float(row['bill_depth_mm']):.{digits}f}"
    return made


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
