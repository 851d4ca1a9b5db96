"""lakeFS's REST API on the model: enough for the official SDK, the wrapper, `lakectl` and curl.

A call that this server does not support is answered with 501 and its name; a call that lakeFS does not have either,
with 404. Bytes of objects are taken in piece by piece, large ones straight to disk.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import sys
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from operator import itemgetter
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perago.embedded.http import JsonAnswer, unserved_routes
from perago.embedded.http import lakefs_requests as api
from perago.embedded.http.lakefs_requests import Call, Json, Table, routes, run
from perago.embedded.lakefs import commits, objects, references, values
from perago.embedded.lakefs.repository import CommitRecord, LakeFSServer
from perago.embedded.lakefs.values import Blob, BlobSink, BlobStore, Entry, KeyPair

API = "/api/v1"
ALIVE = "/_health"
MAX_OPEN_BODY = 64 * 1024
"""Bytes of the body of a request without credentials."""
NOT_IMPLEMENTED = "Not Implemented"
"""The words of the real server about calls that it does not do either."""

NO_PRESIGN = "local adapter presigned URL: operation not supported"

_RANGE = re.compile(r"bytes=((\d*-\d*,? ?)+)")
_SINGLE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_INLINE = re.compile(
    r"application/(javascript|json|pdf|xml)|audio/(mpeg|wav|webm)|image/(gif|jpe?g|png|svg\+xml|webp)"
    r"|text/(css|html|javascript|markdown|plain|x-markdown|xml)|video/(mp4|webm)"
)
"""The content types that lakeFS lets a browser show; everything else is an attachment."""
_META = "x-lakefs-meta-"
_INTERNAL = "x-lakefs-internal-"
_OPEN = frozenset({ALIVE, *(f"{API}/{path}" for path in ("healthcheck", "setup_lakefs", "auth/login"))})


def lakefs_app(server: LakeFSServer, *, access_key_id: str, secret_access_key: str) -> ASGIApp:
    """Return an ASGI application that serves `server` to the holder of one key pair. It is a lakeFS on a local disk."""
    root, keys = f"{API}/repositories/{{repository}}", KeyPair(access_key_id, secret_access_key)
    groups = (_object_routes, _reference_routes, _commit_routes, _repository_routes, _protection_routes, _action_routes)
    all_routes = [route for group in groups for route in group(server, root)] + _service_routes(server, keys)
    handlers: dict[Any, Any] = {values.LakeFSError: _refuse, 404: _no_such_path, 405: _no_such_path}
    handlers |= {values.ServerDivergence: _flag, values.ActionNotRun: _flag}
    app = Starlette(routes=[*all_routes, *unserved_routes("lakefs", API, _unserved)], exception_handlers=handlers)
    app.router.redirect_slashes = False
    return KeyCheck(app, keys)


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """HTTP Basic with one key pair, or the token of a login. Some paths need neither."""

    app: ASGIApp
    keys: KeyPair

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        header = Headers(scope=scope).get("authorization", "")
        if self._is_known(header):
            await self.app(scope, receive, send)
        elif scope["path"] in _OPEN:
            await self.app(scope, _limited(receive), send)
        elif not header and scope["path"] == f"{API}/user":
            await JsonAnswer({"user": {"creation_date": 0, "id": ""}})(scope, receive, send)
        else:
            error = values.LakeFSError("error authenticating request", status=401)
            await _refusal(Request(scope), error)(scope, receive, send)

    def _is_known(self, header: str) -> bool:
        scheme, _, credentials = header.partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(credentials.encode(), self.keys.login_token.encode())
        try:
            pair = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(pair, self.keys.basic)


def _limited(receive: Receive) -> Receive:
    """Limit the body of a request. What is left of a larger one is dropped as it arrives."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_OPEN_BODY:
            raise values.LakeFSError(f"the body has more than {MAX_OPEN_BODY} bytes", status=413)
        return message

    return limited


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer a refusal of the model."""
    if not isinstance(error, values.LakeFSError):
        raise error
    return _refusal(request, error)


def _refusal(request: Request, error: values.LakeFSError) -> Response:
    """Return the answer for a refusal, without a body for HEAD."""
    if request.method == "HEAD":
        return Response(status_code=error.status)
    return JsonAnswer({"message": error.message}, error.status)


async def _flag(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    """A merge that the real server would do differently, if warnings about that are errors."""
    return JsonAnswer({"message": str(error)}, values.NotModelled.status)


def _unserved(request: Request, name: str) -> Response:
    if request.method == "HEAD":  # comes with every GET here; lakeFS has it for objects only
        return _refusal(request, values.LakeFSError("invalid API endpoint", status=404))
    return _refusal(request, values.NotModelled(name))


async def _no_such_path(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as above
    """A call that lakeFS does not have either. Outside of the API lakeFS would show its web pages."""
    if request.url.path.startswith(f"{API}/"):
        if (name := _empty_parameter(request)) is not None:
            missing = f'parameter "{name}" in path has an error: value is required but missing'
            return _refusal(request, values.LakeFSError(missing, status=400))
        return _refusal(request, values.LakeFSError("invalid API endpoint", status=404))
    return _refusal(request, values.NotModelled(f"{request.method} {request.url.path}"))


def _empty_parameter(request: Request) -> str | None:
    """Return the name of the parameter that is empty between two slashes of the path. None: it is another path."""
    scope = {**request.scope, "path": request.scope["path"].replace("//", "/ /", 1)}
    for route in request.app.routes:
        matches, more = route.matches(scope)
        if matches is Match.FULL and " " in (parameters := more["path_params"]).values():
            name = next(name for name, value in parameters.items() if value == " ")
            ref = {"merge": "sourceRef", "diff": "leftRef"}.get(scope["path"].split("/ /")[1].split("/")[0], "ref")
            return ref if name in ("ref", "left", "source") else str(name)
    return None


# ------------------------------------------------------------------------ the server itself


def _service_routes(server: LakeFSServer, keys: KeyPair) -> list[Route]:
    """Configuration, version, health, the only user and its login, and the statistics, which are dropped."""

    def set_up(call: Call) -> Response:
        """Refuse, because the server is set up from the start."""
        call.body(api.Setup)
        raise values.LakeFSError("lakeFS already initialized", status=409)

    def log_in(call: Call) -> Json:
        """Return a token for the key pair."""
        login = KeyPair(**call.fields(api.Login))
        if not hmac.compare_digest(login.basic, keys.basic):
            raise values.LakeFSError("error authenticating request", status=401)
        return {"token": keys.login_token}

    def count(call: Call) -> None:
        """Check the form of statistics and drop them."""
        call.body(api.Statistics)

    user = {"creation_date": server.started, "email": "", "friendly_name": "", "id": server.committer}
    return routes(
        server,
        [
            ("GET", f"{API}/config", lambda _: api.CONFIG),
            ("GET", f"{API}/config/version", lambda _: api.VERSION),
            ("GET", f"{API}/config/storage", lambda _: api.CONFIG["storage_config"]),
            ("GET", f"{API}/setup_lakefs", lambda _: api.SETUP),
            ("POST", f"{API}/setup_lakefs", set_up),
            ("POST", f"{API}/auth/login", log_in),
            ("GET", f"{API}/user", lambda _: {"user": user}),
            ("GET", f"{API}/healthcheck", lambda _: None),
            ("POST", f"{API}/statistics", count),
            ("GET", ALIVE, lambda _: PlainTextResponse("alive!")),
        ],
        locked=False,
    )


# ----------------------------------------------------------------------------- repositories


def _repository_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Repositories and their metadata; `root` is one repository's path."""

    def create(call: Call) -> Json:
        """Create a repository. The answer for a bare one does not say whether it is read-only."""
        fields, bare = call.fields(api.RepositoryBody), call.query.bare
        if fields.pop("sample_data"):
            raise values.NotModelled(f"{call.method} {call.path} with sample_data")
        if fields.pop("storage_id"):
            raise values.Invalid("there is no storage of that id: this server has one without an id")
        described: Json = api.shown(server.create_repository(**fields, bare=bare))
        if bare:
            del described["read_only"]
        return described

    def delete(call: Call) -> None:
        server.delete_repository(call.repo.info.name, force=call.query.force)

    def set_metadata(call: Call) -> None:
        """Add to the metadata. Adding nothing never fails, however unknown the repository."""
        if added := call.body(api.MetadataSet).metadata:
            call.repo.metadata.update(added)

    def delete_metadata(call: Call) -> None:
        """Remove keys; missing ones are fine."""
        for key in call.body(api.MetadataKeys).keys:
            call.repo.metadata.pop(key, None)

    every = root.rpartition("/")[0]
    quick: Table = [
        ("POST", every, create, 201),
        ("GET", root, lambda call: call.repo.info),
        ("DELETE", root, delete),
        ("GET", f"{root}/metadata", lambda call: dict(sorted(call.repo.metadata.items()))),
        ("POST", f"{root}/metadata", set_metadata),
        ("DELETE", f"{root}/metadata", delete_metadata),
    ]
    listing = routes(server, [("GET", every, lambda call: server.list_repositories(**call.query.page("search")))])
    return [*listing, *routes(server, quick, quick=True)]


