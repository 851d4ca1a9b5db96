"""The safety argument of docs/dev/protocol.md names places that are there, and every guard that the tests take away."""

from __future__ import annotations

import re
from importlib import import_module

from tests.simulation.mutations import GUARDS

from .blocks import ROOT

TEXT = (ROOT / "docs/dev/protocol.md").read_text("utf-8").split("\n## Why nothing is lost")[1].split("\n## ")[0]
POINTS = re.split(r"^\d+\. ", re.sub(r"\s*\n {2,}(?!- )", " ", TEXT), flags=re.MULTILINE)[1:]


def test_each_invariant_names_its_places() -> None:
    assert len(POINTS) == 9
    for point in POINTS:
        places = re.findall(r"`(\w+)\.(\w+)`", point.split("Enforced by")[1].split("Breaks without")[0])
        assert places, point
        for module, name in places:
            assert hasattr(import_module(f"perago.attempt.{module}"), name), f"{module}.{name}"


def test_each_guard_belongs_to_an_invariant_and_the_others_do_not_exist() -> None:
    named = {
        name for point in POINTS for name in re.findall(r'"([^"]+)"', point.split("Breaks without")[1].split("\n\n")[0])
    }
    families = tuple(name for name in named if name.endswith(":"))
    guards = set(GUARDS)
    assert named - set(families) - guards == set()
    assert {guard for guard in guards - named if not guard.startswith(families)} == set()
