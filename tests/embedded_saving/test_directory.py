"""The directory of `--state`: who may use it, what is in it, and what it does to one that it cannot read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from perago.driver import SystemClock
from perago.embedded import persistence
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.values import Blob, KeyPair
from perago.embedded.persistence import LakeFSSource, Persistence, StateDirectory, StateError, persisted

from ..definitions import flow, simple
from .completeness import unless_late

SECRET = "only-for-tests"


def opened(path: Path, conductor: InMemoryConductor | None = None) -> AbstractContextManager[KeyPair]:
    clock = SystemClock()
    model = conductor or InMemoryConductor(clock)
    return persisted(path, model, LakeFSServer(clock), KeyPair("id", SECRET), unless_late)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state that holds one task definition."""
    conductor = InMemoryConductor(SystemClock())
    with opened(tmp_path / "state", conductor):
        conductor.register_task_definitions([{"name": "a.task"}])
    return tmp_path / "state"


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_the_key_pair_stays_the_same_and_is_private(state: Path) -> None:
    with persisted(
        state, InMemoryConductor(SystemClock()), LakeFSServer(SystemClock()), KeyPair.random(), pytest.fail
    ) as keys:
        assert keys == KeyPair("id", SECRET)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "state.sqlite").stat().st_mode) == 0o600
    assert SECRET not in repr(keys)


def rows_of(state: Path) -> dict[tuple[Any, ...], Any]:
    with contextlib.closing(sqlite3.connect(state / "state.sqlite")) as database:
        rows = database.execute("SELECT key, value FROM records").fetchall()
    return {tuple(json.loads(key)): json.loads(value) for key, value in rows}


def test_a_foreign_directory_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(StateError, match=r"is not empty and holds no state of perago dev \(notes.txt"),
        opened(tmp_path),
    ):
        pass
    assert files_of(tmp_path) == {"notes.txt": b"mine"}


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file is not a directory"), opened(tmp_path / "file"):
        pass


LINKS = ["lock", "blobs", "state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "blobs/" + "0" * 32 + "-4"]


@pytest.mark.parametrize("name", LINKS)
def test_a_link_in_the_directory_is_refused_and_its_target_unchanged(state: Path, name: str) -> None:
    outside = state.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"keep")
    link = state / name
    link.unlink(missing_ok=True) if name != "blobs" else link.rmdir()
    link.symlink_to(outside if name == "blobs" else outside / "precious")
    with pytest.raises(StateError, match=rf"{name} is a link to .*; nothing was changed"), opened(state):
        pass
    assert files_of(outside) == {"precious": b"keep"}


@pytest.mark.parametrize("name", ["lock", "state.sqlite"])
def test_a_file_with_a_second_name_is_refused_and_left_as_it_is(state: Path, name: str) -> None:
    (state.parent / "precious").write_bytes(b"keep")
    (state / name).unlink()
    (state / name).hardlink_to(state.parent / "precious")
    with pytest.raises(StateError, match=f"{name} has a second name"), opened(state):
        pass
    assert (state.parent / "precious").read_bytes() == b"keep"


def test_a_link_to_a_state_is_refused(state: Path) -> None:
    (state.parent / "link").symlink_to(state)
    with (
        pytest.raises(StateError, match=r"link is a link to .*; name the directory itself"),
        opened(state.parent / "link"),
    ):
        pass


