"""Workers on versioned workspaces: what is published, by whom, and what a dead slot leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perago.attempt.events import FenceState
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import InMemoryLakeFS
from perago.embedded.lakefs.hooks import HeadFence
from perago.worker.events import Ending, FenceNotEnforced, SlotDied, Usage

from .bench import RunningWorker, attempt_directories, make_plan, planned, running, wait_for
from .site import WRITES, Site, opened


@dataclass
class House:
    """Both services in memory, and a worker on them."""

    site: Site
    worker: RunningWorker

    @property
    def lakefs(self) -> InMemoryLakeFS:
        return self.site.lakefs

    @property
    def conductor(self) -> InMemoryConductor:
        return self.site.conductor

    def start(self, what: str) -> str:
        """Start a workflow of one step on the head of `main`; returns its id."""
        return self.site.start_on("data", "main", self.lakefs.get_commit("data", "main").id, what)

    def finish(self, workflow_id: str) -> dict[str, Any]:
        """The workflow once it is over."""
        return self.site.finish([workflow_id])[0]

    def runs(self) -> int:
        """How often the function ran."""
        return self.site.runs()

    def tree(self) -> dict[str, bytes]:
        """What is on `main`, without hooks."""
        found = self.lakefs.tree("data", "main")
        return {key: content for key, content in found.items() if not key.startswith("_lakefs_actions/")}

    def attempt_directories(self) -> list[Path]:
        return attempt_directories(self.worker.plan.workspace_root)


@pytest.fixture
def house(tmp_path: Path, frequent_beats: None) -> Iterator[House]:
    with opened(tmp_path, retries=2) as site:
        plan = make_plan(tmp_path, planned(WRITES, store_factory=site.server.factory))
        with running(plan, site.conductor) as worker:
            yield House(site, worker)


def test_a_slot_publishes_what_the_function_wrote(house: House) -> None:
    workflow = house.finish(house.start("writes"))
    assert workflow["status"] == "COMPLETED"
    assert house.tree()["out/a.csv"] == b"x\n1\n"
    reported = wait_for("the line about it", lambda: house.worker.ended(Ending.REPORTED))[0]
    assert reported.published_commit == house.lakefs.get_commit("data", "main").id
    assert reported.usage == Usage(objects=1, downloaded=4, uploaded=4)
    assert workflow["tasks"][0]["workerId"] == "test0001"
    assert not house.attempt_directories()


def test_a_forked_child_that_returns_as_well_does_not_touch_the_attempt(house: House) -> None:
    workflow = house.finish(house.start("forks"))
    assert [(task["status"], task["outputData"]["result"]) for task in workflow["tasks"]] == [
        ("COMPLETED", {"text": "run 1"})
    ]
    assert house.tree()["out/a.csv"] == b"x\n1\n"


def test_logging_that_the_module_set_up_itself_is_seen_once_and_as_it_looks_there(house: House) -> None:
    task = house.finish(house.start("writes"))["tasks"][0]
    logs = wait_for("the task log", lambda: house.conductor.task_logs(task["taskId"]))
    assert [entry["log"] for entry in logs] == ["in the author's format: writing"]


def test_the_retry_of_a_crashed_attempt_runs_in_a_new_process_and_publishes(house: House) -> None:
    workflow = house.finish(house.start("dies_once"))
    assert workflow["status"] == "COMPLETED"
    assert house.runs() == 2
    assert [task["status"] for task in workflow["tasks"]] == ["FAILED", "COMPLETED"]
    assert "SIGKILL" in workflow["tasks"][0]["reasonForIncompletion"]
    assert len(house.worker.saw(SlotDied)) == 1
    wait_for("all attempt directories to go", lambda: not house.attempt_directories())


def test_a_function_that_deletes_its_workspace_fails_and_publishes_nothing(house: House) -> None:
    before = house.tree()
    workflow = house.finish(house.start("deletes_its_workspace"))
    assert workflow["status"] == "FAILED"
    assert house.tree() == before
    assert house.finish(house.start("writes"))["status"] == "COMPLETED"


def test_a_server_that_runs_no_hooks_is_warned_about_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeadFence, "refuse", lambda self, event: None)  # as with `actions.enabled: false`
    for number in range(2):
        house.lakefs.seed("data", "main", {"out/a.csv": f"{number}"})
        done = house.finish(house.start("writes"))
        assert done["status"] == "COMPLETED", done["tasks"]
    reported = wait_for(
        "both reports", lambda: house.worker.ended(Ending.REPORTED)[1:] and house.worker.ended(Ending.REPORTED)
    )
    assert [event.fence for event in reported] == [FenceState.NOT_ENFORCED] * 2
    assert house.worker.saw(FenceNotEnforced) == [FenceNotEnforced("data")]