def _protection_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Patterns of the branches that only merges and reverts write to, by the present calls and by those before them."""

    def get(call: Call) -> Response:
        patterns = call.repo.protected
        etag = hashlib.sha256("\n".join(patterns).encode()).hexdigest() if patterns else ""
        return JsonAnswer([{"pattern": pattern} for pattern in patterns], headers={"etag": etag})

    def replace(call: Call) -> None:
        call.repo.protect([rule.pattern for rule in call.body(api.ProtectionRules).root])

    def add(call: Call) -> None:
        call.repo.protect([*call.repo.protected, call.body(api.ProtectionRule).pattern])

    def remove(call: Call) -> Response | None:
        """Remove a pattern. The refusal of an unknown one has no body."""
        pattern, patterns = call.body(api.ProtectionRule).pattern, call.repo.protected
        if pattern not in patterns:
            return Response(status_code=404)
        call.repo.protect([other for other in patterns if other != pattern])
        return None

    def may_set(_call: Call) -> None:
        """The only user may, even where there is no repository."""

    rules, settings = f"{root}/branch_protection", f"{root}/settings/branch_protection"
    table = [
        ("GET", rules, get),
        ("POST", rules, add),
        ("DELETE", rules, remove),
        ("GET", f"{rules}/set_allowed", may_set),
        ("GET", settings, get),
        ("PUT", settings, replace),
    ]
    return routes(server, table, quick=True)


def _action_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Return the routes of the runs of hooks."""

    def run_of(call: Call) -> values.ActionRun | None:
        return call.repo.runs.get(call.parts["run"])

    def list_runs(call: Call) -> values.Page[values.ActionRun]:
        return commits.list_runs(call.repo, **call.query.some("branch", "commit", "after", "amount"))

    def get_run(call: Call) -> values.ActionRun:
        run = run_of(call)
        if run is None:
            raise values.Missing("not found")
        return run

    def hooks(call: Call) -> values.Page[Json]:
        """Return one page of a run's hooks; an unknown run has none."""
        run = run_of(call)
        later_hooks = [_hook(hook, run.at) for hook in run.hooks if hook.id > call.query.after] if run else []
        return values.page_of(later_hooks, itemgetter("hook_run_id"), call.query.amount)

    def output(call: Call) -> Response:
        """Return the output of one hook, as a file."""
        run = run_of(call)
        hook = next((hook_run for hook_run in run.hooks if hook_run.id == call.parts["hook"]), None) if run else None
        if hook is None:
            raise values.Missing("not found")
        headers = {"content-disposition": f"attachment; filename={hook.id}.log"}
        return Response(hook.output, headers=headers, media_type="application/octet-stream")

    run = f"{root}/actions/runs/{{run}}"
    table = [
        ("GET", f"{root}/actions/runs", list_runs),
        ("GET", run, get_run),
        ("GET", f"{run}/hooks", hooks),
        ("GET", f"{run}/hooks/{{hook}}/output", output),
    ]
    return routes(server, table)