@pytest.mark.parametrize("below", ["open", "open/new"])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StateError, match="can be written by everybody"), opened(tmp_path / below):
        pass
    assert list((tmp_path / "open").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("name", ["", "blobs", "state.sqlite"])
def test_a_directory_or_a_file_of_another_user_is_refused(state: Path, name: str) -> None:
    os.chown(state / name, 65534, 65534)
    with pytest.raises(StateError, match="belongs to another user"), opened(state):
        pass


def damaged(database: Path, how: str) -> None:
    if how == "no database":
        database.write_bytes(b"hello" * 1000)
        return
    if how in ("empty database", "missing database"):
        (database.parent / "blobs" / f"{'0' * 32}-1").write_bytes(b"x")
        database.with_name("state.sqlite-wal").write_bytes(b"x")
        database.write_bytes(b"") if how == "empty database" else database.unlink()
        return
    workflow = {"workflow_id": "w", "definition": {}, "input": {}, "create_time": 1, "tasks": ["gone"]}
    records = {
        "broken value": ('["tasks","x"]', '{"task_id'),
        "unknown row": ('["tasks","x"]', '{"task_id": "x"}'),
        "dangling attempt": ('["workflows","w"]', json.dumps(workflow)),
        "deep value": ('["task_definitions","a"]', '{"a":' + "[" * 600 + "]" * 600 + "}"),
        "very deep value": ('["task_definitions","a"]', '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
        "deep key": ("[" * 100_000 + "]" * 100_000, "{}"),
    }
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        if how == "other format":
            connection.execute("PRAGMA user_version = 2")
        elif how == "no records":
            connection.execute("DELETE FROM records")
        else:
            connection.execute("REPLACE INTO records VALUES (?, ?)", records[how])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "other format",
            "has format 2, but this version of perago reads format 3; install perago 0.1.0, or use another",
        ),
        ("no database", r"state.sqlite cannot be understood \(DatabaseError\)"),
        ("empty database", r"state.sqlite cannot be understood \(ValueError\)"),
        ("missing database", r"state.sqlite cannot be understood \(ValueError\)"),
        ("no records", r"state.sqlite cannot be understood \(KeyError\)"),
        ("deep value", r"state.sqlite cannot be understood \(ValueError\)"),
        ("very deep value", r"state.sqlite cannot be understood \(RecursionError\)"),
        ("deep key", r"state.sqlite cannot be understood \(RecursionError\)"),
        ("broken value", r"state.sqlite cannot be understood \(JSONDecodeError\)"),
        ("unknown row", r"state.sqlite cannot be understood \(ValidationError\)"),
        ("dangling attempt", r"state.sqlite cannot be understood \(KeyError\)"),
    ],
)
def test_a_state_that_cannot_be_read_is_refused_and_left_as_it_is(state: Path, how: str, message: str) -> None:
    damaged(state / "state.sqlite", how)
    before = files_of(state)
    with pytest.raises(StateError, match=message), opened(state):
        pass
    assert {**files_of(state), "lock": b""} == {**before, "lock": b""}


def test_a_first_start_that_was_killed_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with StateDirectory(path):
        (path / "state.sqlite.new").write_bytes(b"half a database")
    with opened(path, InMemoryConductor(SystemClock())):
        pass
    assert not (path / "state.sqlite.new").exists()
    with StateDirectory(path) as directory:
        assert directory.read() == {("keys",): {"access_key_id": "id", "secret_access_key": SECRET}}


