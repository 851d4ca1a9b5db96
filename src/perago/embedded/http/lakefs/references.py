"""Requests about branches and tags."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, JsonAnswer, routes
from perago.embedded.lakefs.server import LakeFSServer


def reference_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Branches, what is staged on them as a whole, and tags; `root` is one repository's path."""

    def list_branches(call: Call) -> Response:
        found = server.list_branches(call.repository, **call.query.page("show_hidden"))
        return JsonAnswer(answers.page(found, answers.reference))

    def create_branch(call: Call) -> Response:
        """The answer is the bare commit id, not JSON."""
        return PlainTextResponse(server.create_branch(call.repository, **call.fields(bodies.Branch)).commit_id, 201)

    def reset(call: Call) -> None:
        """Drop staged changes: all, those of one object, or those below a prefix."""
        wanted = call.body(bodies.Reset)
        if wanted.type == "object":
            server.reset_object(call.repository, call.branch, wanted.path, force=wanted.force)
        else:
            prefix = wanted.path if wanted.type == "common_prefix" else ""
            server.reset_branch(call.repository, call.branch, prefix=prefix, force=wanted.force)

    def hard_reset(call: Call) -> None:
        ref, force = call.query.required("ref"), call.query.force
        server.hard_reset_branch(call.repository, call.branch, ref, force=force)

    def diff(call: Call) -> Response:
        """One page of uncommitted changes."""
        found = server.diff_branch(call.repository, call.branch, **call.query.page("delimiter"))
        return JsonAnswer(answers.page(found, answers.difference))

    def list_tags(call: Call) -> Response:
        return JsonAnswer(answers.page(server.list_tags(call.repository, **call.query.page()), answers.reference))

    def create_tag(call: Call) -> Response:
        wanted = call.body(bodies.Tag)
        made = server.create_tag(call.repository, wanted.id, wanted.ref, force=wanted.force)
        return JsonAnswer(answers.reference(made), 201)

    def one(call: Call) -> Response:
        """Describe a branch or a tag."""
        is_tag = "tag" in call.names
        found = server.get_tag(*call.names.values()) if is_tag else server.get_branch(*call.names.values())
        return JsonAnswer(answers.reference(found))

    def delete(call: Call) -> None:
        act = server.delete_tag if "tag" in call.names else server.delete_branch
        act(*call.names.values(), force=call.query.force)

    branch, tag = f"{root}/branches/{{branch}}", f"{root}/tags/{{tag}}"
    slow = [
        ("GET", f"{root}/branches", list_branches),
        ("PUT", branch, reset),
        ("GET", f"{branch}/diff", diff),
        ("GET", f"{root}/tags", list_tags),
    ]
    quick = [
        ("POST", f"{root}/branches", create_branch),
        ("GET", branch, one),
        ("DELETE", branch, delete),
        ("PUT", f"{branch}/hard_reset", hard_reset),
        ("POST", f"{root}/tags", create_tag),
        ("GET", tag, one),
        ("DELETE", tag, delete),
    ]
    return [*routes(slow), *routes(quick, server)]