def _hook(hook: values.HookRun, at: int) -> Json:
    return {
        "action": hook.action,
        "end_time": api.time_of(at),
        "hook_id": hook.hook,
        "hook_run_id": hook.id,
        "start_time": api.time_of(at),
        "status": "skipped" if hook.skipped else "completed" if hook.passed else "failed",
    }


# ------------------------------------------------------------------------- branches and tags


def _reference_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Branches, their staged changes as a unit, and tags. `root` is the path of one repository."""

    def list_branches(call: Call) -> values.Page[values.Reference]:
        return references.list_branches(call.repo, **call.query.page("show_hidden"))

    def create_branch(call: Call) -> Response:
        """Create a branch and answer with the bare commit id, not JSON."""
        return PlainTextResponse(references.create_branch(call.repo, **call.fields(api.BranchBody)).commit_id, 201)

    def reset(call: Call) -> None:
        """Drop staged changes: all, those of one object, or those below a prefix."""
        request = call.body(api.Reset)
        if request.type == "object":
            references.reset_object(call.repo, call.branch, request.path, force=request.force)
        else:
            prefix = request.path if request.type == "common_prefix" else ""
            references.reset_branch(call.repo, call.branch, prefix=prefix, force=request.force)

    def hard_reset(call: Call) -> None:
        references.hard_reset_branch(call.repo, call.branch, call.query.required("ref"), force=call.query.force)

    def create_tag(call: Call) -> values.Reference:
        fields = call.fields(api.TagBody)
        return references.create_tag(call.repo, **fields)

    branch, tag = f"{root}/branches/{{branch}}", f"{root}/tags/{{tag}}"
    slow = [
        ("GET", f"{root}/branches", list_branches),
        ("PUT", branch, reset),
        ("GET", f"{root}/tags", lambda call: references.list_tags(call.repo, **call.query.page())),
    ]
    quick: Table = [
        ("POST", f"{root}/branches", create_branch),
        ("GET", branch, lambda call: references.get_branch(call.repo, call.branch)),
        ("DELETE", branch, lambda call: references.delete_branch(call.repo, call.branch, force=call.query.force)),
        ("PUT", f"{branch}/hard_reset", hard_reset),
        ("POST", f"{root}/tags", create_tag, 201),
        ("GET", tag, lambda call: references.get_tag(call.repo, call.parts["tag"])),
        ("DELETE", tag, lambda call: references.delete_tag(call.repo, call.parts["tag"], force=call.query.force)),
    ]
    return [*routes(server, slow), *routes(server, quick, quick=True)]


# ---------------------------------------------------------------------------------- commits


def _commit_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Commits and everything that makes or compares them; `root` is one repository's path."""

    def get(call: Call) -> CommitRecord:
        """Return one commit. An invalid ref answers 500 here, 400 elsewhere (`docs/dev/servers/lakefs.md`, "REST
        facts")."""
        try:
            return commits.get_commit(call.repo, call.ref)
        except values.Invalid as error:
            raise values.LakeFSError(error.message) from None

    def log(call: Call) -> values.Page[CommitRecord]:
        filters = call.query.some("first_parent", "after", "stop_at", "since", "objects", "prefixes")
        records = commits.log(call.repo, call.ref, commits.LogQuery(**filters))
        page = values.page_of(records, lambda record: record.commit.id, call.query.amount)
        return values.Page(page.results, "") if call.query.limit else page

    def staged(call: Call) -> values.Page[values.Difference]:
        """Return one page of uncommitted changes."""
        return commits.diff_branch(call.repo, call.branch, **call.query.page("delimiter"))

    def diff(call: Call) -> values.Page[Json]:
        with_stats, two_dot = call.query.include_right_stats, call.query.type == "two_dot"
        left, right = call.parts["left"], call.parts["right"]
        page = commits.diff_refs(call.repo, left, right, two_dot=two_dot, **call.query.page("delimiter"))
        return page.each(partial(api.difference_json, with_stats=with_stats))

    def merge_base(call: Call) -> Json:
        merge_base = commits.find_merge_base(call.repo, call.ref, call.branch)
        ids = {"base": merge_base.base, "destination": merge_base.destination, "source": merge_base.source}
        return {f"{name}_commit_id": commit_id for name, commit_id in ids.items()}

    def commit(call: Call) -> CommitRecord:
        call.refuse("source_metarange")
        fields = call.fields(api.CommitBody)
        return commits.commit(call.repo, call.branch, **fields)

    def merge(call: Call) -> Response | Json:
        """Merge a ref into a branch. A conflict has no message."""
        fields = call.fields(api.MergeBody)
        try:
            record = commits.merge(call.repo, call.ref, call.branch, **fields)
        except values.Conflict:
            return JsonAnswer({"reference": ""}, 409)
        return {"reference": record.commit.id}

    def revert(call: Call) -> None:
        fields = call.fields(api.RevertBody)
        commits.revert(call.repo, call.branch, **fields)

    def cherry_pick(call: Call) -> CommitRecord:
        fields = call.fields(api.CherryPickBody)
        return commits.cherry_pick(call.repo, call.branch, **fields)

    both, branch = f"{root}/refs/{{ref}}/merge/{{branch}}", f"{root}/branches/{{branch}}"
    slow: Table = [
        ("GET", f"{branch}/diff", staged),
        ("GET", f"{root}/refs/{{ref}}/commits", log),
        ("GET", f"{root}/refs/{{left}}/diff/{{right}}", diff),
        ("GET", both, merge_base),
        ("POST", both, merge),
        ("POST", f"{branch}/commits", commit, 201),
        ("POST", f"{branch}/revert", revert),
        ("POST", f"{branch}/cherry-pick", cherry_pick, 201),
    ]
    return [*routes(server, slow), *routes(server, [("GET", f"{root}/commits/{{ref}}", get)], quick=True)]


