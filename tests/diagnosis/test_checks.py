"""The checks of `perago doctor`, each alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from perago.adapters.http import ServerAbout
from perago.attempt.publication import FENCE_PATH
from perago.diagnosis.doctor import Check, check_server, run_checks
from perago.driver import Limits
from perago.driver.fencing import check_branch, install_fence
from perago.driver.gc import BranchAges, check_branches
from perago.embedded.lakefs import InMemoryLakeFS, commits, objects
from perago.failure import Cause, Finding, Level
from perago.ports import ServiceError, Unavailable, VirtualClock
from perago.taskdef.definition import Declared
from perago.workflows.registered import check_forks
from perago.workspace import layout
from perago.workspace.layout import check_disk

from ..driver.world import without_hooks

FINE = Finding("area", Level.OK, "fine")


def explained(error: ServiceError) -> tuple[str, str]:
    return error.detail, "look at it"


def texts(findings: Iterable[Finding], level: Level) -> list[str]:
    return [finding.what for finding in findings if finding.level is level]


# ----------------------------------------------------------------------- how checks run


def test_findings_come_in_the_order_of_the_checks() -> None:
    second_is_done = threading.Event()

    def slow() -> Iterator[Finding]:
        assert second_is_done.wait(30)
        yield FINE

    def quick() -> Iterator[Finding]:
        yield Finding("quick", Level.OK, "first to end")
        second_is_done.set()

    findings = run_checks([Check("area", "", slow), Check("quick", "", quick)], explained)
    assert [finding.area for finding in findings] == ["area", "quick"]


def test_a_server_that_goes_away_in_the_middle_is_a_finding() -> None:
    def look() -> Iterator[Finding]:
        yield FINE
        raise Unavailable("lakeFS", "read", "connection refused")

    first, second = run_checks([Check("area", "nothing works", look)], explained)
    assert first == FINE
    assert second == Finding("area", Level.PROBLEM, "connection refused", "nothing works", "look at it", Cause.SERVER)


def test_checks_that_do_not_end_are_findings_and_do_not_block_others() -> None:
    ends, waited = threading.Event(), list[bool]()

    def hangs() -> Iterator[Finding]:
        yield FINE
        waited.append(ends.wait(30))

    checks = [Check(f"area {number}", "", hangs) for number in range(8)] + [Check("other", "", lambda: [FINE])]
    try:
        *hanging, other = run_checks(checks, explained, limit=0.5)
        assert waited == [], "the others hang still"
    finally:
        ends.set()
    assert other == FINE
    assert hanging[::2] == [FINE] * 8
    assert {(late.level, "within 0.5 s" in late.what) for late in hanging[1::2]} == {(Level.PROBLEM, True)}


def test_a_mistake_in_a_check_does_not_look_like_a_success() -> None:
    (finding,) = run_checks([Check("area", "", lambda: [FINE][1:2][0:1] or [][0])], explained)
    assert (finding.level, "IndexError" in finding.what) == (Level.PROBLEM, True)


# ------------------------------------------------------------------------------ servers


@pytest.mark.parametrize(
    ("ahead", "level", "message"),
    [
        (0.7, Level.OK, "agrees with"),
        (45.0, Level.WARNING, "45 s ahead of"),
        (-45.0, Level.WARNING, "45 s behind"),
        (1000.0, Level.PROBLEM, "1,000 s ahead of"),
    ],
)
def test_the_clock_of_a_server_is_compared(ahead: float, level: Level, message: str) -> None:
    about = ServerAbout("1", ahead, 0.01)
    _, clock = check_server("lakeFS", "http://x", lambda: None, lambda: about)
    assert (clock.level, message in clock.what) == (level, True)


# ----------------------------------------------------------------------------- branches


@pytest.fixture
def store() -> Iterator[InMemoryLakeFS]:
    with InMemoryLakeFS(VirtualClock()) as store:
        store.server.create_repository("my-data")
        yield store


def branch(
    store: InMemoryLakeFS, name: str = "main", *, write: bool = False, limits: Limits | None = None
) -> list[Finding]:
    own = limits or Limits()
    allowed = own.allows("my-data", name)
    return list(check_branch(store, "my-data", name, is_allowed=allowed, publish_fence=own.publish_fence, write=write))


def test_a_branch_in_order_has_no_problem_and_nothing_is_left_of_the_try(store: InMemoryLakeFS) -> None:
    head = store.get_commit("my-data", "main").id
    findings = branch(store, write=True)
    assert [finding.level for finding in findings] == [Level.OK] * 3
    assert "installs it" in findings[1].what
    assert store.list_branches("my-data", "perago-") == ()
    assert store.get_commit("my-data", "main").id == head
    install_fence(store, "my-data", "main")
    assert "installed" in branch(store, write=True)[1].what


def test_obstacles_to_merges_are_a_problem(store: InMemoryLakeFS) -> None:
    objects.put_object(store.server.repository("my-data"), "main", "staged", b"x")
    assert texts(branch(store), Level.PROBLEM) == ["it has uncommitted changes"]
    (missing,) = branch(store, "nope")
    assert missing.level is Level.PROBLEM
    assert (
        "PERAGO_ALLOWED_WORKSPACES"
        in texts(branch(store, limits=Limits(allowed_workspaces=("a/b",))), Level.PROBLEM)[0]
    )


def test_an_altered_fence_is_a_warning(store: InMemoryLakeFS) -> None:
    objects.put_object(store.server.repository("my-data"), "main", FENCE_PATH, b"name: other")
    commits.commit(store.server.repository("my-data"), "main", "by hand", {})
    (warning,) = texts(branch(store), Level.WARNING)
    assert "differs from the text" in warning


def test_a_server_without_hooks_is_found_by_a_challenge() -> None:
    with without_hooks(InMemoryLakeFS(VirtualClock())) as store:
        store.server.create_repository("my-data")
        assert texts(branch(store), Level.PROBLEM) == []
        assert texts(branch(store), Level.UNTRIED)[0].startswith("not tried: staging, committing and merging")
        assert texts(branch(store, write=True), Level.PROBLEM) == ["the server runs no hooks"]


def test_branches_that_are_left_over_are_counted(store: InMemoryLakeFS, tmp_path: Path) -> None:
    now = 10 * 86_400.0
    head = store.get_commit("my-data", "main").id
    store.create_branch("my-data", f"perago-fence-{'0' * 12}", head)
    ages = BranchAges(tmp_path / "gc.json", "server")
    assert texts(check_branches(store, None, ages, "my-data", now), Level.WARNING) == []
    later = texts(check_branches(store, None, ages, "my-data", now + 2 * 86_400), Level.WARNING)
    assert len(later) == 1
    assert "perago-fence-000000000000" in later[0]
    assert store.list_branches("my-data", "perago-") != (), "nothing is removed"


# -------------------------------------------------------------------------- the machine


def test_a_disk_with_little_room_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.level for finding in check_disk("X", tmp_path)] == [Level.OK]
    assert list(tmp_path.iterdir()) == []
    missing = tmp_path / "not/yet"
    assert [finding.level for finding in check_disk("X", missing)] == [Level.OK]
    assert not missing.exists()
    monkeypatch.setattr(layout, "MIN_FREE_SPACE", 1 << 80)
    assert [finding.level for finding in check_disk("X", tmp_path)] == [Level.WARNING]
    monkeypatch.setattr(layout, "RESERVE", 1 << 80)
    (full,) = check_disk("PERAGO_LOG_ROOT", tmp_path)
    assert (full.level, "PERAGO_LOG_ROOT" in full.advice) == (Level.PROBLEM, True)


def test_a_disk_that_takes_no_file_is_a_problem() -> None:
    assert texts(check_disk("X", Path("/proc")), Level.PROBLEM)[-1].startswith("nothing can be written to /proc")


# ---------------------- The check of `perago doctor` that looks for JOINs that do not wait for retries


TASKS = [
    Declared("my_tasks.part", "part", json.dumps({"name": "part", "retryCount": 3})),
    Declared("my_tasks.once", "once", json.dumps({"name": "once", "retryCount": 0})),
]
JOIN = {"name": "join", "taskReferenceName": "join", "type": "JOIN"}


def step(reference: str, name: str = "part", **fields: Any) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": {}, **fields}


def fork(*branches: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": list(branches)}


def dynamic(**inputs: Any) -> dict[str, Any]:
    return {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN_DYNAMIC", "inputParameters": inputs}


class Source:
    """A Conductor with one workflow of these tasks, and TaskDefs."""

    def __init__(self, tasks: Sequence[Mapping[str, Any]], *definitions: Mapping[str, Any]) -> None:
        self.tasks, self.definitions = tasks, definitions

    def workflow_definitions(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": "islands", "version": 2, "tasks": list(self.tasks)}]

    def task_definitions(self) -> Sequence[Mapping[str, Any]]:
        return self.definitions


def checked(*tasks: Mapping[str, Any]) -> Finding:
    (finding,) = check_forks(Source(tasks), TASKS)
    return finding


@pytest.mark.parametrize(
    ("tasks", "named"),
    [
        ([fork([step("a")], [step("b", permissive=True)]), {**JOIN, "joinOn": ["a", "b"]}], "1 step"),
        ([fork([step("a1"), step("a2")], [step("b")]), {**JOIN, "joinOn": ["a2", "b"]}], ": a2, b"),
        ([fork([step("a", "once", retryCount=1)]), {**JOIN, "joinOn": ["a"]}], ": a"),
        ([dynamic(tasks=[step("a"), step("b", permissive=True)], inputs={}), JOIN], ": a"),
        ([dynamic(forkTaskName="part", forkTaskInputs="${workflow.input.list}"), JOIN], ": part"),
        ([dynamic(all={"dynamicTasks": [{"taskName": "part", "referenceName": "a"}]}), JOIN], ": part"),
        (
            [
                {
                    "name": "loop",
                    "taskReferenceName": "loop",
                    "type": "DO_WHILE",
                    "loopOver": [fork([step("a")]), {**JOIN, "joinOn": ["a"]}],
                }
            ],
            ": a",
        ),
    ],
)
def test_a_join_that_does_not_wait_for_retries_is_a_warning(tasks: list[dict[str, Any]], named: str) -> None:
    finding = checked(*tasks)
    assert finding.level is Level.WARNING
    assert "workflow islands, version 2" in finding.what
    assert named in finding.what
    assert '"permissive": true' in finding.advice
    assert ("dynamicForkTasksParam" in finding.advice) is (": part" in finding.what)


@pytest.mark.parametrize(
    "tasks",
    [
        [fork([step("a1"), step("a2", permissive=True)]), {**JOIN, "joinOn": ["a2"]}],
        [fork([step("a", optional=True)]), {**JOIN, "joinOn": ["a"]}],
        [fork([step("a", "once")], [step("b", retryCount=0)]), {**JOIN, "joinOn": ["a", "b"]}],
        [fork([step("a", "of.another.worker")]), {**JOIN, "joinOn": ["a"]}],
        [dynamic(tasks="${workflow.input.tasks}", inputs={"name": ["part"], "joinOn": 1}), JOIN],
        [step("a", inputParameters={"name": {"deep": []}, "taskReferenceName": 1, "joinOn": "a"})],
    ],
)
def test_a_safe_or_unknown_join_is_not_a_warning(tasks: list[dict[str, Any]]) -> None:
    assert checked(*tasks).level is Level.OK


def test_without_modules_the_tasks_are_those_that_perago_has_registered() -> None:
    tasks = [fork([step("a", "mine")], [step("b", "other")]), {**JOIN, "joinOn": ["a", "b"]}]
    mine = {"name": "mine", "retryCount": 3, "inputSchema": {"name": "mine.input"}}
    other = {"name": "other", "retryCount": 3}
    (finding,) = check_forks(Source(tasks, mine, other), None)
    assert finding.what.endswith('1 step without "permissive": a')
