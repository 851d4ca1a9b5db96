"""Requests that compare, list, make and undo commits."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import NO_CONTENT, Call, JsonAnswer, route
from perago.embedded.lakefs.comparing import LogQuery
from perago.embedded.lakefs.errors import Conflict, Invalid, LakeFSError
from perago.embedded.lakefs.merging import Strategy
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import Page, page_of


class CommitRequests:
    """Commits and everything that makes or compares them."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        merge = f"{root}/refs/{{ref}}/merge/{{branch}}"
        return [
            route("GET", f"{root}/commits/{{ref}}", self.get, quick=self._server),
            route("GET", f"{root}/refs/{{ref}}/commits", self.log),
            route("GET", f"{root}/refs/{{left}}/diff/{{right}}", self.diff),
            route("GET", merge, self.merge_base),
            route("POST", merge, self.merge),
            route("POST", f"{root}/branches/{{branch}}/commits", self.commit),
            route("POST", f"{root}/branches/{{branch}}/revert", self.revert),
            route("POST", f"{root}/branches/{{branch}}/cherry-pick", self.cherry_pick),
        ]

    def get(self, call: Call) -> Response:
        """One commit. A ref that is no ref answers 500 here, 400 elsewhere (`docs/servers/lakefs.md` 2)."""
        try:
            record = self._server.get_commit(call.repository, call.names["ref"])
        except Invalid as error:
            raise LakeFSError(error.message) from None
        return JsonAnswer(answers.commit(record))

    def log(self, call: Call) -> Response:
        """One page of history."""
        query = LogQuery(
            first_parent=call.query.flag("first_parent"),
            after=call.query.text("after"),
            stop_at=call.query.text("stop_at"),
            since=call.query.moment("since"),
            objects=call.query.texts("objects"),
            prefixes=call.query.texts("prefixes"),
        )
        limit = call.query.flag("limit")
        records = self._server.log(call.repository, call.names["ref"], query)
        found = page_of(records, lambda record: record.commit.id, call.query.amount())
        return JsonAnswer(answers.page(Page(found.results, "") if limit else found, answers.commit))

    def diff(self, call: Call) -> Response:
        """One page of a comparison."""
        with_stats = call.query.flag("include_right_stats")
        found = self._server.diff_refs(
            call.repository,
            call.names["left"],
            call.names["right"],
            two_dot=call.query.choice("type", "three_dot", "two_dot") == "two_dot",
            delimiter=call.query.text("delimiter"),
            **call.paging(),
        )
        return JsonAnswer(answers.page(found, lambda item: answers.difference(item, with_stats=with_stats)))

    def merge_base(self, call: Call) -> Response:
        """What a merge would compare."""
        found = self._server.find_merge_base(call.repository, call.names["ref"], call.branch)
        return JsonAnswer(
            {
                "base_commit_id": found.base,
                "destination_commit_id": found.destination,
                "source_commit_id": found.source,
            }
        )

    def commit(self, call: Call) -> Response:
        """Commit what is staged."""
        call.refuse("source_metarange")
        wanted = call.body(bodies.Commit)
        record = self._server.commit(
            call.repository,
            call.branch,
            wanted.message,
            wanted.metadata,
            allow_empty=wanted.allow_empty,
            date=wanted.date,
            force=wanted.force,
        )
        return JsonAnswer(answers.commit(record), 201)

    def merge(self, call: Call) -> Response:
        """Merge a ref into a branch. A conflict has no message."""
        wanted = call.body(bodies.Merge)
        try:
            record = self._server.merge(
                call.repository,
                call.names["ref"],
                call.branch,
                wanted.message,
                wanted.metadata,
                strategy=Strategy(wanted.strategy),
                allow_empty=wanted.allow_empty,
                squash=wanted.squash_merge,
                force=wanted.force,
            )
        except Conflict:
            return JsonAnswer({"reference": ""}, 409)
        return JsonAnswer({"reference": record.commit.id})

    def revert(self, call: Call) -> Response:
        """Undo a commit."""
        wanted = call.body(bodies.Revert)
        self._server.revert(
            call.repository,
            call.branch,
            wanted.ref,
            parent_number=wanted.parent_number,
            message=wanted.commit_overrides.message,
            metadata=wanted.commit_overrides.metadata,
            allow_empty=wanted.allow_empty,
            force=wanted.force,
        )
        return Response(status_code=NO_CONTENT)

    def cherry_pick(self, call: Call) -> Response:
        """Repeat a commit."""
        wanted = call.body(bodies.CherryPick)
        record = self._server.cherry_pick(
            call.repository,
            call.branch,
            wanted.ref,
            parent_number=wanted.parent_number,
            message=wanted.commit_overrides.message,
            metadata=wanted.commit_overrides.metadata,
            force=wanted.force,
        )
        return JsonAnswer(answers.commit(record), 201)
