"""What the pages say about models that real attempts have filled."""

from __future__ import annotations

from typing import Any

import pytest

from perago.attempt.publication import FENCE_PATH
from perago.console import links
from perago.console.repositories import publications
from perago.console.text import Moment, Shown, block, duration, line, moment, readable_json, tail
from perago.embedded.conductor import InMemoryConductor, state
from perago.embedded.lakefs import InMemoryLakeFS, commits, objects, references
from perago.ports import VirtualClock
from perago.taskdef import build_task_definition
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.text import count, show_utc, size, visible, zone

from ..definitions import operator, simple
from .filled import REPOSITORY, STAGING, Filled, define, send, start, summarise
from .markup import Element
from .site import Site, page_of, source_of_models


def attempts_of(site: Site, workflow_id: str) -> list[Element]:
    return site.get(links.workflow(workflow_id)).main.all("article")


def test_texts_and_payloads_are_shown_without_secrets() -> None:
    token = "gh" + "p_" + "Xq7Zp2Lm9Vt4Kc8RXq7Zp2Lm"
    assert block(f"sent {token} to a").text == line(f"sent {token} to a").text == "sent *** to a"
    assert readable_json({"db": {"password": "Xq7Zp2Lm"}, "rows": 3}).text == (
        '{\n  "db": {\n    "password": "***"\n  },\n  "rows": 3\n}'
    )


# ------------------------------------------------------------------ overview


def test_workflows_are_listed_newest_first_with_status_and_failed_steps(site: Site, filled: Filled) -> None:
    rows = site.get("/").main.all("table")[0].rows()
    ids = [row[1] for row in rows]
    assert ids == list(filled.services.conductor.workflow_ids())[::-1]
    by_id = dict(zip(ids, rows, strict=True))
    assert by_id[filled.refused][2] == "failed"
    assert by_id[filled.refused][5].startswith("step")
    assert "raw/orders.csv has no column 'price'" in by_id[filled.refused][5]
    assert by_id[filled.published][2:6] == ["completed", "2026-01-01 00:00:00", "6.0 s", "step, before its retry"]
    assert by_id[filled.waiting][2] == "running"
    assert by_id[filled.terminated][5] == "stopped by hand"


def test_the_filter_counts_and_selects_by_status(site: Site, filled: Filled) -> None:
    filters = site.get("/").main.all("nav")[0]
    choices = {link.text: link.attributes["href"] for link in filters.all("a")}
    assert list(choices) == ["all 5", "running 1", "completed 2", "failed 1", "terminated 1"]
    rows = site.get(choices["failed 1"]).main.all("table")[0].rows()
    assert [row[1] for row in rows] == [filled.refused]
    assert "No workflow has this status." in site.get("/?status=PAUSED").main.text


def test_queues_and_repositories_are_on_the_overview(site: Site, filled: Filled) -> None:
    tables = site.get("/").main.all("table")
    assert tables[1].rows() == [["message.send", "0"], ["table.summarise", "1"]]
    assert tables[2].rows()[0][0] == f"{REPOSITORY} main"
    assert filled.commit[:12] in tables[2].rows()[0][1]


# ----------------------------------------------------------------- workflows


def test_attempts_are_grouped_by_step_and_link_to_retries_and_commit(site: Site, filled: Filled) -> None:
    page = site.get(links.workflow(filled.published)).main
    assert len(page.all("section", class_="step")) == 1
    first, retry = page.all("article")
    assert [heading.text for heading in page.all("h4")] == ["First attempt failed 0 ms", "Retry 1 completed 0 ms"]
    assert "raw/orders.csv: row 17 has 3 columns" in first.text
    assert retry.facts()["Retries"] == "First attempt"
    chain = [link.attributes["href"] for link in retry.all("a") if link.text == "First attempt"]
    assert chain == [f"#{first.attributes['id']}"]
    facts = retry.facts()
    assert facts["Worker"] == "test0001"
    assert facts["Started"] == "2026-01-01 00:00:06 after 6.0 s"
    assert facts["Workspace"] == f"{REPOSITORY}/main at {filled.root[:12]}"
    assert "2 rows wrote summary/rows.txt" in retry.text

    address = links.commit(REPOSITORY, filled.commit)
    assert facts["Published"] == filled.commit[:12]
    assert address in [link.attributes["href"] for link in retry.all("a")]
    back = [link.attributes["href"] for link in site.get(address).main.all("a")]
    assert links.workflow(filled.published) in back
    assert f"{links.workflow(filled.published)}#{retry.attributes['id']}" in back


