"""The permissions that lakeFS asks for, and a lakeFS that enforces policies as its role-based access control does.

The embedded lakeFS knows one user who may do everything. `Enforced` stands before it. Its table, its matching of names
and its answers are those of lakeFS 1.84 (`docs/dev/servers/lakefs.md`, "Auth").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perago.embedded.services import EmbeddedServices

_FS = "arn:lakefs:fs:::"
_EVERY = "repository/*"
_REPO, _BRANCH, _OBJECT = "repository/{repo}", "repository/{repo}/branch/{branch}", "repository/{repo}/object/{path}"

CALLS: Sequence[tuple[str, str, str, str]] = (
    ("GET", "", "fs:ListRepositories", _EVERY),
    ("GET", "/{repo}", "fs:ReadRepository", _REPO),
    ("GET", "/{repo}/branches", "fs:ListBranches", _REPO),
    ("POST", "/{repo}/branches", "fs:CreateBranch", _BRANCH),
    ("GET", "/{repo}/branches/{branch}", "fs:ReadBranch", _BRANCH),
    ("DELETE", "/{repo}/branches/{branch}", "fs:DeleteBranch", _BRANCH),
    ("GET", "/{repo}/branches/{branch}/diff", "fs:ListObjects", _REPO),
    ("POST", "/{repo}/branches/{branch}/commits", "fs:CreateCommit", _BRANCH),
    ("POST", "/{repo}/branches/{branch}/revert", "fs:RevertBranch", _BRANCH),
    ("POST", "/{repo}/branches/{branch}/objects", "fs:WriteObject", _OBJECT),
    ("POST", "/{repo}/branches/{branch}/objects/delete", "fs:DeleteObject", _OBJECT),
    ("(GET|PUT)", "/{repo}/branches/{branch}/staging/backing", "fs:WriteObject", _OBJECT),
    ("(POST|PUT|DELETE)", "/{repo}/branches/{branch}/staging/pmpu(/.*)?", "fs:WriteObject", _OBJECT),
    ("GET", "/{repo}/refs/{branch}/commits", "fs:ReadBranch", _BRANCH),
    ("GET", "/{repo}/refs/[^/]+/diff/[^/]+", "fs:ListObjects", _REPO),
    ("POST", "/{repo}/refs/[^/]+/merge/{branch}", "fs:CreateCommit", _BRANCH),
    ("GET", "/{repo}/refs/[^/]+/objects/ls", "fs:ListObjects", _REPO),
    ("GET", "/{repo}/refs/[^/]+/objects/stat", "fs:ReadObject", _OBJECT),
    ("GET", "/{repo}/refs/[^/]+/objects", "fs:ReadObject", _OBJECT),
    ("GET", "/{repo}/commits/[^/]+", "fs:ReadCommit", _REPO),
    ("GET", "/{repo}/tags", "fs:ListTags", _REPO),
)
"""Each call below `/repositories` that perago sends, the action that lakeFS asks for, and the resource.

The log of a ref counts as reading a branch of that name. Calls elsewhere need valid credentials only.
"""

_ROWS = [
    (re.compile(method), re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), action, resource)
    for method, path, action, resource in CALLS
]


@dataclass(frozen=True, order=True, slots=True)
class Permission:
    """An action on a resource."""

    action: str
    resource: str


@dataclass(slots=True)
class Policy:
    """The statements of one policy, all of which allow. `needed` collects the permissions that were asked for."""

    statements: Sequence[Mapping[str, Any]]
    needed: set[Permission] = field(default_factory=set)

    def missing(self, permissions: Sequence[Permission]) -> str | None:
        """Note the permissions as needed; return the first action that is not allowed."""
        self.needed.update(permissions)
        return next((permission.action for permission in permissions if not self._allows(permission)), None)

    def without(self, action: str) -> Policy:
        """Return the same policy without an action."""
        return Policy(
            [
                {**statement, "action": [allowed for allowed in statement["action"] if allowed != action]}
                for statement in self.statements
            ]
        )

    @property
    def actions(self) -> list[str]:
        """Every action that is allowed on some resource."""
        return sorted({action for statement in self.statements for action in statement["action"]})

    def _allows(self, permission: Permission) -> bool:
        listing = permission.resource == _FS + _EVERY  # of repositories: allowed on any of them
        return any(
            permission.action in statement["action"]
            and (listing or _matches(statement["resource"], permission.resource))
            for statement in self.statements
        )


EVERYTHING = [{"effect": "allow", "action": sorted({row[2] for row in CALLS}), "resource": _FS + "*"}]


def _matches(pattern: str, resource: str) -> bool:
    """Whether a resource matches, in which `*` also stands for slashes."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), resource, re.DOTALL) is not None


