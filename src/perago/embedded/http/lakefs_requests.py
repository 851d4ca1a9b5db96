"""Requests and answers of lakeFS's API: parameters, JSON bodies, and the model's values as JSON.

The model has one lock, and some calls walk trees. So only quick calls may run on the event loop, and only while the
lock is free.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded import http
from perago.embedded.http import JsonAnswer
from perago.embedded.lakefs import values
from perago.embedded.lakefs.objects import DEFAULT_CONTENT_TYPE
from perago.embedded.lakefs.repository import CommitRecord, LakeFSServer, Repository

B = TypeVar("B", bound=BaseModel)
Json = dict[str, Any]

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


# -------------------------------------------------------------------------- parameters


def _timestamp(value: Any) -> Any:
    """Return a point in time as seconds since the epoch; None for an empty text."""
    if isinstance(value, str) and (not value or _TIMESTAMP.fullmatch(value)):
        return datetime.fromisoformat(value).timestamp() if value else None
    raise ValueError("a date and time like 2026-01-31T12:00:00Z is needed")


_Texts: TypeAlias = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(lambda text: text if isinstance(text, list) else [text]),
]
"""A text that may be given several times."""


def _truth(value: Any) -> bool:
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError("'true' or 'false' is needed")


_Truth: TypeAlias = Annotated[bool, BeforeValidator(_truth)]


class Query(BaseModel):
    """Every parameter of the API; each means the same in all calls."""

    path: str = ""
    dest_path: str = ""
    ref: str = ""
    prefix: str = ""
    after: str = ""
    amount: int = Field(-1, ge=-1, le=values.MAX_AMOUNT)
    delimiter: str = ""
    search: str = ""
    branch: str = ""
    commit: str = ""
    stop_at: str = ""
    since: Annotated[float | None, BeforeValidator(_timestamp)] = None
    objects: _Texts = ()
    prefixes: _Texts = ()
    type: Literal["three_dot", "two_dot"] = "three_dot"
    bare: _Truth = False
    first_parent: _Truth = False
    force: _Truth = False
    include_right_stats: _Truth = False
    limit: _Truth = False
    no_tombstone: _Truth = False
    presign: _Truth = False
    show_hidden: _Truth = False
    source_metarange: str = ""
    user_metadata: _Truth = True

    def required(self, name: Literal["path", "dest_path", "ref"]) -> str:
        """Return a text that must be there and not be empty.

        Raises:
            Invalid: it is missing or empty.
        """
        text: str = getattr(self, name)
        if not text:
            raise values.Invalid(f"parameter {name!r} is missing or empty")
        return text

    def some(self, *names: str) -> dict[str, Any]:
        """Some parameters by name: the arguments of the model's call."""
        return {name: getattr(self, name) for name in names}

    def page(self, *names: str) -> dict[str, Any]:
        """Return the start of a listing, the wanted amount, and further parameters."""
        return self.some("prefix", "after", "amount", *names)


class Call(http.Call):
    """One request to `server`."""

    def __init__(self, server: LakeFSServer, request: Request, raw: bytes = b"") -> None:
        """
        Raises:
            Invalid: a parameter cannot be read.
        """
        super().__init__(request, raw)
        self.server = server
        lists = ((name, self.query_params.getlist(name)) for name in self.query_params)
        parameters = {name: texts[0] if len(texts) == 1 else texts for name, texts in lists}
        try:
            self.query: Query = Query.model_validate(parameters)
        except ValidationError as error:
            raise values.Invalid(f"parameter {_problem(error)}") from None

    @property
    def repo(self) -> Repository:
        """The repository in the path.

        Raises:
            Missing: it does not exist.
        """
        return self.server.repository(self.parts["repository"])

    @property
    def branch(self) -> str:
        """The name of the branch in the path."""
        return self.parts["branch"]

    @property
    def ref(self) -> str:
        """The ref in the path."""
        return self.parts["ref"]

    def body(self, model: type[B]) -> B:
        """Return the JSON body; no body at all is an empty object.

        Raises:
            Invalid: no JSON, or not as `model` says.
        """
        if self.raw and self.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise values.Invalid("the request body has a Content-Type other than application/json")
        try:
            return model.model_validate_json(self.raw or b"{}")
        except ValidationError as error:
            raise values.Invalid(f"request body: {_problem(error)}") from None

    def fields(self, model: type[Body]) -> dict[str, Any]:
        """Return the members of the JSON body by name."""
        return self.body(model).fields()

    def refuse(self, *names: str) -> None:
        """Raise `NotModelled` if one of these parameters is given and not false, because it would change the call."""
        for name in names:
            if getattr(self.query, name):
                raise values.NotModelled(f"{self.method} {self.path} with {name}")


