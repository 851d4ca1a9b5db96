"""A model served to other processes: the port, its errors, and what happens when one side goes away."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from perago import ports
from perago.embedded import remote as served_remotely
from perago.embedded.faults import FaultScript
from perago.embedded.lakefs import InMemoryLakeFS
from perago.embedded.lakefs.values import SPOOL_THRESHOLD
from perago.embedded.remote import StoreServer
from perago.ports import Upload, VirtualClock, WorkspaceStore
from perago.workspace.scan import FileChanging

from ..transfers import download, to_upload


@pytest.fixture
def served(store: InMemoryLakeFS) -> Iterator[StoreServer]:
    with StoreServer(store) as server:
        yield server


@pytest.fixture
def remote(served: StoreServer) -> Iterator[WorkspaceStore]:
    client = served.factory()
    yield client
    client.close()


def test_large_files_and_progress_pass_in_both_directions(
    store: InMemoryLakeFS, remote: WorkspaceStore, tmp_path: Path
) -> None:
    content = os.urandom(SPOOL_THRESHOLD * 2)
    callbacks: list[object] = []
    upload = to_upload(tmp_path / "up", content, "big")
    remote.upload("repo", "main", [upload], callbacks.append)
    commit = remote.commit("repo", "main", "m", {})
    download(remote, "repo", commit.id, tmp_path / "workspace", on_progress=lambda *done: callbacks.append(done))
    assert (tmp_path / "workspace" / "big").read_bytes() == content
    assert callbacks == [upload, (1, len(content))]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        pytest.param(lambda s: s.get_commit("nope", "main"), ports.NotFound, id="NotFound"),
        pytest.param(lambda s: s.create_branch("repo", "main", "main"), ports.Refused, id="Refused"),
        pytest.param(lambda s: s.delete_branch("repo", "main"), ports.AccessDenied, id="AccessDenied"),
        pytest.param(lambda s: s.commit("repo", "main", "m", {}), ports.NothingToCommit, id="NothingToCommit"),
        pytest.param(lambda s: s.merge("repo", "main", "main", "m", {}), ports.MergeRefused, id="MergeRefused"),
    ],
)
def test_errors_travel_with_their_types_and_words(
    store: InMemoryLakeFS, remote: WorkspaceStore, call: Callable[[WorkspaceStore], object], error: type[Exception]
) -> None:
    with pytest.raises(error) as here:
        call(store)
    with pytest.raises(error) as there:
        call(remote)
    assert type(there.value) is type(here.value)
    assert str(there.value) == str(here.value)


def test_errors_of_the_disk_of_the_workspace_and_of_the_model_travel_too(
    store: InMemoryLakeFS, faults: FaultScript, remote: WorkspaceStore
) -> None:
    with pytest.raises(FileChanging, match="vanished"):
        remote.upload("repo", "main", [Upload("a", Path("/nonexistent/file"), 0, "")])
    faults.before("get_commit", error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(OSError, match="No space left"):
        remote.get_commit("repo", "main")
    with pytest.raises(ports.NothingToCommit):
        remote.commit("repo", "main", "m", {})


def test_an_error_of_an_unknown_type_is_sent_as_text(faults: FaultScript, remote: WorkspaceStore) -> None:
    class LocalError(Exception):
        pass

    faults.before("get_commit", error=LocalError("only here"))
    with pytest.raises(RuntimeError, match="LocalError: only here"):
        remote.get_commit("repo", "main")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        pytest.param(lambda s: s.merge("repo", "main", "main", "m", {}), ports.Unclear, id="merge"),
        pytest.param(lambda s: s.commit("repo", "main", "m", {}), ports.Unclear, id="commit"),
        pytest.param(lambda s: s.get_commit("repo", "main"), ports.Unavailable, id="get_commit"),
        pytest.param(lambda s: s.create_branch("repo", "b", "main"), ports.Unavailable, id="create_branch"),
    ],
)
def test_after_the_end_of_the_server_a_call_is_unavailable_or_unclear(
    store: InMemoryLakeFS, call: Callable[[WorkspaceStore], object], error: type[Exception]
) -> None:
    with StoreServer(store) as server:
        client = server.factory()
        client.get_commit("repo", "main")
    with pytest.raises(error, match="the process that serves the embedded store"):
        call(client)


def test_closing_is_bounded_repeatable_and_leaves_no_socket(store: InMemoryLakeFS) -> None:
    others = threading.enumerate()
    server = StoreServer(store)
    idle = server.factory()
    idle.get_commit("repo", "main")
    directory = Path(server.factory.address).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    serving = set(threading.enumerate()).difference(others)
    server.close()
    server.close()
    assert not directory.exists()
    assert len(serving) == 2
    assert serving.isdisjoint(threading.enumerate())


def test_a_client_without_the_key_gets_no_data_and_disturbs_nobody(served: StoreServer, remote: WorkspaceStore) -> None:
    with pytest.raises((multiprocessing.AuthenticationError, EOFError, OSError)):
        Client(served.factory.address, "AF_UNIX", authkey=b"guess")
    assert remote.get_commit("repo", "main").message == "Repository created"


class Attack:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._path,)


def test_a_child_cannot_make_its_parent_run_code(served: StoreServer, remote: WorkspaceStore, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with Client(served.factory.address, "AF_UNIX", authkey=served.factory.key) as client:
        client.send(Attack(marker))
        assert client.poll(30)
        assert json.loads(client.recv_bytes())[0] == "error"
    assert not marker.exists()
    assert remote.get_commit("repo", "main").message == "Repository created"


@pytest.mark.parametrize("operation", ["seed", "close", "export", "__init__", "__setattr__", "_operation", "server"])
def test_only_calls_of_the_port_are_served(served: StoreServer, operation: str) -> None:
    with Client(served.factory.address, "AF_UNIX", authkey=served.factory.key) as client:
        client.send_bytes(json.dumps([operation, {}, []]).encode())
        assert json.loads(client.recv_bytes()) == [
            "error",
            ["NotImplementedError", [f"{operation!r} is not a call of the store"]],
        ]
    with pytest.raises(AttributeError):
        getattr(served.factory(), f"_{operation}")


def test_every_call_of_the_port_can_be_sent() -> None:
    assert {"get_commit", "upload", "stat_objects"} < served_remotely._OPERATIONS
    for operation in served_remotely._OPERATIONS:
        assert served_remotely._call_of(operation)


def test_keys_can_be_any_collection(remote: WorkspaceStore) -> None:
    for keys in (["a"], ("a",), {"a"}, dict.fromkeys("a")):
        assert remote.stat_objects("repo", "main", keys) == {}


def test_the_error_of_a_callback_reaches_its_caller_unchanged(store: InMemoryLakeFS, remote: WorkspaceStore) -> None:
    class Stopped(OSError):
        pass

    def stop(_: object) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        remote.list_objects("repo", "main", "", stop)
    assert remote.get_commit("repo", "main").message == "Repository created"


def test_names_that_are_not_unicode_pass_in_both_directions(
    store: InMemoryLakeFS, remote: WorkspaceStore, tmp_path: Path
) -> None:
    directory = tmp_path / os.fsdecode(b"\xff")
    remote.upload("repo", "main", [to_upload(directory / "file", b"content", "key")])
    commit = remote.commit("repo", "main", "m", {})
    download(remote, "repo", commit.id, directory / "workspace")
    assert (directory / "workspace" / "key").read_bytes() == b"content"
    with pytest.raises(NotADirectoryError) as error:
        download(remote, "repo", commit.id, directory / "file" / "workspace")
    assert error.value.filename == str(directory / "file" / "workspace")


def test_a_silent_client_delays_neither_other_clients_nor_the_close(
    store: InMemoryLakeFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_remotely, "CLOSE_SECONDS", 60.0)
    with StoreServer(store) as server, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(server.factory.address)
        client = server.factory()
        assert client.get_commit("repo", "main").message == "Repository created"
        client.close()
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 30


def test_an_unused_server_closes_immediately(store: InMemoryLakeFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_remotely, "CLOSE_SECONDS", 60.0)
    started = time.monotonic()
    for _ in range(50):
        StoreServer(store).close()
    assert time.monotonic() - started < 30


def test_many_clients_are_served_concurrently(clock: VirtualClock) -> None:
    inside = threading.Barrier(3)
    script = FaultScript()
    for nth in (1, 2, 3):
        script.between("get_commit", lambda: inside.wait(10), nth=nth)
    with InMemoryLakeFS(clock, script) as store, StoreServer(store) as server:
        store.server.create_repository("repo")
        messages: list[str] = []
        threads = [
            threading.Thread(target=lambda: messages.append(server.factory().get_commit("repo", "main").message))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert messages == ["Repository created"] * 3


def test_a_factory_is_picklable_and_does_not_show_its_key(served: StoreServer) -> None:
    factory = served.factory
    assert pickle.loads(pickle.dumps(factory)) == factory
    assert repr(factory.key) not in repr(factory)
