"""The bodies that lakeFS's API takes, by the names of its description."""

from __future__ import annotations

from perago.embedded.http.lakefs.wire import Kind, Schema

REPOSITORY = Schema(
    "RepositoryCreation",
    {
        "default_branch": Kind.TEXT,
        "name": Kind.TEXT,
        "read_only": Kind.FLAG,
        "sample_data": Kind.FLAG,
        "storage_id": Kind.TEXT,
        "storage_namespace": Kind.TEXT,
    },
    required=("name", "storage_namespace"),
    patterns={
        "name": "^[a-z0-9][a-z0-9-]{2,62}$",
        "storage_namespace": "^(s3|gs|https?|mem|local|transient)://.*$",
    },
)
METADATA_SET = Schema("RepositoryMetadataSet", {"metadata": Kind.TEXT_MAP}, required=("metadata",))
METADATA_KEYS = Schema("RepositoryMetadataKeys", {"keys": Kind.TEXTS}, required=("keys",))
BRANCH = Schema(
    "BranchCreation",
    {"force": Kind.FLAG, "hidden": Kind.FLAG, "name": Kind.TEXT, "source": Kind.TEXT},
    required=("name", "source"),
)
RESET = Schema(
    "ResetCreation",
    {"force": Kind.FLAG, "path": Kind.TEXT, "type": Kind.TEXT},
    required=("type",),
    choices={"type": ("object", "common_prefix", "reset")},
)
TAG = Schema("TagCreation", {"force": Kind.FLAG, "id": Kind.TEXT, "ref": Kind.TEXT}, required=("id", "ref"))
PATHS = Schema("PathList", {"paths": Kind.TEXTS}, required=("paths",))
COPY = Schema(
    "ObjectCopyCreation",
    {"force": Kind.FLAG, "shallow": Kind.FLAG, "src_path": Kind.TEXT, "src_ref": Kind.TEXT},
    required=("src_path",),
)
USER_METADATA = Schema("UpdateObjectUserMetadata", {"set": Kind.TEXT_MAP}, required=("set",))
COMMIT = Schema(
    "CommitCreation",
    {
        "allow_empty": Kind.FLAG,
        "date": Kind.NUMBER,
        "force": Kind.FLAG,
        "message": Kind.TEXT,
        "metadata": Kind.TEXT_MAP,
    },
    required=("message",),
    operation="Commit",
)
MERGE = Schema(
    "Merge",
    {
        "allow_empty": Kind.FLAG,
        "force": Kind.FLAG,
        "message": Kind.TEXT,
        "metadata": Kind.TEXT_MAP,
        "squash_merge": Kind.FLAG,
        "strategy": Kind.TEXT,
    },
    optional=True,
)
_OVERRIDES = Schema("CommitOverrides", {"message": Kind.TEXT, "metadata": Kind.TEXT_MAP})
REVERT = Schema(
    "RevertCreation",
    {
        "allow_empty": Kind.FLAG,
        "commit_overrides": Kind.OBJECT,
        "force": Kind.FLAG,
        "parent_number": Kind.NUMBER,
        "ref": Kind.TEXT,
    },
    required=("ref", "parent_number"),
    nested={"commit_overrides": _OVERRIDES},
    operation="RevertBranch",
)
CHERRY_PICK = Schema(
    "CherryPickCreation",
    {"commit_overrides": Kind.OBJECT, "force": Kind.FLAG, "parent_number": Kind.NUMBER, "ref": Kind.TEXT},
    required=("ref",),
    nested={"commit_overrides": _OVERRIDES},
    operation="CherryPick",
)