def _problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{f'{place}: ' if place else ''}{problem['msg']}"


Handler: TypeAlias = Callable[[Call], Any]
"""Returns the answer, a value of the model or JSON; None is answered with 204."""

Table: TypeAlias = Iterable[tuple[str, str, Handler] | tuple[str, str, Handler, int]]
"""Methods, paths, handlers, and the status of success if it is not 200."""


def routes(server: LakeFSServer, table: Table, *, locked: bool = True, quick: bool = False) -> list[Route]:
    """Routes of handlers.

    Args:
        server: the model.
        table: the handlers.
        locked: whether they need the lock of the model. If not, they run on the event loop.
        quick: whether they take no time once they have the lock.
    """
    return [_route(server, *row, locked=locked, quick=quick) for row in table]


def _route(
    server: LakeFSServer, method: str, path: str, handler: Handler, status: int = 200, *, locked: bool, quick: bool
) -> Route:
    def work(request: Request, raw: bytes) -> Response:
        answer = handler(Call(server, request, raw))
        if isinstance(answer, Response):
            return answer
        return Response(status_code=204) if answer is None else JsonAnswer(shown(answer), status)

    async def answer(request: Request) -> Response:
        raw = b"" if method in ("GET", "HEAD") else await request.body()
        return await run(server, partial(work, request, raw), quick=quick) if locked else work(request, raw)

    made = Route(path, answer, methods=[method])
    made.methods = {method}  # without the HEAD that comes with every GET: lakeFS has it for objects only
    return made


async def run(server: LakeFSServer, work: Callable[[], Response], *, quick: bool) -> Response:
    """Call the model under its lock: in a worker thread, or here if the lock is free and the work `quick`.

    Under load the way to a thread and back takes longer than a quick call.
    """
    if quick and server.lock.acquire(blocking=False):
        try:
            return work()
        finally:
            server.lock.release()

    def locked() -> Response:
        with server.lock:
            return work()

    return await run_in_threadpool(locked)


# ------------------------------------------------------------------------------ bodies

Flag: TypeAlias = Annotated[bool, BeforeValidator(lambda value: False if value is None else value)]
Int64: TypeAlias = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Texts: TypeAlias = dict[str, str]


class Body(BaseModel):
    """Nothing is converted; members that are not named are ignored, and flags that are null are false."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    def fields(self) -> dict[str, Any]:
        """By name, those of `commit_overrides` among them: the arguments of the model's call."""
        fields = self.model_dump()
        overrides = fields.pop("commit_overrides", {})
        return {**fields, **overrides}


class RepositoryBody(Body):
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


class Setup(Body):
    """POST of the first user."""

    username: str


class StatisticsEvent(Body):
    """A counted event of `Statistics`."""

    class_: str = Field(alias="class")
    name: str
    count: int


class Statistics(Body):
    """POST of statistics."""

    events: list[StatisticsEvent]


class MetadataSet(Body):
    """POST of a repository's metadata."""

    metadata: Texts


class MetadataKeys(Body):
    """DELETE of a repository's metadata."""

    keys: list[str]


class ProtectionRule(Body):
    """A pattern of protected branches."""

    pattern: Annotated[str, Field(min_length=1)]


class ProtectionRules(RootModel[list[ProtectionRule]]):
    """PUT of all patterns."""


class BranchBody(Body):
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


class TagBody(Body):
    """POST of a tag."""

    name: str = Field(alias="id")
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
    """The address of an object's bytes."""

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


