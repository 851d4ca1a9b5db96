"""`perago gc`, `perago cache` and `perago fence`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path

import pytest

from perago.attempt.publication import FENCE_PATH
from perago.cache import ObjectCache
from perago.configuration import cache_of
from perago.embedded.lakefs import commits, objects
from perago.embedded.services import EmbeddedServices
from perago.settings import load_settings
from perago.worker.host import sweep_branches
from perago.worker.plan import BRANCH_SWEEP
from perago.workspace.directory import AttemptDirectory
from perago.workspace.layout import free_space
from perago.workspace.sweep import MARKER
from tests.cache.shelves import flip_a_bit, get, only_entry, put
from tests.deliveries import make_delivery
from tests.http_faults import RefusingServices

from .conftest import Project

STAGING = f"perago-{'0' * 16}-{'1' * 12}"
EMPTY = f"perago-{'0' * 16}-{'2' * 12}"
DAY = 86_400


def commit_long_ago(services: EmbeddedServices, repository: str, branch: str = STAGING) -> None:
    """A repository with a staging branch as an attempt of two days ago left it."""
    services.lakefs.seed(repository, "main", {"a": "1"})
    services.lakefs.create_branch(repository, branch, "main")
    objects.put_object(services.lakefs.server.repository(repository), branch, "new", b"1")
    about = {
        **dict.fromkeys(("reference_name", "task_name", "workflow_id", "retried_task_id"), "x"),
        **dict.fromkeys(("iteration", "retry_count", "poll_count", "start_time"), "1"),
        "phase": "staging",
        "staging_branch": branch,
        "task_id": "task-1",
    }
    metadata = {f"perago.{key}": value for key, value in about.items()}
    commits.commit(
        services.lakefs.server.repository(repository), branch, "m", metadata, date=int(time.time()) - 2 * DAY
    )


def branches(services: EmbeddedServices, repository: str) -> list[str]:
    return [name for name in services.lakefs.list_branches(repository, "") if name != "main"]


def leave_directory(project: Project, began: float) -> Path:
    """An attempt directory without an owner."""
    root = project.directory / "root"
    project.environment["PERAGO_WORKSPACE_ROOT"] = str(root)
    made = AttemptDirectory.create(root, make_delivery())
    (made.workspace / "big").write_bytes(b"x" * 3 * 1024 * 1024)
    made.close()
    os.utime(made.path / MARKER, (began, began))
    return made.path


def remembered(project: Project) -> Path:
    (file,) = Path(project.environment["HOME"]).rglob("gc.json")
    return file


def test_everything_that_is_dead_and_old_goes_line_by_line(project: Project, shared_embedded: EmbeddedServices) -> None:
    commit_long_ago(shared_embedded, "my-data")
    shared_embedded.lakefs.create_branch("my-data", EMPTY, "main")
    directory = leave_directory(project, time.time() - 3 * DAY)
    variables = shared_embedded.environment()

    tried = project.run("gc", "my-data", "--dry-run", **variables)
    assert (tried.code, tried.err) == (0, "")
    assert f"would remove  {directory} (3.0 MiB): no process holds it; its attempt began 3 d ago" in tried.out
    assert f"would remove  branch {STAGING} of my-data: committed 2 d ago for task task-1 of workflow x" in tried.out
    assert f"kept          branch {EMPTY} of my-data: names no delivery and has nothing staged" in tried.out
    assert "would remove 1 attempt directory (3.0 MiB) and 1 branch; 1 kept" in tried.out
    assert (directory.exists(), branches(shared_embedded, "my-data")) == (True, [STAGING, EMPTY])
    assert list(Path(project.environment["HOME"]).rglob("gc.json")) == []

    done = project.run("gc", "my-data", **variables)
    assert (done.code, done.err) == (0, "")
    assert re.findall(r"(?m)^removed {7}(branch )?", done.out) == ["", "branch "]
    assert "removed 1 attempt directory (3.0 MiB) and 1 branch; 1 kept" in done.out
    assert (directory.exists(), branches(shared_embedded, "my-data")) == (False, [EMPTY])

    file = remembered(project)
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(re.sub(r"\d+\.\d+(?=\])", str(time.time() - 2 * DAY), file.read_text()))
    again = project.run("gc", "my-data", "--json", **variables)
    (leftover,) = json.loads(again.out)["leftovers"]
    assert (leftover["kind"], leftover["repository"], leftover["branch"]) == ("branch", "my-data", EMPTY)
    assert (leftover["fate"], branches(shared_embedded, "my-data")) == ("removed", [])


def test_workers_run_it_for_the_repositories_that_they_work_in(
    project: Project, shared_embedded: EmbeddedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_long_ago(shared_embedded, "swept")
    monkeypatch.chdir(project.directory)
    for name, value in {**project.environment, **shared_embedded.environment()}.items():
        monkeypatch.setenv(name, value)
    assert asyncio.run(sweep_branches((*BRANCH_SWEEP, "swept"))) == ((f"swept/{STAGING}",), "")
    assert branches(shared_embedded, "swept") == []
    removed, problem = asyncio.run(sweep_branches((*BRANCH_SWEEP, "no-such")))
    assert (removed, problem.startswith("error: ")) == ((), True)
    assert "no such repository" in problem


def test_a_repository_that_cannot_be_read_is_skipped_and_reported(project: Project) -> None:
    with RefusingServices("GET", "/repositories/secret/", 403) as services:
        for name in ("behind", "secret"):
            commit_long_ago(services, name)
        ran = project.run("gc", "a/b", "nowhere", "secret", "behind", **services.environment()).ends(1)
        assert (branches(services, "behind"), branches(services, "secret")) == ([], [STAGING])
        assert "removed 0 attempt directories (0 bytes) and 1 branch; 0 kept" in ran.out
        assert "error: perago skipped a/b, because it must be a name of 3 to 63 lower-case letters" in ran.err
        assert "error: perago skipped nowhere: " in ran.err
        assert "has no such repository" in ran.err
        assert "error: perago skipped secret: lakeFS: " in ran.err


def test_the_age_limit_decides(project: Project, shared_embedded: EmbeddedServices) -> None:
    directory = leave_directory(project, time.time() - 3 * DAY)
    spared = project.run("gc", "--older-than", "7d", "--json").ends(0)
    document = json.loads(spared.out)
    assert (document["older_than_seconds"], document["dry_run"]) == (7 * DAY, False)
    assert [(leftover["path"], leftover["fate"]) for leftover in document["leftovers"]] == [(str(directory), "kept")]
    done = project.run("gc", "--older-than", "12h").ends(0, "perago gc my-data")
    assert done.out.splitlines()[-1] == "removed 1 attempt directory (3.0 MiB) and 0 branches; 0 kept"
    assert not directory.exists()


def test_without_an_answer_of_conductor_branches_stay_and_this_is_reported(
    project: Project, shared_embedded: EmbeddedServices
) -> None:
    commit_long_ago(shared_embedded, "silent")
    nobody = {**shared_embedded.environment(), "CONDUCTOR_SERVER_URL": "http://127.0.0.1:9/api"}
    ran = project.run("gc", "silent", **nobody)
    assert (ran.code, branches(shared_embedded, "silent")) == (5, [STAGING])
    assert f"undecided     branch {STAGING} of silent" in ran.out
    assert "Conductor did not read task task-1" in ran.err

    without = {name: value for name, value in shared_embedded.environment().items() if name.startswith("LAKECTL")}
    ran = project.run("gc", "silent", **without)
    assert (ran.code, branches(shared_embedded, "silent")) == (0, [STAGING])
    assert "no Conductor is configured" in ran.out


def test_obstacles_are_reported(project: Project, shared_embedded: EmbeddedServices) -> None:
    commit_long_ago(shared_embedded, "kept")
    shared_embedded.lakefs.create_branch("kept", EMPTY, "main")
    state = Path(project.environment["HOME"], "state")
    state.mkdir(parents=True)
    (state / "perago").write_text("a file where a directory belongs")
    ran = project.run("gc", "kept", XDG_STATE_HOME=str(state), **shared_embedded.environment())
    assert (ran.code, branches(shared_embedded, "kept")) == (0, [EMPTY])
    assert "gc.json cannot be written" in ran.err


def test_a_branch_that_lakefs_does_not_delete_is_exit_code_1(project: Project) -> None:
    with RefusingServices("DELETE", "/branches/", 403) as services:
        commit_long_ago(services, "my-data")
        ran = project.run("gc", "my-data", **services.environment())
        assert (ran.code, branches(services, "my-data")) == (1, [STAGING])
        assert f"failed        branch {STAGING} of my-data: " in ran.out


# -------------------------------------------------------------------------------------- `perago cache`


CONTENT = b"x" * 10_000


@pytest.fixture
def root(project: Project) -> Path:
    """A workspace root with a cache that has helped once in two times."""
    root = project.directory / "root"
    root.mkdir(mode=0o700)
    project.environment["PERAGO_WORKSPACE_ROOT"] = str(root)
    project.environment["PERAGO_CACHE_MAX_BYTES"] = "5MiB"
    cache = ObjectCache(root, 10**9)
    get(cache, CONTENT)
    put(cache, CONTENT)
    get(cache, CONTENT)
    return root


def test_the_cache_command_shows_contents_and_hits(project: Project, root: Path) -> None:
    shown = project.run("cache")

    assert shown.out.splitlines() == [
        str(root / ".cache"),
        "  holds   1 object, 12.0 KiB",
        "  limit   5.0 MiB",
        "  helped  1 of 2 objects (50%), 9.8 KiB",
    ]
    assert json.loads(project.run("cache", "--json").out) == {
        "path": str(root / ".cache"),
        "cleared": False,
        "limit": 5 * 2**20,
        "entries": 1,
        "size": 12_288,
        "hits": 1,
        "hit_bytes": 10_000,
        "misses": 1,
    }


def test_it_clears(project: Project, root: Path) -> None:
    project.run("cache", "--verify", "--clear").ends(2)
    assert project.run("cache", "--clear").out == f"removed 1 object, 12.0 KiB from {root / '.cache'}\n"
    assert project.run("cache").out.splitlines()[1] == "  holds   0 objects, 0 bytes"
    assert list((root / ".cache").iterdir()) == []


def test_it_verifies(project: Project, root: Path) -> None:
    shown = project.run("cache", "--verify").ends(0)
    assert shown.out.splitlines() == [str(root / ".cache"), "  sound    1 object"]


def test_damaged_entries_are_named_and_deleted(project: Project, root: Path) -> None:
    cache = ObjectCache(root, 10**9)
    entry = only_entry(cache)
    flip_a_bit(entry)
    shown = project.run("cache", "--verify").ends(1, f"1 object in {root / '.cache'} had damaged bytes")
    assert shown.out.splitlines()[1:] == ["  sound    0 objects", f"  deleted  {entry.name}"]
    assert not entry.exists()
    assert project.run("cache", "--verify").code == 0

    put(cache, CONTENT)
    flip_a_bit(only_entry(cache))
    document = json.loads(project.run("cache", "--verify", "--json").ends(1).out)
    assert document["verified"] == {"sound": 0, "damaged": [entry.name]}
    assert document["entries"] == 0


def test_a_missing_root_has_an_empty_cache_and_a_file_is_not_a_cache(project: Project) -> None:
    missing = project.directory / "not" / "yet"
    shown = project.run("cache", PERAGO_WORKSPACE_ROOT=str(missing))
    assert shown.out.splitlines()[1] == "  holds   0 objects, 0 bytes"
    assert not missing.parent.exists()

    root = project.directory / "root"
    root.mkdir(mode=0o700)
    (root / ".cache").touch()
    project.run("cache", PERAGO_WORKSPACE_ROOT=str(root)).ends(1, str(root / ".cache"))


@pytest.mark.parametrize(("text", "limit"), [("5MiB", 5 * 2**20), ("0", 0), (None, None)])
def test_workers_get_the_cache_that_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, limit: int | None
) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", "http://lakefs")
    monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PERAGO_WORKSPACE_ROOT", str(root))
    if text is not None:
        monkeypatch.setenv("PERAGO_CACHE_MAX_BYTES", text)

    cache = cache_of(load_settings())
    assert (cache.root, cache.server) == (root, "http://lakefs")
    tenth = free_space(root).size // 10
    assert cache.max_bytes == (pytest.approx(tenth, rel=0.1) if limit is None else limit)


# -------------------------------------------------------------------------------------- `perago fence`


def test_a_branch_is_fenced_checked_and_unfenced(project: Project, shared_embedded: EmbeddedServices) -> None:
    shared_embedded.lakefs.seed("my-data", "main", {"a": "1"})
    variables = shared_embedded.environment()

    bare = project.run("fence", "status", "my-data/main", **variables)
    assert (bare.code, "publish fence absent" in bare.out) == (1, True)
    assert "perago fence install my-data/main" in bare.out
    installed = project.run("fence", "install", "my-data/main", **variables)
    assert (installed.code, installed.err) == (0, "")
    assert "publish fence enforced" in installed.out
    assert FENCE_PATH in shared_embedded.lakefs.tree("my-data", "main")
    status = project.run("fence", "status", "my-data/main", "--json", **variables)
    head = shared_embedded.lakefs.get_commit("my-data", "main").id
    expected = {"repository": "my-data", "branch": "main", "head": head, "fence": "enforced"}
    assert (status.code, json.loads(status.out)) == (0, expected)
    removed = project.run("fence", "remove", "my-data/main", **variables)
    assert (removed.code, FENCE_PATH in shared_embedded.lakefs.tree("my-data", "main")) == (0, False)


def test_an_unknown_branch_and_staged_work_are_reported(project: Project, shared_embedded: EmbeddedServices) -> None:
    shared_embedded.lakefs.seed("busy", "main", {"a": "1"})
    objects.put_object(shared_embedded.lakefs.server.repository("busy"), "main", "theirs", b"1")
    missing = project.run("fence", "install", "busy/nope", **shared_embedded.environment())
    assert missing.code == 1
    assert "has no branch nope in busy" in missing.err
    project.run("fence", "install", "busy/main", **shared_embedded.environment()).ends(1, "uncommitted changes")
