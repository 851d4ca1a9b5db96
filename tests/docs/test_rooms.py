"""The map of the code in CONTRIBUTING.md names every room, in the order of imports."""

from __future__ import annotations

import re
import tomllib

from .blocks import ROOT

NO_LAYER = {"perago/samples", "pytest_perago"}
"""Rooms that no import rule orders."""


def test_the_map_names_every_room_in_the_order_of_imports() -> None:
    mapped = re.findall(
        r"^\| `([\w/]+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("\n## Where things are")[1], re.M
    )
    rooms = {f"perago/{path.parent.name}" for path in (ROOT / "src/perago").glob("*/__init__.py")} | {"pytest_perago"}
    assert sorted(mapped) == sorted(rooms)

    layers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0][
        "layers"
    ]
    level = {room.replace(".", "/"): -number for number, layer in enumerate(layers) for room in layer.split(" | ")}
    ordered = [level[room] for room in mapped if room not in NO_LAYER]
    assert ordered == sorted(ordered)
