"""Uploads."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import repository

OBJECTS = "/branches/main/objects"


@scenario
def an_upload_describes_the_object(rest: Rest) -> None:
    """An upload answers 201 with size, checksum, type, time and address of the object."""
    repo = repository(rest)
    repo.upload("dir/a.csv", "x\n1\n", headers={"Content-Type": "text/csv"})
    repo.stat("dir/a.csv")
    repo.read("dir/a.csv")


@scenario
def an_upload_without_a_type(rest: Rest) -> None:
    """An object without a content type is an octet stream, whatever its name ends in."""
    repo = repository(rest)
    repo.upload("a.csv", "x", headers={})
    repo.upload("b", "x", headers={"Content-Type": ""})
    repo.read("a.csv")


@scenario
def any_content_type_is_kept(rest: Rest) -> None:
    """A content type is kept as it was sent, parameters and nonsense included."""
    repo = repository(rest)
    for number, kind in enumerate(("text/csv; charset=utf-8", "application/json", "a", "X/Y;q=1", "application/x-y")):
        repo.upload(f"{number}", "{}", headers={"Content-Type": kind})
        repo.read(f"{number}")


@scenario
def an_empty_object(rest: Rest) -> None:
    """An object may be empty."""
    repo = repository(rest)
    repo.upload("empty", "")
    repo.stat("empty")
    repo.read("empty")


@scenario
def bytes_come_back_as_they_were(rest: Rest) -> None:
    """Bytes that are no text come back as they were."""
    repo = repository(rest)
    repo.upload("b", bytes(range(256)), headers={"Content-Type": "application/octet-stream"})
    repo.read("b")


@scenario
def an_upload_replaces_what_is_staged(rest: Rest) -> None:
    """The last upload to a path counts."""
    repo = repository(rest)
    repo.upload("a", "1")
    repo.upload("a", "22")
    repo.read("a")
    repo.tree()


@scenario
def an_upload_is_staged_not_committed(rest: Rest) -> None:
    """An upload shows on its branch only, and moves no head."""
    repo = repository(rest, {"a": "1"})
    repo.add_branch()
    head = repo.head()
    repo.upload("b", "2")
    repo.stat("b", "main")
    repo.stat("b", "main@")
    repo.stat("b", "side")
    repo.stat("b", head)
    repo.get("/branches/main")
    repo.show(head)


@scenario
def an_upload_needs_a_path(rest: Rest) -> None:
    """A missing or empty path is refused."""
    repo = repository(rest)
    repo.call("POST", OBJECTS, body=b"x")
    repo.call("POST", OBJECTS, query={"path": ""}, body=b"x")
    repo.tree()


@scenario
def an_upload_to_a_branch_that_is_not_there(rest: Rest) -> None:
    """An upload to an unknown branch is a 404 that names it."""
    repo = repository(rest)
    repo.upload("a", "1", "nope")
    repo.upload("a", "1", "no.pe")


@scenario
def an_upload_only_if_there_is_nothing(rest: Rest) -> None:
    """`If-None-Match: *` stores a new object and refuses to replace one, staged or committed."""
    repo = repository(rest, {"committed": "1"})
    for path in ("new", "new", "committed"):
        repo.upload(path, "2", headers={"If-None-Match": "*"})
    repo.read("new")
    repo.read("committed")


@scenario
def an_upload_where_something_was_deleted(rest: Rest) -> None:
    """`If-None-Match: *` passes where the committed object is deleted in the staging area."""
    repo = repository(rest, {"a": "1"})
    repo.stage_files({"a": None})
    repo.upload("a", "2", headers={"If-None-Match": "*"})
    repo.read("a")


@scenario
def other_conditions_are_not_implemented(rest: Rest) -> None:
    """`If-Match`, and `If-None-Match` with an ETag, are a 501 and store nothing."""
    repo = repository(rest, {"a": "1"})
    tag = '"c4ca4238a0b923820dcc509a6f75849b"'
    repo.upload("a", "2", headers={"If-None-Match": tag})
    repo.upload("a", "2", headers={"If-Match": tag})
    repo.upload("new", "2", headers={"If-Match": "*"})
    repo.read("a")
    repo.stat("new")


@scenario
def a_wrong_checksum_is_ignored(rest: Rest) -> None:
    """`Content-MD5` is not looked at."""
    repo = repository(rest)
    repo.upload("a", "1", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})


@scenario
def parameters_that_change_nothing(rest: Rest) -> None:
    """`storageClass` and `force` are accepted."""
    repo = repository(rest)
    repo.upload("a", "1", query={"storageClass": "COLD"})
    repo.upload("b", "1", query={"force": "true"})
    repo.upload("c", "1", query={"unknown": "1"})


@scenario
def user_metadata_comes_in_headers(rest: Rest) -> None:
    """Headers `x-lakefs-meta-...` become metadata with names in lower case; reading does not show them."""
    repo = repository(rest)
    headers = {"X-Lakefs-Meta-Owner": "Team A", "x-lakefs-meta-MixedCase": "V", "x-other": "no"}
    repo.upload("a", "1", headers=headers)
    repo.stat("a")
    repo.stat("a", user_metadata="false")
    repo.tree()
    repo.tree(user_metadata="false")
    repo.read("a")


@scenario
def user_metadata_is_replaced_with_the_object(rest: Rest) -> None:
    """A new upload starts without the metadata of the old one."""
    repo = repository(rest)
    repo.upload("a", "1", headers={"x-lakefs-meta-k": "v"})
    repo.upload("a", "1")
    repo.stat("a")


@scenario
def user_metadata_is_set_later(rest: Rest) -> None:
    """Metadata of an object can be replaced without an upload, which is a staged change."""
    repo = repository(rest, {"a": "1"})
    where = "/branches/main/objects/stat/user_metadata"
    repo.call("PUT", where, query={"path": "a"}, json={"set": {"k": "v"}})
    repo.stat("a")
    repo.staged()
    repo.call("PUT", where, query={"path": "nope"}, json={"set": {"k": "v"}})


@scenario
def an_object_is_copied(rest: Rest) -> None:
    """A copy is a new object with the content of the old one, from any ref."""
    repo = repository(rest, {"a": "1"})
    repo.commit_files({"a": "2"})
    repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "b"})
    repo.post(OBJECTS + "/copy", {"src_path": "a", "src_ref": "main~"}, query={"dest_path": "c"})
    repo.read("b")
    repo.read("c")
    repo.post(OBJECTS + "/copy", {"src_path": "nope"}, query={"dest_path": "d"})
    repo.post(OBJECTS + "/copy", {"src_path": "a", "src_ref": "nope"}, query={"dest_path": "d"})


@scenario
def presigned_uploads_are_not_supported(rest: Rest) -> None:
    """A presigned address for an upload is a 500 on a local store."""
    repo = repository(rest)
    repo.get("/branches/main/staging/backing", query={"path": "a", "presign": "true"})


@scenario
def a_large_object(rest: Rest) -> None:
    """Three megabytes come back whole, and by their parts."""
    repo = repository(rest)
    content = b"".join(b"%07d\n" % number for number in range(393_216))
    with rest.unnoted():
        repo.upload("big", content)
        whole = repo.read("big")
    repo.stat("big")
    rest.note("the whole", {"status": whole.status, "the same": whole.data == content})
    for asked in ("bytes=0-7", "bytes=1048568-1048591", "bytes=-8", "bytes=3145728-"):
        repo.read("big", headers={"Range": asked})


@scenario
def a_copy_keeps_type_and_metadata(rest: Rest) -> None:
    """A copy has the type and metadata of its original, and an address of its own."""
    repo = repository(rest)
    repo.upload("a", "1", headers={"Content-Type": "text/csv", "x-lakefs-meta-k": "v"})
    repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "b"})
    repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "a"})
    repo.stat("b")
    repo.post(OBJECTS + "/copy", {}, query={"dest_path": "c"})
    repo.post(OBJECTS + "/copy", {"src_path": "a"})
    repo.post("/branches/nope/objects/copy", {"src_path": "a", "src_ref": "main"}, query={"dest_path": "c"})
