"""Requests about repositories and their metadata."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, route
from perago.embedded.http.lakefs.wire import JsonAnswer
from perago.embedded.lakefs.errors import NotModelled
from perago.embedded.lakefs.server import LakeFSServer

NO_CONTENT = 204


class RepositoryRequests:
    """Everything about a repository as a whole."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        repositories = root.rpartition("/")[0]
        return [
            route("GET", repositories, self.list),
            route("POST", repositories, self.create, bodies.REPOSITORY, quick=self._server),
            route("GET", root, self.get, quick=self._server),
            route("DELETE", root, self.delete, quick=self._server),
            route("GET", f"{root}/metadata", self.get_metadata, quick=self._server),
            route("POST", f"{root}/metadata", self.set_metadata, bodies.METADATA_SET, quick=self._server),
            route("DELETE", f"{root}/metadata", self.delete_metadata, bodies.METADATA_KEYS, quick=self._server),
        ]

    def list(self, call: Call) -> Response:
        """One page of repositories."""
        found = self._server.list_repositories(search=call.query.text("search"), **call.paging())
        return JsonAnswer(answers.page(found, answers.repository))

    def create(self, call: Call) -> Response:
        """Create a repository. The answer for a bare one does not say whether it is read-only."""
        if call.body.get("sample_data"):
            raise NotModelled("creating a repository with 'sample_data'")
        bare = call.query.flag("bare")
        info = self._server.create_repository(
            call.body["name"],
            call.body["storage_namespace"],
            default_branch=call.body.get("default_branch", ""),
            read_only=call.body.get("read_only", False),
            bare=bare,
        )
        described = answers.repository(info)
        if bare:
            del described["read_only"]
        return JsonAnswer(described, 201)

    def get(self, call: Call) -> Response:
        """Describe a repository."""
        return JsonAnswer(answers.repository(self._server.get_repository(call.repository)))

    def delete(self, call: Call) -> Response:
        """Delete a repository."""
        self._server.delete_repository(call.repository, force=call.query.flag("force"))
        return Response(status_code=NO_CONTENT)

    def get_metadata(self, call: Call) -> Response:
        """The repository's metadata."""
        return JsonAnswer(dict(sorted(self._server.get_metadata(call.repository).items())))

    def set_metadata(self, call: Call) -> Response:
        """Add to the repository's metadata."""
        self._server.set_metadata(call.repository, call.body["metadata"])
        return Response(status_code=NO_CONTENT)

    def delete_metadata(self, call: Call) -> Response:
        """Remove keys from the repository's metadata."""
        self._server.delete_metadata(call.repository, call.body["keys"])
        return Response(status_code=NO_CONTENT)