def _object_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Return the routes of objects; `root` is one repository's path. No address is signed, as on a local disk."""

    def entry_of(call: Call) -> Entry:
        range_header = call.headers.get("range")
        if range_header is not None and not _RANGE.fullmatch(range_header):
            raise values.Invalid(f"the Range header {range_header!r} names no bytes")
        return stat_of(call)

    def stat_of(call: Call) -> Entry:
        return objects.stat_object(call.repo, call.ref, call.query.required("path"))

    def get(call: Call) -> Response:
        """Return the bytes of an object, or of one range."""
        presign = call.query.presign
        entry = entry_of(call)
        headers = _headers(entry)
        if call.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304)
        if presign:
            raise values.Invalid(NO_PRESIGN)
        if entry.blob.is_elsewhere:
            raise values.LakeFSError("No data", status=410)
        kind = api.content_type(entry)
        headers["content-disposition"] = "inline" if _INLINE.fullmatch(kind) else "attachment"
        size, range_header = entry.blob.size, call.headers.get("range")
        if range_header is None:
            return _bytes(entry, 0, size, 200, headers | {"content-type": kind})
        span = _span(range_header, size)
        if isinstance(span, dict):
            return JsonAnswer({"message": "Requested Range Not Satisfiable"}, 416, headers | span)
        if not size:
            return JsonAnswer({"message": "an empty object has no ranges"}, 500, headers)
        start, length = span
        headers |= {"content-type": kind, "content-range": f"bytes {start}-{start + length - 1}/{size}"}
        return _bytes(entry, start, length, 206, headers)

    def head(call: Call) -> Response:
        """Return the headers of the same GET, or nearly: lakeFS leaves one out and adds another."""
        entry = entry_of(call)
        headers = {**_headers(entry), "content-type": api.content_type(entry), "accept-ranges": "bytes"}
        size, range_header = entry.blob.size, call.headers.get("range")
        if range_header is None:
            return Response(headers={**headers, "content-length": str(size)})
        span = _span(range_header, size)
        if isinstance(span, dict):
            return Response(status_code=416, headers=headers)
        start, length = span
        headers |= {"content-range": f"bytes {start}-{start + length - 1}/{size}", "content-length": str(length)}
        return Response(status_code=206, headers=headers)

    def delete(call: Call) -> None:
        call.refuse("no_tombstone")
        objects.delete_object(call.repo, call.branch, call.query.required("path"), force=call.query.force)

    def delete_batch(call: Call) -> Json:
        call.refuse("no_tombstone")
        repo, paths = server.repositories.get(call.parts["repository"]), call.body(api.Paths).paths
        failed = objects.delete_objects(repo, call.branch, paths, force=call.query.force)
        errors = [{"message": error.message, "path": error.path, "status_code": error.status} for error in failed]
        return {"errors": errors}

    def copy(call: Call) -> Entry:
        path, fields = call.query.required("dest_path"), call.fields(api.Copy)
        if fields.pop("shallow"):
            raise values.LakeFSError(NOT_IMPLEMENTED, 501)
        return objects.copy_object(call.repo, call.branch, path, **fields)

    def may_upload(call: Call) -> None:
        """The only user may."""
        call.query.required("path")

    def set_user_metadata(call: Call) -> None:
        path, request = call.query.required("path"), call.body(api.UserMetadata)
        objects.set_user_metadata(call.repo, call.branch, path, request.set)

    def stat(call: Call) -> Json:
        with_metadata, presign = call.query.user_metadata, call.query.presign
        entry = stat_of(call)
        if presign:
            raise values.Invalid(NO_PRESIGN)
        return api.stats_json(entry, user_metadata=with_metadata)

    def listing(call: Call) -> values.Page[Json]:
        with_metadata, presign = call.query.user_metadata, call.query.presign
        shown = objects.list_objects(call.repo, call.ref, **call.query.page("delimiter"))
        if presign and any(isinstance(item, Entry) for item in shown.results):
            raise values.Invalid(NO_PRESIGN)
        return shown.each(partial(api.listed_json, user_metadata=with_metadata))

    def properties(call: Call) -> Json:
        """Return the storage class of an object, which a local block store does not have."""
        stat_of(call)
        return {"storage_class": None}

    async def upload(request: Request) -> Response:
        # The body is read to its end even if the upload is refused: a client that is still sending would see a broken
        # connection instead of the refusal.
        kind = request.headers.get("content-type") or objects.DEFAULT_CONTENT_TYPE
        blob, problem = Blob(0, ""), None
        if kind.partition(";")[0].strip().lower() == "multipart/form-data":
            try:
                blob, kind = await _form_content(request, server.blobs)
            except values.LakeFSError as error:
                problem = error
        else:
            blob = await _body(request, server.blobs)
        return await run(server, lambda: stage(Call(server, request), blob, kind, problem), quick=True)

    def stage(call: Call, blob: Blob, content_type: str, problem: values.LakeFSError | None) -> Response:
        path, if_none_match = call.query.required("path"), call.headers.get("if-none-match")
        absent = if_none_match == "*"
        if "if-match" in call.headers or if_none_match not in (None, "*"):
            problem = values.LakeFSError(NOT_IMPLEMENTED, 501)
        if problem is not None:
            objects.check_put(call.repo, call.branch, path, if_absent=absent)
            raise problem
        entry = objects.put_object(
            call.repo,
            call.branch,
            path,
            blob,
            content_type=content_type,
            metadata=_metadata(call),
            if_absent=absent,
            force=call.query.force,
        )
        return JsonAnswer({**api.stats_json(entry), "content_type": entry.content_type}, 201)

    def address(call: Call) -> Json:
        """Return an address of the block store to put bytes at, without a presigned link."""
        call.query.required("path")
        if call.query.presign:
            raise values.LakeFSError(NO_PRESIGN)
        return {"physical_address": objects.new_address(call.repo), "presigned_url": None}

    def link(call: Call) -> Entry:
        """Stage an object whose bytes are at an address, where they cannot be read."""
        request, path = call.body(api.Link), call.query.required("path")
        place, blob = request.staging.physical_address, Blob(request.size_bytes, request.checksum)
        return objects.link_object(
            call.repo,
            call.branch,
            path,
            place,
            blob,
            content_type=request.content_type,
            metadata=request.user_metadata,
            mtime=request.mtime,
            if_absent=call.headers.get("if-none-match") == "*",
            force=request.force,
        )

    branch, at_ref = f"{root}/branches/{{branch}}", f"{root}/refs/{{ref}}/objects"
    staged, backing = f"{branch}/objects", f"{branch}/staging/backing"
    quick: Table = [
        ("GET", backing, address),
        ("PUT", backing, link),
        ("HEAD", at_ref, head),
        ("GET", at_ref, get),
        ("DELETE", staged, delete),
        ("POST", f"{staged}/delete", delete_batch),
        ("POST", f"{staged}/copy", copy, 201),
        ("GET", f"{staged}/stage_allowed", may_upload),
        ("PUT", f"{staged}/stat/user_metadata", set_user_metadata),
        ("GET", f"{at_ref}/stat", stat),
        ("GET", f"{at_ref}/underlyingProperties", properties),
    ]
    slow = routes(server, [("GET", f"{at_ref}/ls", listing)])
    return [Route(staged, upload, methods=["POST"]), *routes(server, quick, quick=True), *slow]


