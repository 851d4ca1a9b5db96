"""Objects, staged and committed, listings and diffs (`docs/servers/lakefs.md` 2 and 3)."""

from __future__ import annotations

import hashlib

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.blobs import SPOOL_THRESHOLD, BlobStore
from perago.embedded.lakefs.errors import Invalid, Missing, NoChanges, PathExists


def put(server: LakeFSServer, *paths: str, branch: str = "main", content: bytes = b"x") -> None:
    for path in paths:
        server.put_object("repo", branch, path, content)


def listed(
    server: LakeFSServer, ref: str = "main", prefix: str = "", after: str = "", delimiter: str = ""
) -> list[str]:
    page = server.list_objects("repo", ref, prefix=prefix, after=after, delimiter=delimiter)
    return [item.path for item in page.results]


def differences(server: LakeFSServer, branch: str = "main") -> list[tuple[str, str, int]]:
    return [(found.path, found.type.value, found.size) for found in server.diff_branch("repo", branch).results]


def test_an_upload_is_described_with_its_md5_size_type_and_second(clock: VirtualClock, server: LakeFSServer) -> None:
    clock.advance(0.75)
    entry = server.put_object("repo", "main", "a.csv", b"hello", content_type="text/csv", metadata={"Owner": "Me"})
    assert entry.blob.checksum == hashlib.md5(b"hello").hexdigest()
    assert (entry.blob.size, entry.content_type, entry.metadata, entry.mtime) == (
        5,
        "text/csv",
        {"owner": "Me"},
        1_000_000,
    )


def test_without_a_content_type_an_object_is_an_octet_stream(server: LakeFSServer) -> None:
    assert server.put_object("repo", "main", "a", b"").content_type == "application/octet-stream"


@pytest.mark.parametrize("branch", ["nope", "commit id"])
def test_an_upload_goes_to_a_branch_only(server: LakeFSServer, branch: str) -> None:
    name = server.get_branch("repo", "main").commit_id if branch == "commit id" else branch
    with pytest.raises(Missing, match=f"branch '{name}' not found"):
        server.put_object("repo", name, "a", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/a",
        "a//b",
        "a/",
        ".",
        "..",
        "a/../b",
        "a\x00b",
        "a\nb",
        "a\\b",
        "%41",
        "+",
        "\u00e4",
        "a\u0308",
        "😀",
        "ä" * 512,
    ],
    ids=repr,
)
def test_a_path_is_opaque_text(server: LakeFSServer, path: str) -> None:
    put(server, path)
    assert server.stat_object("repo", "main", path).path == path
    assert listed(server) == [path]


@pytest.mark.parametrize("path", ["", "x" * 1025, "ä" * 513, "\ud800"], ids=["empty", "long", "bytes", "surrogate"])
def test_a_path_of_more_than_1024_bytes_or_none_is_refused(server: LakeFSServer, path: str) -> None:
    with pytest.raises(Invalid):
        put(server, path)


def test_a_file_and_a_prefix_of_one_name_coexist(server: LakeFSServer) -> None:
    put(server, "a", "a/1", "x", "x/")
    assert listed(server) == ["a", "a/1", "x", "x/"]


def test_an_upload_if_absent_is_refused_when_the_path_is_taken(server: LakeFSServer) -> None:
    put(server, "a")
    with pytest.raises(PathExists, match="path already exists"):
        server.put_object("repo", "main", "a", b"", if_absent=True)
    server.delete_object("repo", "main", "a")
    server.put_object("repo", "main", "a", b"", if_absent=True)


@pytest.mark.parametrize(("ref", "visible"), [("main", True), ("main$", True), ("main@", False), ("main~0", False)])
def test_staged_objects_are_visible_on_the_bare_branch_only(server: LakeFSServer, ref: str, visible: bool) -> None:
    put(server, "a")
    assert listed(server, ref) == (["a"] if visible else [])
    if visible:
        assert server.stat_object("repo", ref, "a").blob.read() == b"x"
    else:
        with pytest.raises(Missing, match="not found"):
            server.stat_object("repo", ref, "a")


def test_a_new_branch_does_not_inherit_what_is_staged(server: LakeFSServer) -> None:
    put(server, "a")
    server.create_branch("repo", "b", "main")
    assert listed(server, "b") == []


def test_a_staged_deletion_hides_a_committed_object_at_once(server: LakeFSServer) -> None:
    put(server, "a")
    server.commit("repo", "main", "m")
    server.delete_object("repo", "main", "a")
    assert listed(server) == []
    assert listed(server, "main@") == ["a"]
    with pytest.raises(Missing):
        server.stat_object("repo", "main", "a")