def test_a_process_that_is_killed_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """The last change is cut in the middle of its transaction."""
    program = f"""
import os
from pathlib import Path
from perago.embedded.persistence import StateDirectory
with StateDirectory(Path({str(tmp_path / "state")!r})) as directory:
    directory.prepare({{}})
    directory.write([(("a",), 1)], [])
    directory.write([(("b",), 2)], [("a",)])
    def rest():
        yield ("c",), 3
        os.kill(os.getpid(), 9)
    directory.write(rest(), [])
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    with StateDirectory(tmp_path / "state") as directory:
        assert directory.read() == {("keys",): {}, ("b",): 2}


def test_items_deleted_from_the_services_are_deleted_from_the_state(state: Path) -> None:
    conductor = InMemoryConductor(SystemClock())
    with opened(state, conductor):
        conductor.delete_task_definition("a.task")
    again = InMemoryConductor(SystemClock())
    with opened(state, again):
        assert again.task_definitions() == []


def wait_until_written(state: Path, *key: str) -> None:
    end = time.monotonic() + 5
    while key not in rows_of(state):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_changes_are_written_while_everything_runs(state: Path) -> None:
    conductor = InMemoryConductor(SystemClock())
    with opened(state, conductor):
        conductor.register_task_definitions([{"name": "b.task"}])
        wait_until_written(state, "task_definitions", "b.task")


def test_workflows_keep_their_order(tmp_path: Path) -> None:
    before, after = InMemoryConductor(SystemClock()), InMemoryConductor(SystemClock())
    with opened(tmp_path / "state", before):
        before.create_workflow_definition(flow(simple("a")))
        first, second = before.start_workflow("w"), before.start_workflow("w")
        wait_until_written(tmp_path / "state", "workflows", second)
        before.terminate_workflow(first)
    with opened(tmp_path / "state", after):
        assert after.workflow_ids() == (first, second)


@contextlib.contextmanager
def writing(
    path: Path, problems: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Persistence, list[Any]]]:
    """Persistence that writes when it is told to, of a lakeFS with a change; and the error of each write to come."""
    monkeypatch.setattr(persistence, "SECONDS", 60)
    errors: list[OSError] = []
    server = LakeFSServer(SystemClock())
    with StateDirectory(path) as directory:
        directory.prepare({})
        source = LakeFSSource(server, directory)
        source.restore({})
        server.create_repository("repo")
        write = directory.write

        def failing(put: Any, drop: Any) -> None:
            if errors:
                raise errors.pop()
            write(put, drop)

        monkeypatch.setattr(directory, "write", failing)
        with Persistence(directory, (source,), problems.append) as keeping:
            yield keeping, errors
        assert (("repository", "repo") in directory.read()) is not bool(problems)


def test_a_disk_that_refuses_is_reported_once_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[str] = []
    with writing(tmp_path / "state", problems, monkeypatch) as (keeping, errors):
        errors += [OSError(28, "No space left on device")] * 2
        keeping.save()
        keeping.save()
        assert problems == [f"the state is not being kept in {tmp_path / 'state'}: [Errno 28] No space left on device"]
        problems.clear()


def test_a_disk_that_refuses_to_the_end_is_reported_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[str] = []
    with writing(tmp_path / "state", problems, monkeypatch) as (keeping, errors):
        errors += [OSError(28, "No space left on device")] * 2
        keeping.save()
    assert len(problems) == 2


def test_changes_that_are_written_late_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[str] = []
    with writing(tmp_path / "state", problems, monkeypatch) as (keeping, _):
        monkeypatch.setattr(persistence, "LATE_SECONDS", 0)
        keeping.save()
        keeping.save()
        monkeypatch.setattr(persistence, "LATE_SECONDS", 60)
        (text,) = problems
        problems.clear()
    assert re.fullmatch(rf"changes reach {tmp_path / 'state'} 0\.\d s late; a crash would lose that much", text)


def test_bytes_that_cannot_be_kept_leave_no_half_file(tmp_path: Path) -> None:
    with StateDirectory(tmp_path / "state") as directory:
        with pytest.raises(OSError, match="No such file"):
            directory.keep(Blob(7, "0" * 32, path=tmp_path / "gone"))
        assert list((tmp_path / "state" / "blobs").iterdir()) == []


def test_a_file_that_appears_at_the_target_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (precious := tmp_path / "precious").write_bytes(b"keep")
    (large := tmp_path / "large").write_bytes(b"content")
    link = os.link

    def late(source: Path, target: Path) -> None:
        link(precious, target)
        link(source, target)  # fails, because the target exists now

    monkeypatch.setattr(os, "link", late)
    with StateDirectory(tmp_path / "state") as directory, pytest.raises(FileExistsError):
        directory.keep(Blob(7, "0" * 32, path=large))
    assert precious.read_bytes() == b"keep"
    assert list((tmp_path / "state" / "blobs").iterdir()) == []
