"""The directory of `--state`: who may use it, what is in it, and what it does to one that it cannot read."""

from __future__ import annotations

import json
import stat
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.keys import KeyPair
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.blobs import Blob
from perago.embedded.saving import keeper as keeping
from perago.embedded.saving.directory import StateDirectory
from perago.embedded.saving.errors import StateError
from perago.embedded.saving.journal import Journal
from perago.embedded.saving.services import kept_in

SECRET = "only-for-tests"


def opened(path: Path, conductor: InMemoryConductor | None = None) -> AbstractContextManager[KeyPair]:
    clock = SystemClock()
    model = conductor or InMemoryConductor(clock)
    return kept_in(path, model, LakeFSServer(clock), KeyPair("id", SECRET), lambda text: pytest.fail(text))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state that holds one task definition."""
    conductor = InMemoryConductor(SystemClock())
    conductor.register_task_definitions([{"name": "a.task"}])
    with opened(tmp_path / "state", conductor):
        pass
    return tmp_path / "state"


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_the_key_pair_stays_the_same_and_is_private(state: Path) -> None:
    with kept_in(
        state, InMemoryConductor(SystemClock()), LakeFSServer(SystemClock()), KeyPair.random(), pytest.fail
    ) as keys:
        assert keys == KeyPair("id", SECRET)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "journal.jsonl").stat().st_mode) == 0o600
    assert SECRET not in repr(keys)


def test_the_journal_is_text_that_names_what_it_holds(state: Path) -> None:
    header, *lines = map(json.loads, (state / "journal.jsonl").read_text().splitlines())
    assert header == {"perago": "state", "format": 1}
    records = {tuple(key): value for line in lines for key, value in line["put"]}
    assert records["task_definitions", "a.task"]["name"] == "a.task"


def test_two_cannot_share_it(state: Path) -> None:
    with (
        opened(state),
        pytest.raises(StateError, match=r"is in use by another perago dev \(process \d+\)"),
        opened(state),
    ):
        pass


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(StateError, match=r"is not empty and holds no state of perago dev \(notes.txt"),
        opened(tmp_path),
    ):
        pass
    assert files_of(tmp_path) == {"notes.txt": b"mine"}


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file cannot be used"), opened(tmp_path / "file"):
        pass


def damaged(journal: Path, how: str) -> None:
    lines = journal.read_text().splitlines()
    if how == "other format":
        lines[0] = json.dumps({"perago": "state", "format": 2})
    elif how == "no header":
        lines[0] = "hello"
    elif how == "broken line":
        lines[1] = lines[1][:20]
    elif how == "unknown row":
        lines.append(json.dumps({"put": [[["tasks", "x"], {"task_id": "x"}]], "drop": []}))
    elif how == "dangling attempt":
        workflow = {"workflow_id": "w", "definition": {}, "input": {}, "create_time": 1, "tasks": ["gone"]}
        lines.append(json.dumps({"put": [[["workflows", "w"], workflow]], "drop": []}))
    journal.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("other format", "has format 2, but this version of perago reads format 1; use the version that wrote it"),
        ("no header", "journal.jsonl:1: this line is damaged"),
        ("broken line", "journal.jsonl:2: this line is damaged"),
        ("unknown row", r"journal.jsonl cannot be understood \(ValidationError\)"),
        ("dangling attempt", r"journal.jsonl cannot be understood \(KeyError\)"),
    ],
)
def test_a_state_that_cannot_be_read_is_refused_and_left_as_it_is(state: Path, how: str, message: str) -> None:
    damaged(state / "journal.jsonl", how)
    before = files_of(state)
    with pytest.raises(StateError, match=message), opened(state):
        pass
    assert {**files_of(state), "lock": b""} == {**before, "lock": b""}


def test_a_change_that_was_not_written_to_its_end_never_happened(state: Path) -> None:
    with (state / "journal.jsonl").open("a") as journal:
        journal.write('{"put": [[["task_definitions", "b.task"], {"name"')
    conductor = InMemoryConductor(SystemClock())
    with opened(state, conductor):
        assert [definition["name"] for definition in conductor.task_definitions()] == ["a.task"]


def test_what_is_gone_from_the_services_is_gone_from_the_journal(state: Path) -> None:
    conductor = InMemoryConductor(SystemClock())
    with opened(state, conductor):
        conductor.delete_task_definition("a.task")
    again = InMemoryConductor(SystemClock())
    with opened(state, again):
        assert again.task_definitions() == []


def test_changes_are_written_while_everything_runs(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SECONDS", 0.01)
    conductor = InMemoryConductor(SystemClock())
    with opened(state, conductor):
        conductor.register_task_definitions([{"name": "b.task"}])
        written = threading.Event()
        for _ in range(500):
            if ("task_definitions", "b.task") in Journal(state / "journal.jsonl").read():
                written.set()
                break
            threading.Event().wait(0.01)
        assert written.is_set()


def test_a_long_journal_is_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.embedded.saving.journal.REWRITE_BYTES", 1000)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.rewrite([(("a", 1), "x")])
    while not journal.is_long:
        journal.append([(("a", 1), "y" * 50)], [])
    journal.rewrite([(("a", 1), "z")])
    journal.append([(("b",), None)], [("a", 1)])
    assert journal.read() == {("b",): None}
    assert (tmp_path / "journal.jsonl").stat().st_size < 1000
    journal.close()


class Full:
    """A source whose bytes cannot be kept."""

    refuses = False

    def capture(self) -> dict[Any, object]:
        return {("a",): object()}

    def encode(self, key: Any, captured: object) -> str:
        if self.refuses:
            raise OSError(28, "No space left on device")
        return "kept"


def test_a_disk_that_refuses_is_told_once_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SECONDS", 60)

    told: list[str] = []
    source = Full()
    with StateDirectory(tmp_path / "state") as directory:
        with keeping.Keeper(directory, (source,), told.append) as keeper:
            source.refuses = True
            keeper._save()
            keeper._save()
            assert told == [f"the state is not being kept in {tmp_path / 'state'}: [Errno 28] No space left on device"]
            source.refuses = False
        assert directory.journal.read() == {("a",): "kept"}


def test_a_disk_that_refuses_to_the_end_is_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SECONDS", 60)
    told: list[str] = []
    with StateDirectory(tmp_path / "state") as directory:
        with keeping.Keeper(directory, (source := Full(),), told.append) as keeper:
            source.refuses = True
            keeper._save()
        assert len(told) == 2


def test_bytes_that_cannot_be_kept_leave_no_half_file(tmp_path: Path) -> None:
    with StateDirectory(tmp_path / "state") as directory:
        with pytest.raises(OSError, match="No such file"):
            directory.keep(Blob(7, "0" * 32, path=tmp_path / "gone"))
        assert list((tmp_path / "state" / "blobs").iterdir()) == []


def test_what_a_kill_left_of_the_first_journal_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal.jsonl.new").write_text('{"perago": "sta')
    with opened(tmp_path / "state"):
        pass
    assert sorted(files_of(tmp_path / "state")) == ["journal.jsonl", "lock"]
