"""Uploads as forms, however the bytes are cut."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from perago.embedded.lakefs.blobs import SPOOL_THRESHOLD

from .http_client import Http

FORM = {"content-type": 'multipart/form-data; boundary="XX"'}
OTHER = b'--XX\r\nContent-Disposition: form-data; name="other"\r\n\r\nnot this\r\n'


def part(content: bytes, headers: str = "Content-Type: text/csv\r\n") -> bytes:
    disposition = 'Content-Disposition: form-data; name="content"; filename="f.csv"\r\n'
    return b"--XX\r\n" + disposition.encode() + headers.encode() + b"\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    ("body", "content", "content_type"),
    [
        pytest.param(part(b"hello") + b"--XX--\r\n", b"hello", "text/csv", id="one part"),
        pytest.param(OTHER + part(b"hello") + b"--XX--\r\n", b"hello", "text/csv", id="behind another part"),
        pytest.param(part(b"one") + part(b"two") + b"--XX--\r\n", b"one", "text/csv", id="the first of two"),
        pytest.param(part(b"") + b"--XX--\r\n", b"", "text/csv", id="empty"),
        pytest.param(part(b"a\r\n--X\r\n") + b"--XX--\r\n", b"a\r\n--X\r\n", "text/csv", id="nearly a boundary inside"),
        pytest.param(part(b"hello", "") + b"--XX--\r\n", b"hello", "", id="without a type"),
    ],
)
def test_the_part_called_content_is_stored_with_its_own_type(
    http: Http, body: bytes, content: bytes, content_type: str
) -> None:
    stored = http("POST", "branches/main/objects?path=f", body, {**FORM, "x-lakefs-meta-k": "v"})
    assert stored.status == 201
    assert (stored.json["content_type"], stored.json["metadata"]) == (content_type, {"k": "v"})
    assert http("GET", "refs/main/objects?path=f").data == content
    described = http("GET", "refs/main/objects/stat?path=f").json
    assert described["content_type"] == (content_type or "application/octet-stream")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(OTHER + b"--XX--\r\n", FORM, 500, id="no such part"),
        pytest.param(b"hello", FORM, 500, id="no form"),
        pytest.param(part(b"hello")[:-5], FORM, 400, id="no end"),
        pytest.param(part(b"hello"), {"content-type": "multipart/form-data"}, 500, id="no boundary"),
    ],
)
def test_a_broken_form_stores_nothing(http: Http, body: bytes, headers: dict[str, str], status: int) -> None:
    answer = http("POST", "branches/main/objects?path=f", body, headers)
    assert answer.status == status
    assert answer.json["message"]
    assert http("GET", "refs/main/objects/stat?path=f").status == 404


def test_a_refused_form_is_refused_for_its_path_first(http: Http) -> None:
    assert http("POST", "branches/nope/objects?path=f", b"no form", FORM).status == 404
    assert http("POST", "branches/main/objects?path=a/1", b"no form", {**FORM, "If-None-Match": "*"}).status == 412


def test_a_large_form_goes_to_disk_and_comes_back_whole(http: Http) -> None:
    content = os.urandom(SPOOL_THRESHOLD * 2)
    body = part(content) + b"--XX--\r\n"
    pieces: Iterator[bytes] = (body[start : start + 70_001] for start in range(0, len(body), 70_001))
    assert http("POST", "branches/main/objects?path=big", pieces, FORM).json["size_bytes"] == len(content)
    assert http("GET", "refs/main/objects?path=big").data == content
