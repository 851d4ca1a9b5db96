"""Reading objects: bytes, ranges, conditions, descriptions."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from ..scenario import Declared, each, scenario_with, to
from .repositories import Repository, empty, one_file, repo, repository

TAG = '"9a0364b9e99bb480dd25e1f0284c8555"'
"""The ETag of an object that holds `content`."""


@scenario_with(repository)
def the_disposition_depends_on_the_type(repo: Repository) -> None:
    """Types that a browser can show are in line, others are attachments; HEAD says nothing of it."""
    for number, kind in enumerate(
        ("text/plain", "text/html", "image/png", "image/svg+xml", "application/json", "application/pdf", "text/csv")
    ):
        repo.silent.upload(f"{number}", "x", headers={"Content-Type": kind})
        repo.read(f"{number}")
        repo.call("HEAD", "/refs/main/objects", query={"path": f"{number}"})


RANGES: dict[str, tuple[str, tuple[str, ...]]] = {
    # Ranges from, to and at the end are a 206 that says what it holds.
    "a_range_of_bytes": (
        "content",
        ("bytes=0-0", "bytes=1-2", "bytes=3-", "bytes=-2", "bytes=0-6", "bytes=5-99", "bytes=-99"),
    ),
    # A range behind the end, and several ranges at once, are a 416.
    "a_range_outside_the_object": ("content", ("bytes=7-", "bytes=99-100", "bytes=0-1,3-4")),
    # A range that does not look like one is a 400, one that makes no sense a 416.
    "a_range_that_cannot_be_read": (
        "content",
        ("bytes=2-1", "bytes=x-y", "bytes", "1-2", "lines=1-2", "bytes=-", "bytes=--1"),
    ),
    # An empty object has no first byte.
    "a_range_of_an_empty_object": ("", ("bytes=0-", "bytes=0-0", "bytes=-1")),
}


@scenario_with(repository, {"a": "content", "empty": ""})
def the_length_of_an_object(repo: Repository) -> None:
    """The length is in the headers of GET, of a range, and of HEAD, which sends no body."""
    with repo.rest.unnoted():
        answers = {
            "GET": repo.read("a"),
            "GET of a range": repo.read("a", headers={"Range": "bytes=1-2"}),
            "GET of nothing": repo.read("empty"),
            "HEAD": repo.head_object("a"),
        }
    for about, answer in answers.items():
        repo.rest.note(about, {"content-length": answer.headers.get("content-length"), "bytes": len(answer.data)})


@scenario_with(repository, {"a": "content"})
def the_dates_of_an_object(repo: Repository) -> None:
    """`Last-Modified` is the time that the description shows in seconds."""
    shown = repo.silent.read("a").headers["last-modified"]
    seconds = repo.silent.stat("a").json["mtime"]
    repo.rest.note("both are the same", parsedate_to_datetime(shown).timestamp() == seconds)


SCENARIOS: Declared = {
    # An unknown path is a 404 to read and to describe; a folder is no object.
    "objects_that_are_not_there": to(repository, {"dir/a": "1"})(
        *(ask(path) for path in ("nope", "dir", "dir/", "dir/a/") for ask in (repo.read, repo.stat))
    ),
    # A missing or empty path is refused.
    "reading_needs_a_path": one_file(
        repo.get("/refs/main/objects"),
        repo.get("/refs/main/objects", query={"path": ""}),
        repo.get("/refs/main/objects/stat"),
        repo.get("/refs/main/objects/stat", query={"path": ""}),
    ),
    # Read these ranges of an object.
    **each(
        RANGES,
        lambda case: to(repository, {"a": case[0]})(*(repo.read("a", headers={"Range": asked}) for asked in case[1])),
    ),
    # A number of more than 64 bits is no range at all.
    "a_range_of_many_digits": to(repository, {"a": "content"})(
        *(
            ask("a", headers={"Range": asked})
            for asked in ("bytes=9223372036854775807-", "bytes=9223372036854775808-", "bytes=0-9223372036854775808")
            for ask in (repo.read, repo.head_object)
        )
    ),
    # `If-None-Match` with the quoted ETag is a 304 without a body; any other value reads.
    "reading_if_it_changed": to(repository, {"a": "content"})(
        *(
            repo.read("a", headers={"If-None-Match": tag})
            for tag in (TAG, TAG.strip('"'), '"other"', "*", f'"other", {TAG}', f"W/{TAG}")
        )
    ),
    # The bytes come with their type, a quoted MD5 as ETag, a date, and an order not to store them.
    "reading_an_object": to(repository, {"a": "content"})(repo.read("a")),
    # A range of an unknown object is a 404.
    "a_range_that_is_not_there": empty(repo.read("nope", headers={"Range": "bytes=0-1"})),
    # `If-Modified-Since`, `If-Match` and `If-Range` are not looked at.
    "conditions_that_are_ignored": to(repository, {"a": "content"})(
        repo.read("a", headers={"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
        repo.read("a", headers={"If-Match": '"other"'}),
        repo.read("a", headers={"If-Range": '"other"', "Range": "bytes=0-1"}),
    ),
    # An unchanged object is a 304, whatever range was asked for.
    "a_condition_and_a_range": to(repository, {"a": "content"})(
        repo.read("a", headers={"If-None-Match": TAG, "Range": "bytes=0-1"}),
        repo.read("a", headers={"If-None-Match": '"other"', "Range": "bytes=0-1"}),
    ),
    # HEAD tells whether there is an object, and has no body even if there is none.
    "asking_for_the_head_of_an_object": to(repository, {"a": "content"})(
        *repo.head_object.each("a", "nope"),
        repo.call("HEAD", "/refs/nope/objects", query={"path": "a"}),
        repo.call("HEAD", "/refs/main/objects"),
    ),
    # HEAD understands ranges, too.
    "the_head_of_a_range": to(repository, {"a": "content"})(
        *(repo.head_object("a", headers={"Range": asked}) for asked in ("bytes=1-2", "bytes=99-", "nonsense"))
    ),
    # Address and time of an object stay what they were when it is committed, merged and branched from.
    "a_description_outlives_commits": empty(
        repo.add_branch(),
        repo.upload("a", "1", "side"),
        repo.silent.commit("side"),
        repo.stat("a", "side"),
        repo.silent.merge("side"),
        repo.silent.branch("other"),
        repo.stat("a"),
        repo.stat("a", "other@"),
    ),
    # The same bytes twice are two addresses with one checksum.
    "every_upload_has_an_address_of_its_own": empty(
        repo.upload("a", "1"), repo.upload("b", "1"), repo.upload("a", "1")
    ),
    # A presigned address is a 400 on a local store.
    "presigned_reads_are_not_supported": one_file(
        repo.read("a", query={"presign": "true"}),
        repo.stat("a", presign="true"),
        repo.tree(presign="true"),
        repo.read("a", query={"presign": "false"}),
    ),
    # A boolean parameter is `true` or `false` in one of several spellings; anything else is refused.
    "flags_are_read_as_go_reads_them": one_file(
        *(repo.read("a", query={"presign": text}) for text in ("False", "0", "f", "FALSE", "no", ""))
    ),
    # A local store knows no storage class.
    "underlying_properties": one_file(
        repo.get("/refs/main/objects/underlyingProperties", query={"path": "a"}),
        repo.get("/refs/main/objects/underlyingProperties", query={"path": "nope"}),
    ),
    # What is deleted in the staging area is gone from the branch at once, and still there in its commit.
    "reading_a_deleted_object": one_file(
        repo.stage_files({"a": None}), repo.read("a"), repo.stat("a"), repo.read("a", "main@")
    ),
}
