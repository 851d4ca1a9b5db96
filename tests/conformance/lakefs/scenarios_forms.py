"""Uploads as forms."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, repository

OBJECTS = "/branches/main/objects"
BOUNDARY = "boundary"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(field: str, content: str, content_type: str | None = None, filename: str | None = "f.txt") -> bytes:
    """A form of one field."""
    disposition = f'form-data; name="{field}"' + (f'; filename="{filename}"' if filename else "")
    lines = [f"--{BOUNDARY}", f"Content-Disposition: {disposition}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", content, f"--{BOUNDARY}--", ""]).encode()


@scenario_with(repository)
def an_upload_as_a_form(repo: Repository) -> None:
    """A form's field `content` is stored with the type of its part."""
    for name, kind in (("typed", "text/csv"), ("untyped", None)):
        body = form("content", "a,b", kind)
        repo.call("POST", OBJECTS, query={"path": name}, body=body, headers=MULTIPART)
        repo.read(name)


@scenario_with(repository)
def a_form_without_its_field(repo: Repository) -> None:
    """A form without a field `content` is a 500."""
    repo.call("POST", OBJECTS, query={"path": "a"}, body=form("file", "x"), headers=MULTIPART)
    repo.stat("a")


@scenario_with(repository)
def a_large_form(repo: Repository) -> None:
    """Three megabytes come back whole from a form, too."""
    content = "".join(f"{number:07}\r\n" for number in range(349_525))
    with repo.rest.unnoted():
        repo.call("POST", OBJECTS, query={"path": "big"}, body=form("content", content), headers=MULTIPART)
        whole = repo.read("big")
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
    repo.call("POST", OBJECTS, query={"path": "a"}, body=f"{body}--{BOUNDARY}--\r\n".encode(), headers=MULTIPART)
    repo.read("a")


@scenario_with(repository)
def a_field_without_a_file(repo: Repository) -> None:
    """A field `content` without a file name counts like one with it."""
    body = form("content", "text", filename=None)
    repo.call("POST", OBJECTS, query={"path": "a"}, body=body, headers=MULTIPART)
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
        repo.call("POST", OBJECTS, query={"path": "a"}, body=body, headers=headers)
    repo.tree()
