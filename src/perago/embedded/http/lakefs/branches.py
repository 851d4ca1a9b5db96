"""Requests about branches and tags."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, route
from perago.embedded.http.lakefs.wire import JsonAnswer
from perago.embedded.lakefs.server import LakeFSServer

NO_CONTENT = 204


class BranchRequests:
    """Branches and what is staged on them as a whole."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        branch = f"{root}/branches/{{branch}}"
        return [
            route("GET", f"{root}/branches", self.list),
            route("POST", f"{root}/branches", self.create, bodies.BRANCH, quick=self._server),
            route("GET", branch, self.get, quick=self._server),
            route("DELETE", branch, self.delete, quick=self._server),
            route("PUT", branch, self.reset, bodies.RESET),
            route("PUT", f"{branch}/hard_reset", self.hard_reset, quick=self._server),
            route("GET", f"{branch}/diff", self.diff),
        ]

    def list(self, call: Call) -> Response:
        """One page of branches."""
        found = self._server.list_branches(call.repository, show_hidden=call.query.flag("show_hidden"), **call.paging())
        return JsonAnswer(answers.page(found, answers.branch))

    def create(self, call: Call) -> Response:
        """Create a branch; the answer is the bare commit id, not JSON."""
        info = self._server.create_branch(
            call.repository,
            call.body["name"],
            call.body["source"],
            hidden=call.body.get("hidden", False),
            force=call.body.get("force", False),
        )
        return PlainTextResponse(info.commit_id, 201)

    def get(self, call: Call) -> Response:
        """Describe a branch."""
        return JsonAnswer(answers.branch(self._server.get_branch(call.repository, call.names["branch"])))

    def delete(self, call: Call) -> Response:
        """Delete a branch."""
        self._server.delete_branch(call.repository, call.names["branch"], force=call.query.flag("force"))
        return Response(status_code=NO_CONTENT)

    def reset(self, call: Call) -> Response:
        """Drop staged changes: all, those of one object, or those below a prefix."""
        branch, path = call.names["branch"], call.body.get("path", "")
        force = call.body.get("force", False)
        if call.body["type"] == "object":
            self._server.reset_object(call.repository, branch, path, force=force)
        else:
            prefix = path if call.body["type"] == "common_prefix" else ""
            self._server.reset_branch(call.repository, branch, prefix=prefix, force=force)
        return Response(status_code=NO_CONTENT)

    def hard_reset(self, call: Call) -> Response:
        """Let a branch point at another commit."""
        ref, force = call.query.required("ref"), call.query.flag("force")
        self._server.hard_reset_branch(call.repository, call.names["branch"], ref, force=force)
        return Response(status_code=NO_CONTENT)

    def diff(self, call: Call) -> Response:
        """One page of uncommitted changes."""
        found = self._server.diff_branch(
            call.repository, call.names["branch"], delimiter=call.query.text("delimiter"), **call.paging()
        )
        return JsonAnswer(answers.page(found, answers.difference))


class TagRequests:
    """Tags."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        return [
            route("GET", f"{root}/tags", self.list),
            route("POST", f"{root}/tags", self.create, bodies.TAG, quick=self._server),
            route("GET", f"{root}/tags/{{tag}}", self.get, quick=self._server),
            route("DELETE", f"{root}/tags/{{tag}}", self.delete, quick=self._server),
        ]

    def list(self, call: Call) -> Response:
        """One page of tags."""
        return JsonAnswer(answers.page(self._server.list_tags(call.repository, **call.paging()), answers.tag))

    def create(self, call: Call) -> Response:
        """Create a tag."""
        force = call.body.get("force", False)
        made = self._server.create_tag(call.repository, call.body["id"], call.body["ref"], force=force)
        return JsonAnswer(answers.tag(made), 201)

    def get(self, call: Call) -> Response:
        """Describe a tag."""
        return JsonAnswer(answers.tag(self._server.get_tag(call.repository, call.names["tag"])))

    def delete(self, call: Call) -> Response:
        """Delete a tag."""
        self._server.delete_tag(call.repository, call.names["tag"], force=call.query.flag("force"))
        return Response(status_code=NO_CONTENT)