def test_a_publication_shows_even_where_its_report_never_arrived(filled: Filled) -> None:
    services = filled.services
    with source_of_models(services.conductor, services.lakefs.server) as source:
        published = publications(source, [(REPOSITORY, "main", filled.root)])
    last = filled.tasks(filled.published)[-1]["taskId"]
    assert [commit.id for _, commit in published[last]] == [filled.commit]


def test_an_ignored_update_is_visible_in_the_history(site: Site, filled: Filled) -> None:
    page = site.get(links.workflow(filled.terminated)).main
    history = page.all("table")[-1]
    assert [row[1] for row in history.rows()] == ["scheduled", "handed out", "changed by Conductor", "update ignored"]
    assert [row.text for row in history.all("tr", class_="surprising")] == [
        "2026-01-01 00:00:06.000 update ignored step canceled 1 test0001"
    ]


def test_lease_extensions_in_a_row_are_one_line(services: InMemoryServices, fresh: Site) -> None:
    start(services, {})
    delivery = services.take(task_of(send))
    for _ in range(3):
        services.clock.advance(10)
        services.conductor.extend_lease(delivery)
    history = fresh.get(links.workflow(delivery.workflow_id)).main.all("table")[-1]
    assert [row[1] for row in history.rows()] == ["scheduled", "handed out", "lease extended (3 times)"]


def test_only_a_running_workflow_is_shown_as_running_and_followed(
    services: InMemoryServices, fresh: Site, site: Site, filled: Filled
) -> None:
    workflow = start(services, {})
    services.take(task_of(send))
    services.clock.advance(125)
    page = fresh.get(links.workflow(workflow)).main
    assert page.one("h4").text == "First attempt in progress 2 min 5 s so far"
    assert page.attributes["data-live"] == "true"
    assert site.get(links.workflow(filled.refused)).main.attributes["data-live"] == "false"


def test_a_sub_workflow_and_its_parent_lead_to_each_other(services: InMemoryServices, fresh: Site) -> None:
    start(services, {})
    child = {"name": "test.message.send", "version": 1}
    inputs = {"params": {"label": "inner"}}
    step = operator("SUB_WORKFLOW", "nested", subWorkflowParam=child, inputParameters=inputs)
    define(services.conductor, "outer", step)
    outer = services.conductor.start_workflow("outer", {})
    inner = next(workflow_id for workflow_id in services.conductor.workflow_ids()[::-1] if workflow_id != outer)
    attempt = fresh.get(links.workflow(outer)).main.one("article")
    assert attempt.facts()["Sub-workflow"] == inner
    assert links.workflow(inner) in [link.attributes["href"] for link in attempt.all("a")]
    facts = fresh.get(links.workflow(inner)).main.all("dl")[0]
    assert links.workflow(outer) in [link.attributes["href"] for link in facts.all("a")]


def test_iterations_of_a_loop_are_steps_of_their_own(services: InMemoryServices, fresh: Site) -> None:
    start(services, {})
    services.attempt(send)
    step = simple("message.send", "each", params={"label": "x"})
    loop = operator("DO_WHILE", "loop", loopCondition="$.loop['iteration'] < 2", loopOver=[step])
    define(services.conductor, "looping", loop)
    workflow = services.conductor.start_workflow("looping", {})
    for _ in range(2):
        services.attempt(send)
    page = fresh.get(links.workflow(workflow)).main
    steps = [section.one("h3").text for section in page.all("section", class_="step")]
    assert steps == [
        "loop completed",
        "message.send completed each__1",
        "message.send completed each__2",
    ]


def test_an_input_in_external_storage_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "EXTERNAL_BYTES", 1000)
    clock = VirtualClock()
    conductor = InMemoryConductor(clock)
    conductor.register_task_definitions([build_task_definition(task_of(send))])
    define(conductor, "large", simple("message.send", params="${workflow.input.params}"))
    workflow = conductor.start_workflow("large", {"params": {"label": "x" * 2000}})
    with InMemoryLakeFS(clock) as lakefs, page_of(conductor, lakefs.server) as site:
        page = site.get(links.workflow(workflow)).main.one("article")
    assert "Too large for Conductor's own store; moved to" in page.text


# ---------------------------------------------------------------- task types


