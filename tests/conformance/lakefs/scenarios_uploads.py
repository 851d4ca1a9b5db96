"""Uploads: bodies, conditions, forms, user metadata."""

from __future__ import annotations

from ..scenario import Declared, scenario_with, to
from .repositories import MULTIPART, TEXT, Repository, diverged, empty, one_file, repo, repository

OBJECTS = "/branches/main/objects"


@scenario_with(repository)
def a_large_object(repo: Repository) -> None:
    """Three megabytes come back whole, and by their parts."""
    content = b"".join(b"%07d\n" % number for number in range(393_216))
    repo.silent.upload("big", content)
    whole = repo.silent.read("big")
    repo.stat("big")
    repo.rest.note("the whole", {"status": whole.status, "the same": whole.data == content})
    for asked in ("bytes=0-7", "bytes=1048568-1048591", "bytes=-8", "bytes=3145728-"):
        repo.read("big", headers={"Range": asked})


BOUNDARY = "boundary"
KINDS = ("text/csv; charset=utf-8", "application/json", "a", "X/Y;q=1", "application/x-y")
TAG = '"c4ca4238a0b923820dcc509a6f75849b"'
"""The ETag of an object that holds `1`."""
VALUES = {"x-lakefs-meta-a": "  Two  Words ", "x-lakefs-meta-b": "", "x-lakefs-meta-c": '"q" = ,;'}


def form(field: str, content: str, content_type: str | None = None, filename: str | None = "f.txt") -> bytes:
    """A form of one field."""
    disposition = f'form-data; name="{field}"' + (f'; filename="{filename}"' if filename else "")
    lines = [f"--{BOUNDARY}", f"Content-Disposition: {disposition}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", content, f"--{BOUNDARY}--", ""]).encode()


@scenario_with(repository)
def a_large_form(repo: Repository) -> None:
    """Three megabytes come back whole from a form, too."""
    content = "".join(f"{number:07}\r\n" for number in range(349_525))
    repo.silent.form("big", form("content", content))
    whole = repo.silent.read("big")
    repo.stat("big")
    repo.rest.note("the whole", {"status": whole.status, "the same": whole.data == content.encode()})


@scenario_with(repository)
def a_form_of_several_parts(repo: Repository) -> None:
    """Of several parts the first called `content` counts, with its line ends and what only looks like a boundary."""
    parts = (("other", "no"), ("content", f"a\r\n\r\n--{BOUNDARY[:-1]}\n--{BOUNDARY}\r\n"), ("content", "second"))
    body = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n{text}\r\n'
        for name, text in parts
    )
    repo.form("a", f"{body}--{BOUNDARY}--\r\n".encode())
    repo.read("a")


@scenario_with(repository)
def forms_that_are_broken(repo: Repository) -> None:
    """A form that is empty, has no boundary or does not end stores nothing."""
    whole = form("content", "text")
    for body, headers in (
        (b"", MULTIPART),
        (whole[: whole.rindex(b"--boundary")], MULTIPART),
        (whole, {"Content-Type": "multipart/form-data"}),
        (whole, {"Content-Type": "multipart/form-data; boundary=another"}),
    ):
        repo.form("a", body, headers)
    repo.tree()


@scenario_with(diverged, {"a": "1"})
def metadata_decides_a_conflict(repo: Repository) -> None:
    """Both sides set other metadata of one content: a conflict."""
    with repo.rest.unnoted():
        for branch in ("main", "side"):
            repo.upload("a", "1", branch, headers=TEXT | {"x-lakefs-meta-by": branch})
            repo.commit(branch)
    repo.diff("main", "side")
    repo.merge()


