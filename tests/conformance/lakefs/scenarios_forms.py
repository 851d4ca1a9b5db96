"""Uploads as forms."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import repository

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


@scenario
def an_upload_as_a_form(rest: Rest) -> None:
    """A form's field `content` is stored with the type of its part."""
    repo = repository(rest)
    for name, kind in (("typed", "text/csv"), ("untyped", None)):
        body = form("content", "a,b", kind)
        repo.call("POST", OBJECTS, query={"path": name}, body=body, headers=MULTIPART)
        repo.read(name)


@scenario
def a_form_without_its_field(rest: Rest) -> None:
    """A form without a field `content` is a 500."""
    repo = repository(rest)
    repo.call("POST", OBJECTS, query={"path": "a"}, body=form("file", "x"), headers=MULTIPART)
    repo.stat("a")


@scenario
def a_large_form(rest: Rest) -> None:
    """Three megabytes come back whole from a form, too."""
    repo = repository(rest)
    content = "".join(f"{number:07}\r\n" for number in range(349_525))
    with rest.unnoted():
        repo.call("POST", OBJECTS, query={"path": "big"}, body=form("content", content), headers=MULTIPART)
        whole = repo.read("big")
    repo.stat("big")
    rest.note("the whole", {"status": whole.status, "the same": whole.data == content.encode()})


@scenario
def a_form_of_several_parts(rest: Rest) -> None:
    """Of several parts the first called `content` counts, with its line ends and what only looks like a boundary."""
    repo = repository(rest)
    parts = (("other", "no"), ("content", f"a\r\n\r\n--{BOUNDARY[:-1]}\n--{BOUNDARY}\r\n"), ("content", "second"))
    body = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n{text}\r\n'
        for name, text in parts
    )
    repo.call("POST", OBJECTS, query={"path": "a"}, body=f"{body}--{BOUNDARY}--\r\n".encode(), headers=MULTIPART)
    repo.read("a")


@scenario
def a_field_without_a_file(rest: Rest) -> None:
    """A field `content` without a file name counts like one with it."""
    repo = repository(rest)
    body = form("content", "text", filename=None)
    repo.call("POST", OBJECTS, query={"path": "a"}, body=body, headers=MULTIPART)
    repo.read("a")


@scenario
def forms_that_are_broken(rest: Rest) -> None:
    """A form that is empty, has no boundary or does not end stores nothing."""
    repo = repository(rest)
    whole = form("content", "text")
    for body, headers in (
        (b"", MULTIPART),
        (whole[: whole.rindex(b"--boundary")], MULTIPART),
        (whole, {"Content-Type": "multipart/form-data"}),
        (whole, {"Content-Type": "multipart/form-data; boundary=another"}),
    ):
        repo.call("POST", OBJECTS, query={"path": "a"}, body=body, headers=headers)
    repo.tree()
