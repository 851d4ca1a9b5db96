"""The dashboard for Grafana shows what `/metrics` has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def documented() -> dict[str, set[str]]:
    """Labels of each metric of the page, which tests/worker/test_metrics.py holds against a worker."""
    rows = re.findall(r"^\| `(perago_\w+)(?:\{([^}]*)\})?` \| (\w+) \|", PAGE, re.MULTILINE)
    found: dict[str, set[str]] = {}
    for name, labels, kind in rows:
        names = [f"{name}{end}" for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]
        own = {"le"} if kind == "histogram" else set()
        found |= {each: {*filter(None, labels.split(",")), "job", "instance"} | own for each in names}
    return found


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        yield variable.get("definition", "")


def test_it_uses_the_metrics_of_a_worker_with_their_labels_and_no_others() -> None:
    known = documented()
    used = set()
    for query in queries():
        for name, selected in re.findall(r"\b(perago_\w+)(?:\{([^}]*)\})?", query):
            assert name in known, query
            assert set(re.findall(r"(\w+)=", selected)) <= known[name], query
            used.add(name)
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} == bases


def test_its_legends_and_groups_name_labels_of_their_metrics() -> None:
    known = documented()
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            labels = set().union(*(known[name] for name in re.findall(r"\b(perago_\w+)", target["expr"])))
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                named |= set(group.split(", "))
            assert named <= labels, target["expr"]


def test_the_panels_of_the_dashboard_do_not_overlap_and_are_explained() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
