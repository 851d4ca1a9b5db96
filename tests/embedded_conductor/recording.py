"""What a real Conductor showed in each scenario, kept beside the tests.

To record again: `PYTHONPATH=tests python -m embedded_conductor.recording http://127.0.0.1:8080/api [scenario...]`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .normal import Normal
from .scenarios import SCENARIOS, Scenario
from .servers import RealClock, RealServer, Server

PATH = Path(__file__).parent / "recorded.json"
"""Recorded from Conductor 3.32.3 (standalone, SQLite, default limits)."""


def tell(scenario: Scenario, server: Server) -> Any:
    """What the server shows, comparable and as it comes out of JSON."""
    return json.loads(json.dumps(Normal()(scenario(server))))


def recorded(name: str) -> Any:
    """What the real server showed."""
    return json.loads(PATH.read_text(encoding="utf-8"))[name]


def record(url: str, names: Sequence[str]) -> None:
    """Tell these scenarios, or all, to a real server and keep what it shows; the others stay as they are."""
    server = RealServer(url, RealClock())
    kept = json.loads(PATH.read_text(encoding="utf-8")) if names else {}
    shown = kept | {name: tell(SCENARIOS[name], server) for name in names or SCENARIOS}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(shown[name])}" for name in sorted(shown))
    PATH.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2:])
