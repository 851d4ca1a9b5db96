"""What the summary of a run says about snapshots, and about case files that nobody reads."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from pytest_perago.options import SNAPSHOT


def summarise_snapshots(terminalreporter: Any, config: pytest.Config, unused: Iterable[str]) -> None:
    """Say what was written and what is left over; nothing if neither was asked for."""
    lines = list(_written(terminalreporter)) if config.getoption("--perago-update") else []
    left = list(unused)
    if not lines and not left:
        return
    terminalreporter.section("perago snapshots")
    for line in lines:
        terminalreporter.line(line)
    for line in left:
        terminalreporter.line(f"unused: {line}")
    paths = [path for path in (line.partition(": ")[0] for line in left) if path.endswith(".json")]
    if paths:  # case files are worth more than a snapshot: nobody should be told to remove them
        terminalreporter.line(f"remove: rm {' '.join(map(shlex.quote, paths))}   (from {config.rootpath})")


def _written(terminalreporter: Any) -> Iterator[str]:
    reports = [report for group in ("passed", "failed", "error") for report in terminalreporter.stats.get(group, ())]
    written = {text for report in reports for name, text in getattr(report, "user_properties", ()) if name == SNAPSHOT}
    failed = any(terminalreporter.stats.get(group) for group in ("failed", "error"))
    nothing = "nothing was written" if failed else "nothing to write: no snapshot differs that was looked at"
    yield from sorted(written) or [nothing]
