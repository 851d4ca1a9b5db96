"""The JSON bodies that lakeFS's API takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel

from perago.embedded.lakefs.values import Strategy

Flag: TypeAlias = Annotated[bool, BeforeValidator(lambda value: False if value is None else value)]
Int64: TypeAlias = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Texts: TypeAlias = dict[str, str]


class Body(BaseModel):
    """Nothing is converted; members that are not named are ignored, and flags that are null are false."""

    model_config = ConfigDict(extra="ignore", strict=True)

    def fields(self) -> dict[str, Any]:
        """By name, those of `commit_overrides` among them: the arguments of the model's call."""
        found = self.model_dump()
        overrides = found.pop("commit_overrides", {})
        return {**found, **overrides}


class Repository(Body):
    """POST of a repository."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{2,62}$")
    storage_namespace: str = Field(pattern="^(s3|gs|https?|mem|local|transient)://.*$")
    default_branch: str = ""
    read_only: Flag = False
    sample_data: Flag = False
    storage_id: str = ""


class Login(Body):
    """POST of a login."""

    access_key_id: str
    secret_access_key: str


class MetadataSet(Body):
    """POST of a repository's metadata."""

    metadata: Texts


class MetadataKeys(Body):
    """DELETE of a repository's metadata."""

    keys: list[str]


class ProtectionRule(Body):
    """A pattern of protected branches."""

    pattern: str


class ProtectionRules(RootModel[list[ProtectionRule]]):
    """PUT of all patterns."""


class Branch(Body):
    """POST of a branch."""

    name: str
    source: str
    force: Flag = False
    hidden: Flag = False


class Reset(Body):
    """PUT of a branch."""

    type: Literal["object", "common_prefix", "reset"]
    path: str = ""
    force: Flag = False


class Tag(Body):
    """POST of a tag."""

    id: str
    ref: str
    force: Flag = False


class Paths(Body):
    """POST of deletions."""

    paths: list[str]


class Copy(Body):
    """POST of a copy."""

    source: str = Field(alias="src_path")
    source_ref: str = Field("", alias="src_ref")
    shallow: Flag = False
    force: Flag = False


class UserMetadata(Body):
    """PUT of an object's user metadata."""

    set: Texts


class Staging(Body):
    """Where an object's bytes were put."""

    physical_address: str = ""


class Link(Body):
    """PUT of an object whose bytes were put at an address; `mtime` is in seconds."""

    staging: Staging
    checksum: str
    size_bytes: Int64
    user_metadata: Texts = {}
    content_type: str | None = None
    mtime: Int64 | None = None
    force: Flag = False


class Commit(Body):
    """POST of a commit."""

    message: str
    metadata: Texts = {}
    date: Int64 | None = None
    allow_empty: Flag = False
    force: Flag = False


class Merge(Body):
    """POST of a merge, which may have no body."""

    message: str = ""
    metadata: Texts = {}
    strategy: Strategy = Strategy.NONE
    squash: Flag = Field(False, alias="squash_merge")
    allow_empty: Flag = False
    force: Flag = False


class Overrides(Body):
    """What a commit says instead of the words of the one that it is made of."""

    message: str = ""
    metadata: Texts | None = None


class Revert(Body):
    """POST of a revert."""

    ref: str
    parent_number: Int64
    commit_overrides: Overrides = Overrides()
    allow_empty: Flag = False
    force: Flag = False


class CherryPick(Body):
    """POST of a cherry-pick."""

    ref: str
    parent_number: Int64 | None = None
    commit_overrides: Overrides = Overrides()
    force: Flag = False
