"""What was fetched or published before is not fetched again, and is the same."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from perago.adapters.lakefs import download
from perago.cache import ObjectCache, objects, usage
from perago.ports import CorruptTransfer, Placement, Refused, Upload
from perago.workspace.layout import RESERVE, FreeSpace
from tests.cache.shelves import entries, full_disk

from ..transfers import files_in, to_upload
from .lakefs_script import COMMIT, Tree, lakefs, md5
from .scripted import Action, Reply, Request, reply_json

OBJECTS = {f"d{number % 3}/f{number}": bytes([number]) * (number * 100 + 1) for number in range(20)} | {"empty": b""}
ADDRESSES: dict[str, dict[str, object]] = {key: {"physical_address": f"s3://bucket/data/{key}"} for key in OBJECTS}


def reads(requests: list[Request]) -> list[str]:
    """The keys that were read."""
    return [request.query["path"] for request in requests if request.path.endswith(f"{COMMIT}/objects")]


def fetch(cache: ObjectCache | None, tree: Tree, workspace: Path, *, threads: int = 8) -> tuple[int, list[str]]:
    """Download a tree; how many objects came from the cache, and which were read."""
    with lakefs(tree, cache=cache, threads=threads) as (store, server):
        placements = [Placement(entry, workspace / entry.key) for entry in store.list_objects("repo", COMMIT, "")]
        hits = store.download("repo", COMMIT, workspace, placements)
        return hits, reads(server.requests)


def stored(request: Request) -> Action | None:
    """Take a staged object."""
    answer = {"checksum": md5(request.body), "size_bytes": len(request.body), "physical_address": "s3://b/1"}
    return reply_json(answer, 201) if request.method == "POST" else None


def test_a_second_download_reads_no_object(cache: ObjectCache, tmp_path: Path) -> None:
    tree = Tree(OBJECTS, listed=ADDRESSES)

    assert fetch(cache, tree, tmp_path / "first")[0] == 0
    assert fetch(cache, tree, tmp_path / "second") == (20, [])
    assert files_in(tmp_path / "second") == OBJECTS
    first, other = (tmp_path / "first" / "d1" / "f1").stat(), (tmp_path / "second" / "d1" / "f1").stat()
    assert (first.st_mode, first.st_mtime) == (other.st_mode, other.st_mtime)
    assert first.st_ino != other.st_ino


def test_only_large_or_direct_objects_are_looked_up_beforehand(
    cache: ObjectCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 looks are half a second, and taking the object from the cache finds out as well."""
    looked_for: list[objects.ObjectId] = []
    holds = objects.Shelf.holds

    def noted(shelf: objects.Shelf, object_id: objects.ObjectId) -> bool:
        looked_for.append(object_id)
        return holds(shelf, object_id)

    monkeypatch.setattr(objects.Shelf, "holds", noted)
    monkeypatch.setattr(download, "LARGEST_WHOLE", len(OBJECTS["d1/f19"]) - 1)
    fetch(cache, Tree(OBJECTS, listed=ADDRESSES), tmp_path / "w")
    assert [object_id.size for object_id in looked_for] == [len(OBJECTS["d1/f19"])]


def test_a_download_that_broke_counts_with_the_next_one_for_its_workspace(cache: ObjectCache, tmp_path: Path) -> None:
    fetch(cache, Tree(OBJECTS, listed=ADDRESSES), tmp_path / "first")
    refused = [True]
    tree = Tree(
        {**OBJECTS, "new": b"1"},
        lambda request: Reply(410) if refused[0] and request.query.get("path") == "new" else None,
        listed=ADDRESSES,
    )
    with lakefs(tree, cache=cache, threads=1) as (store, _):
        entries = store.list_objects("repo", COMMIT, "")
        placed = [Placement(entry, tmp_path / "second" / entry.key) for entry in entries]
        with pytest.raises(Refused):
            store.download("repo", COMMIT, tmp_path / "second", placed)
        refused[0] = False
        missing = [place for place in placed if place.path and not place.path.exists()]
        assert store.download("repo", COMMIT, tmp_path / "second", missing) == 20
        other = [Placement(entry, tmp_path / "third" / entry.key) for entry in entries]
        assert store.download("repo", COMMIT, tmp_path / "third", other) == 20
    assert 0 < len(missing) < len(placed)


@pytest.mark.parametrize(
    "listed",
    [{"physical_address": "s3://bucket/data/another"}, {"physical_address": ""}],
    ids=["another address", "no address"],
)
def test_differently_listed_keys_are_read_again(cache: ObjectCache, tmp_path: Path, listed: dict[str, object]) -> None:
    fetch(cache, Tree(OBJECTS, listed=ADDRESSES), tmp_path / "first")

    assert fetch(cache, Tree(OBJECTS, listed={**ADDRESSES, "d1/f1": listed}), tmp_path / "second")[1] == ["d1/f1"]


