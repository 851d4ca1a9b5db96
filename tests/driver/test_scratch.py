"""The function's current and temporary directories: of its attempt, the same everywhere, removed with it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Listener
from pathlib import Path

import pytest
from pydantic import BaseModel

from perago import TaskFailed, WorkspaceSpec, task
from perago.driver import Limits
from perago.ports import TaskStatus
from perago.testing import Outcome
from perago.testing.services import InMemoryServices

COMPLETED, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED
MANY = 1200


class Nothing(BaseModel):
    pass


class Seen(BaseModel):
    lines: list[str] = []


Action = Callable[[], list[str]]


def attempt(
    services: InMemoryServices, action: Action, *, scratch_files: tuple[str, ...] = (), has_workspace: bool = True
) -> Outcome:
    """One attempt of a task that does `action`."""
    if not has_workspace:

        @task(name="scratch.plain", owner_email="data@example.com", scratch_files=scratch_files)
        def plain(params: Nothing) -> Seen:
            return Seen(lines=action())

        return services.run(plain, Nothing())

    @task(name="scratch.work", owner_email="data@example.com", workspace=WorkspaceSpec(), scratch_files=scratch_files)
    def work(workspace: Path, params: Nothing) -> Seen:
        return Seen(lines=[*action(), str(workspace)])

    return services.run(work, Nothing(), {"a.txt": "1"})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The author's project is the current directory; nothing may appear in it."""
    monkeypatch.chdir(tmp_path)
    before, places = Path.cwd(), (os.environ.get("TMPDIR"), tempfile.gettempdir())
    yield tmp_path
    assert Path.cwd() == before
    assert (os.environ.get("TMPDIR"), tempfile.gettempdir()) == places


def places() -> list[str]:
    return [os.getcwd(), tempfile.gettempdir(), *(os.environ[name] for name in ("TMPDIR", "TEMP", "TMP"))]  # noqa: PTH109


@pytest.mark.parametrize("has_workspace", [True, False])
def test_both_directories_are_those_of_the_attempt_and_removed_with_it(
    services: InMemoryServices, has_workspace: bool
) -> None:
    outcome = attempt(services, places, has_workspace=has_workspace)

    here, *others = (Path(line) for line in outcome.result["lines"])
    assert outcome.status is COMPLETED
    assert services.workspace_root in here.parent.parents
    assert {path.parent for path in others} == {here.parent}
    assert not here.exists()


def leave_files() -> list[str]:
    Path("out/empty").mkdir(parents=True)
    Path("out/b.csv").write_text("1")
    Path("a.csv").write_text("1")
    Path("link").symlink_to("a.csv")
    descriptor, _ = tempfile.mkstemp()
    os.close(descriptor)
    return []


@pytest.mark.parametrize(
    ("has_workspace", "words"),
    [(True, "only the workspace is published"), (False, "a task without a workspace publishes no files")],
)
def test_leftovers_are_named_and_removed(
    services: InMemoryServices, project: Path, has_workspace: bool, words: str
) -> None:
    outcome = attempt(services, leave_files, has_workspace=has_workspace)

    assert outcome.status is COMPLETED
    assert outcome.left_files == ("a.csv", "out/b.csv")
    assert outcome.notes == (f"The function wrote 'a.csv', 'out/b.csv' to its current directory; {words}.",)
    assert "wrote 'a.csv', 'out/b.csv' to its current directory" in outcome._record.remarks
    assert list(project.iterdir()) == []


def test_leftovers_of_a_failing_function_are_also_named(services: InMemoryServices) -> None:
    def fail() -> list[str]:
        leave_files()
        raise TaskFailed("not today")

    outcome = attempt(services, fail)
    assert (outcome.reason, outcome.left_files) == ("not today", ("a.csv", "out/b.csv"))


@pytest.mark.parametrize(
    ("scratch_files", "left"), [(("out/**",), ("a.csv",)), (("*.csv", "out/*"), ()), (("**",), ())]
)
def test_a_task_declares_the_files_that_may_be_left(
    services: InMemoryServices, scratch_files: tuple[str, ...], left: tuple[str, ...]
) -> None:
    assert attempt(services, leave_files, scratch_files=scratch_files).left_files == left


