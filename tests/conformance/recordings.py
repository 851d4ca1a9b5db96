"""What a real server answered in a scenario: data under `fixtures/recordings/<server>/<group>/<scenario>.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .scenario import Scenario

ROOT = Path(__file__).parents[2] / "fixtures" / "recordings"


def path_of(scenario: Scenario) -> Path:
    """The file of a scenario."""
    return ROOT / scenario.server / scenario.group / f"{scenario.name}.json"


def load(scenario: Scenario) -> list[dict[str, Any]]:
    """The normalised exchanges with the real server.

    Raises:
        FileNotFoundError: nobody has recorded it; the message says how to.
    """
    path = path_of(scenario)
    if not path.exists():
        raise FileNotFoundError(
            f"{scenario} was never recorded: python -m tests.conformance.record {scenario.server} URL {scenario}"
        )
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["exchanges"]
    return found


def save(scenario: Scenario, version: str, exchanges: list[dict[str, Any]]) -> None:
    """Keep what the real server of this `version` answered."""
    content = {"about": scenario.about, "recorded_from": version, "exchanges": exchanges}
    path = path_of(scenario)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
