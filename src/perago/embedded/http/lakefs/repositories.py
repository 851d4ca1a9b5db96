"""Requests about repositories, their metadata, their protected branches, and what their hooks did."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.answers import Json
from perago.embedded.http.lakefs.calls import NO_CONTENT, Call, JsonAnswer, route
from perago.embedded.lakefs.errors import Invalid, Missing
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import ActionRun, HookRun, page_of


class RepositoryRequests:
    """Everything about a repository as a whole."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        repositories, run = root.rpartition("/")[0], f"{root}/actions/runs/{{run}}"
        rules, settings = f"{root}/branch_protection", f"{root}/settings/branch_protection"
        return [
            route("GET", repositories, self.list),
            route("POST", repositories, self.create, quick=self._server),
            route("GET", root, self.get, quick=self._server),
            route("DELETE", root, self.delete, quick=self._server),
            route("GET", f"{root}/metadata", self.get_metadata, quick=self._server),
            route("POST", f"{root}/metadata", self.set_metadata, quick=self._server),
            route("DELETE", f"{root}/metadata", self.delete_metadata, quick=self._server),
            route("GET", rules, self.protected, quick=self._server),
            route("POST", rules, self.protect, quick=self._server),
            route("DELETE", rules, self.unprotect, quick=self._server),
            route("GET", f"{rules}/set_allowed", self.get_allowed, quick=self._server),
            route("GET", settings, self.protected, quick=self._server),
            route("PUT", settings, self.set_protected, quick=self._server),
            route("GET", f"{root}/actions/runs", self.list_runs),
            route("GET", run, self.get_run),
            route("GET", f"{run}/hooks", self.hooks),
            route("GET", f"{run}/hooks/{{hook}}/output", self.output),
        ]

    def list(self, call: Call) -> Response:
        """One page of repositories."""
        found = self._server.list_repositories(search=call.query.text("search"), **call.paging())
        return JsonAnswer(answers.page(found, answers.repository))

    def create(self, call: Call) -> Response:
        """Create a repository. The answer for a bare one does not say whether it is read-only."""
        wanted, bare = call.body(bodies.Repository), call.query.flag("bare")
        if wanted.storage_id:
            raise Invalid(f"there is no storage {wanted.storage_id!r}: this server has one without an id")
        info = self._server.create_repository(
            wanted.name,
            wanted.storage_namespace,
            default_branch=wanted.default_branch,
            read_only=wanted.read_only,
            bare=bare,
            sample_data=wanted.sample_data,
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
        self._server.set_metadata(call.repository, call.body(bodies.MetadataSet).metadata)
        return Response(status_code=NO_CONTENT)

    def delete_metadata(self, call: Call) -> Response:
        """Remove keys from the repository's metadata."""
        self._server.delete_metadata(call.repository, call.body(bodies.MetadataKeys).keys)
        return Response(status_code=NO_CONTENT)

    # ------------------------------------------------------- protected branches

    def protected(self, call: Call) -> Response:
        """The patterns of protected branches."""
        patterns = self._server.protected_branches(call.repository)
        etag = hashlib.sha256("\n".join(patterns).encode()).hexdigest() if patterns else ""
        return JsonAnswer([{"pattern": pattern} for pattern in patterns], headers={"etag": etag})

    def set_protected(self, call: Call) -> Response:
        """Replace all patterns."""
        patterns = [rule.pattern for rule in call.body(bodies.ProtectionRules).root]
        self._server.protect_branches(call.repository, patterns)
        return Response(status_code=NO_CONTENT)

    def protect(self, call: Call) -> Response:
        """Add a pattern."""
        pattern = call.body(bodies.ProtectionRule).pattern
        self._server.protect_branches(call.repository, [*self._server.protected_branches(call.repository), pattern])
        return Response(status_code=NO_CONTENT)

    def unprotect(self, call: Call) -> Response:
        """Remove a pattern."""
        pattern, patterns = call.body(bodies.ProtectionRule).pattern, self._server.protected_branches(call.repository)
        if pattern not in patterns:
            raise Missing(f"no branches are protected by the pattern {pattern!r}")
        self._server.protect_branches(call.repository, [each for each in patterns if each != pattern])
        return Response(status_code=NO_CONTENT)

    def get_allowed(self, call: Call) -> Response:
        """Whether one may set rules: the only user may."""
        self._server.get_repository(call.repository)
        return Response(status_code=NO_CONTENT)

    # ------------------------------------------------------------------- hooks

    def list_runs(self, call: Call) -> Response:
        """One page of runs, newest first."""
        found = self._server.list_runs(
            call.repository,
            branch=call.query.text("branch"),
            commit=call.query.text("commit"),
            after=call.query.text("after"),
            amount=call.query.amount(),
        )
        return JsonAnswer(answers.page(found, _run))

    def get_run(self, call: Call) -> Response:
        """One run."""
        run = self._server.get_run(call.repository, call.names["run"])
        if run is None:
            raise Missing("not found")
        return JsonAnswer(_run(run))

    def hooks(self, call: Call) -> Response:
        """One page of a run's hooks; an unknown run has none."""
        run = self._server.get_run(call.repository, call.names["run"])
        hooks = () if run is None else tuple(hook for hook in run.hooks if hook.id > call.query.text("after"))
        found = page_of(hooks, lambda hook: hook.id, call.query.amount())
        at = 0 if run is None else run.at
        return JsonAnswer(answers.page(found, lambda hook: _hook(hook, at)))

    def output(self, call: Call) -> Response:
        """What one hook said, as a file."""
        run = self._server.get_run(call.repository, call.names["run"])
        hook = next((each for each in run.hooks if each.id == call.names["hook"]), None) if run else None
        if hook is None:
            raise Missing("not found")
        headers = {"content-disposition": f"attachment; filename={hook.id}.log"}
        return Response(hook.output, headers=headers, media_type="application/octet-stream")


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
