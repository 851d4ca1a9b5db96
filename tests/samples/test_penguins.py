"""The bundled sample workflow on its real data."""

from __future__ import annotations

import csv
import filecmp
import json
from pathlib import Path

import perago.samples.penguins
from perago.ports import TaskStatus
from perago.samples.penguins import clean, measure, summary
from perago.samples.penguins.workflow import penguins
from perago.testing.services import InMemoryServices

DATA = Path(perago.samples.penguins.__file__).parent / "data"
TREE = {
    "raw/penguins-raw.csv": (DATA / "penguins-raw.csv").read_bytes(),
    "reference/penguins.csv": (DATA / "penguins.csv").read_bytes(),
}


def test_the_package_and_the_fixtures_hold_the_same_tables() -> None:
    fixtures = Path(__file__).parents[2] / "fixtures" / "penguins"
    names = sorted(path.name for path in fixtures.iterdir())
    assert names == ["SOURCE.md", "penguins-raw.csv", "penguins.csv"]
    assert filecmp.cmpfiles(fixtures, DATA, names, shallow=False) == (names, [], [])


def test_the_workflow_ends_with_its_summary_and_a_file_of_each_island() -> None:
    with InMemoryServices() as services:
        ref = services.seed(TREE)
        services.conductor.register(clean.clean, measure.measure, summary.summary)
        services.conductor.create_workflow_definition(penguins.definition())
        workspace = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": ref}
        workflow = services.conductor.start_workflow("penguins", {"workspace": workspace})
        outcomes = {outcome.delivery.reference_name: outcome for outcome in services.conductor.drain()}
        assert services.conductor.workflow(workflow)["status"] == "COMPLETED"
        tree = services.tree()

    assert outcomes["clean"].result == {"read": 344, "kept": 342, "rejected": 2, "agreeing_with_reference": 344}
    islands = {"biscoe": (167, 4716.0), "dream": (124, 3712.9), "torgersen": (51, 3706.4)}
    for name, (number, grams) in islands.items():
        assert outcomes[f"measure_{name}"].input_ref == outcomes["clean"].commit
        written = json.loads(tree[f"islands/{name}.json"])
        assert written == outcomes[f"measure_{name}"].result
        assert (written["penguins"], written["mean_body_mass_g"]) == (number, grams)
    assert outcomes["summary"].result == {"islands": [*islands], "penguins": 342, "mean_body_mass_g": 4202.0}
    rows = list(csv.DictReader(tree["summary.csv"].decode().splitlines()))
    assert {row["island"]: (int(row["penguins"]), float(row["mean_body_mass_g"])) for row in rows} == islands


def test_an_island_without_penguins_is_a_failure() -> None:
    table = {"clean/penguins.csv": "species,island,body_mass_g\nAdelie,Dream,3750\n"}
    with InMemoryServices() as services:
        outcome = services.run(measure.measure, measure.Params(island="Biscoe"), table)
    assert (outcome.status, outcome.reason) == (
        TaskStatus.FAILED,
        "clean/penguins.csv has no penguin of Biscoe",
    )


def test_a_table_without_a_column_is_final() -> None:
    with InMemoryServices() as services:
        outcome = services.run(clean.clean, clean.Params(), {**TREE, "raw/penguins-raw.csv": "Species\nAdelie\n"})
    assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert outcome.reason == "raw/penguins-raw.csv has no column 'Island'"