def test_an_object_that_was_replaced_behind_lakefs_matches_the_listing(cache: ObjectCache, tmp_path: Path) -> None:
    """The store has other bytes by now: who has the old ones goes on, and an import that takes notice is read."""
    fetch(cache, Tree(OBJECTS, listed=ADDRESSES), tmp_path / "first")
    changed = {**OBJECTS, "d1/f1": b"changed behind it"}
    as_before = {"checksum": md5(OBJECTS["d1/f1"]), "size_bytes": len(OBJECTS["d1/f1"])}
    lying = Tree(changed, listed={**ADDRESSES, "d1/f1": {**ADDRESSES["d1/f1"], **as_before}})

    with pytest.raises(CorruptTransfer):
        fetch(None, lying, tmp_path / "without")
    assert fetch(cache, lying, tmp_path / "second")[1] == []
    assert files_in(tmp_path / "second") == OBJECTS
    assert fetch(cache, Tree(changed, listed=ADDRESSES), tmp_path / "third")[1] == ["d1/f1"]
    assert files_in(tmp_path / "third") == changed


def test_another_access_key_starts_with_an_empty_cache(cache: ObjectCache, tmp_path: Path) -> None:
    """The right to read an object belongs to a key. A key that may list a commit may lack it."""
    tree = Tree(OBJECTS, listed=ADDRESSES)
    fetch(cache, tree, tmp_path / "first")

    with lakefs(tree, cache=cache, access_key="another key") as (store, server):
        placements = [Placement(entry, tmp_path / "w" / entry.key) for entry in store.list_objects("repo", COMMIT, "")]
        assert store.download("repo", COMMIT, tmp_path / "w", placements) == 0
        assert len(reads(server.requests)) == 20


def test_unverified_objects_are_not_cached(cache: ObjectCache, tmp_path: Path) -> None:
    def wrong(request: Request) -> Action | None:
        return Reply(200, b"x" * 101) if request.query.get("path") == "d1/f1" else None

    with pytest.raises(CorruptTransfer):
        fetch(cache, Tree({"d1/f1": OBJECTS["d1/f1"]}, wrong, ADDRESSES), tmp_path / "first")
    assert entries(cache) == []


def test_a_cache_that_cannot_be_written_does_not_disturb_an_upload(
    cache: ObjectCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", full_disk)
    uploads = [to_upload(tmp_path / name, os.urandom(50_000)) for name in ("one", "two")]  # too small for a clone
    with lakefs(Tree({}, stored), cache=cache, threads=1) as (store, server):
        store.upload("repo", "staging", uploads)
        sent = {request.query["path"]: request.body for request in server.requests if request.method == "POST"}
    assert sent == {upload.key: upload.path.read_bytes() for upload in uploads}
    assert [path.name for path in (cache.root / ".cache").iterdir() if path.name != "ledger.json"] == []


def test_an_upload_that_is_sent_again_needs_the_room_for_one(cache: ObjectCache, tmp_path: Path) -> None:
    content, refusals = os.urandom(300_000), [Reply(503)]

    def stored_later(request: Request) -> Action | None:
        return refusals.pop() if request.method == "POST" and refusals else stored(request)

    with lakefs(Tree({}, stored_later), cache=replace(cache, max_bytes=400_000)) as (store, _):
        store.upload("repo", "staging", [to_upload(tmp_path / "new", content)])
    with objects.opened_directory(cache.root) as directory:
        size = objects.read_ledger(directory).size
    assert (refusals, usage(cache.root).entries, size) == ([], 1, usage(cache.root).size)


def test_the_cache_keeps_the_bytes_that_were_sent(cache: ObjectCache, tmp_path: Path) -> None:
    """The file changes once the server has it."""
    content = os.urandom(300_000)
    upload: Upload = to_upload(tmp_path / "new", content)

    def stored_and_changed(request: Request) -> Action | None:
        upload.path.write_bytes(content[::-1])
        return stored(request)

    with lakefs(Tree({}, stored_and_changed), cache=cache) as (store, _):
        store.upload("repo", "staging", [upload])

    tree = Tree({"new": content}, listed={"new": {"physical_address": "s3://b/1"}})
    assert fetch(cache, tree, tmp_path / "w") == (1, [])
    assert files_in(tmp_path / "w") == {"new": content}


def test_a_cache_that_cannot_be_used_is_done_without(cache: ObjectCache, tmp_path: Path) -> None:
    (cache.root / ".cache").symlink_to(tmp_path)

    assert fetch(cache, Tree(OBJECTS, listed=ADDRESSES), tmp_path / "first")[0] == 0
    assert files_in(tmp_path / "first") == OBJECTS


def test_small_files_need_complete_blocks_that_the_cache_leaves_free(
    cache: ObjectCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has room for all of them and for four more."""
    content = {f"f{number}": bytes([number]) for number in range(100)}

    def free(_: Path) -> FreeSpace:
        used = sum(path.is_file() for path in tmp_path.rglob("*"))
        return FreeSpace(2 * RESERVE + (len(content) + 4 - used) * 4096, 4096, None)

    monkeypatch.setattr(objects, "free_space", free)
    tree = Tree(content, listed={key: {"physical_address": f"s3://bucket/{key}"} for key in content})
    fetch(cache, tree, tmp_path / "w", threads=1)  # with more, `free` would miss a file that another thread renames
    assert len(entries(cache)) <= 4
