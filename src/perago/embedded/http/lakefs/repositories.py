"""Requests about repositories, their metadata, their protected branches, and what their hooks did."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.answers import Json
from perago.embedded.http.lakefs.calls import Call, JsonAnswer, routes
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import ActionRun, HookRun, Invalid, Missing, page_of


def repository_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Repositories and their metadata; `root` is one repository's path."""

    def list_all(call: Call) -> Response:
        found = server.list_repositories(**call.query.page("search"))
        return JsonAnswer(answers.page(found, answers.repository))

    def create(call: Call) -> Response:
        """The answer for a bare repository does not say whether it is read-only."""
        fields, bare = call.fields(bodies.Repository), call.query.bare
        if fields.pop("storage_id"):
            raise Invalid("there is no storage of that id: this server has one without an id")
        described = answers.repository(server.create_repository(**fields, bare=bare))
        if bare:
            del described["read_only"]
        return JsonAnswer(described, 201)

    def get(call: Call) -> Response:
        return JsonAnswer(answers.repository(server.get_repository(call.repository)))

    def delete(call: Call) -> None:
        server.delete_repository(call.repository, force=call.query.force)

    def get_metadata(call: Call) -> Response:
        return JsonAnswer(dict(sorted(server.get_metadata(call.repository).items())))

    def set_metadata(call: Call) -> None:
        server.set_metadata(call.repository, call.body(bodies.MetadataSet).metadata)

    def delete_metadata(call: Call) -> None:
        server.delete_metadata(call.repository, call.body(bodies.MetadataKeys).keys)

    quick = [
        ("POST", root.rpartition("/")[0], create),
        ("GET", root, get),
        ("DELETE", root, delete),
        ("GET", f"{root}/metadata", get_metadata),
        ("POST", f"{root}/metadata", set_metadata),
        ("DELETE", f"{root}/metadata", delete_metadata),
    ]
    return [*routes([("GET", root.rpartition("/")[0], list_all)]), *routes(quick, server)]


def protection_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Patterns of protected branches, by the present calls and by those before them."""

    def get(call: Call) -> Response:
        patterns = server.protected_branches(call.repository)
        etag = hashlib.sha256("\n".join(patterns).encode()).hexdigest() if patterns else ""
        return JsonAnswer([{"pattern": pattern} for pattern in patterns], headers={"etag": etag})

    def replace(call: Call) -> None:
        patterns = [rule.pattern for rule in call.body(bodies.ProtectionRules).root]
        server.protect_branches(call.repository, patterns)

    def add(call: Call) -> None:
        patterns = [*server.protected_branches(call.repository), call.body(bodies.ProtectionRule).pattern]
        server.protect_branches(call.repository, patterns)

    def remove(call: Call) -> None:
        pattern, patterns = call.body(bodies.ProtectionRule).pattern, server.protected_branches(call.repository)
        if pattern not in patterns:
            raise Missing(f"no branches are protected by the pattern {pattern!r}")
        server.protect_branches(call.repository, [each for each in patterns if each != pattern])

    def may_set(call: Call) -> None:
        """The only user may."""
        server.get_repository(call.repository)

    rules, settings = f"{root}/branch_protection", f"{root}/settings/branch_protection"
    quick = [
        ("GET", rules, get),
        ("POST", rules, add),
        ("DELETE", rules, remove),
        ("GET", f"{rules}/set_allowed", may_set),
        ("GET", settings, get),
        ("PUT", settings, replace),
    ]
    return routes(quick, server)


def action_routes(server: LakeFSServer, root: str) -> list[Route]:
    """What the hooks of merges did."""

    def list_runs(call: Call) -> Response:
        found = server.list_runs(call.repository, **call.query.some("branch", "commit", "after", "amount"))
        return JsonAnswer(answers.page(found, _run))

    def get_run(call: Call) -> Response:
        run = server.get_run(call.repository, call.names["run"])
        if run is None:
            raise Missing("not found")
        return JsonAnswer(_run(run))

    def hooks(call: Call) -> Response:
        """One page of a run's hooks; an unknown run has none."""
        run = server.get_run(call.repository, call.names["run"])
        found = () if run is None else tuple(hook for hook in run.hooks if hook.id > call.query.after)
        at = 0 if run is None else run.at
        shown = page_of(found, lambda hook: hook.id, call.query.amount)
        return JsonAnswer(answers.page(shown, lambda hook: _hook(hook, at)))

    def output(call: Call) -> Response:
        """What one hook said, as a file."""
        run = server.get_run(call.repository, call.names["run"])
        hook = next((each for each in run.hooks if each.id == call.names["hook"]), None) if run else None
        if hook is None:
            raise Missing("not found")
        headers = {"content-disposition": f"attachment; filename={hook.id}.log"}
        return Response(hook.output, headers=headers, media_type="application/octet-stream")

    run = f"{root}/actions/runs/{{run}}"
    return routes(
        [
            ("GET", f"{root}/actions/runs", list_runs),
            ("GET", run, get_run),
            ("GET", f"{run}/hooks", hooks),
            ("GET", f"{run}/hooks/{{hook}}/output", output),
        ]
    )


def _run(run: ActionRun) -> Json:
    return {
        "branch": run.branch,
        "commit_id": run.commit_id,
        "end_time": _time(run.at),
        "event_type": run.event,
        "run_id": run.id,
        "start_time": _time(run.at),
        "status": "completed" if run.passed else "failed",
    }


def _hook(hook: HookRun, at: int) -> Json:
    return {
        "action": hook.action,
        "end_time": _time(at),
        "hook_id": hook.hook,
        "hook_run_id": hook.id,
        "start_time": _time(at),
        "status": "skipped" if hook.skipped else "completed" if hook.passed else "failed",
    }


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
