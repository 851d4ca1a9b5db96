"""The lakeFS policies of `deploy/lakefs` have exactly the permissions that the calls of each role need.

    WRITE_DOCS=1 python -m pytest tests/deploy/test_permissions.py

writes them again after a change of the calls.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin

import pytest
from pydantic import SecretStr
from urllib3 import Retry

from perago.adapters.lakefs import LakeFSStore
from perago.driver.gc import BranchAges, BranchClearing
from perago.driver.gc import Policy as Clearing
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import references
from perago.ports import Forbidden
from perago.settings import LakeFSSettings
from perago.testing.services import InMemoryServices

from ..cli.conftest import Project, make_project
from ..cli.start_command import started
from ..console.filled import fill
from ..console.site import PageAnswer, Site, page_of_servers
from ..driver.world import REPOSITORY, World
from ..generated import WRITES
from ..permissions import EVERYTHING, Enforced, Permission, Policy, PolicyServices, policy_for
from .files import ROOT

STAGING = "perago-0123456789abcdef-000000000000"


def statements(role: str) -> list[dict[str, Any]]:
    """Return the statements of the policy of a role."""
    document = json.loads((ROOT / "lakefs" / f"{role}.json").read_text())
    return cast("list[dict[str, Any]]", document["statement"])


def assert_policy(role: str, needed: set[Permission]) -> None:
    """Fail if the policy of a role differs from the needed permissions, or write it."""
    path, text = ROOT / "lakefs" / f"{role}.json", json.dumps(policy_for(needed), indent=2) + "\n"
    if WRITES:
        path.write_text(text)
    assert path.read_text() == text, "run this test with WRITE_DOCS=1"
    assert Policy(statements(role)).missing(sorted(needed)) is None


# ------------------------------------------------------------------------------- worker


@contextmanager
def store_with(services: InMemoryServices, policy: Policy) -> Iterator[LakeFSStore]:
    """Yield the real adapter on the lakeFS of `services`, which enforces a policy."""
    app = Enforced(lakefs_app(services.lakefs.server, access_key_id="key", secret_access_key="secret"), policy)
    with serve(app) as url:
        store = LakeFSStore(LakeFSSettings(url, "key", SecretStr("secret")))
        yield store
        store.close()


def work(policy: Policy, root: Path) -> str:
    """Publish, publish again after a restart of the workflow, which undoes the first publication, and sweep, as a
    worker does. Return all reported problems as text."""
    with InMemoryServices() as services, store_with(services, policy) as store:
        world = World(services)
        world.store = store
        messages: list[str] = []
        for _ in range(2):
            world.run(world.take())
            (tried,) = world.tried[-1:]
            messages += [*(tried.record.notes if tried.record else ()), *([] if tried.completed else [tried.words])]
            if not tried.completed:
                return "\n".join(messages)
            services.conductor.restart_workflow(world.workflow)
        services.lakefs.create_branch(REPOSITORY, STAGING, world.ref)
        clearing = Clearing(0.0, services.clock.now() + 7200, dry_run=False)
        try:
            swept = [*BranchClearing(store, None, BranchAges(root / "gc.json", "here"), clearing).clear(REPOSITORY)]
        except Forbidden as error:
            messages.append(str(error))
        else:
            assert [leftover.name for leftover in swept] == [STAGING] or messages
        return "\n".join(messages)


def test_a_worker_needs_exactly_its_policy(tmp_path: Path) -> None:
    policy = Policy(EVERYTHING)
    assert work(policy, tmp_path) == ""
    assert_policy("worker", policy.needed)


@pytest.mark.parametrize("action", Policy(statements("worker")).actions)
def test_a_worker_without_a_permission_names_it(tmp_path: Path, action: str) -> None:
    said = work(Policy(statements("worker")).without(action), tmp_path)
    assert f"insufficient permissions: not allowed to {action}" in said


def test_a_worker_may_not_create_or_delete_branches_of_other_names() -> None:
    policy = Policy(statements("worker"))
    for action in ("fs:CreateBranch", "fs:DeleteBranch"):
        resource = "arn:lakefs:fs:::repository/workspace/branch/"
        assert policy.missing([Permission(action, f"{resource}{STAGING}")]) is None
        assert policy.missing([Permission(action, f"{resource}main")]) == action


# ------------------------------------------------------------------------------ console


def crawl(site: Site) -> str:
    """Follow every link of every page, and return the text of all pages."""
    waiting, read, texts = ["/"], set[str](), list[str]()
    while waiting:
        path = waiting.pop()
        if path in read or not path.startswith("/"):
            continue
        read.add(path)
        retries = Retry(3, redirect=False)  # the server closes connections that were idle
        answer = PageAnswer.of(site.pool.request("GET", site.url + path, redirect=False, timeout=60, retries=retries))
        if "text/html" in answer.headers.get("content-type", ""):
            texts.append(answer.text)
            links = re.findall(r'(?:href|src|hx-get|action)="([^"#]+)', answer.text)
            waiting += [urljoin(path, link.replace("&amp;", "&")).removeprefix(site.url) for link in links]
    return "\n".join(texts)


def browse(policy: Policy) -> str:
    """Read all pages of a console, and return their text."""
    with InMemoryServices() as services:
        fill(services)
        app = Enforced(lakefs_app(services.lakefs.server, access_key_id="key", secret_access_key="secret"), policy)
        with serve(app) as url:
            lakefs = LakeFSSettings(url, "key", SecretStr("secret"))
            with page_of_servers(services, None, lakefs) as site:
                return crawl(site)


def test_the_console_needs_exactly_its_policy() -> None:
    policy = Policy(EVERYTHING)
    browse(policy)
    assert_policy("console", policy.needed)


def test_a_console_without_a_permission_shows_the_refusal() -> None:
    assert "insufficient permissions: not allowed to fs:ReadCommit" in browse(
        Policy(statements("console")).without("fs:ReadCommit")
    )


# ---------------------------------------------------------------------------- operators


TASK = """
from pathlib import Path
from pydantic import BaseModel
from perago import WorkspaceSpec, task

