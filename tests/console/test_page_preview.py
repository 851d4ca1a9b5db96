"""What is shown of a file: images by their first bytes, the first rows of tables, text; and nothing that could run."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import pytest

from perago.console import links
from perago.console.preview import COLUMNS, IMAGE_BYTES, TEXT_BYTES, image_type
from perago.testing.services import InMemoryServices
from perago.workspace.file_types import HEAD_ROWS

from .filled import REPOSITORY
from .markup import Element
from .site import PageAnswer, page_of

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + b"\x80" * width for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def parquet(columns: dict[str, Any], names: list[str] | None = None, **options: Any) -> bytes:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table(columns).rename_columns(names or list(columns)), sink, **options)
    return sink.getvalue()


def looked_at(services: InMemoryServices, path: str, content: bytes) -> tuple[Element, PageAnswer]:
    """The page of a file, and the answer to its image."""
    commit = services.seed({path: content})
    with page_of(services.conductor, services.lakefs.server) as site:
        page = site.get(links.file(REPOSITORY, commit, path)).main
        return page, site.request("GET", links.image(REPOSITORY, commit, path))


# ---------------------------------------------------------------------------------- images


def test_an_image_has_the_type_of_its_bytes_and_cannot_run_scripts(services: InMemoryServices) -> None:
    page, image = looked_at(services, "plot.txt", png())
    assert page.one("img").attributes["alt"] == "The image plot.txt"
    assert (image.status, image.headers["content-type"]) == (200, "image/png")
    assert image.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert image.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", None),
        (SVG, None),
        (b"<html>", None),
        (b"", None),
    ],
    ids=str,
)
def test_an_image_is_recognized_by_its_first_bytes(head: bytes, kind: str | None) -> None:
    assert image_type(head) == kind


@pytest.mark.parametrize("content", [SVG, b"<html><script>", b"\0\1\2", b""], ids=["svg", "html", "bytes", "empty"])
def test_a_file_that_is_not_a_raster_image_is_not_shown_as_an_image(services: InMemoryServices, content: bytes) -> None:
    page, image = looked_at(services, "plot.png", content)
    assert not page.all("img")
    assert image.status == 404
    assert image.headers["content-type"].startswith("text/html")


def test_svg_is_shown_as_text(services: InMemoryServices) -> None:
    page, _ = looked_at(services, "plot.svg", SVG)
    assert page.one("pre").text == SVG.decode()
    assert not page.all("svg")


def test_a_large_image_is_not_shown(services: InMemoryServices) -> None:
    page, image = looked_at(services, "plot.png", png() + bytes(IMAGE_BYTES))
    assert "An image of more than 8.0 MiB." in page.text
    assert image.status == 404


# ----------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("path", "content"),
    [("a.csv", b'\xef\xbb\xbfid,name\r\n1,"x, y"\r\n\r\n2\r\n'), ("a.TSV", b"id\tname\n1\tx, y\n2\n")],
    ids=["csv", "tsv"],
)
def test_the_first_rows_of_csv_are_a_table_and_the_text_is_there_too(
    services: InMemoryServices, path: str, content: bytes
) -> None:
    page, _ = looked_at(services, path, content)
    table = page.one("table")
    assert [head.text for head in table.all("th", scope="col")] == ["id", "name"]
    assert table.rows() == [["1", "x, y"], ["2", "none"]]
    assert page.one("details").one("summary").text == "Text"


def test_a_long_and_wide_table_is_cut_with_a_note(services: InMemoryServices) -> None:
    wide = ",".join(map(str, range(COLUMNS + 5)))
    page, _ = looked_at(services, "a.csv", "\n".join([wide] * (HEAD_ROWS + 10)).encode())
    assert len(page.one("table").rows()) == HEAD_ROWS
    assert {len(row) for row in page.one("table").rows()} == {COLUMNS}
    assert "and 5 more columns and more rows" in page.text


def test_the_row_where_a_large_csv_is_cut_is_left_out(services: InMemoryServices) -> None:
    long = "x" * 3000
    page, _ = looked_at(services, "a.csv", b"a,b\n" + f"1,{long}\n".encode() * 40)
    rows = page.one("table").rows()
    assert len(rows) == TEXT_BYTES // 3003
    assert {row[1] for row in rows} == {f"{'x' * 100} (cut: the first 100 of 3,000 characters are shown)"}


@pytest.mark.parametrize("content", [b"", b"\n\n", b"one\n", b'"' + b"x" * 200_000], ids=len)
def test_csv_that_is_not_a_table_is_text(services: InMemoryServices, content: bytes) -> None:
    page, _ = looked_at(services, "a.csv", content)
    assert not page.all("table")


def test_the_first_rows_and_columns_of_parquet_are_a_table(services: InMemoryServices) -> None:
    columns = {"id": list(range(200)), "name": [None, *["x\u202ey"] * 199], **{f"c{n}": [n] * 200 for n in range(40)}}
    names = ["id", "id", "id.name", *(f"c{n}" for n in range(39))]  # each column has its own values nevertheless
    page, _ = looked_at(services, "a.bin", parquet(columns, names))
    rows = page.one("table").rows()
    assert [row[:4] for row in rows[:2]] == [["0", "none", "0", "1"], ["1", "x⟨U+202E⟩y", "0", "1"]]
    assert (len(rows), len(rows[0])) == (HEAD_ROWS, COLUMNS)
    assert "200 rows, 42 columns" in page.text
    assert "and 1 more columns and more rows" in page.text


def test_parquet_that_is_broken_is_only_downloaded(services: InMemoryServices) -> None:
    page, _ = looked_at(services, "a.parquet", parquet({"id": [1]})[:-20])
    assert "A Parquet file that cannot be read here. Download it to look at it." in page.text


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no limit of the address space")
def test_a_small_file_that_fills_the_memory_is_only_downloaded(services: InMemoryServices) -> None:
    pa = pytest.importorskip("pyarrow")
    values = pa.array(["a" * 60_000_000])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 50), values)
    page, _ = looked_at(services, "a.parquet", parquet({"x": column}, compression="zstd"))
    assert "cannot be read here" in page.text


def test_without_pyarrow_parquet_names_the_missing_package(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.console.preview.find_spec", lambda name: None)
    page, _ = looked_at(services, "a.parquet", b"PAR1" + bytes(100))
    assert "where pyarrow is installed (the extra tables)" in page.text