class CommitBody(Body):
    """POST of a commit."""

    message: str
    metadata: Texts = {}
    date: Int64 | None = None
    allow_empty: Flag = False
    force: Flag = False


class MergeBody(Body):
    """POST of a merge, which may have no body."""

    message: str = ""
    metadata: Texts = {}
    strategy: values.Strategy = values.Strategy.NONE
    squash: Flag = Field(False, alias="squash_merge")
    allow_empty: Flag = False
    force: Flag = False


class Overrides(Body):
    """The message and metadata of a commit that replace those of the one that it is made of."""

    message: str = ""
    metadata: Texts | None = None


class RevertBody(Body):
    """POST of a revert."""

    ref: str
    parent_number: Int64
    commit_overrides: Overrides = Overrides()
    allow_empty: Flag = False
    force: Flag = False


class CherryPickBody(Body):
    """POST of a cherry-pick."""

    ref: str
    parent_number: Int64 | None = None
    commit_overrides: Overrides = Overrides()
    force: Flag = False


# ----------------------------------------------------------------------------- answers

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
    "comm_prefs_missing": True,
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


def shown(value: Any) -> Any:
    """Return a value of the model as lakeFS describes it. Everything else is JSON already."""
    match value:
        case values.Page():
            pagination = {
                "has_more": value.has_more,
                "max_per_page": values.MAX_AMOUNT,
                "next_offset": value.next_offset,
                "results": len(value.results),
            }
            return {"pagination": pagination, "results": [shown(item) for item in value.results]}
        case values.RepositoryInfo():
            return {
                "creation_date": value.created,
                "default_branch": value.default_branch,
                "id": value.name,
                "read_only": value.read_only,
                "storage_id": "",
                "storage_namespace": value.storage_namespace,
            }
        case values.Reference():
            return {"commit_id": value.commit_id, "id": value.name}
        case CommitRecord(commit=made):
            return {
                "committer": made.committer,
                "creation_date": made.created,
                "generation": value.generation,
                "id": made.id,
                "message": made.message,
                "meta_range_id": made.meta_range_id,
                "metadata": dict(sorted(made.metadata.items())),
                "parents": list(made.parents),
                "version": 1,
            }
        case values.Entry():
            return stats_json(value)
        case values.Difference():
            return difference_json(value)
        case values.ActionRun():
            return {
                "branch": value.branch,
                "commit_id": value.commit_id,
                "end_time": time_of(value.at),
                "event_type": value.event,
                "run_id": value.id,
                "start_time": time_of(value.at),
                "status": "completed" if value.passed else "failed",
            }
    return value


def time_of(at: int) -> str:
    """Return a time in seconds since the epoch as the API writes those of runs."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def stats_json(entry: values.Entry, *, user_metadata: bool = True) -> Json:
    """Return one object, with its metadata even if that is empty (a listing leaves it out then)."""
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


def content_type(entry: values.Entry) -> str:
    """Return the content type that lakeFS names for an object that was stored without one."""
    return entry.content_type or DEFAULT_CONTENT_TYPE


def listed_json(item: values.Entry | values.CommonPrefix, *, user_metadata: bool = True) -> Json:
    """Return one line of a listing."""
    if isinstance(item, values.CommonPrefix):
        return {"checksum": "", "mtime": 0, "path": item.path, "path_type": "common_prefix", "physical_address": ""}
    line = stats_json(item, user_metadata=user_metadata)
    if not line["metadata"]:
        del line["metadata"]
    return line


def difference_json(difference: values.Difference, *, with_stats: bool = False) -> Json:
    """Return one line of a diff, on request with the object on the right side."""
    if difference.type is values.DiffType.PREFIX_CHANGED:
        return {"path": difference.path, "path_type": "common_prefix", "type": difference.type.value}
    described: Json = {"path": difference.path, "path_type": "object"}
    if with_stats and difference.entry is not None:
        right = stats_json(difference.entry)
        described["right"] = {name: right[name] for name in ("checksum", "content_type", "metadata", "mtime")}
    return {**described, "size_bytes": difference.size, "type": difference.type.value}
