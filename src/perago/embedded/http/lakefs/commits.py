"""Requests that compare, list, make and undo commits."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, JsonAnswer, routes
from perago.embedded.lakefs.commits import LogQuery
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import Conflict, Invalid, LakeFSError, Page, page_of


def commit_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Commits and everything that makes or compares them; `root` is one repository's path."""

    def get(call: Call) -> Response:
        """One commit. A ref that is no ref answers 500 here, 400 elsewhere (`docs/servers/lakefs.md` 2)."""
        try:
            return JsonAnswer(answers.commit(server.get_commit(call.repository, call.names["ref"])))
        except Invalid as error:
            raise LakeFSError(error.message) from None

    def log(call: Call) -> Response:
        wanted = LogQuery(**call.query.some("first_parent", "after", "stop_at", "since", "objects", "prefixes"))
        records = server.log(call.repository, call.names["ref"], wanted)
        found = page_of(records, lambda record: record.commit.id, call.query.amount)
        return JsonAnswer(answers.page(Page(found.results, "") if call.query.limit else found, answers.commit))

    def diff(call: Call) -> Response:
        with_stats, two_dot = call.query.include_right_stats, call.query.type == "two_dot"
        found = server.diff_refs(*call.names.values(), two_dot=two_dot, **call.query.page("delimiter"))
        return JsonAnswer(answers.page(found, lambda item: answers.difference(item, with_stats=with_stats)))

    def merge_base(call: Call) -> Response:
        found = server.find_merge_base(*call.names.values())
        ids = {"base": found.base, "destination": found.destination, "source": found.source}
        return JsonAnswer({f"{name}_commit_id": commit_id for name, commit_id in ids.items()})

    def commit(call: Call) -> Response:
        call.refuse("source_metarange")
        record = server.commit(call.repository, call.branch, **call.fields(bodies.Commit))
        return JsonAnswer(answers.commit(record), 201)

    def merge(call: Call) -> Response:
        """Merge a ref into a branch. A conflict has no message."""
        try:
            record = server.merge(call.repository, call.names["ref"], call.branch, **call.fields(bodies.Merge))
        except Conflict:
            return JsonAnswer({"reference": ""}, 409)
        return JsonAnswer({"reference": record.commit.id})

    def revert(call: Call) -> None:
        server.revert(call.repository, call.branch, **call.fields(bodies.Revert))

    def cherry_pick(call: Call) -> Response:
        record = server.cherry_pick(call.repository, call.branch, **call.fields(bodies.CherryPick))
        return JsonAnswer(answers.commit(record), 201)

    both, branch = f"{root}/refs/{{ref}}/merge/{{branch}}", f"{root}/branches/{{branch}}"
    slow = [
        ("GET", f"{root}/refs/{{ref}}/commits", log),
        ("GET", f"{root}/refs/{{left}}/diff/{{right}}", diff),
        ("GET", both, merge_base),
        ("POST", both, merge),
        ("POST", f"{branch}/commits", commit),
        ("POST", f"{branch}/revert", revert),
        ("POST", f"{branch}/cherry-pick", cherry_pick),
    ]
    return [*routes(slow), *routes([("GET", f"{root}/commits/{{ref}}", get)], server)]
