"""Lists that are too long for one page."""

from __future__ import annotations

import pytest

from perago.console import links, overview
from perago.embedded.lakefs import references
from perago.testing.services import InMemoryServices

from .filled import REPOSITORY, declared, start
from .site import Site
from .tasks import send


def turned(site: Site, path: str, table: int = 0) -> list[list[list[str]]]:
    """The rows of all pages, following "Next" or "Older"."""
    found: list[list[list[str]]] = []
    address: str | None = path
    while address:
        assert len(found) < 20
        page = site.get(address).main
        found.append(page.all("table")[table].rows())
        address = next((link.attributes["href"] for link in page.all("a", rel="next")), None)
    return found


def test_workflows_are_paged(services: InMemoryServices, fresh: Site) -> None:
    started = [start(services, {}) for _ in range(120)]
    pages = turned(fresh, "/?status=RUNNING")
    assert [len(rows) for rows in pages] == [50, 50, 20]
    assert [row[1] for rows in pages for row in rows] == started[::-1]


def test_a_queue_is_paged(services: InMemoryServices, fresh: Site) -> None:
    for _ in range(60):
        start(services, {})
    assert [len(rows) for rows in turned(fresh, links.task_type("message.send"))] == [50, 10]


def test_a_queue_has_no_pages_of_attempts_that_are_not_known(
    services: InMemoryServices, fresh: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were empty, as if nothing waited."""
    monkeypatch.setattr(overview, "MOST_QUEUED", 50)
    for _ in range(60):
        start(services, {})
    assert [len(rows) for rows in turned(fresh, links.task_type("message.send"))] == [50]
    assert "10 more attempts not shown" in fresh.get(links.task_type("message.send")).main.text


def test_the_history_of_a_workflow_is_paged(services: InMemoryServices, fresh: Site) -> None:
    workflow = start(services, {})
    for _ in range(150):
        services.conductor.hand_back(services.take(declared(send)))
    pages = turned(fresh, links.workflow(workflow), table=-1)
    assert [len(rows) for rows in pages] == [200, 101]


def test_changed_files_are_paged(services: InMemoryServices, fresh: Site) -> None:
    commit = services.seed({f"data/{number:04}.csv": "x" for number in range(450)})
    assert "450 files: 450 added" in fresh.get(links.commit(REPOSITORY, commit)).main.text
    assert [len(rows) for rows in turned(fresh, links.commit(REPOSITORY, commit))] == [200, 200, 50]


def test_the_files_of_a_directory_are_paged(services: InMemoryServices, fresh: Site) -> None:
    commit = services.seed({f"data/{number:04}.csv": "x" for number in range(450)})
    pages = turned(fresh, links.files(REPOSITORY, commit, "data/"))
    assert [row[0] for rows in pages for row in rows] == [f"{number:04}.csv" for number in range(450)]


def test_the_commits_of_a_branch_are_paged(services: InMemoryServices, fresh: Site) -> None:
    seeded = [services.seed({"number.txt": str(number)}) for number in range(120)]
    pages = turned(fresh, links.branch(REPOSITORY, "main"))
    shown = [row[0] for rows in pages for row in rows]
    assert shown[:-1] == [commit[:12] for commit in seeded[::-1]]


def test_branches_are_paged_and_staging_branches_apart(services: InMemoryServices, fresh: Site) -> None:
    services.seed({})
    for number in range(70):
        references.create_branch(services.lakefs.server.repository(REPOSITORY), f"work-{number:04}", "main")
    assert [len(rows) for rows in turned(fresh, links.repository(REPOSITORY))] == [50, 21]
    for number in range(70):
        services.lakefs.create_branch(REPOSITORY, f"perago-{number:04}", "main")
    behind = f"{links.repository(REPOSITORY)}?branches=work-0068"
    assert [len(rows) for rows in turned(fresh, behind, table=-1)] == [50, 20]


@pytest.mark.parametrize("path", ["/", "/task-types", "/repositories"])
def test_empty_models_are_reported_with_the_fix(services: InMemoryServices, fresh: Site, path: str) -> None:
    page = fresh.get(path).main
    assert page.all("p", class_="empty")
    assert not page.all("table")


def test_a_bare_repository_is_shown(services: InMemoryServices, fresh: Site) -> None:
    services.lakefs.server.create_repository("bare-one", bare=True)
    assert "no branch yet" in fresh.get("/repositories").main.text
    assert fresh.get(links.repository("bare-one")).main.one("h1").text == "Repository bare-one"
