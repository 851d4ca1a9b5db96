"""The rest of lakeFS's API: calls that exist there and not here, so that each can be named instead of denied."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.lakefs.errors import NotModelled

_SERVER = """
POST /setup_comm_prefs
GET POST /setup_lakefs
POST /auth/login
POST /auth/external/principal/login
POST /sts/login
GET /auth/capabilities
GET POST /auth/users
GET DELETE /auth/users/{user}
GET POST /auth/users/{user}/credentials
GET DELETE /auth/users/{user}/credentials/{key}
GET /auth/users/{user}/groups
GET /auth/users/{user}/policies
PUT DELETE /auth/users/{user}/policies/{policy}
POST DELETE /auth/users/{user}/external/principals
GET /auth/users/{user}/external/principals/ls
GET /auth/external/principals
GET POST /auth/groups
GET DELETE /auth/groups/{group}
GET /auth/groups/{group}/members
PUT DELETE /auth/groups/{group}/members/{user}
GET /auth/groups/{group}/policies
PUT DELETE /auth/groups/{group}/policies/{policy}
GET POST /auth/groups/{group}/acl
GET POST /auth/policies
GET PUT DELETE /auth/policies/{policy}
GET /config/garbage-collection
GET /usage-report/summary
GET /oidc/callback
"""

_REPOSITORY = """
GET PUT DELETE /settings/gc_rules
GET PUT /settings/branch_protection
GET POST DELETE /branch_protection
GET /branch_protection/set_allowed
GET POST DELETE /gc/rules
GET /gc/rules/set_allowed
POST /gc/prepare_commits
POST /gc/prepare_commits/async
GET /gc/prepare_commits/status
POST /gc/prepare_uncommited
PUT /refs/dump
PUT /refs/restore
GET POST /dump
GET POST /restore
POST /commits
POST /refs/{branch}/symlink
GET POST DELETE /branches/{branch}/import
PUT /branches/{branch}/objects
PUT /branches/{branch}/staging/backing
POST /branches/{branch}/staging/pmpu
PUT DELETE /branches/{branch}/staging/pmpu/{upload}
PUT /branches/{branch}/staging/pmpu/{upload}/parts/{part}
PUT /branches/{branch}/staging/pmpu/{upload}/parts/{part}/copy
GET /metadata/object/{type}/{object}
GET /metadata/meta_range/{meta_range}
GET /metadata/range/{range}
GET POST /pulls
GET PATCH /pulls/{pull_request}
PUT /pulls/{pull_request}/merge
"""


def unserved_routes(api: str, root: str) -> list[Route]:
    """Routes that refuse the call by name; `root` is one repository's path."""
    return [*_routes(_SERVER, api), *_routes(_REPOSITORY, root)]


def _routes(calls: str, base: str) -> list[Route]:
    lines = (line.split() for line in calls.strip().splitlines())
    return [Route(base + path, _refuse, methods=methods) for *methods, path in lines]


async def _refuse(request: Request) -> Response:
    raise NotModelled(f"{request.method} {request.url.path}")
