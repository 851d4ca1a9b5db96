"""`perago diff`."""

from __future__ import annotations

import json

from .conftest import PLAIN, Project
from .services import Services


def test_each_change_is_reported_with_what_it_means(project: Project, services: Services) -> None:
    project.task("plain", "plain.work", PLAIN)
    missing = project.run("diff", "plain", **services.variables)
    assert (missing.code, missing.out) == (1, "not registered  plain.work\n")

    project.run("register", "plain", **services.variables)
    same = project.run("diff", "plain", **services.variables)
    assert (same.code, same.out) == (0, "unchanged       plain.work\n")

    services.definitions["plain.work"] |= {"retryCount": 7, "ownerEmail": "b@example.com", "updateTime": 1}
    writes = len(services.writes)
    changed = project.run("diff", "plain", **services.variables)
    assert changed.code == 1
    head, *lines = changed.out.splitlines()
    assert head == "changed         plain.work"
    assert [line.split()[:2] for line in lines] == [["cosmetic", "/ownerEmail:"], ["breaking", "/retryCount:"]]
    assert "7 -> 3" in lines[1]
    assert len(services.writes) == writes, "it only reads"


def test_the_document_has_both_sides(project: Project, services: Services) -> None:
    project.task("plain", "plain.work", PLAIN)
    project.run("register", "plain", **services.variables)
    services.definitions["plain.work"]["retryCount"] = 7
    ran = project.run("diff", "plain", "--json", **services.variables)
    found = json.loads(ran.out)["plain.work"]
    assert found["registered"] is True
    (change,) = found["changes"]
    assert change.pop("reason")
    assert change == {
        "path": "/retryCount",
        "class": "breaking",
        "registered": {"value": 7},
        "here": {"value": 3},
    }