class Params(BaseModel):
    factor: int = 2

class Result(BaseModel):
    rows: int

@task(name="features.build", owner_email="data@example.com", workspace=WorkspaceSpec())
def work(workspace: Path, params: Params) -> Result:
    (workspace / "scaled.csv").write_text(str(params.factor))
    return Result(rows=params.factor)
"""


def test_an_operator_needs_exactly_their_policy(tmp_path: Path) -> None:
    """All commands that read or write on lakeFS, after an attempt by a real worker with the policy of a worker."""
    project = make_project(tmp_path)
    project.module("features", TASK)
    with PolicyServices() as services:
        services.lakefs.server.create_repository("my-data")
        run = partial(project.run, **services.environment())
        assert run("register", "features").code == 0
        task_id = published(project, services)
        references.create_branch(services.lakefs.server.repository("my-data"), STAGING, "main")

        services.policy = Policy(EVERYTHING)
        for arguments in commands(task_id):
            ran = run(*arguments)
            assert ran.code in (0, 1), f"perago {' '.join(arguments)}: {ran.code}\n{ran.out}{ran.err}"
        assert_policy("operator", services.policy.needed)

        services.policy = Policy(statements("operator")).without("fs:ReadCommit")
        ran = run("log", "my-data/main")
        assert "lakeFS does not permit these credentials to" in ran.err
        assert "not allowed to fs:ReadCommit" in ran.err
        assert "perago help deploy" in ran.err
        assert "LAKECTL_CREDENTIALS" not in ran.err, "the credentials are valid"


def published(project: Project, services: PolicyServices) -> str:
    """Return the id of an attempt that a real worker completed with the policy of a worker."""
    services.policy = Policy(statements("worker"))
    with started(project, "features", **services.environment()) as worker:
        sent = project.run("send", "features", "-b", "my-data/main", "--follow", **services.environment())
        assert sent.code == 0, sent.err + worker.text
        worker.stop()
    services.policy = Policy(EVERYTHING)
    (workflow_id,) = services.conductor.workflow_ids()
    return str(services.conductor.workflow(workflow_id)["tasks"][0]["taskId"])


def commands(task_id: str) -> list[list[str]]:
    branch = ["my-data/main"]
    return [
        ["doctor", "features", "-b", "my-data/main", "--write"],
        ["show", task_id],
        ["log", *branch],
        ["fence", "status", *branch],
        ["fence", "remove", *branch],
        ["fence", "install", *branch],
        ["replay", task_id, "features"],
        ["capture", task_id, "features", "--name", secrets.token_hex(4)],
        ["backtest", "features", "--last", "1"],
        ["backtest", "features", "-b", "my-data/main"],
        ["send", "features", "-b", "my-data/main", "--params", "{}"],
        ["gc", "my-data", "--older-than", "0s"],
    ]
