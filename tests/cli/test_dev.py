"""`perago dev`: real processes on embedded services, and what the author sees of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ..worker.bench import wait_for
from .conftest import Project
from .dev_command import (
    FEATURES,
    PAGE,
    PLAIN,
    STUBBORN,
    TALKING,
    Dev,
    developing,
    ready,
    taken,
    wait_until_gone,
    wait_until_kept,
    write_plain,
)
from .start_command import LIMIT

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="its lines are for curl, which is not installed")

ENDING = ">ending</span>"
"""The mark of a workflow whose function still runs."""


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    project.module("features", FEATURES)
    project.module("shared", "TEXT = 'one'\n")
    write_plain(project)
    (project.directory / "sample" / "raw").mkdir(parents=True)
    (project.directory / "sample" / "raw" / "it's a.csv").write_text("x\n1\n")


# ---------------------------------------------------------------------------- starting


def test_the_printed_lines_start_workflows_that_complete(project: Project) -> None:
    with ready(project, "features", "plain", "-w", "sample") as dev:
        starting, ready_at, page = map(
            dev.text.index, ("starting 2 workers\n", "perago dev is ready after", "  page  ")
        )
        for module in ("features", "plain   "):
            assert starting < dev.text.index(f"{module} | ready\n") < ready_at < page
        assert dev.text[page:].count("\n") == 1
        features, plain = dev.finished(dev.curl("dev.features.build")), dev.finished(dev.curl("dev.plain.work"))
        assert (features["status"], plain["status"]) == ("COMPLETED", "COMPLETED")
        assert features["output"]["result"] == {"text": "one"}
        assert features["input"]["params"] == {"rows": 3, "who": ""}
        assert plain["output"] == {"result": {"total": 4}}
        dev.wait_for(r"(?m)^plain    \| plain0001: completed plain.work ")
        dev.wait_for(r"(?m)^features \| features0001: completed features.build .*, workspace at ")
        assert "warning" not in dev.text
        head = features["output"]["workspace"]["ref"]
        variables = dev.variables()
        shown = project.run("input", "dev/main", "--compact", **variables)
        registered = project.run("register", "--dry-run", "features", **variables)
    assert variables["CONDUCTOR_SERVER_URL"] == f"{dev.url}/api" != f"{variables['LAKECTL_SERVER_ENDPOINT_URL']}/api"
    assert f'"ref": "{head}' in shown.out
    assert registered.out.startswith("unchanged  features.build\n")


def test_output_of_a_function_is_shown_while_it_runs_with_its_traceback(project: Project, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    project.module("plain", TALKING.format(gate=str(gate)))
    with ready(project, "plain") as dev:
        workflow_id = dev.curl("dev.plain.work")
        attempt = r"(?m)^plain \| plain.work \w{8} attempt 1 \| "
        for said in ("printed$", "logged$", "progress 1 of 3$"):
            dev.wait_for(attempt + said)
        assert dev.get(f"/workflow/{workflow_id}")["status"] == "RUNNING"
        gate.touch()
        dev.wait_for(attempt + "ValueError: the gate was opened$")
        assert re.search(attempt + r'  File ".*plain.py", line \d+, in work$', dev.text)


def test_settings_for_other_servers_only_limit_workspaces(project: Project) -> None:
    (project.directory / ".env").write_text(
        "CONDUCTOR_SERVER_URL=http://127.0.0.1:9/api\nCONDUCTOR_AUTH_KEY=k\nCONDUCTOR_AUTH_SECRET=top-secret\n"
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID=k\nPERAGO_LOG_RETENTION=30\nPERAGO_LOG_FORMAT=json\n"
        "PERAGO_ALLOWED_WORKSPACES=lab/main\n"
    )
    proxied = replace(project, environment={**project.environment, "http_proxy": "http://127.0.0.1:9"})
    with ready(proxied, "features", "-w", "sample") as dev:
        assert dev.finished(dev.curl("dev.features.build"))["status"] == "COMPLETED"
        dev.text = dev.text.replace('"repository":"dev"', '"repository":"prod"')
        refused = dev.finished(dev.curl("dev.features.build"))
        assert dev.stop() == 0
    assert refused["status"] == "FAILED"
    assert "PERAGO_ALLOWED_WORKSPACES of this worker does not allow branch 'main'" in refused["reasonForIncompletion"]
    assert "top-secret" not in dev.text
    assert dev.text.count("warning: PERAGO_LOG_RETENTION (.env:5): not a number of days") == 1


@pytest.mark.parametrize(
    ("text", "variables", "code", "said"),
    [
        ("x / 0\n", {}, 3, "bad.py:1: module bad cannot be imported: NameError"),
        (PLAIN.replace("GATE", "None"), {}, 3, "declares the task 'plain.work', which plain declares as well"),
        (PLAIN.replace("GATE", "None").replace("plain", "bad"), {"PERAGO_MAX_RESULT_BYTES": "much"}, 4, ""),
    ],
    ids=["broken", "same task name", "an invalid limit"],
)
def test_an_invalid_module_or_limit_ends_it_before_anything_is_started(
    project: Project, text: str, variables: dict[str, str], code: int, said: str
) -> None:
    project.module("bad", text)
    project.run("dev", "plain", "bad", "--port", "0", **variables).ends(code, said, out="")


@pytest.mark.parametrize("where", ["file", "directory"])
def test_a_link_out_of_the_workspace_is_refused(project: Project, tmp_path: Path, where: str) -> None:
    secret = tmp_path / "elsewhere" / "secret.csv"
    secret.parent.mkdir()
    secret.write_text("top secret")
    target = secret if where == "file" else secret.parent
    (project.directory / "sample" / "raw" / "link").symlink_to(target)
    project.run("dev", "features", "-w", "sample", "--port", "0").ends(1, "raw/link", "symlink", out="")


def test_a_taken_port_is_an_error_only_if_it_was_asked_for(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ran = project.run("dev", "plain", "--port", str(number))
    assert ran.code == 1
    assert ran.err.startswith(f"error: port {number} cannot be used: ")
    assert "--port 0" in ran.err


def test_the_friendly_port_may_be_taken(project: Project) -> None:
    with taken(7777), developing(project, "plain", port=None) as dev:
        dev.wait_for(PAGE)
        assert "note: port 7777 is taken; perago uses a free one" in dev.text
        assert not dev.url.endswith(":7777")
        assert dev.stop() == 0


def test_without_the_extra_the_command_to_install_it_is_shown(project: Project) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; sys.argv = {}; import perago.cli; perago.cli.main()"
    for arguments in (["dev", "plain"], ["demo"]):
        ran = project.execute(sys.executable, "-c", code.format(["perago", *arguments]))
        assert (ran.code, "uvicorn cannot be found\n  fix: pip install uvicorn" in ran.err) == (1, True), ran.err


# --------------------------------------------------------------------------- reloading


def test_an_edit_of_the_module_or_of_its_imports_is_run(project: Project) -> None:
    """Python uses bytecode for any source of the same second and size, so the first edits keep both."""
    shared = project.directory / "shared.py"
    second = shared.stat().st_mtime_ns // 10**9 * 10**9
    os.utime(shared, ns=(second, second))
    with ready(project, "features", "-w", "sample") as dev:
        assert dev.finished(dev.curl("dev.features.build"))["output"]["result"] == {"text": "one"}
        for number, text in enumerate(("two", "six"), start=1):
            new = project.directory / "new"
            new.write_text(f"TEXT = '{text}'\n")
            os.utime(new, ns=(second, second + number))
            new.replace(shared)
            dev.wait_for(r"features \| reloaded", times=number)
            dev.wait_for("Start features.build", times=number + 1)
            assert dev.finished(dev.curl("dev.features.build"))["output"]["result"] == {"text": text}
        project.module("features", FEATURES.replace("text=shared.TEXT", "text=shared.TEXT + ' twice'"))
        dev.wait_for(r"features \| reloaded", times=3)
        dev.wait_for("Start features.build", times=4)
        assert dev.finished(dev.curl("dev.features.build"))["output"]["result"] == {"text": "six twice"}


def test_a_running_attempt_ends_before_a_changed_definition_is_registered(project: Project, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    write_plain(project, gate)
    with ready(project, "plain") as dev:
        first = dev.curl("dev.plain.work")
        wait_for("the file", (tmp_path / "gate.in").exists, LIMIT)
        changed = PLAIN.replace("GATE", "None").replace("total=params.rows", "total=params.rows + 1000")
        project.module("plain", changed.replace("RetryPolicy(count=0)", "RetryPolicy(count=int('7'))"))
        dev.wait_for("stopping: no further polls, 1 running")
        gate.touch()
        dev.wait_for("reloaded")
        assert dev.get("/metadata/taskdefs/plain.work")["retryCount"] == 7
        second = dev.curl("dev.plain.work")
        totals = [dev.finished(workflow)["output"]["result"]["total"] for workflow in (first, second)]
    assert totals == [4, 1004]


def test_a_broken_edit_is_shown_and_waited_out_while_the_services_stay(project: Project) -> None:
    with ready(project, "features", "plain", "-w", "sample") as dev:
        project.module("shared", "TEXT = 'fixed soon'\nfrom missing_helper import X\n")
        dev.wait_for(r"error: shared.py:2: module features needs the module missing_helper")
        dev.wait_for(r"features \| not running; waiting for the next change")
        dev.wait_for(r"features \| stopping: no further polls")
        waiting = dev.curl("dev.features.build")
        assert dev.finished(dev.curl("dev.plain.work"))["status"] == "COMPLETED"
        assert dev.get(f"/workflow/{waiting}")["status"] == "RUNNING"
        project.module("missing_helper", "X = 1\n")
        dev.wait_for(r"features \| reloaded")
        assert dev.finished(waiting)["output"]["result"] == {"text": "fixed soon"}


def test_a_killed_worker_is_started_again(project: Project) -> None:
    with ready(project, "plain") as dev:
        (worker,) = psutil.Process(dev.process.pid).children()
        worker.send_signal(signal.SIGKILL)
        dev.wait_for(r"plain \| the worker was killed by signal 9; it is started again in 1 s")
        dev.wait_for(r"plain \| ready", times=2)
        assert dev.finished(dev.curl("dev.plain.work"))["status"] == "COMPLETED"


# -------------------------------------------------------------------------------- ending


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory for temporary files with a path so short that sockets can have a name in it."""
    with tempfile.TemporaryDirectory(prefix="pd") as path:
        yield Path(path)


