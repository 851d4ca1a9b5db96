"""Uploads."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, repository

OBJECTS = "/branches/main/objects"


@scenario_with(repository)
def an_upload_describes_the_object(repo: Repository) -> None:
    """An upload answers 201 with size, checksum, type, time and address of the object."""
    repo.upload("dir/a.csv", "x\n1\n", headers={"Content-Type": "text/csv"})
    repo.stat("dir/a.csv")
    repo.read("dir/a.csv")


@scenario_with(repository)
def an_upload_without_a_type(repo: Repository) -> None:
    """An object without a content type is an octet stream, whatever its name ends in."""
    repo.upload("a.csv", "x", headers={})
    repo.upload("b", "x", headers={"Content-Type": ""})
    repo.read("a.csv")


@scenario_with(repository)
def any_content_type_is_kept(repo: Repository) -> None:
    """A content type is kept as it was sent, parameters and nonsense included."""
    for number, kind in enumerate(("text/csv; charset=utf-8", "application/json", "a", "X/Y;q=1", "application/x-y")):
        repo.upload(f"{number}", "{}", headers={"Content-Type": kind})
        repo.read(f"{number}")


@scenario_with(repository)
def an_empty_object(repo: Repository) -> None:
    """An object may be empty."""
    repo.upload("empty", "")
    repo.stat("empty")
    repo.read("empty")


@scenario_with(repository)
def bytes_come_back_as_they_were(repo: Repository) -> None:
    """Bytes that are no text come back as they were."""
    repo.upload("b", bytes(range(256)), headers={"Content-Type": "application/octet-stream"})
    repo.read("b")


@scenario_with(repository)
def an_upload_replaces_what_is_staged(repo: Repository) -> None:
    """The last upload to a path counts."""
    repo.upload("a", "1")
    repo.upload("a", "22")
    repo.read("a")
    repo.tree()


@scenario_with(repository, {"a": "1"})
def an_upload_is_staged_not_committed(repo: Repository) -> None:
    """An upload shows on its branch only, and moves no head."""
    repo.add_branch()
    head = repo.head()
    repo.upload("b", "2")
    repo.stat("b", "main")
    repo.stat("b", "main@")
    repo.stat("b", "side")
    repo.stat("b", head)
    repo.get("/branches/main")
    repo.show(head)


@scenario_with(repository)
def an_upload_needs_a_path(repo: Repository) -> None:
    """A missing or empty path is refused."""
    repo.call("POST", OBJECTS, body=b"x")
    repo.call("POST", OBJECTS, query={"path": ""}, body=b"x")
    repo.tree()


@scenario_with(repository)
def an_upload_to_a_branch_that_is_not_there(repo: Repository) -> None:
    """An upload to an unknown branch is a 404 that names it."""
    repo.upload("a", "1", "nope")
    repo.upload("a", "1", "no.pe")


@scenario_with(repository, {"committed": "1"})
def an_upload_only_if_there_is_nothing(repo: Repository) -> None:
    """`If-None-Match: *` stores a new object and refuses to replace one, staged or committed."""
    for path in ("new", "new", "committed"):
        repo.upload(path, "2", headers={"If-None-Match": "*"})
    repo.read("new")
    repo.read("committed")


@scenario_with(repository, {"a": "1"})
def an_upload_where_something_was_deleted(repo: Repository) -> None:
    """`If-None-Match: *` passes where the committed object is deleted in the staging area."""
    repo.stage_files({"a": None})
    repo.upload("a", "2", headers={"If-None-Match": "*"})
    repo.read("a")


@scenario_with(repository, {"a": "1"})
def other_conditions_are_not_implemented(repo: Repository) -> None:
    """`If-Match`, and `If-None-Match` with an ETag, are a 501 and store nothing."""
    tag = '"c4ca4238a0b923820dcc509a6f75849b"'
    repo.upload("a", "2", headers={"If-None-Match": tag})
    repo.upload("a", "2", headers={"If-Match": tag})
    repo.upload("new", "2", headers={"If-Match": "*"})
    repo.read("a")
    repo.stat("new")


@scenario_with(repository)
def a_wrong_checksum_is_ignored(repo: Repository) -> None:
    """`Content-MD5` is not looked at."""
    repo.upload("a", "1", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})


@scenario_with(repository)
def parameters_that_change_nothing(repo: Repository) -> None:
    """`storageClass` and `force` are accepted."""
    repo.upload("a", "1", query={"storageClass": "COLD"})
    repo.upload("b", "1", query={"force": "true"})
    repo.upload("c", "1", query={"unknown": "1"})


@scenario_with(repository)
def user_metadata_comes_in_headers(repo: Repository) -> None:
    """Headers `x-lakefs-meta-...` become metadata with names in lower case; reading does not show them."""
    headers = {"X-Lakefs-Meta-Owner": "Team A", "x-lakefs-meta-MixedCase": "V", "x-other": "no"}
    repo.upload("a", "1", headers=headers)
    repo.stat("a")
    repo.stat("a", user_metadata="false")
    repo.tree()
    repo.tree(user_metadata="false")
    repo.read("a")


@scenario_with(repository)
def user_metadata_is_replaced_with_the_object(repo: Repository) -> None:
    """A new upload starts without the metadata of the old one."""
    repo.upload("a", "1", headers={"x-lakefs-meta-k": "v"})
    repo.upload("a", "1")
    repo.stat("a")


@scenario_with(repository, {"a": "1"})
def user_metadata_is_set_later(repo: Repository) -> None:
    """Metadata of an object can be replaced without an upload, which is a staged change."""
    where = "/branches/main/objects/stat/user_metadata"
    repo.call("PUT", where, query={"path": "a"}, json={"set": {"k": "v"}})
    repo.stat("a")
    repo.staged()
    repo.call("PUT", where, query={"path": "nope"}, json={"set": {"k": "v"}})


@scenario_with(repository, {"a": "1"})
def an_object_is_copied(repo: Repository) -> None:
    """A copy is a new object with the content of the old one, from any ref."""
    repo.commit_files({"a": "2"})
    repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "b"})
    repo.post(OBJECTS + "/copy", {"src_path": "a", "src_ref": "main~"}, query={"dest_path": "c"})
    repo.read("b")
    repo.read("c")
    repo.post(OBJECTS + "/copy", {"src_path": "nope"}, query={"dest_path": "d"})
    repo.post(OBJECTS + "/copy", {"src_path": "a", "src_ref": "nope"}, query={"dest_path": "d"})


@scenario_with(repository)
def presigned_uploads_are_not_supported(repo: Repository) -> None:
    """A presigned address for an upload is a 500 on a local store."""
    repo.get("/branches/main/staging/backing", query={"path": "a", "presign": "true"})


@scenario_with(repository)
def a_large_object(repo: Repository) -> None:
    """Three megabytes come back whole, and by their parts."""
    content = b"".join(b"%07d\n" % number for number in range(393_216))
    with repo.rest.unnoted():
        repo.upload("big", content)
        whole = repo.read("big")
    repo.stat("big")
    repo.rest.note("the whole", {"status": whole.status, "the same": whole.data == content})
    for asked in ("bytes=0-7", "bytes=1048568-1048591", "bytes=-8", "bytes=3145728-"):
        repo.read("big", headers={"Range": asked})


@scenario_with(repository)
def a_copy_keeps_type_and_metadata(repo: Repository) -> None:
    """A copy has the type and metadata of its original, and an address of its own."""
    repo.upload("a", "1", headers={"Content-Type": "text/csv", "x-lakefs-meta-k": "v"})
    repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "b"})
    repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "a"})
    repo.stat("b")
    repo.post(OBJECTS + "/copy", {}, query={"dest_path": "c"})
    repo.post(OBJECTS + "/copy", {"src_path": "a"})
    repo.post("/branches/nope/objects/copy", {"src_path": "a", "src_ref": "main"}, query={"dest_path": "c"})
