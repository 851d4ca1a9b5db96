"""The bundled sample workflow on its real data."""

from __future__ import annotations

import csv
import filecmp
import json
from pathlib import Path

import perago.samples.penguins
from perago.authoring.task import get_task
from perago.ports import TaskStatus
from perago.samples.penguins import clean, features
from perago.testing import InMemoryServices

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


def test_both_steps_run_one_after_the_other_on_one_branch() -> None:
    with InMemoryServices() as services:
        cleaned = services.run(clean.clean, clean.Params(), TREE)
        assert cleaned.status is TaskStatus.COMPLETED, cleaned.reason
        assert cleaned.result == {"read": 344, "kept": 342, "rejected": 2, "agreeing_with_reference": 344}

        task = get_task(features.features)
        assert task is not None
        services.start(task, features.Params(), ref=cleaned.commit)
        made = services.attempt(features.features)
        assert made.status is TaskStatus.COMPLETED, made.reason
        assert made.result["islands"] == {"Biscoe": 167, "Dream": 124, "Torgersen": 51}
        assert made.result["mean_body_mass_g"] == {"Adelie": 3700.7, "Chinstrap": 3733.1, "Gentoo": 5076.0}

        tree = services.tree()
    rows = list(csv.DictReader(tree["features/dream.csv"].decode().splitlines()))
    assert len(rows) == 124
    assert json.loads(tree["features/summary.json"])["mean_body_mass_g"]["Gentoo"] == 5076.0
    assert {"clean/penguins.csv", "clean/rejected.csv", "features/biscoe.csv"} <= tree.keys()


def test_a_table_without_a_column_is_final() -> None:
    with InMemoryServices() as services:
        outcome = services.run(clean.clean, clean.Params(), {**TREE, "raw/penguins-raw.csv": "Species\nAdelie\n"})
    assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert outcome.reason == "raw/penguins-raw.csv has no column 'Island'"
