"""Lists that are too long for one page, and search."""

from __future__ import annotations

import shlex

import pytest

from perago.console import links, overview
from perago.console.repositories import LINES, compared
from perago.console.search import MAX_QUERY_LENGTH
from perago.embedded.lakefs import references
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.text import parse_zone, visible

from ..definitions import flow, simple
from .filled import REPOSITORY, Filled, send, start
from .hostile import ATTRIBUTE, KEYS, NASTY, REORDER, SCRIPT, Hostile
from .site import Site, lakefs_at, page_of_servers, servers_of


def turned(site: Site, path: str, table: int = 0) -> list[list[list[str]]]:
    """The rows of all pages, following "Next" or "Older"."""
    tables: list[list[list[str]]] = []
    address: str | None = path
    while address:
        assert len(tables) < 20
        page = site.get(address).main
        tables.append(page.all("table")[table].rows())
        address = next((link.attributes["href"] for link in page.all("a", rel="next")), None)
    return tables


def test_workflows_and_the_attempts_of_a_queue_that_are_known_are_paged(
    services: InMemoryServices, fresh: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = [start(services, {}) for _ in range(120)]
    pages = turned(fresh, "/?status=RUNNING")
    assert [len(rows) for rows in pages] == [50, 50, 20]
    assert [row[1] for rows in pages for row in rows] == started[::-1]

    assert [len(rows) for rows in turned(fresh, links.task_type("message.send"))] == [50, 50, 20]
    monkeypatch.setattr(overview, "MAX_QUEUED", 50)
    assert [len(rows) for rows in turned(fresh, links.task_type("message.send"))] == [50]
    assert "70 more attempts not shown" in fresh.get(links.task_type("message.send")).main.text


def test_the_history_of_a_workflow_is_paged(services: InMemoryServices, fresh: Site) -> None:
    workflow = start(services, {})
    for _ in range(150):
        services.conductor.hand_back(services.take(task_of(send)))
    pages = turned(fresh, links.workflow(workflow), table=-1)
    assert [len(rows) for rows in pages] == [200, 101]


def test_files_are_paged(services: InMemoryServices, fresh: Site) -> None:
    commit = services.seed({f"data/{number:04}.csv": "x" for number in range(450)})
    assert "450 files: 450 added" in fresh.get(links.commit(REPOSITORY, commit)).main.text
    assert [len(rows) for rows in turned(fresh, links.commit(REPOSITORY, commit))] == [200, 200, 50]
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


# ----------------------------------------------------------------------------------------------------
# Search, running attempts, workers, changes between commits, and the commands for each workflow.


def search_results(site: Site, text: str) -> dict[str, list[str]]:
    """The addresses that a search leads to, by the meaning of the text."""
    main = site.get(links.search(text)).main
    return {
        section.one("h2").text: [anchor.attributes["href"] for anchor in section.all("a")]
        for section in main.all("section")
    }


def test_everything_is_found_by_what_a_person_knows_of_it(site: Site, filled: Filled) -> None:
    row = filled.tasks(filled.published)[-1]
    day = site.get(links.workflow(filled.published)).main.facts()["Started"]
    workflow = links.workflow(filled.published)
    assert workflow in search_results(site, filled.published)["Workflow id"]
    assert search_results(site, row["taskId"]) == {"Task id": [links.workflow(filled.published, row["taskId"])]}
    named = search_results(site, "table.summ")
    assert workflow in named["Name of the workflow"]
    assert named["Task type"] == [links.task_type("table.summarise")]
    assert search_results(site, "test0001") == {"Worker": [links.worker("test0001")]}
    assert search_results(site, "main") == {"Branch": [links.branch(REPOSITORY, "main")]}
    assert search_results(site, f"{REPOSITORY}/main") == {"Branch": [links.branch(REPOSITORY, "main")]}
    assert search_results(site, filled.commit[:10]) == {"Commit": [links.commit(REPOSITORY, filled.commit)]}
    for text in (day[:10], day[:13], day[:16]):
        assert workflow in search_results(site, text)["Started at this time"], text
    assert (
        search_results(site, "2019-02-31")
        == search_results(site, "1999-01-01")
        == search_results(site, "nothing-like-this")
        == {}
    )
    assert search_results(site, "") == {}


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "-11:00"])
def test_times_are_searched_in_the_zone_that_is_shown(
    site: Site, filled: Filled, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setattr("perago.text._utc_views", False)
    monkeypatch.setattr("perago.text._log_zone", parse_zone(zone))
    page = site.get(links.workflow(filled.published))
    started = page.main.facts()["Started"]
    assert str(parse_zone(zone)) in page.text
    assert links.workflow(filled.published) in search_results(site, started[:16])["Started at this time"]


def test_a_correlation_id_is_found_and_is_a_link_to_its_search(services: InMemoryServices, fresh: Site) -> None:
    workflow = services.conductor.start_workflow("w", {}, definition=flow(simple("t")), correlation_id="order 17")
    assert links.workflow(workflow) in search_results(fresh, "order 17")["Correlation id"]
    hrefs = [anchor.attributes["href"] for anchor in fresh.get(links.workflow(workflow)).main.all("a")]
    assert links.search("order 17") in hrefs


@pytest.mark.parametrize(
    "text", [NASTY, ATTRIBUTE, "a' OR '1'='1", "a AND b", "x" * 100_000, "../../etc/passwd", "~^@$", "%00", "{{ 7*7 }}"]
)
def test_a_hostile_text_is_searched_for_and_shown_as_it_is(site: Site, text: str) -> None:
    answer = site.get(links.search(text[:5000]))
    assert answer.page.one("input", name="q").attributes["value"] == visible(text.strip()[:MAX_QUERY_LENGTH])
    assert len(answer.text) < 50_000


def test_a_search_without_one_of_the_servers_finds_what_the_other_has(filled: Filled) -> None:
    with servers_of(filled.services) as (conductor, lakefs):
        with page_of_servers(filled.services, conductor, None) as site:
            assert list(search_results(site, filled.published)) == ["Workflow id"]
        with page_of_servers(filled.services, None, lakefs_at(lakefs.endpoint_url)) as site:
            assert list(search_results(site, filled.commit)) == ["Commit"]


def test_running_attempts_of_all_workflows_have_worker_age_and_heartbeat(
    services: InMemoryServices, fresh: Site
) -> None:
    assert "No attempt is with a worker." in fresh.get(links.RUNNING).main.text
    ids = [start(services, {}), start(services, {})]
    taken = [services.take(task_of(send)) for _ in ids]
    services.clock.advance(90)
    rows = fresh.get(links.RUNNING).main.one("table").rows()
    assert [row[-1] for row in rows] == ids
    assert {row[3] for row in rows} == {"1 min 30 s"}
    assert {row[0] for row in rows} == {delivery.reference_name for delivery in taken}
    (worker,) = fresh.get(links.WORKERS).main.one("table").rows()
    assert worker[2:] == ["2", "message.send"]
    assert fresh.get(links.worker(worker[0])).main.one("table").rows() == [worker]
    assert "has no running attempt" in fresh.get(links.worker(NASTY)).main.text


def test_the_changed_lines_of_a_file_are_shown_between_any_two_commits(site: Site, filled: Filled) -> None:
    page = site.get(links.commit(REPOSITORY, filled.commit)).main
    address = links.diff(REPOSITORY, filled.commit, "raw/orders.csv")
    assert address in [anchor.attributes["href"] for anchor in page.all("a")]
    rows = site.get(address).main.one("table").rows()
    assert ["3", "", "-", "2,20"] in rows
    assert ["1", "1", "", "id,price"] in rows
    same = site.get(links.diff(REPOSITORY, filled.commit, "raw/orders.csv", filled.commit)).main
    assert "Both commits have the same text." in same.text
    added = site.get(links.diff(REPOSITORY, filled.commit, "summary/rows.txt", filled.root)).main
    assert {row[2] for row in added.one("table").rows()} == {"+"}
    binary = site.get(links.diff(REPOSITORY, filled.commit, "raw/logo.bin", filled.root)).main
    assert "Not text" in binary.text


@pytest.mark.parametrize("base", ["main~1", "x" * 200, "../../x", "0000000000", "no-such"])
def test_a_wrong_commit_or_file_of_a_comparison_is_not_found(site: Site, filled: Filled, base: str) -> None:
    address = links.diff(REPOSITORY, filled.commit, "raw/orders.csv", base)
    assert site.request("GET", address).status == 404
    missing = links.diff(REPOSITORY, filled.commit, "../../../etc/passwd", filled.root)
    assert site.request("GET", missing).status == 404


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_any_key_is_compared_by_its_link_and_by_the_form(hostile: Hostile, key: str) -> None:
    page = hostile.site.get(links.diff(REPOSITORY, hostile.commit, key)).main
    form, size = page.one("form"), page.facts()["After"]
    quoted = form.one("input", name="quoted").attributes["value"]
    again = hostile.site.get(links.with_query(form.attributes["action"], quoted=quoted, base="")).main
    assert again.facts()["After"] == size
    assert again.one("h1").text == page.one("h1").text


def test_hostile_lines_are_compared_as_text(services: InMemoryServices, fresh: Site) -> None:
    before, after = (services.seed({"a.txt": f"{SCRIPT}\n{text}\n"}) for text in (REORDER, ATTRIBUTE))
    answer = fresh.get(links.diff(REPOSITORY, after, "a.txt", before))
    assert [row[2:] for row in answer.main.one("table").rows()] == [
        ["", SCRIPT],
        ["-", "invoice⟨U+202E⟩fdp.exe⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩"],
        ["+", ATTRIBUTE],
    ]


def test_a_comparison_of_long_texts_is_bounded() -> None:
    rows, note = compared(
        "\n".join("ab"[at % 2] for at in range(30_000)), "\n".join("ba"[at % 3 % 2] for at in range(30_000))
    )
    assert 0 < len(rows) <= 2 * LINES + 10
    assert note == f"cut: {LINES:,} lines from line 1 on are compared"
    rows, note = compared("same\n" * 9000 + "old", "same\n" * 9000 + "new")
    assert [row.text.text for row in rows] == ["same", "same", "same", "old", "new"]
    assert [(row.old, row.new) for row in rows[-2:]] == [(9001, ""), ("", 9001)]
    assert note == ""


def test_each_workflow_has_the_commands_that_fit_its_status(site: Site, filled: Filled) -> None:
    commands = {
        filled.published: ["rerun"],
        filled.refused: ["retry", "rerun"],
        filled.terminated: ["retry", "rerun"],
        filled.waiting: ["terminate"],
    }
    overview = site.get("/").main
    for workflow_id, names in commands.items():
        expected = [f"perago {name} {workflow_id}" for name in names]
        listed = overview.one("details", id=f"cli-{links.workflow(workflow_id)}")
        assert [code.text for code in listed.all("code")] == expected
        shown = site.get(links.workflow(workflow_id)).main.one("details", id="cli")
        assert [code.text for code in shown.all("code")] == expected


def test_a_command_is_one_shell_word_for_any_id() -> None:
    from perago.console.text import commands_for

    (line,) = commands_for("x; rm -rf $HOME\n`id`", "RUNNING")
    assert len(shlex.split(line)) == 3
    assert "\n" not in line


def test_completed_attempts_are_collapsed_and_others_are_not(site: Site, filled: Filled) -> None:
    page = site.get(links.workflow(filled.published)).main
    first, retry = (
        details for details in page.all("details") if "attempt" in details.attributes.get("class", "").split()
    )
    assert "open" in first.attributes
    assert "open" not in retry.attributes
    assert "perago show" in retry.text