def test_it_ends_cleanly_and_leaves_nothing_behind(project: Project, scratch: Path) -> None:
    elsewhere = replace(project, environment={**project.environment, "TMPDIR": str(scratch)})
    with ready(elsewhere, "features", "-w", "sample") as dev:
        dev.finished(dev.curl("dev.features.build"))
        processes = dev.descendants()
        assert dev.stop(signal.SIGTERM) == 0
        wait_until_gone(processes)
    assert dev.text.endswith("\nstopped\n")
    assert list(scratch.iterdir()) == []
    attempts = project.directory.parent / "home" / ".cache" / "perago" / "workspaces"
    assert list(attempts.rglob("*.perago-attempt.json")) == []


def test_the_first_signal_lets_an_attempt_run_and_the_second_cancels_it(project: Project, tmp_path: Path) -> None:
    write_plain(project, tmp_path / "gate")
    with ready(project, "plain") as dev:
        dev.curl("dev.plain.work")
        wait_for("the file", (tmp_path / "gate.in").exists, LIMIT)
        processes = dev.descendants()
        dev.process.send_signal(signal.SIGINT)
        dev.wait_for("no further polls, 1 running")
        assert dev.stop(signal.SIGINT) == 130
        wait_until_gone(processes)
    assert "lost plain.work" in dev.text