async def _body(request: Request, blobs: BlobStore) -> Blob:
    """Return the bytes of a body."""
    with BlobSink(blobs) as sink:
        async for piece in request.stream():
            if sink.on_disk:
                await run_in_threadpool(sink.write, piece)
            else:
                sink.write(piece)
        return sink.finish()


async def _form_content(request: Request, blobs: BlobStore) -> tuple[Blob, str]:
    """Return the bytes and the type of the first field `content` of a form.

    Raises:
        LakeFSError: the form has no file, or the form cannot be read.
        Invalid: the form ends within the field.
    """
    kind, stream = request.headers["content-type"], request.stream()
    # Latin-1 gives each byte of a field without a file name one character.
    parser = MultiPartParser(Headers({"content-type": f"{kind}; charset=latin-1"}), stream, max_part_size=sys.maxsize)
    try:
        form = await parser.parse()
        content = next((value for name, value in form.multi_items() if name == "content"), None)
        if isinstance(content, UploadFile):
            return await run_in_threadpool(blobs.of_stream, content.file), content.content_type or ""
    except (MultiPartException, FormParserError) as error:
        async for _ in stream:
            pass
        if "boundary=" not in kind.lower():
            raise values.LakeFSError("the Content-Type of the form names no boundary") from None
        raise values.LakeFSError(f"the form cannot be read: {error}") from None
    finally:
        for file in parser._files_to_close_on_error:  # also of a field in which the form ends
            file.close()
    if content is not None:
        return blobs.of_bytes(content.encode("latin-1")), ""
    if parser._current_part.field_name == "content":
        raise values.Invalid("the form ends within the field 'content'")
    raise values.LakeFSError("the form has no field 'content'")


