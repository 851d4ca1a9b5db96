"""What the summary of a run says about snapshots, about case files that no task reads, and about what was not tried."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from pytest_perago.options import SNAPSHOT

_SHOWN = 20


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
    paths = [path for path in (line.partition(": ")[0] for line in left) if path.endswith((".json", ".tree"))]
    if paths:  # case files are worth more than a snapshot: the hint does not name them
        terminalreporter.line(f"remove: rm {' '.join(map(shlex.quote, paths))}   (from {config.rootpath})")


def _written(terminalreporter: Any) -> Iterator[str]:
    reports = [report for group in ("passed", "failed", "error") for report in terminalreporter.stats.get(group, ())]
    written = {text for report in reports for name, text in getattr(report, "user_properties", ()) if name == SNAPSHOT}
    failed = any(terminalreporter.stats.get(group) for group in ("failed", "error"))
    nothing = "nothing was written" if failed else "nothing to write: no snapshot differs that was looked at"
    yield from sorted(written) or [nothing]


def summarise_untried(terminalreporter: Any, untried: Iterable[str]) -> None:
    """Say what no attempt has tried, up to `_SHOWN` lines; nothing if that is nothing."""
    lines = list(_merged(untried))
    if not lines:
        return
    terminalreporter.section("perago: not tried by any attempt of this run")
    for line in lines[:_SHOWN]:
        terminalreporter.line(line)
    if len(lines) > _SHOWN:
        terminalreporter.line(f"and {len(lines) - _SHOWN} more")


def _merged(lines: Iterable[str]) -> Iterator[str]:
    """Both directions of a guardrail in one line."""
    directions: dict[str, list[str]] = {}
    for line in lines:
        what, _, direction = line.partition("\t")
        directions.setdefault(what, []).append(direction)
    for what, found in directions.items():
        yield f"{what} {' or '.join(found)}".rstrip()
