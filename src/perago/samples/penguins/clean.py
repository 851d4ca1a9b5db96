"""First step: from the field records to one tidy table, checked against the curated one."""

from __future__ import annotations

import csv
from pathlib import Path

from pydantic import BaseModel, Field

from perago import (
    Example,
    RetryPolicy,
    TaskControls,
    TaskTerminalError,
    WorkspaceSpec,
    forbid_glob,
    require_file,
    task,
)

COLUMNS = {
    "Species": "species",
    "Island": "island",
    "Culmen Length (mm)": "bill_length_mm",
    "Culmen Depth (mm)": "bill_depth_mm",
    "Flipper Length (mm)": "flipper_length_mm",
    "Body Mass (g)": "body_mass_g",
    "Sex": "sex",
    "Date Egg": "year",
}
MEASUREMENTS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
MISSING = "NA"

Row = dict[str, str]


class Params(BaseModel):
    require_sex: bool = Field(default=False, description="Also reject penguins whose sex was not determined.")


class Result(BaseModel):
    read: int
    kept: int
    rejected: int
    agreeing_with_reference: int = Field(description="Rows that equal the curated table's, counted before rejection.")


@task(
    name="penguins.clean",
    description="Make the field records one tidy table.",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(
        pre=[require_file("raw/penguins-raw.csv"), require_file("reference/penguins.csv")],
        post=[require_file("clean/penguins.csv"), require_file("clean/rejected.csv"), forbid_glob("**/*.tmp")],
    ),
    controls=TaskControls(retry=RetryPolicy(count=2, delay_seconds=5)),
    examples=[
        Example(
            id="one-penguin",
            params={"require_sex": False},
            tree={
                "raw/penguins-raw.csv": ",".join(COLUMNS)
                + "\nAdelie Penguin,Dream,39.1,18.7,181,3750,MALE,2007-11-11\n",
                "reference/penguins.csv": "species\nAdelie\n",
            },
        )
    ],
)
def clean(workspace: Path, params: Params) -> Result:
    """Rename and normalize the columns; set aside rows that lack a measurement."""
    rows = [_tidy(record) for record in _read(workspace / "raw" / "penguins-raw.csv")]
    reference = _read(workspace / "reference" / "penguins.csv")
    needed = (*MEASUREMENTS, "sex") if params.require_sex else MEASUREMENTS
    complete = [row for row in rows if all(row[column] != MISSING for column in needed)]
    rejected = [row for row in rows if row not in complete]
    _write(workspace / "clean" / "penguins.csv", complete)
    _write(workspace / "clean" / "rejected.csv", rejected)
    agreeing = sum(row == other for row, other in zip(rows, reference, strict=False))
    return Result(read=len(rows), kept=len(complete), rejected=len(rejected), agreeing_with_reference=agreeing)


def _tidy(record: Row) -> Row:
    missing = [column for column in COLUMNS if column not in record]
    if missing:
        raise TaskTerminalError(f"raw/penguins-raw.csv has no column {missing[0]!r}")
    row = {name: record[column].strip() for column, name in COLUMNS.items()}
    row["species"] = row["species"].split()[0]
    row["sex"] = row["sex"].lower() if row["sex"] != MISSING else MISSING
    row["year"] = row["year"][:4]
    return row


def _read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS.values(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