def policy_for(needed: set[Permission]) -> dict[str, Any]:
    """Return the policy document with exactly these actions, on all repositories. Branches of perago's own are named by
    their prefix if an action is needed on no other branch."""
    resources: dict[str, set[str]] = {}
    for permission in needed:
        resources.setdefault(permission.action, set()).add(permission.resource)
    by_resource: dict[str, list[str]] = {}
    for action, named in sorted(resources.items()):
        by_resource.setdefault(_generalized(named), []).append(action)
    return {
        "statement": [
            {"effect": "allow", "action": actions, "resource": resource}
            for resource, actions in sorted(by_resource.items())
        ]
    }


def _generalized(resources: set[str]) -> str:
    kinds = {resource.split("/", 3)[2] if resource.count("/") > 1 else "" for resource in resources}
    (kind,) = kinds
    own = kind == "branch" and all(resource.rpartition("/")[2].startswith("perago-") for resource in resources)
    return f"{_FS}repository/*" + (f"/{kind}/perago-*" if own else f"/{kind}/*" if kind else "")


class Enforced:
    """Answers 401 where `policy` lacks a permission, and passes on everything else."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = "/api/v1/repositories"
        if scope["type"] != "http" or not scope["path"].startswith(root):
            return await self._app(scope, receive, send)
        body = await _body(receive) if scope["method"] == "POST" and _reads_body(scope["path"]) else None
        needed = list(_needed(scope, scope["path"].removeprefix(root), json.loads(body or b"{}")))
        refused = self._policy.missing(needed)
        if refused is not None:
            return await _refusal(scope["path"], refused)(scope, receive, send)
        return await self._app(scope, receive if body is None else _replayed(body), send)


def _needed(scope: Scope, path: str, body: Mapping[str, Any]) -> Iterator[Permission]:
    for method, pattern, action, resource in _ROWS:
        if method.fullmatch(scope["method"]) and (match := pattern.fullmatch(path)):
            named = {**match.groupdict()}
            if "name" in body:
                named["branch"] = body["name"]
            keys = body.get("paths") or parse_qs(scope["query_string"].decode()).get("path", [""])
            yield from (Permission(action, _FS + resource.format(**{**named, "path": key})) for key in keys)
            return
    raise AssertionError(f"CALLS has no row for {scope['method']} {scope['path']}")


def _reads_body(path: str) -> bool:
    return path.endswith(("/branches", "/objects/delete"))


async def _body(receive: Receive) -> bytes:
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


def _replayed(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _refusal(path: str, action: str) -> Response:
    """lakeFS's answer. That of a batch deletion is followed by a second document, as its controller writes both."""
    listing = action == "fs:ListRepositories"  # the only refusal without the action
    message = "insufficient permissions" + ("" if listing else f": not allowed to {action}")
    refusal = JSONResponse({"message": message}, 401)
    if path.endswith("/objects/delete"):
        return Response(bytes(refusal.body) + b'\n{"errors": []}\n', 401, media_type="application/json")
    return refusal


class PolicyServices(EmbeddedServices):
    """Embedded services whose lakeFS enforces `policy`, which can be replaced at any time."""

    def __init__(self, policy: Policy | None = None) -> None:
        super().__init__()
        self.policy = policy or Policy(EVERYTHING)

    def _app(self) -> ASGIApp:
        app = super()._app()

        async def enforced(scope: Scope, receive: Receive, send: Send) -> None:
            await Enforced(app, self.policy)(scope, receive, send)

        return enforced
