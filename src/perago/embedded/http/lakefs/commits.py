"""Requests that compare, list, make and undo commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, route
from perago.embedded.http.lakefs.wire import JsonAnswer
from perago.embedded.lakefs.errors import Conflict, Invalid
from perago.embedded.lakefs.history import LogQuery
from perago.embedded.lakefs.listing import page_of
from perago.embedded.lakefs.merging import Strategy
from perago.embedded.lakefs.publishing import MergeOptions
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.undo import Overrides
from perago.embedded.lakefs.values import Page


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
            route("POST", merge, self.merge, bodies.MERGE),
            route("POST", f"{root}/branches/{{branch}}/commits", self.commit, bodies.COMMIT),
            route("POST", f"{root}/branches/{{branch}}/revert", self.revert, bodies.REVERT),
            route("POST", f"{root}/branches/{{branch}}/cherry-pick", self.cherry_pick, bodies.CHERRY_PICK),
        ]

    def get(self, call: Call) -> Response:
        """One commit. A ref that is no ref answers 500 here, 400 elsewhere (`reference/lakefs.md` 2)."""
        try:
            record = self._server.get_commit(call.repository, call.names["ref"])
        except Invalid as error:
            return JsonAnswer({"message": error.message}, 500)
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
        found = self._server.find_merge_base(call.repository, call.names["ref"], call.names["branch"])
        return JsonAnswer(
            {
                "base_commit_id": found.base,
                "destination_commit_id": found.destination,
                "source_commit_id": found.source,
            }
        )

    def commit(self, call: Call) -> Response:
        """Commit what is staged."""
        call.query.refuse(f"{call.method} {call.path}", "source_metarange")
        record = self._server.commit(
            call.repository,
            call.names["branch"],
            call.body["message"],
            call.body.get("metadata"),
            allow_empty=call.body.get("allow_empty", False),
            date=call.body.get("date"),
            force=call.body.get("force", False),
        )
        return JsonAnswer(answers.commit(record), 201)

    def merge(self, call: Call) -> Response:
        """Merge a ref into a branch. A conflict has no message."""
        try:
            record = self._server.merge(
                call.repository,
                call.names["ref"],
                call.names["branch"],
                call.body.get("message", ""),
                call.body.get("metadata"),
                _merge_options(call.body),
            )
        except Conflict:
            return JsonAnswer({"reference": ""}, 409)
        return JsonAnswer({"reference": record.commit.id})

    def revert(self, call: Call) -> Response:
        """Undo a commit."""
        self._server.revert(
            call.repository,
            call.names["branch"],
            call.body["ref"],
            parent_number=call.body["parent_number"],
            overrides=_overrides(call.body),
            allow_empty=call.body.get("allow_empty", False),
            force=call.body.get("force", False),
        )
        return Response(status_code=204)

    def cherry_pick(self, call: Call) -> Response:
        """Repeat a commit."""
        record = self._server.cherry_pick(
            call.repository,
            call.names["branch"],
            call.body["ref"],
            parent_number=call.body.get("parent_number"),
            overrides=_overrides(call.body),
            force=call.body.get("force", False),
        )
        return JsonAnswer(answers.commit(record), 201)


def _overrides(body: Mapping[str, Any]) -> Overrides:
    given = body.get("commit_overrides", {})
    return Overrides(given.get("message", ""), given.get("metadata"))


def _merge_options(body: Mapping[str, Any]) -> MergeOptions:
    try:
        strategy = Strategy(body.get("strategy", ""))
    except ValueError:
        raise Invalid("argument strategy: invalid value: validation error") from None
    return MergeOptions(
        strategy=strategy,
        allow_empty=body.get("allow_empty", False),
        squash=body.get("squash_merge", False),
        force=body.get("force", False),
    )
