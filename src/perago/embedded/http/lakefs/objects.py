"""Requests about objects that need no bytes: listings, descriptions, copies, deletions."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, route
from perago.embedded.http.lakefs.wire import JsonAnswer
from perago.embedded.lakefs.errors import Invalid, LakeFSError, NotModelled
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import Entry

NO_CONTENT = 204


class NotImplementedByLakeFSError(LakeFSError):
    """What the real server does not do either; the words are its own."""

    status = 501

    def __init__(self) -> None:
        super().__init__("Not Implemented")


class PresignError(Invalid):
    """A presigned transfer, which a local block store cannot do."""

    def __init__(self) -> None:
        super().__init__("local adapter presigned URL: operation not supported")


class ObjectRequests:
    """Everything below `.../objects` but the bytes."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        staged, found = f"{root}/branches/{{branch}}/objects", f"{root}/refs/{{ref}}/objects"
        return [
            route("DELETE", staged, self.delete, quick=self._server),
            route("POST", f"{staged}/delete", self.delete_batch, bodies.PATHS, quick=self._server),
            route("POST", f"{staged}/copy", self.copy, bodies.COPY, quick=self._server),
            route("GET", f"{staged}/stage_allowed", self.allow, quick=self._server),
            route(
                "PUT", f"{staged}/stat/user_metadata", self.set_user_metadata, bodies.USER_METADATA, quick=self._server
            ),
            route("GET", f"{root}/branches/{{branch}}/staging/backing", self.address),
            route("GET", f"{found}/stat", self.stat, quick=self._server),
            route("GET", f"{found}/ls", self.list),
            route("GET", f"{found}/underlyingProperties", self.properties, quick=self._server),
        ]

    def delete(self, call: Call) -> Response:
        """Stage one deletion."""
        call.query.refuse(f"{call.method} {call.path}", "no_tombstone")
        path, force = call.query.required("path"), call.query.flag("force")
        self._server.delete_object(call.repository, call.names["branch"], path, force=force)
        return Response(status_code=NO_CONTENT)

    def delete_batch(self, call: Call) -> Response:
        """Stage up to 1,000 deletions."""
        call.query.refuse(f"{call.method} {call.path}", "no_tombstone")
        failed = self._server.delete_objects(
            call.repository, call.names["branch"], call.body["paths"], force=call.query.flag("force")
        )
        errors = [{"message": each.message, "path": each.path, "status_code": each.status} for each in failed]
        return JsonAnswer({"errors": errors})

    def copy(self, call: Call) -> Response:
        """Stage a copy."""
        path = call.query.required("dest_path")
        if call.body.get("shallow"):
            raise NotImplementedByLakeFSError
        entry = self._server.copy_object(
            call.repository,
            call.names["branch"],
            path,
            source=call.body["src_path"],
            source_ref=call.body.get("src_ref", ""),
            force=call.body.get("force", False),
        )
        return JsonAnswer(answers.stats(entry), 201)

    def allow(self, call: Call) -> Response:
        """Whether one may upload: the only user may."""
        call.query.required("path")
        return Response(status_code=NO_CONTENT)

    def address(self, call: Call) -> Response:
        """An address to upload to behind lakeFS's back, presigned or not: the one a local store cannot, nor the model
        the other."""
        call.query.required("path")
        if call.query.flag("presign"):
            raise LakeFSError(PresignError().message)
        raise NotModelled(f"{call.method} {call.path}")

    def set_user_metadata(self, call: Call) -> Response:
        """Stage other user metadata for an object."""
        path = call.query.required("path")
        self._server.set_user_metadata(call.repository, call.names["branch"], path, call.body["set"])
        return Response(status_code=NO_CONTENT)

    def stat(self, call: Call) -> Response:
        """Describe one object."""
        with_metadata, presign = call.query.flag("user_metadata", default=True), call.query.flag("presign")
        entry = self._server.stat_object(call.repository, call.names["ref"], call.query.required("path"))
        if presign:
            raise PresignError
        return JsonAnswer(answers.stats(entry, user_metadata=with_metadata))

    def list(self, call: Call) -> Response:
        """One page of a listing."""
        with_metadata, presign = call.query.flag("user_metadata", default=True), call.query.flag("presign")
        found = self._server.list_objects(
            call.repository, call.names["ref"], delimiter=call.query.text("delimiter"), **call.paging()
        )
        if presign and any(isinstance(item, Entry) for item in found.results):
            raise PresignError
        return JsonAnswer(answers.page(found, lambda item: answers.listed(item, user_metadata=with_metadata)))

    def properties(self, call: Call) -> Response:
        """How the block store keeps an object: a local one has no classes."""
        self._server.stat_object(call.repository, call.names["ref"], call.query.required("path"))
        return JsonAnswer({"storage_class": None})