def test_a_prefix_is_not_an_object(server: LakeFSServer) -> None:
    put(server, "a/b")
    with pytest.raises(Missing, match="not found"):
        server.stat_object("repo", "main", "a")


def test_deleting_a_missing_object_is_fine_and_no_change(server: LakeFSServer) -> None:
    server.delete_object("repo", "main", "nope")
    assert differences(server) == []


def test_deleting_on_a_missing_branch_is_refused_singly_and_ignored_in_a_batch(server: LakeFSServer) -> None:
    with pytest.raises(Missing, match="branch not found"):
        server.delete_object("repo", "nope", "a")
    server.delete_objects("repo", "nope", ["a"])


def test_a_batch_deletes_at_most_a_thousand(server: LakeFSServer) -> None:
    put(server, "a", "b", "c")
    server.delete_objects("repo", "main", ["a", "b", "missing"])
    assert listed(server) == ["c"]
    server.delete_objects("repo", "main", [str(number) for number in range(1000)])
    with pytest.raises(Invalid, match="max paths is set to 1000"):
        server.delete_objects("repo", "main", [str(number) for number in range(1001)])


def test_listing_is_in_unsigned_byte_order_with_common_prefixes_in_place(server: LakeFSServer) -> None:
    put(server, "a", "a-", "a.", "a/1", "a/2", "a0", "Z", "é", "\U0001f600", "\uffff")
    assert listed(server) == ["Z", "a", "a-", "a.", "a/1", "a/2", "a0", "é", "\uffff", "\U0001f600"]
    assert listed(server, delimiter="/") == ["Z", "a", "a-", "a.", "a/", "a0", "é", "\uffff", "\U0001f600"]


@pytest.mark.parametrize(
    ("prefix", "after", "delimiter", "expected"),
    [
        ("", "a/1", "/", ["a/", "a0"]),
        ("", "a/", "/", ["a0"]),
        ("", "a/2", "", ["a0"]),
        ("a/", "", "/", ["a/1", "a/2"]),
        ("a/", "a/1", "", ["a/2"]),
        ("a", "a-", "", ["a/1", "a/2", "a0"]),
        ("b", "", "", []),
        ("", "", "-", ["a-", "a/1", "a/2", "a0"]),
        ("", "", "/2", ["a-", "a/1", "a/2", "a0"]),
    ],
)
def test_after_is_exclusive_but_returns_a_common_prefix_that_it_is_inside_of(
    server: LakeFSServer, prefix: str, after: str, delimiter: str, expected: list[str]
) -> None:
    put(server, "a-", "a/1", "a/2", "a0")
    assert listed(server, prefix=prefix, after=after, delimiter=delimiter) == expected


def test_a_listing_comes_in_pages_that_join(server: LakeFSServer) -> None:
    put(server, *(f"{number:03}" for number in range(250)))
    page = server.list_objects("repo", "main")
    assert (len(page.results), page.next_offset, page.has_more) == (100, "099", True)
    paths, after = [], ""
    while True:
        page = server.list_objects("repo", "main", after=after, amount=60)
        paths += [item.path for item in page.results]
        after = page.next_offset
        if not page.has_more:
            break
    assert paths == [f"{number:03}" for number in range(250)]
    assert after == ""


@pytest.mark.parametrize("amount", [-2, 1001])
def test_an_amount_out_of_range_is_refused(server: LakeFSServer, amount: int) -> None:
    with pytest.raises(Invalid, match="amount"):
        server.list_objects("repo", "main", amount=amount)


def test_the_uncommitted_diff_tells_added_changed_and_removed_with_size_zero(server: LakeFSServer) -> None:
    put(server, "changed", "removed", "same")
    server.commit("repo", "main", "m")
    put(server, "added")
    put(server, "changed", content=b"xyz")
    server.delete_object("repo", "main", "removed")
    assert differences(server) == [("added", "added", 1), ("changed", "changed", 3), ("removed", "removed", 0)]


def test_change_and_change_back_is_no_change(server: LakeFSServer) -> None:
    put(server, "a")
    server.commit("repo", "main", "m")
    put(server, "a", content=b"other")
    put(server, "a")
    put(server, "b")
    server.delete_object("repo", "main", "b")
    assert differences(server) == []
    with pytest.raises(NoChanges, match="commit: no changes"):
        server.commit("repo", "main", "again")


@pytest.mark.parametrize(("content_type", "metadata"), [("text/plain", {}), ("application/octet-stream", {"k": "v"})])
def test_content_type_and_user_metadata_are_part_of_an_objects_identity(
    server: LakeFSServer, content_type: str, metadata: dict[str, str]
) -> None:
    put(server, "a")
    server.commit("repo", "main", "m")
    server.put_object("repo", "main", "a", b"x", content_type=content_type, metadata=metadata)
    assert differences(server) == [("a", "changed", 1)]