def test_where_the_author_looks_on_it_is_a_failure() -> None:
    with InMemoryServices(limits=Limits(fail_on_left_files=True)) as services:
        outcome = attempt(services, leave_files)
        assert (outcome.status, outcome.commit) == (FAILED, None)
        assert str(outcome.reason).endswith(
            "Write below `workspace`, or name what may be lost: @task(scratch_files=[...])."
        )
        assert attempt(services, leave_files, scratch_files=("**",)).status is COMPLETED
        assert attempt(services, list).status is COMPLETED


def many_files() -> list[str]:
    for number in range(MANY):
        Path(f"part-{number:04}").touch()
    return []


def test_the_names_of_a_thousand_files_are_enough(services: InMemoryServices) -> None:
    outcome = attempt(services, many_files)
    assert len(outcome.left_files) == 1000
    assert "at least 'part-0000', " in outcome.notes[0]


@pytest.mark.parametrize("entry", ["", "below"])
def test_modules_of_the_project_are_found_inside_the_function(
    services: InMemoryServices, project: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """`python -m pytest` puts "" on the import path, which means the current directory at each import."""
    name = f"late_module_{entry or 'here'}"
    place = project / entry
    place.mkdir(exist_ok=True)
    (place / f"{name}.py").write_text("WORD = 'found'")
    monkeypatch.setattr(sys, "path", [entry, *sys.path])

    def import_late() -> list[str]:
        return [__import__(name).WORD]

    try:
        assert attempt(services, import_late).result["lines"][0] == "found"
        assert sys.path[0] == entry
    finally:
        sys.modules.pop(name, None)
        shutil.rmtree(project / "__pycache__", ignore_errors=True)


def read(path: str) -> Action:
    return lambda: [Path(path).read_text()]


def test_a_relative_name_that_only_the_project_has_is_explained(services: InMemoryServices, project: Path) -> None:
    (project / "config.yaml").write_text("x: 1")
    reason = str(attempt(services, read("config.yaml")).reason)
    assert "'config.yaml' is relative, and the function's current directory is a scratch directory" in reason
    assert "Path(__file__).parent" in reason
    assert len(reason) < 500


def test_a_withheld_variable_that_is_missing_is_explained(services: InMemoryServices) -> None:
    reason = attempt(services, lambda: [os.environ["LAKECTL_SERVER_ENDPOINT_URL"]]).reason
    assert reason == (
        "KeyError: 'LAKECTL_SERVER_ENDPOINT_URL'. perago withholds LAKECTL_SERVER_ENDPOINT_URL from functions that do "
        "not ask for it: write @task(environment=['LAKECTL_SERVER_ENDPOINT_URL'])"
    )
    assert attempt(services, lambda: [os.environ["OTHER_NAME"]]).reason == "KeyError: 'OTHER_NAME'"


@pytest.mark.parametrize("path", ["nowhere.yaml", "/nowhere.yaml", "a\udcff"])
def test_another_missing_file_is_not(services: InMemoryServices, path: str) -> None:
    assert "scratch" not in str(attempt(services, read(path)).reason)


@pytest.mark.parametrize("of_multiprocessing", [True, False])
def test_sockets_work_in_every_attempt(services: InMemoryServices, of_multiprocessing: bool) -> None:
    """Their paths may have 100 characters, and multiprocessing makes a directory for its own only once."""

    def listen() -> list[str]:
        address = None if of_multiprocessing else tempfile.mktemp()
        with Listener(address, family="AF_UNIX") as listener:
            return [str(listener.address)]

    for _ in range(2):
        outcome = attempt(services, listen)
        assert outcome.status is COMPLETED, outcome.reason


def vandalise() -> list[str]:
    here = Path.cwd()
    os.chdir("/")
    shutil.rmtree(here)
    os.environ["TMPDIR"] = "/nowhere"
    tempfile.tempdir = "/nowhere"
    return []


def test_a_function_may_remove_its_own_directory(services: InMemoryServices) -> None:
    outcome = attempt(services, vandalise)
    assert (outcome.status, outcome.left_files) == (COMPLETED, ())


def test_an_attempt_on_another_thread_leaves_the_directory_of_the_process_alone(services: InMemoryServices) -> None:
    found: list[TaskStatus | None] = []

    def inner() -> None:
        with InMemoryServices() as others:
            found.append(attempt(others, list).status)

    def outer() -> list[str]:
        before = Path.cwd()
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()
        return [str(before), str(Path.cwd())]

    before, after, _ = attempt(services, outer).result["lines"]
    assert (found, after) == ([COMPLETED], before)