def _metadata(call: Call) -> dict[str, str]:
    """User metadata and that of lakeFS's own clients, from headers, whose bytes the server reads as UTF-8."""
    metadata = {}
    for name, value in call.headers.items():
        text = value.encode("latin-1").decode("utf-8", "replace")
        if name.startswith(_META):
            metadata[name.removeprefix(_META)] = text
        elif name.startswith(_INTERNAL):
            metadata[f"::lakefs::{name.removeprefix(_INTERNAL)}"] = text
    return metadata


def _headers(entry: Entry) -> dict[str, str]:
    return {
        "etag": f'"{entry.blob.checksum}"',
        "last-modified": formatdate(entry.mtime, usegmt=True),
        "cache-control": "no-store, must-revalidate",
        "expires": "0",
    }


def _bytes(entry: Entry, start: int, length: int, status: int, headers: dict[str, str]) -> Response:
    headers = {**headers, "content-length": str(length)}
    if entry.blob.data is not None:
        return Response(entry.blob.data[start : start + length], status, headers)
    return StreamingResponse(entry.blob.chunks(start, length), status, headers)


def _span(header: str, size: int) -> tuple[int, int] | dict[str, str]:
    """Return start and length of the one range that a header asks for, else the headers of the refusal.

    lakeFS names the size only where the range is one, but beyond the object (`docs/dev/servers/lakefs.md`, "REST
    facts").
    """
    bounds = _SINGLE_RANGE.fullmatch(header.replace(" ", ""))
    first, last = bounds.groups() if bounds else ("", "")
    too_large = int(first or 0) >= 1 << 63 or int(last or 0) >= 1 << 63
    if too_large or not (first or last) or (first and last and int(first) > int(last)):
        return {}
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size and (first or int(last) == 0):
        return {"content-range": f"bytes */{size}"}
    return start, end - start + 1