def test_an_identical_upload_shows_while_staged_and_is_dropped_by_the_next_commit(
    clock: VirtualClock, server: LakeFSServer
) -> None:
    put(server, "a")
    server.commit("repo", "main", "m")
    old = server.stat_object("repo", "main", "a")
    clock.advance(60)
    put(server, "a")
    staged = server.stat_object("repo", "main", "a")
    assert (staged.mtime, staged.address == old.address) == (old.mtime + 60, False)
    assert differences(server) == []
    with pytest.raises(NoChanges):
        server.commit("repo", "main", "nothing")
    put(server, "b")
    server.commit("repo", "main", "b")
    assert server.stat_object("repo", "main", "a") == old


def test_an_identical_upload_does_not_make_a_merge_target_dirty(clock: VirtualClock, server: LakeFSServer) -> None:
    put(server, "a")
    server.commit("repo", "main", "m")
    old = server.stat_object("repo", "main", "a")
    server.create_branch("repo", "b", "main")
    put(server, "new", branch="b")
    server.commit("repo", "b", "new")
    clock.advance(60)
    put(server, "a")
    server.merge("repo", "b", "main")
    assert server.stat_object("repo", "main", "a") == old


def test_a_two_dot_diff_compares_directly_and_removals_keep_their_size(server: LakeFSServer) -> None:
    put(server, "a/1", "a/2")
    server.commit("repo", "main", "m")
    page = server.diff_refs("repo", "main", "main~1", two_dot=True)
    assert [(found.path, found.type.value, found.size) for found in page.results] == [
        ("a/1", "removed", 1),
        ("a/2", "removed", 1),
    ]
    folded = server.diff_refs("repo", "main~1", "main", two_dot=True, delimiter="/")
    assert [(found.path, found.type.value) for found in folded.results] == [("a/", "prefix_changed")]


def test_a_three_dot_diff_starts_from_the_merge_base_and_shows_conflicts(server: LakeFSServer) -> None:
    put(server, "both", "gone", "kept")
    server.commit("repo", "main", "m")
    server.create_branch("repo", "side", "main")
    put(server, "both", branch="side", content=b"side")
    put(server, "new", branch="side")
    server.delete_object("repo", "side", "gone")
    server.commit("repo", "side", "side")
    put(server, "both", content=b"main")
    put(server, "other")
    server.commit("repo", "main", "main")
    page = server.diff_refs("repo", "main", "side")
    assert [(found.path, found.type.value, found.size) for found in page.results] == [
        ("both", "conflict", 4),
        ("gone", "removed", 1),
        ("new", "added", 1),
    ]


def test_a_diff_takes_the_committed_state_of_a_branch_unless_it_ends_in_a_dollar_sign(server: LakeFSServer) -> None:
    put(server, "a")
    assert server.diff_refs("repo", "main~0", "main", two_dot=True).results == ()
    assert [found.path for found in server.diff_refs("repo", "main~0", "main$", two_dot=True).results] == ["a"]


def test_an_unknown_side_of_a_diff_is_named(server: LakeFSServer) -> None:
    with pytest.raises(Missing, match="get commit by branch nope: not found"):
        server.diff_refs("repo", "nope", "main")


def test_large_objects_live_on_disk_until_the_model_is_closed() -> None:
    blobs = BlobStore()
    data = b"x" * (SPOOL_THRESHOLD + 1)
    with blobs.sink() as sink:
        for start in range(0, len(data), 100_000):
            sink.write(data[start : start + 100_000])
        blob = sink.finish()
    assert blob.path is not None
    assert (blob.size, blob.checksum) == (len(data), hashlib.md5(data).hexdigest())
    assert blob.read() == data
    assert b"".join(blob.chunks(10, 5)) == b"x" * 5
    directory = blob.path.parent
    assert directory.stat().st_mode & 0o777 == 0o700
    blobs.close()
    assert not directory.exists()


def test_a_large_upload_that_breaks_off_leaves_nothing_on_disk() -> None:
    blobs = BlobStore()
    with blobs.sink() as sink:
        sink.write(b"x" * (SPOOL_THRESHOLD + 1))
    directory = blobs.new_path().parent
    assert list(directory.iterdir()) == []
    blobs.close()


def test_small_objects_stay_in_memory() -> None:
    assert BlobStore().of_bytes(b"x" * SPOOL_THRESHOLD).path is None
