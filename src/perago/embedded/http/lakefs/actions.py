"""Requests about what the hooks did: the runs of a repository, their hooks, and what those said."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers
from perago.embedded.http.lakefs.answers import Json
from perago.embedded.http.lakefs.calls import Call, route
from perago.embedded.http.lakefs.wire import JsonAnswer
from perago.embedded.lakefs.errors import Missing
from perago.embedded.lakefs.listing import page_of
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import ActionRun, HookRun


class ActionRequests:
    """Runs of the actions, newest first."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        run = f"{root}/actions/runs/{{run}}"
        return [
            route("GET", f"{root}/actions/runs", self.list),
            route("GET", run, self.get),
            route("GET", f"{run}/hooks", self.hooks),
            route("GET", f"{run}/hooks/{{hook}}/output", self.output),
        ]

    def list(self, call: Call) -> Response:
        """One page of runs."""
        found = self._server.list_runs(
            call.repository,
            branch=call.query.text("branch"),
            commit=call.query.text("commit"),
            after=call.query.text("after"),
            amount=call.query.amount(),
        )
        return JsonAnswer(answers.page(found, _run))

    def get(self, call: Call) -> Response:
        """One run."""
        run = self._server.get_run(call.repository, call.names["run"])
        if run is None:
            raise Missing("not found: not found")
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
        "status": _status(run.passed),
    }


def _hook(hook: HookRun, at: int) -> Json:
    return {
        "action": hook.action,
        "end_time": _time(at),
        "hook_id": hook.hook,
        "hook_run_id": hook.id,
        "start_time": _time(at),
        "status": _status(hook.passed),
    }


def _status(passed: bool) -> str:
    return "completed" if passed else "failed"


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
