"""The content types of published files, which decide how lakeFS's pages and other clients show an object.

The table is our own, because that of `mimetypes` depends on the machine and on the version of Python.
"""

from __future__ import annotations

UNKNOWN = "application/octet-stream"
"""The type of a file whose name says nothing. lakeFS also gives it to objects that were uploaded without a type."""

_TEXT = {
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "htm html",
    "text/javascript": "js mjs",
    "text/markdown": "markdown md",
    "text/plain": "cfg conf ini log sql text txt",
    "text/tab-separated-values": "tab tsv",
    "text/x-python": "py",
    "text/x-r": "r",
    "text/xml": "xml",
}
_TYPES = {
    "application/geo+json": "geojson",
    "application/gzip": "gz tgz",
    "application/json": "json",
    "application/ld+json": "jsonld",
    "application/msword": "doc",
    "application/pdf": "pdf",
    "application/toml": "toml",
    "application/vnd.apache.arrow.file": "arrow feather",
    "application/vnd.apache.avro": "avro",
    "application/vnd.apache.orc": "orc",
    "application/vnd.apache.parquet": "parquet pq",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.sqlite3": "db3 sqlite sqlite3",
    "application/x-7z-compressed": "7z",
    "application/x-bzip2": "bz2",
    "application/x-hdf5": "h5 hdf5",
    "application/x-ipynb+json": "ipynb",
    "application/x-ndjson": "jsonl ndjson",
    "application/x-netcdf": "nc",
    "application/x-sh": "sh",
    "application/x-tar": "tar",
    "application/x-xz": "xz",
    "application/yaml": "yaml yml",
    "application/zip": "npz zip",
    "application/zstd": "zst",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/ogg": "oga ogg opus",
    "audio/x-wav": "wav",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/jpeg": "jpeg jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif tiff",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/webm": "webm",
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in {**_TEXT, **_TYPES}.items() for suffix in suffixes.split()}


def content_type_of(path: str) -> str:
    """Return the content type of a file by the last suffix of its name, in any case: a compressed CSV is a gzip."""
    stem, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return _BY_SUFFIX.get(suffix.lower(), UNKNOWN) if stem and dot else UNKNOWN
