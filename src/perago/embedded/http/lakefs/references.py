"""Requests about branches and tags."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import NO_CONTENT, Call, JsonAnswer, route
from perago.embedded.lakefs.server import LakeFSServer


class ReferenceRequests:
    """Branches, what is staged on them as a whole, and tags."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        branch, tag = f"{root}/branches/{{branch}}", f"{root}/tags/{{tag}}"
        return [
            route("GET", f"{root}/branches", self.list_branches),
            route("POST", f"{root}/branches", self.create_branch, quick=self._server),
            route("GET", branch, self.get_branch, quick=self._server),
            route("DELETE", branch, self.delete_branch, quick=self._server),
            route("PUT", branch, self.reset),
            route("PUT", f"{branch}/hard_reset", self.hard_reset, quick=self._server),
            route("GET", f"{branch}/diff", self.diff),
            route("GET", f"{root}/tags", self.list_tags),
            route("POST", f"{root}/tags", self.create_tag, quick=self._server),
            route("GET", tag, self.get_tag, quick=self._server),
            route("DELETE", tag, self.delete_tag, quick=self._server),
        ]

    def list_branches(self, call: Call) -> Response:
        """One page of branches."""
        found = self._server.list_branches(call.repository, show_hidden=call.query.flag("show_hidden"), **call.paging())
        return JsonAnswer(answers.page(found, answers.reference))

    def create_branch(self, call: Call) -> Response:
        """Create a branch; the answer is the bare commit id, not JSON."""
        wanted = call.body(bodies.Branch)
        info = self._server.create_branch(
            call.repository, wanted.name, wanted.source, hidden=wanted.hidden, force=wanted.force
        )
        return PlainTextResponse(info.commit_id, 201)

    def get_branch(self, call: Call) -> Response:
        """Describe a branch."""
        return JsonAnswer(answers.reference(self._server.get_branch(call.repository, call.branch)))

    def delete_branch(self, call: Call) -> Response:
        """Delete a branch."""
        self._server.delete_branch(call.repository, call.branch, force=call.query.flag("force"))
        return Response(status_code=NO_CONTENT)

    def reset(self, call: Call) -> Response:
        """Drop staged changes: all, those of one object, or those below a prefix."""
        wanted = call.body(bodies.Reset)
        if wanted.type == "object":
            self._server.reset_object(call.repository, call.branch, wanted.path, force=wanted.force)
        else:
            prefix = wanted.path if wanted.type == "common_prefix" else ""
            self._server.reset_branch(call.repository, call.branch, prefix=prefix, force=wanted.force)
        return Response(status_code=NO_CONTENT)

    def hard_reset(self, call: Call) -> Response:
        """Let a branch point at another commit."""
        ref, force = call.query.required("ref"), call.query.flag("force")
        self._server.hard_reset_branch(call.repository, call.branch, ref, force=force)
        return Response(status_code=NO_CONTENT)

    def diff(self, call: Call) -> Response:
        """One page of uncommitted changes."""
        found = self._server.diff_branch(
            call.repository, call.branch, delimiter=call.query.text("delimiter"), **call.paging()
        )
        return JsonAnswer(answers.page(found, answers.difference))

    def list_tags(self, call: Call) -> Response:
        """One page of tags."""
        return JsonAnswer(answers.page(self._server.list_tags(call.repository, **call.paging()), answers.reference))

    def create_tag(self, call: Call) -> Response:
        """Create a tag."""
        wanted = call.body(bodies.Tag)
        made = self._server.create_tag(call.repository, wanted.id, wanted.ref, force=wanted.force)
        return JsonAnswer(answers.reference(made), 201)

    def get_tag(self, call: Call) -> Response:
        """Describe a tag."""
        return JsonAnswer(answers.reference(self._server.get_tag(call.repository, call.names["tag"])))

    def delete_tag(self, call: Call) -> Response:
        """Delete a tag."""
        self._server.delete_tag(call.repository, call.names["tag"], force=call.query.flag("force"))
        return Response(status_code=NO_CONTENT)