def test_a_task_type_shows_definition_queue_and_last_poll(site: Site, filled: Filled) -> None:
    page = site.get(links.task_type("table.summarise")).main
    waiting = filled.tasks(filled.waiting)[0]["taskId"]
    queue, polls = page.all("table")
    assert queue.rows() == [["step", "0", "0 ms", waiting]]
    assert polls.rows() == [["2026-01-01 00:00:06", "test0001", "none"]]
    assert '"retryDelaySeconds": 5' in page.all("pre")[-1].text


# -------------------------------------------------------------- repositories


def test_branches_staging_branches_and_tags_are_listed_apart(site: Site, filled: Filled) -> None:
    branches, staging, tags = site.get(links.repository(REPOSITORY)).main.all("table")
    assert [row[0] for row in branches.rows()] == ["main default"]
    assert [row[0] for row in staging.rows()] == [f"{STAGING} uncommitted changes"]
    assert branches.rows()[0][1] == filled.commit[:12]
    assert [row[:3] for row in tags.rows()] == [["v1", filled.root[:12], "Seed"]]


def test_a_branch_shows_its_first_parent_history(site: Site, filled: Filled) -> None:
    rows = site.get(links.branch(REPOSITORY, "main")).main.one("table").rows()
    assert [row[0] for row in rows][:2] == [filled.commit[:12], filled.root[:12]]
    assert [row[4] for row in rows] == ["table.summarise step", "", ""]


def test_uncommitted_changes_are_shown_with_their_branch(site: Site) -> None:
    uncommitted = site.get(links.branch(REPOSITORY, STAGING)).main.all("table")[0]
    assert uncommitted.rows() == [["summary/draft.txt", "added", "5 bytes"]]


def test_a_commit_shows_changed_files_with_both_sizes(site: Site, filled: Filled) -> None:
    page = site.get(links.commit(REPOSITORY, filled.commit)).main
    fence, *rows = page.one("table").rows()
    assert fence[:2] == [FENCE_PATH, "added"], "the first publication to the branch brings it along"
    assert rows == [
        ["raw/orders.csv", "changed", "19 bytes", "14 bytes"],
        ["raw/scratch.csv", "removed", "3 bytes", ""],
        ["summary/rows.txt", "added", "", "10 bytes"],
    ]
    assert "4 files: 2 added, 1 changed, 1 removed" in page.text
    [address] = [link.attributes["href"] for link in page.all("a") if link.text == "raw/scratch.csv"]
    assert site.get(address).main.one("pre").text == "id", "a removed file leads to its last content"


def test_a_short_id_and_a_branch_lead_to_the_commit(site: Site, filled: Filled) -> None:
    for ref in (filled.commit[:10], "main"):
        assert site.get(links.commit(REPOSITORY, ref)).main.facts()["Commit id"] == filled.commit


# --------------------------------------------------------------------- files


def test_directories_and_files_of_a_commit_can_be_walked(site: Site, filled: Filled) -> None:
    top = site.get(links.files(REPOSITORY, filled.root)).main
    assert [row[:2] for row in top.one("table").rows()] == [["notes/", ""], ["raw/", ""]]
    below = site.get(links.files(REPOSITORY, filled.root, "raw/")).main
    assert [row[:2] for row in below.one("table").rows()] == [
        ["logo.bin", "10 bytes"],
        ["orders.csv", "19 bytes"],
        ["scratch.csv", "3 bytes"],
    ]


def test_text_is_shown_up_to_64_kib_with_a_note(site: Site, filled: Filled) -> None:
    page = site.get(links.file(REPOSITORY, filled.root, "notes/long.txt")).main
    shown = page.one("pre").children
    assert sum(len(text) for text in shown if isinstance(text, str)) == 64 * 1024
    assert "cut: the first 64.0 KiB of 78.1 KiB are shown" in page.text
    assert page.facts()["Size"] == "80,000 bytes 78.1 KiB"


