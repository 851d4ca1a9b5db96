"""Uploads and deletions: what reaches the server, and what happens if file or server change."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perago.ports import AccessDenied, CorruptTransfer, Forbidden, NotFound, Refused, ServiceError, Unavailable, Upload
from perago.workspace.scan import FileChanging

from ..transfers import to_upload
from ..workspace.building import no_more_files
from .lakefs_script import API, PASSING, Tree, failure, lakefs, md5, policy_for
from .scripted import Action, Hang, Reply, Request, reply_json

OBJECT = f"{API}/branches/staging/objects"


def test_files_arrive_with_their_bytes_type_and_metadata(tmp_path: Path) -> None:
    plain = to_upload(tmp_path / "plain", b"1", key="d/ü +%41&?")
    rich = replace(
        to_upload(tmp_path / "rich", b"22"), content_type="text/csv", metadata={"Owner": "Jörg", "empty": ""}
    )
    staged: list[str] = []
    with lakefs(Tree({})) as (store, server):
        store.upload("repo", "staging", [])
        store.upload("repo", "staging", [plain, rich], lambda upload: staged.append(upload.key))
    sent = {request.query["path"]: request for request in server.requests}
    assert sent["d/ü +%41&?"].body == b"1"
    assert sent["d/ü +%41&?"].headers["content-type"] == "application/octet-stream"
    assert sent["rich"].headers["content-type"] == "text/csv"
    assert sent["rich"].headers["x-lakefs-meta-owner"].encode("latin-1").decode() == "Jörg"
    assert {request.path for request in server.requests} == {OBJECT}
    assert sorted(staged) == ["d/ü +%41&?", "rich"]


def test_a_large_file_is_streamed_with_its_length(tmp_path: Path) -> None:
    content = os.urandom(9 * 1024 * 1024 + 17)
    with lakefs(Tree({})) as (store, server):
        store.upload("repo", "staging", [to_upload(tmp_path / "big", content)])
    assert [request.path for request in server.requests] == ["/api/v1/config", OBJECT]
    assert server.requests[1].body == content
    assert server.requests[1].headers["content-length"] == str(len(content))


def _grow(upload: Upload) -> None:
    upload.path.write_bytes(b"more than before")


def _vanish(upload: Upload) -> None:
    upload.path.unlink()


def _become_link(upload: Upload) -> None:
    upload.path.rename(upload.path.with_name("elsewhere"))
    upload.path.symlink_to("elsewhere")


def _become_fifo(upload: Upload) -> None:
    upload.path.unlink()
    os.mkfifo(upload.path)


def _become_directory(upload: Upload) -> None:
    upload.path.unlink()
    upload.path.mkdir()


CHANGES: dict[str, tuple[Callable[[Upload], None], str]] = {
    "other size": (_grow, "changed its size from 6 to 16 bytes"),
    "gone": (_vanish, "vanished"),
    "a symbolic link": (_become_link, "became a symbolic link"),
    "a FIFO": (_become_fifo, "ceased to be a regular file"),
    "a directory": (_become_directory, "ceased to be a regular file"),
}


@pytest.mark.parametrize(("change", "text"), CHANGES.values(), ids=CHANGES.keys())
def test_a_file_that_changed_after_change_detection_is_refused(
    tmp_path: Path, change: Callable[[Upload], None], text: str
) -> None:
    upload = to_upload(tmp_path / "file", b"before")
    change(upload)
    with lakefs(Tree({})) as (store, server):
        with pytest.raises(FileChanging) as caught:
            store.upload("repo", "staging", [upload])
        assert server.requests == []
    said = f"The file 'file' {text} between the scan of the workspace and its upload."
    assert str(caught.value).startswith(said)


def test_a_directory_on_the_way_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    """What it leads to has the same bytes, so that no checksum tells."""
    (tmp_path / "workspace/a/b").mkdir(parents=True)
    upload = replace(to_upload(tmp_path / "workspace/a/b/file", b"same"), root=tmp_path / "workspace")
    (tmp_path / "workspace/a").rename(tmp_path / "outside")
    (tmp_path / "workspace/a").symlink_to(tmp_path / "outside")
    with lakefs(Tree({})) as (store, server):
        with pytest.raises(FileChanging, match="a directory on the way to it, which is a symbolic link or a file now"):
            store.upload("repo", "staging", [upload])
        assert server.requests == []


def test_too_many_open_files_are_not_taken_for_a_changed_file(tmp_path: Path) -> None:
    upload = to_upload(tmp_path / "file", b"before")
    with lakefs(Tree({})) as (store, _), no_more_files(), pytest.raises(OSError, match="Too many open files"):
        store.upload("repo", "staging", [upload])


def test_a_file_that_shrinks_while_it_is_sent_is_refused(tmp_path: Path) -> None:
    upload = to_upload(tmp_path / "big", os.urandom(24 * 1024 * 1024))  # far more than sockets buffer
    with lakefs(Tree({})) as (store, server):
        store.upload("repo", "staging", [to_upload(tmp_path / "another", bytes(2**20))])  # asks for /config
        server.before_body = lambda: os.truncate(upload.path, 1024)
        with pytest.raises(FileChanging, match=r"lost its last \d+ bytes"):
            store.upload("repo", "staging", [upload])


PASSING_HERE: dict[str, Action] = {**PASSING, "not JSON": Reply(201, b"<html>")}


def test_the_staged_files_of_a_failed_upload_are_known(tmp_path: Path) -> None:
    uploads = [to_upload(tmp_path / f"k{number}", b"1" * (10 - number)) for number in range(4)]
    staged: list[str] = []

    def trouble(request: Request) -> Action | None:
        return failure(404, "branch not found") if request.query["path"] == "k3" else None

    with lakefs(Tree({}, trouble), threads=1) as (store, _), pytest.raises(NotFound):
        store.upload("repo", "staging", uploads, lambda upload: staged.append(upload.key))
    assert staged == ["k0", "k1", "k2"], "largest first, on one stream"


@pytest.mark.parametrize("action", PASSING_HERE.values(), ids=PASSING_HERE)
def test_a_passing_fault_is_not_seen(tmp_path: Path, action: Action) -> None:
    queue = [action]
    with lakefs(Tree({}, lambda _: queue.pop() if queue else None)) as (store, server):
        store.upload("repo", "staging", [to_upload(tmp_path / "a", b"right")])
    assert [request.body for request in server.requests] == [b"right", b"right"]


LASTING: dict[str, tuple[Action, type[ServiceError], str]] = {
    "500": (failure(500, "boom"), Unavailable, "boom"),
    "401": (failure(401, "error authenticating request"), AccessDenied, "authenticating"),
    "403 of a proxy": (Reply(403, b"<html>no"), AccessDenied, "without lakeFS's error text"),
    "read-only repository": (failure(403, "read-only repository"), Forbidden, "read-only repository"),
    "unknown branch": (failure(404, "branch 'staging' not found"), NotFound, "branch staging does not exist"),
    "unknown repository": (failure(404, "repository not found"), NotFound, "repository repo does not exist"),
    "path too long": (failure(400, "path too long"), Refused, "path too long"),
    "other bytes stored": (
        reply_json({"checksum": md5(b"?"), "size_bytes": 5}, 201),
        CorruptTransfer,
        "stored 5 bytes",
    ),
    "silence": (Hang(), Unavailable, "time limit"),
}


@pytest.mark.parametrize(("action", "error", "text"), LASTING.values(), ids=LASTING.keys())
def test_a_lasting_fault_fails_the_upload(tmp_path: Path, action: Action, error: type[ServiceError], text: str) -> None:
    policy = policy_for(action)
    with lakefs(lambda _: action, policy) as (store, _), pytest.raises(error, match="stage 'a'") as caught:
        store.upload("repo", "staging", [to_upload(tmp_path / "a", b"right")])
    assert type(caught.value) is error
    assert text in str(caught.value)


UNSENDABLE: dict[str, tuple[dict[str, object], str]] = {
    "undecodable name": ({"key": "bad\udcff"}, "not valid UTF-8"),
    "line break in metadata": ({"metadata": {"k": "a\r\nInjected: b"}}, "x-lakefs-meta-k.* cannot be sent"),
    "undecodable metadata": ({"metadata": {"k": "bad\udcff"}}, "x-lakefs-meta-k.* cannot be sent"),
    "blank in a metadata key": ({"metadata": {"two words": "v"}}, "two words.* cannot be sent"),
    "line break in the type": ({"content_type": "text/plain\n"}, "Content-Type.* cannot be sent"),
}


@pytest.mark.parametrize(("change", "text"), UNSENDABLE.values(), ids=UNSENDABLE.keys())
def test_values_that_cannot_be_sent_faithfully_are_refused(tmp_path: Path, change: dict[str, str], text: str) -> None:
    upload = replace(to_upload(tmp_path / "a", b"x"), **change)  # type: ignore[arg-type]
    with lakefs(Tree({})) as (store, server), pytest.raises(Refused, match=text):
        store.upload("repo", "staging", [upload])
    assert server.requests == []


def test_deletions_go_in_batches_the_server_takes() -> None:
    keys = [f"k{number}" for number in range(2100)]
    with lakefs(lambda _: reply_json({"errors": []})) as (store, server):
        store.delete_objects("repo", "staging", keys)
        store.delete_objects("repo", "staging", [])
    batches = [request.json["paths"] for request in server.requests]
    assert [len(batch) for batch in batches] == [1000, 1000, 100]
    assert [key for batch in batches for key in batch] == keys
    assert {request.path for request in server.requests} == {f"{OBJECT}/delete"}


def test_a_deletion_refused_inside_a_200_is_an_error() -> None:
    problem = {"path": "a", "status_code": 403, "message": "cannot write to protected branch"}
    with lakefs(lambda _: reply_json({"errors": [problem]})) as (store, _), pytest.raises(AccessDenied) as caught:
        store.delete_objects("repo", "staging", ["a"])
    assert "'a'" in str(caught.value)
    assert "protected branch" in str(caught.value)