def test_an_end_on_the_page_reaches_the_function_and_is_shown_until_then(project: Project, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    project.module("plain", STUBBORN.format(gate=gate))
    with ready(project, "plain") as dev:
        address = f"/workflows/{dev.curl('dev.plain.work')}"
        wait_for("the file", (tmp_path / "gate.in").exists, LIMIT)
        begun = time.monotonic()
        page = dev.page(f"{address}/terminate", {"reason": "by hand"})
        assert ">terminated</span>" in page
        wait_for("the file", (tmp_path / "gate.canceled").exists, LIMIT)
        assert time.monotonic() - begun < 20  # heartbeats have 40 s between them
        assert ENDING in page
        assert ENDING in dev.page(address)
        gate.touch()
        dev.wait_for("lost plain.work")
        wait_for("the end of the mark", lambda: ENDING not in dev.page(address), LIMIT)


# --------------------------------------------------------------------------------- state


def commits(dev: Dev) -> str:
    return dev.text.partition("branch main at ")[2][:12]


def test_a_killed_session_continues_from_its_last_state(project: Project, tmp_path: Path) -> None:
    state = tmp_path / "state"
    arguments = ("features", "plain", "-w", "sample", "--state", str(state))
    with ready(project, *arguments) as dev:
        first = dev.finished(dev.curl("dev.features.build"))
        variables, processes = dev.variables(), dev.descendants()
        wait_until_kept(state, first)
        dev.process.kill()
        wait_until_gone(processes)
    with ready(project, *arguments) as dev:
        assert dev.get(f"/workflow/{first['workflowId']}") == first
        assert commits(dev) == first["output"]["workspace"]["ref"][:12], "the same files are not committed again"
        keys = [name for name in variables if name.startswith("LAKECTL_CREDENTIALS")]
        assert [dev.variables()[name] for name in keys] == [variables[name] for name in keys]
        second = dev.finished(dev.curl("dev.features.build"))
        assert second["status"] == "COMPLETED"
        in_use = f"error: --state: {state} is in use by another perago dev (process {dev.process.pid})"
        project.run("dev", "plain", "--state", str(state), "--port", "0").ends(1, in_use)
        assert dev.stop() == 0
        assert f"stopped; everything is in {state}" in dev.text
    (project.directory / "sample" / "raw" / "b.csv").write_text("new")
    write_plain(project, gate := tmp_path / "gate")
    with ready(project, *arguments) as dev:
        assert commits(dev) != second["output"]["workspace"]["ref"][:12]
        dev.curl("dev.plain.work")
        wait_for("the file", (tmp_path / "gate.in").exists, LIMIT)
        dev.process.send_signal(signal.SIGHUP)
        dev.wait_for("no further polls, 1 running")
        gate.touch()
        assert dev.ended() == 0
    assert "completed plain.work" in dev.text, "the first signal lets an attempt finish"


def test_a_state_that_is_something_else_is_refused(project: Project, tmp_path: Path) -> None:
    ran = project.run("dev", "plain", "--state", str(project.directory), "--port", "0")
    assert ran.code == 1
    assert "is not empty and holds no state of perago dev" in ran.err
    assert not (project.directory / "journal.jsonl").exists()