def test_other_files_have_no_text_and_a_download_is_saved_and_never_shown(site: Site, filled: Filled) -> None:
    binary = site.get(links.file(REPOSITORY, filled.root, "raw/logo.bin")).main
    assert (binary.all("pre"), "Not text." in binary.text) == ([], True)
    assert "The file is empty." in site.get(links.file(REPOSITORY, filled.root, "notes/empty.txt")).main.text
    answer = site.get(links.download(REPOSITORY, filled.root, "raw/logo.bin"))
    assert answer.data == b"\x7fELF\r\n\x1a\n\0\0"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''logo.bin"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_commits_that_no_task_can_continue_are_shown_with_their_branch(services: InMemoryServices) -> None:
    root = services.seed({"raw/a.csv": "x\n"})
    server = services.lakefs.server
    references.create_branch(server.repository(REPOSITORY), "side", root)
    here, unknown = services.seed({"raw/b.csv": "x\n"}), "e" * 64
    objects.put_object(server.repository(REPOSITORY), "side", "raw/c.csv", b"x\n")
    there = commits.commit(server.repository(REPOSITORY), "side", "beside", {}).commit.id
    conductor = services.conductor
    conductor.register_task_definitions([build_task_definition(task_of(summarise))])
    inputs: dict[str, Any] = {"workspace": "${workflow.input.workspace}", "params": {"label": "x"}}
    define(conductor, "joined", simple("table.summarise", **inputs))
    block = {"repository": REPOSITORY, "branch": "main", "ref_type": "commit"}
    shown = {}
    with page_of(conductor, server) as site:
        for name, refs in {"parted": [here, there], "unknown": [here, unknown], "one line": [root, here]}.items():
            workflow = conductor.start_workflow("joined", {"workspace": {**block, "ref": refs}})
            (attempt,) = attempts_of(site, workflow)
            (shown[name],) = (
                row.one("dd")
                for row in attempt.one("dl").all("div", class_="long")
                if row.one("dt").text == "Workspace"
            )
    assert shown["parted"].text == (
        f"{REPOSITORY}/main at none of {here[:12]}, {there[:12]}: none is known to continue all others"
    )
    assert [anchor.text for anchor in shown["parted"].all("a")] == [f"{REPOSITORY}/main", here[:12], there[:12]]
    assert [anchor.text for anchor in shown["unknown"].all("a")] == [f"{REPOSITORY}/main", here[:12]]
    assert shown["one line"].text == f"{REPOSITORY}/main at {here[:12]}"


# ------------------------------------------------ The small functions that make values fit to be shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ä 漢字 🙂", "plain ä 漢字 🙂"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("dos\r\nline", "dos\nline"),
        ("over\rwrite", "over⟨U+000D⟩write"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("lone \ud800", "lone ⟨U+D800⟩"),
        ("tag \U000e0041", "tag ⟨U+E0041⟩"),
    ],
)
def test_hidden_characters_are_spelled_out(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_texts_beyond_their_limit_are_truncated_with_a_note() -> None:
    assert block("abcd", 4) == Shown("abcd")
    assert block("abcde", 4) == Shown("abcd", "cut: the first 4 of 5 characters are shown")
    assert tail("abcde", 4) == Shown("bcde", "cut: the last 4 of 5 characters are shown")
    assert line("a\r\nb\nc").text == "a⏎b⏎c"
    short = '{\n  "a": [\n    "ä",\n    null,\n    1.5,\n    true\n  ]\n}'
    assert readable_json({"a": ["ä", None, 1.5, True]}) == Shown(short)
    shown = readable_json({str(number): "x" * 1000 for number in range(100)})
    assert shown.note.startswith("cut: the first 20,000 of ")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, "1 byte"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (5 * 1024**2, "5.0 MiB"), (2048 * 1024**3, "2.0 TiB")],
)
def test_sizes(number: int, expected: str) -> None:
    assert size(number) == expected


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (-5, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_900, "59.9 s"),
        (59_990, "1 min 0 s"),
        (3_599_600, "1 h 0 min"),
        (7_260_000, "2 h 1 min"),
        (200_000_000, "2 days 7 h"),
    ],
)
def test_durations(milliseconds: float, expected: str) -> None:
    assert duration(milliseconds) == expected


def test_times_have_the_zone_of_the_logs_unless_utc_is_wanted() -> None:
    assert moment(0) is None, "a time that is not set"
    show_utc(False)
    try:
        assert zone() == "UTC+08:00"
        assert moment(1_000) == Moment(
            "1970-01-01 08:00:01", "1970-01-01 08:00:01.000", "1970-01-01T08:00:01.000+08:00"
        )
    finally:
        show_utc(True)
    assert zone() == "UTC"
    assert moment(1_000) == Moment("1970-01-01 00:00:01", "1970-01-01 00:00:01.000", "1970-01-01T00:00:01.000+00:00")


def test_plurals() -> None:
    assert (count(1, "file"), count(1200, "file"), count(2, "entry", "entries")) == (
        "1 file",
        "1,200 files",
        "2 entries",
    )