SCENARIOS: Declared = {
    # A content type is kept as it was sent, parameters and nonsense included.
    "any_content_type_is_kept": empty(
        *(
            request
            for number, kind in enumerate(KINDS)
            for request in (repo.upload(f"{number}", "{}", headers={"Content-Type": kind}), repo.read(f"{number}"))
        )
    ),
    # An upload shows on its branch only, and moves no head.
    "an_upload_is_staged_not_committed": one_file(
        repo.add_branch(),
        repo.upload("b", "2"),
        *(repo.stat("b", ref) for ref in ("main", "main@", "side", repo.head())),
        repo.get("/branches/main"),
        repo.show(repo.commit_id(2)),
    ),
    # `If-Match`, and `If-None-Match` with an ETag, are a 501 and store nothing.
    "other_conditions_are_not_implemented": one_file(
        repo.upload("a", "2", headers={"If-None-Match": TAG}),
        repo.upload("a", "2", headers={"If-Match": TAG}),
        repo.upload("new", "2", headers={"If-Match": "*"}),
        repo.read("a"),
        repo.stat("new"),
    ),
    # Headers `x-lakefs-meta-...` become metadata with names in lower case; reading does not show them.
    "user_metadata_comes_in_headers": empty(
        repo.upload(
            "a", "1", headers={"X-Lakefs-Meta-Owner": "Team A", "x-lakefs-meta-MixedCase": "V", "x-other": "no"}
        ),
        repo.stat("a"),
        repo.stat("a", user_metadata="false"),
        repo.tree(),
        repo.tree(user_metadata="false"),
        repo.read("a"),
    ),
    # Metadata of an object can be replaced without an upload, which is a staged change.
    "user_metadata_is_set_later": one_file(
        repo.set_metadata("a", set={"k": "v"}), repo.stat("a"), repo.staged(), repo.set_metadata("nope", set={"k": "v"})
    ),
    # A form's field `content` is stored with the type of its part.
    "an_upload_as_a_form": empty(
        repo.form("typed", form("content", "a,b", "text/csv")),
        repo.read("typed"),
        repo.form("untyped", form("content", "a,b")),
        repo.read("untyped"),
    ),
    # A form without a field `content` is a 500.
    "a_form_without_its_field": empty(repo.form("a", form("file", "x")), repo.stat("a")),
    # A field `content` without a file name counts like one with it.
    "a_field_without_a_file": empty(repo.form("a", form("content", "text", filename=None)), repo.read("a")),
    # Names of metadata are in lower case, whatever signs they hold.
    "names_of_metadata": empty(
        repo.upload(
            "a", headers=TEXT | {"x-lakefs-meta-A.B_c-D": "1", "X-LAKEFS-META-UPPER": "2", "x-lakefs-meta-1": "3"}
        )
    ),
    # Values of metadata are kept but for the blanks around them.
    "values_of_metadata": empty(repo.upload("a", headers=TEXT | VALUES), repo.stat("a")),
    # Metadata goes with the object through commits and merges.
    "metadata_is_committed_and_merged": to(diverged, {"a": "1"})(
        repo.silent.upload("b", "1", "side", headers=TEXT | {"x-lakefs-meta-k": "v"}),
        repo.silent.commit("side"),
        repo.silent.merge("side"),
        repo.stat("b"),
        repo.tree(),
    ),
    # Setting metadata replaces all of it and keeps content, type and address.
    "metadata_is_replaced_later": empty(
        repo.upload("a", "1", headers=TEXT | {"x-lakefs-meta-old": "v"}),
        repo.set_metadata("a", set={"New": "w"}),
        repo.stat("a"),
        repo.set_metadata("a", set={}),
        repo.stat("a"),
        repo.set_metadata("a"),
    ),
    # Values of metadata are read as UTF-8.
    "metadata_of_any_script": empty(
        repo.upload("a", headers=TEXT | {"x-lakefs-meta-k": "日本 ä".encode().decode("latin-1")}), repo.stat("a")
    ),
    # An upload answers 201 with size, checksum, type, time and address of the object.
    "an_upload_describes_the_object": empty(
        repo.upload("dir/a.csv", "x\n1\n", headers={"Content-Type": "text/csv"}),
        repo.stat("dir/a.csv"),
        repo.read("dir/a.csv"),
    ),
    # An object without a content type is an octet stream, whatever its name ends in.
    "an_upload_without_a_type": empty(
        repo.upload("a.csv", "x", headers={}), repo.upload("b", "x", headers={"Content-Type": ""}), repo.read("a.csv")
    ),
    # An object may be empty.
    "an_empty_object": empty(repo.upload("empty", ""), repo.stat("empty"), repo.read("empty")),
    # Bytes that are no text come back as they were.
    "bytes_come_back_as_they_were": empty(
        repo.upload("b", bytes(range(256)), headers={"Content-Type": "application/octet-stream"}), repo.read("b")
    ),
    # The last upload to a path counts.
    "an_upload_replaces_what_is_staged": empty(
        repo.upload("a", "1"), repo.upload("a", "22"), repo.read("a"), repo.tree()
    ),
    # A missing or empty path is refused.
    "an_upload_needs_a_path": empty(
        repo.call("POST", OBJECTS, body=b"x"), repo.call("POST", OBJECTS, query={"path": ""}, body=b"x"), repo.tree()
    ),
    # An upload to an unknown branch is a 404 that names it.
    "an_upload_to_a_branch_that_is_not_there": empty(repo.upload("a", "1", "nope"), repo.upload("a", "1", "no.pe")),
    # `If-None-Match: *` stores a new object and refuses to replace one, staged or committed.
    "an_upload_only_if_there_is_nothing": to(repository, {"committed": "1"})(
        *(repo.upload(path, "2", headers={"If-None-Match": "*"}) for path in ("new", "new", "committed")),
        repo.read("new"),
        repo.read("committed"),
    ),
    # `If-None-Match: *` passes where the committed object is deleted in the staging area.
    "an_upload_where_something_was_deleted": one_file(
        repo.stage_files({"a": None}), repo.upload("a", "2", headers={"If-None-Match": "*"}), repo.read("a")
    ),
    # `Content-MD5` is not looked at.
    "a_wrong_checksum_is_ignored": empty(repo.upload("a", "1", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})),
    # `storageClass` and `force` are accepted.
    "parameters_that_change_nothing": empty(
        repo.upload("a", "1", query={"storageClass": "COLD"}),
        repo.upload("b", "1", query={"force": "true"}),
        repo.upload("c", "1", query={"unknown": "1"}),
    ),
    # A new upload starts without the metadata of the old one.
    "user_metadata_is_replaced_with_the_object": empty(
        repo.upload("a", "1", headers={"x-lakefs-meta-k": "v"}), repo.upload("a", "1"), repo.stat("a")
    ),
    # A copy is a new object with the content of the old one, from any ref.
    "an_object_is_copied": one_file(
        repo.commit_files({"a": "2"}),
        repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "b"}),
        repo.post(OBJECTS + "/copy", {"src_path": "a", "src_ref": "main~"}, query={"dest_path": "c"}),
        repo.read("b"),
        repo.read("c"),
        repo.post(OBJECTS + "/copy", {"src_path": "nope"}, query={"dest_path": "d"}),
        repo.post(OBJECTS + "/copy", {"src_path": "a", "src_ref": "nope"}, query={"dest_path": "d"}),
    ),
    # A presigned address for an upload is a 500 on a local store.
    "presigned_uploads_are_not_supported": empty(
        repo.get("/branches/main/staging/backing", query={"path": "a", "presign": "true"})
    ),
    # A copy has the type and metadata of its original, and an address of its own.
    "a_copy_keeps_type_and_metadata": empty(
        repo.upload("a", "1", headers={"Content-Type": "text/csv", "x-lakefs-meta-k": "v"}),
        repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "b"}),
        repo.post(OBJECTS + "/copy", {"src_path": "a"}, query={"dest_path": "a"}),
        repo.stat("b"),
        repo.post(OBJECTS + "/copy", {}, query={"dest_path": "c"}),
        repo.post(OBJECTS + "/copy", {"src_path": "a"}),
        repo.post("/branches/nope/objects/copy", {"src_path": "a", "src_ref": "main"}, query={"dest_path": "c"}),
    ),
    # The bare prefix is a name, too.
    "a_name_of_nothing": empty(repo.upload("a", headers=TEXT | {"x-lakefs-meta-": "v"})),
    # A listing leaves metadata out where there is none.
    "metadata_in_a_listing": to(repository, {"without": "1"})(
        repo.silent.upload("with", "1", headers=TEXT | {"x-lakefs-meta-k": "v"}),
        repo.tree(),
        repo.tree(user_metadata="true"),
        repo.tree(user_metadata="false"),
        repo.stat("without"),
        repo.stat("with", user_metadata="false"),
    ),
    # A commit's metadata is none of its objects', and the other way round.
    "metadata_of_a_commit_is_apart": empty(
        repo.upload("a", headers=TEXT | {"x-lakefs-meta-object": "1"}),
        repo.commit(metadata={"commit": "2"}),
        repo.stat("a"),
        repo.show(),
    ),
}
