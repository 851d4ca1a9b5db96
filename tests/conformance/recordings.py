"""What real servers answered in the scenarios: `fixtures/recordings/<server>/<group>.jsonl`.

The first line says which server was recorded. Each other line is one exchange with the name of its scenario; scenarios
are in the order of their names, so that a diff shows what changed and nothing else.

    python -m tests.conformance.recordings    # drops the recordings of scenarios that are gone
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .scenario import Scenario, scenarios

ROOT = Path(__file__).parents[2] / "fixtures" / "recordings"

Exchanges = list[dict[str, Any]]


def load(scenario: Scenario) -> Exchanges:
    """The normalised exchanges with the real server.

    Raises:
        FileNotFoundError: the scenario was never recorded; the message says how to.
    """
    found = recorded(_path(scenario))[1].get(scenario.name)
    if found is None:
        raise FileNotFoundError(
            f"{scenario} was never recorded: python -m tests.conformance.record {scenario.server} URL {scenario}"
        )
    return found


def version(scenario: Scenario) -> str:
    """The server that was recorded."""
    return recorded(_path(scenario))[0]


def save(scenario: Scenario, version: str, exchanges: Exchanges) -> None:
    """Keep what the real server of this `version` answered."""
    path = _path(scenario)
    known = recorded(path)[1] if path.exists() else {}
    _write(path, version, {**known, scenario.name: exchanges})


def without_scenario() -> dict[Path, list[str]]:
    """The recordings of scenarios that are gone, by file."""
    known = {(_path(found), found.name) for server in ("lakefs", "conductor") for found in scenarios(server)}
    left = {path: [name for name in recorded(path)[1] if (path, name) not in known] for path in ROOT.rglob("*.jsonl")}
    return {path: names for path, names in left.items() if names}


def prune() -> None:
    """Drop the recordings of scenarios that are gone."""
    for path, names in without_scenario().items():
        version, known = recorded(path)
        kept = {name: exchanges for name, exchanges in known.items() if name not in names}
        if kept:
            _write(path, version, kept)
        else:
            path.unlink()


@cache
def recorded(path: Path) -> tuple[str, dict[str, Exchanges]]:
    """The version of the server, and the exchanges of each scenario of a group."""
    if not path.exists():
        return "", {}
    with path.open(encoding="utf-8") as lines:
        version = str(json.loads(next(lines))["recorded_from"])
        found: dict[str, Exchanges] = {}
        for line in lines:
            exchange = json.loads(line)
            found.setdefault(exchange.pop("scenario"), []).append(exchange)
    return version, found


def _write(path: Path, version: str, found: Mapping[str, Exchanges]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"recorded_from": version}]
    lines += [{"scenario": name, **exchange} for name in sorted(found) for exchange in found[name]]
    path.write_text("".join(f"{_line(line)}\n" for line in lines), encoding="utf-8")
    recorded.cache_clear()


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _path(scenario: Scenario) -> Path:
    return ROOT / scenario.server / f"{scenario.group}.jsonl"


if __name__ == "__main__":
    prune()
