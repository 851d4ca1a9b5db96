"""The content types of published files."""

from __future__ import annotations

import mimetypes

import pytest

from perago.workspace.file_types import _BY_SUFFIX, UNKNOWN, content_type_of

TYPES = {
    "out/table.csv": "text/csv",
    "table.parquet": "application/vnd.apache.parquet",
    "plots/A.PNG": "image/png",
    "README.md": "text/markdown",
    "summary.json": "application/json",
    "rows.jsonl": "application/x-ndjson",
    "table.csv.gz": "application/gzip",
    "v1.csv/data": UNKNOWN,
    "Makefile": UNKNOWN,
    ".csv": UNKNOWN,
    "name.": UNKNOWN,
    "a.unheard-of": UNKNOWN,
    "größe.csv": "text/csv",
}


@pytest.mark.parametrize(("path", "kind"), TYPES.items())
def test_the_suffix_gives_the_type(path: str, kind: str) -> None:
    assert content_type_of(path) == kind


def test_the_types_are_those_of_the_standard_library_where_it_has_them() -> None:
    """Some differ between its versions, and some are what lakeFS's pages expect."""
    of_python = mimetypes.MimeTypes().types_map[True]
    ours = {suffix: kind for suffix, kind in _BY_SUFFIX.items() if of_python.get(f".{suffix}", kind) != kind}
    assert set(ours) <= {
        "js",
        "mjs",
        "cfg",
        "bz2",
        "gz",
        "h5",
        "opus",
        "wav",
        "yaml",
        "yml",
        "7z",
        "xz",
        "nc",
        "sql",
    }, ours
