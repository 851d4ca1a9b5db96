"""The modelled server's values as lakeFS 1.84 writes them in JSON (`docs/servers/lakefs.md` 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from perago.embedded.lakefs.objects import DEFAULT_CONTENT_TYPE
from perago.embedded.lakefs.repository import CommitRecord
from perago.embedded.lakefs.values import (
    MAX_AMOUNT,
    CommonPrefix,
    Difference,
    DiffType,
    Entry,
    Page,
    Reference,
    RepositoryInfo,
)

T = TypeVar("T")
Json = dict[str, Any]

VERSION: Json = {"version": "1.84.0", "version_context": "lakeFS"}

STORAGE_CONFIG: Json = {
    "blockstore_description": "",
    "blockstore_id": "",
    "blockstore_namespace_ValidityRegex": "^local://",
    "blockstore_namespace_example": "local://example-bucket/",
    "blockstore_type": "local",
    "default_namespace_prefix": "local://",
    "import_support": False,
    "import_validity_regex": "^local://",
    "pre_sign_multipart_upload": False,
    "pre_sign_support": False,
    "pre_sign_support_ui": False,
}

CONFIG: Json = {
    "capabilities_config": {},
    "storage_config": STORAGE_CONFIG,
    "storage_config_list": [],
    "ui_config": {},
    "version_config": VERSION,
}

SETUP: Json = {
    "comm_prefs_missing": False,
    "login_config": {
        "RBAC": "none",
        "login_cookie_names": ["internal_auth_session"],
        "login_failed_message": "The credentials don't match.",
        "login_url": "",
        "login_url_method": "none",
        "logout_url": "",
    },
    "state": "initialized",
}


def page(found: Page[T], describe: Callable[[T], Json]) -> Json:
    """A page with its pagination."""
    return {
        "pagination": {
            "has_more": found.has_more,
            "max_per_page": MAX_AMOUNT,
            "next_offset": found.next_offset,
            "results": len(found.results),
        },
        "results": [describe(item) for item in found.results],
    }


def repository(info: RepositoryInfo) -> Json:
    """A repository."""
    return {
        "creation_date": info.created,
        "default_branch": info.default_branch,
        "id": info.name,
        "read_only": info.read_only,
        "storage_id": "",
        "storage_namespace": info.storage_namespace,
    }


def reference(info: Reference) -> Json:
    """A branch or a tag."""
    return {"commit_id": info.commit_id, "id": info.name}


def commit(record: CommitRecord) -> Json:
    """A commit."""
    made = record.commit
    return {
        "committer": made.committer,
        "creation_date": made.created,
        "generation": record.generation,
        "id": made.id,
        "message": made.message,
        "meta_range_id": made.meta_range_id,
        "metadata": dict(sorted(made.metadata.items())),
        "parents": list(made.parents),
        "version": 1,
    }


def stats(entry: Entry, *, user_metadata: bool = True) -> Json:
    """One object, with its metadata even if there is none (a listing leaves it out then)."""
    return {
        "checksum": entry.blob.checksum,
        "content_type": content_type(entry),
        "metadata": dict(sorted(entry.metadata.items())) if user_metadata else {},
        "mtime": entry.mtime,
        "path": entry.path,
        "path_type": "object",
        "physical_address": entry.address,
        "size_bytes": entry.blob.size,
    }


def content_type(entry: Entry) -> str:
    """What lakeFS says about an object that was stored without a content type."""
    return entry.content_type or DEFAULT_CONTENT_TYPE


def listed(item: Entry | CommonPrefix, *, user_metadata: bool = True) -> Json:
    """One line of a listing."""
    if isinstance(item, CommonPrefix):
        return {
            "checksum": "",
            "mtime": 0,
            "path": item.path,
            "path_type": "common_prefix",
            "physical_address": "",
        }
    found = stats(item, user_metadata=user_metadata)
    if not found["metadata"]:
        del found["metadata"]
    return found


def difference(found: Difference, *, with_stats: bool = False) -> Json:
    """One line of a diff, on request with what is there on the right side."""
    if found.type is DiffType.PREFIX_CHANGED:
        return {"path": found.path, "path_type": "common_prefix", "type": found.type.value}
    described: Json = {"path": found.path, "path_type": "object"}
    if with_stats and found.entry is not None:
        described["right"] = {
            "checksum": found.entry.blob.checksum,
            "content_type": content_type(found.entry),
            "metadata": dict(sorted(found.entry.metadata.items())),
            "mtime": found.entry.mtime,
        }
    return {**described, "size_bytes": found.size, "type": found.type.value}
