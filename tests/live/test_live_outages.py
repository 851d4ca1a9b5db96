"""Servers that fail and come back, and answers that are lost: one publication, and its result in Conductor.

A proxy of the suite is between the worker and a server. The tests themselves call the servers directly.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .commands import Worker
from .conftest import Deploy
from .deploying import Deployment, Gate, input_of
from .histories import md5
from .proxy import Cut, Proxy, proxied
from .repositories import LakeFSServer, Repository
from .workflows import Conductor, described

pytestmark = pytest.mark.live

Seeded = tuple[Repository, str]
OUTAGE, LONG_OUTAGE = 3.0, 5.0
"""Seconds."""
POLL_IS_OVER = 10.0
"""Seconds. For half of them the server still serves a poll whose connection was closed, and can give it a task."""
FENCE, REPORT = r"GET /api/tasks/[0-9a-f-]{36} ", r"POST /api/tasks "
ORDERS = {"write": {"out/1.txt": "1", "out/2.txt": "2", "raw/a.txt": "changed"}, "remove": ["raw/b.txt"]}


@dataclass(frozen=True)
class Line:
    """A worker whose connections to both servers can be disturbed."""

    deployment: Deployment
    worker: Worker
    conductor: Proxy
    lakefs: Proxy

    def start(self, seeded: Seeded, **orders: object) -> str:
        """Start a workflow whose task changes a few files."""
        return self.deployment.start(input_of(*seeded, {**ORDERS, **orders}))

    def published_once(self, workflow_id: str, seeded: Seeded) -> None:
        """Assert that the workflow completes in its first attempt, and that the branch has exactly its one commit."""
        repository, ref = seeded
        execution = self.deployment.conductor.completed(workflow_id)
        assert len(execution["tasks"]) == 1, described(execution)
        published = execution["tasks"][0]["outputData"]["workspace"]["ref"]
        assert [commit["id"] for commit in repository.since(ref)] == [published]
        assert set(repository.tree()) == {"raw/a.txt", "doc/readme.txt", "out/1.txt", "out/2.txt"}
        assert repository.read("raw/a.txt") == b"changed"
        repository.wait_for_removal_of_staging()
        self.worker.line(f"completed .*{execution['tasks'][0]['taskId']}")


@pytest.fixture(scope="module")
def shared_line(conductor: Conductor, lakefs: LakeFSServer, deploy_shared: Deploy) -> Iterator[Line]:
    with proxied(conductor.url) as to_conductor, proxied(lakefs.url) as to_lakefs:
        deployment = deploy_shared(
            "workspace", CONDUCTOR_SERVER_URL=to_conductor.url, LAKECTL_SERVER_ENDPOINT_URL=to_lakefs.url
        )
        yield Line(deployment, deployment.worker(1), to_conductor, to_lakefs)


@pytest.fixture
def line(shared_line: Line) -> Iterator[Line]:
    yield shared_line
    for proxy in (shared_line.conductor, shared_line.lakefs):
        proxy.disarm()
        proxy.restore()


# ---------------------------------------------------------------------------- Conductor


def test_conductor_is_down_while_the_worker_is_idle(line: Line, seeded: Seeded) -> None:
    lines_before = len(line.worker.lines)
    line.conductor.refuse()
    line.worker.line("Conductor is unreachable", since=lines_before)
    time.sleep(POLL_IS_OVER)
    workflow_id = line.start(seeded)
    line.conductor.restore()
    line.published_once(workflow_id, seeded)
    line.worker.line("Conductor answers again", since=lines_before)


def test_conductor_is_down_while_a_function_ends(line: Line, seeded: Seeded, gate: Gate) -> None:
    workflow_id = line.start(seeded, gate=str(gate))
    gate.entered()
    trap = line.conductor.trap(FENCE, Cut.REQUEST, then_refuse=True)
    gate.open()
    trap.wait()
    time.sleep(OUTAGE)
    assert seeded[0].head() == seeded[1], "without an answer of the delivery check nothing is published"
    line.conductor.restore()
    line.published_once(workflow_id, seeded)


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.ANSWER], ids=lambda cut: cut.name.lower())
@pytest.mark.parametrize("call", [FENCE, REPORT], ids=["delivery check", "report"])
def test_a_call_to_conductor_is_lost(line: Line, seeded: Seeded, call: str, cut: Cut) -> None:
    trap = line.conductor.trap(call, cut)
    workflow_id = line.start(seeded)
    line.published_once(workflow_id, seeded)
    assert trap.sprung


def test_the_answer_that_brings_a_task_is_lost(deploy: Deploy, conductor_proxy: Proxy, seeded: Seeded) -> None:
    """No worker holds that delivery. Its response timeout frees the task, and the next attempt completes it."""
    repository, ref = seeded
    workspace = deploy("workspace", CONDUCTOR_SERVER_URL=conductor_proxy.url, LIVE_RESPONSE_SECONDS="4")
    trap = conductor_proxy.trap(r"GET /api/tasks/poll/batch/", Cut.ANSWER)
    workflow_id = workspace.start(input_of(repository, ref, ORDERS))
    workspace.worker()
    trap.wait()
    workspace.conductor.time_out(workflow_id)
    execution = workspace.conductor.completed(workflow_id)
    assert [task["status"] for task in execution["tasks"]] == ["TIMED_OUT", "COMPLETED"]
    assert len(repository.since(ref)) == 1


# ------------------------------------------------------------------------------- lakeFS

CALLS = {
    "head": r"GET .*/branches/main ",
    "listing": r"GET .*/objects/ls",
    "download": r"GET .*/refs/[0-9a-f]{64}/objects\?",
    "branch creation": r"POST .*/branches ",
    "upload": r"POST .*/branches/perago-[^/]*/objects\?",
    "deletion": r"POST .*/branches/perago-[^/]*/objects/delete",
    "staging commit": r"POST .*/branches/perago-[^/]*/commits",
    "merge": r"POST .*/merge/main",
    "read back": r"GET .*/commits/[0-9a-f]{64}",
    "branch deletion": r"DELETE .*/branches/perago-",
}


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.ANSWER], ids=lambda cut: cut.name.lower())
@pytest.mark.parametrize("call", CALLS)
def test_a_call_to_lakefs_is_lost(line: Line, seeded: Seeded, call: str, cut: Cut) -> None:
    trap = line.lakefs.trap(CALLS[call], cut)
    line.published_once(line.start(seeded), seeded)
    assert trap.sprung


@pytest.mark.parametrize("call", [call for call in CALLS if call != "branch deletion"])
@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.ANSWER], ids=lambda cut: cut.name.lower())
def test_lakefs_is_down_from_a_call_on_and_comes_back(line: Line, seeded: Seeded, call: str, cut: Cut) -> None:
    """The outage is longer than the retries of a single request: the attempt waits, and the function does not run
    again."""
    lines_before = len(line.worker.lines)
    trap = line.lakefs.trap(CALLS[call], cut, then_refuse=True)
    workflow_id = line.start(seeded)
    trap.wait()
    time.sleep(LONG_OUTAGE)
    line.lakefs.restore()
    line.published_once(workflow_id, seeded)
    line.worker.line("lakeFS answers again, after", since=lines_before)


def test_lakefs_is_down_when_a_task_arrives(line: Line, seeded: Seeded) -> None:
    line.lakefs.refuse()
    workflow_id = line.start(seeded)
    time.sleep(OUTAGE)
    line.lakefs.restore()
    line.published_once(workflow_id, seeded)


@pytest.mark.parametrize(("server", "call"), [("conductor", FENCE), ("lakefs", CALLS["upload"])])
def test_a_server_answers_nothing_for_a_while(line: Line, seeded: Seeded, gate: Gate, server: str, call: str) -> None:
    proxy: Proxy = getattr(line, server)
    workflow_id = line.start(seeded, gate=str(gate))
    gate.entered()
    trap = proxy.trap(call, Cut.NOWHERE, first=proxy.stall)
    gate.open()
    trap.wait()
    time.sleep(OUTAGE)
    proxy.restore()
    line.published_once(workflow_id, seeded)


def test_an_interrupted_download_is_completed(line: Line, seeded: Seeded) -> None:
    repository, _ = seeded
    content = "0123456789" * 100_000
    ref = repository.commit({"raw/large.txt": content.encode()})
    trap = line.lakefs.trap(r"GET .*/refs/[0-9a-f]{64}/objects\?path=raw.{1,3}large", Cut.ANSWER, pass_on=300_000)
    workflow_id = line.start((repository, ref), remove=["raw/large.txt"])
    output = line.deployment.conductor.output(workflow_id)
    assert trap.sprung
    assert output["result"]["seen"]["raw/large.txt"] == md5(content.encode())
    assert len(repository.since(ref)) == 1
