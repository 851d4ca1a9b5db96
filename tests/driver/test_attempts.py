"""Whole attempts on the in-memory services: what is published, and how each failure is reported."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from perago import WorkspaceSpec, require_glob, task
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.driver import Limits
from perago.embedded.lakefs import InMemoryLakeFS, commits, objects
from perago.embedded.lakefs import objects as model_objects
from perago.ports import TaskStatus, VirtualClock
from perago.testing import Outcome
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.workspace.layout import LayoutRefused, create_directories, directories_to_create, listing_of, plan_layout
from perago.workspace.scan import scan_tree

from . import tasks
from .tasks import Params, assert_ended

TREE: dict[str, str | bytes | None] = {"raw/a.csv": "x\n1\n", "raw/b.csv": "x\n2\n", "readme": "hello"}
COMPLETED, FAILED, TERMINAL = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the open files of a process")


class Seen(BaseModel):
    lines: list[str]


def test_the_changes_of_the_function_are_published_as_one_merge_on_the_input_ref(services: InMemoryServices) -> None:
    ref = services.seed(TREE)
    task = task_of(tasks.edit)
    services.start(task, Params(do="edit", number=7), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is COMPLETED
    assert outcome.result == {"number": 7}
    assert services.tree() == {"out/result.txt": b"done", "raw/a.csv": b"changed", "readme": b"hello"}
    (merge,) = services.lakefs.history("workspace", "main", until=ref, limit=10)
    assert outcome.output["workspace"]["ref"] == outcome.commit == merge.id
    assert merge.parents[0] == ref
    assert merge.metadata["perago.task_id"] == outcome.delivery.task_id
    assert outcome.task["status"] == "COMPLETED"


@ONLY_LINUX
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_file_in_a_cycle_is_not_published_without_its_buffer(services: InMemoryServices) -> None:
    outcome = services.run(tasks.edit, Params(do="leave a file in a cycle"), TREE)
    assert_ended(outcome, FAILED, "left 'left.csv' open for writing")
    gc.collect()  # or another test has the warning


def test_open_files_that_are_not_published_are_harmless(services: InMemoryServices) -> None:
    assert services.run(tasks.edit, Params(do="leave harmless files"), TREE).status is COMPLETED
    while tasks.LEFT_OPEN:
        tasks.LEFT_OPEN.pop().close()


@ONLY_LINUX
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_database_that_the_function_no_longer_has_is_published(services: InMemoryServices) -> None:
    assert services.run(tasks.edit, Params(do="leave a database"), TREE).status is COMPLETED
    assert b"CREATE TABLE numbers" in services.tree()["left.db"]


@pytest.mark.parametrize(
    ("kept", "expected"), [("application/octet-stream", "text/csv"), ("text/x-notes", "text/x-notes")]
)
def test_files_get_the_content_types_of_their_names(services: InMemoryServices, kept: str, expected: str) -> None:
    """A rewritten object keeps its own, unless that says nothing."""
    services.seed(TREE)
    repository = services.lakefs.server.repository("workspace")
    objects.put_object(repository, "main", "raw/a.csv", b"before", content_type=kept)
    ref = commits.commit(repository, "main", "a file of another client").commit.id
    task = task_of(tasks.edit)
    services.start(task, Params(do="edit"), ref=ref)
    commit = services.attempt(tasks.edit).commit or ""
    listed = {entry.key: entry.content_type for entry in services.lakefs.list_objects("workspace", commit, "")}
    assert (listed["out/result.txt"], listed["raw/a.csv"]) == ("text/plain", expected)


@pytest.mark.parametrize("do", ["nothing", "rewrite the same"])
def test_an_unchanged_tree_completes_with_the_input_ref(services: InMemoryServices, do: str) -> None:
    outcome = services.run(tasks.edit, Params(do=do), TREE)

    assert outcome.status is COMPLETED
    assert outcome.output["workspace"]["ref"] == outcome.input_ref == outcome.commit
    assert services.faults.calls("create_branch") == 0


def test_a_read_only_task_that_writes_fails_with_the_list(services: InMemoryServices) -> None:
    outcome = services.run(tasks.look, Params(do="edit"), TREE)

    assert_ended(outcome, FAILED, "added 'out/result.txt'; changed 'raw/a.csv'; removed 'raw/b.csv'")
    assert services.tree()["raw/b.csv"] == b"x\n2\n"


def test_emptying_a_workspace_keeps_the_hooks_of_the_repository(services: InMemoryServices) -> None:
    outcome = services.run(tasks.edit, Params(do="empty"), {"raw/a.csv": "1"})
    assert outcome.status is COMPLETED, outcome.reason
    assert services.tree() == {}


@pytest.mark.parametrize(
    ("do", "status", "reason"),
    [
        ("fail", FAILED, "not today"),
        ("give up", TERMINAL, "never"),
        ("raise", FAILED, "KeyError"),
        ("raise with text", FAILED, "ValueError: bad column"),
        ("exit", FAILED, "SystemExit: the function called sys.exit(3)"),
        ("interrupt", FAILED, "KeyboardInterrupt"),
        ("temporary", FAILED, "post guardrail forbid_glob('**/*.tmp'): matched 1 file: 'left.tmp'"),
        ("symlink outside", FAILED, "'link' (symlink)"),
        ("fifo", FAILED, "'pipe' (FIFO)"),
        ("socket", FAILED, "'s.sock' (socket)"),
        ("not utf-8", FAILED, "name is not UTF-8"),
        ("hook", FAILED, "_lakefs_actions/x.yaml"),
        ("delete the workspace", FAILED, "was deleted"),
        ("replace the workspace", FAILED, "was replaced"),
        ("make the workspace again", FAILED, "was replaced by another directory"),
        pytest.param("leave a file open", FAILED, "left 'left.csv' open for writing", marks=ONLY_LINUX),
        pytest.param("leave a log file", FAILED, "`logger.removeHandler(handler); handler.close()`", marks=ONLY_LINUX),
    ],
)
def test_misbehavior_of_a_function_ends_in_a_clear_failure(
    services: InMemoryServices, do: str, status: TaskStatus, reason: str
) -> None:
    outcome = services.run(tasks.edit, Params(do=do), TREE)

    assert_ended(outcome, status, reason)
    assert len(services.tree()) == len(TREE)
    assert services.run(tasks.edit, Params(), TREE).status is COMPLETED, "the worker goes on"
    while tasks.LEFT_OPEN:
        tasks.LEFT_OPEN.pop().close()


def test_a_violated_pre_guardrail_is_final_and_the_function_is_not_called(services: InMemoryServices) -> None:
    outcome = services.run(tasks.edit, Params(do="fail"), {"raw/a.CSV": "1"})

    assert outcome.status is TERMINAL
    assert str(outcome.reason).startswith("pre guardrail require_glob('raw/**/*.csv', min_count=1): matched 0 files")
    assert "raw/a.CSV" in str(outcome.reason)


def test_a_publish_budget_keeps_a_large_change_back(services: InMemoryServices) -> None:
    outcome = services.run(tasks.budget, Params(do="edit"), TREE)

    assert_ended(outcome, FAILED, "3 changed objects exceed publish_budget.max_changed_objects (1)")
    assert services.faults.calls("create_branch") == 0


@pytest.mark.parametrize("do", ["none", "dict", "model", "invalid"])
def test_a_result_of_the_wrong_kind_is_final(services: InMemoryServices, do: str) -> None:
    outcome = services.run(tasks.wrong, Params(do=do))
    assert (outcome.status, str(outcome.reason)[:15]) == (TERMINAL, "Invalid result:")


def process_state() -> tuple[object, ...]:
    return (
        Path.cwd(),
        dict(os.environ),
        signal.getsignal(signal.SIGUSR1),
        signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        signal.getitimer(signal.ITIMER_PROF),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )


def test_process_state_is_put_back_after_the_function(services: InMemoryServices) -> None:
    umask = os.umask(0o022)
    try:
        before = process_state()
        assert services.run(tasks.edit, Params(do="leave the place"), TREE).status is COMPLETED
        assert process_state() == before
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(umask)


@pytest.mark.parametrize(
    ("patterns", "seen"), [((), []), (("LAKECTL_*",), ["LAKECTL_X"]), (("*",), ["CONDUCTOR_X", "LAKECTL_X"])]
)
def test_withheld_variables_are_there_if_the_task_asks_for_them(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch, patterns: tuple[str, ...], seen: list[str]
) -> None:
    @task(name="driver.looks", owner_email="data@example.com", environment=patterns)
    def looks(params: Params) -> Seen:
        return Seen(lines=sorted(name for name in os.environ if name.endswith("_X")))

    for name in ("CONDUCTOR_X", "LAKECTL_X"):
        monkeypatch.setenv(name, "1")
    assert services.run(looks, Params()).result == {"lines": seen}
    assert os.environ["LAKECTL_X"] == "1"


def test_the_function_learns_about_its_attempt(services: InMemoryServices) -> None:
    assert services.run(tasks.edit, Params(do="log"), TREE).log == ("driver.edit 0",)


# ------------------------------------------------------------------------------- input

REF = "a" * 64
WORKSPACE = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": REF}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"params": {}}, "/workspace: is missing"),
        ({"workspace": WORKSPACE}, "/params: is missing"),
        ({"workspace": WORKSPACE, "params": {}, "extra": 1}, "/extra: is unknown"),
        ({"workspace": WORKSPACE, "params": {"number": "x"}}, "/params/number"),
        ({"workspace": {**WORKSPACE, "ref": "main"}, "params": {}}, "/workspace/ref: must be a full commit id"),
        ({"workspace": WORKSPACE, "params": {}}, "not found"),
        ({"workspace": {**WORKSPACE, "repository": "other"}, "params": {}}, "not found"),
        ({"workspace": {**WORKSPACE, "branch": "other"}, "params": {}}, "not found"),
    ],
)
def test_input_that_can_never_succeed_is_final_before_anything_is_downloaded(
    services: InMemoryServices, payload: dict[str, Any], words: str
) -> None:
    services.seed(TREE)
    task = task_of(tasks.edit)
    services.start_raw(task, payload)
    outcome = services.attempt(tasks.edit)

    assert_ended(outcome, TERMINAL, words)
    assert services.faults.calls("download") == 0


def test_an_input_that_conductor_moved_elsewhere_is_final(services: InMemoryServices) -> None:
    outcome = services.run(tasks.plain, {"do": "x" * 5_000_000})

    assert_ended(outcome, TERMINAL, "external storage")


@pytest.mark.parametrize(
    "tree",
    [{"../evil": "1"}, {"/evil": "1"}, {"raw//a.csv": "1"}, {"a": "1", "a/b": "2"}, {"raw/./x": "1"}, {"nul\0": "1"}],
    ids=lambda tree: repr(next(iter(tree))),
)
def test_hostile_keys_are_refused_before_anything_is_written(
    services: InMemoryServices, tree: dict[str, str | bytes | None]
) -> None:
    outcome = services.run(tasks.edit, Params(), {**TREE, **tree})

    assert_ended(outcome, TERMINAL, "nothing was downloaded")


ALLOWS = "than the 5 that PERAGO_MAX_WORKSPACE_OBJECTS allows"


@pytest.mark.parametrize(
    ("limits", "tree", "words"),
    [
        (Limits(max_result_bytes=5), TREE, "PERAGO_MAX_RESULT_BYTES"),
        (Limits(max_workspace_bytes=5), TREE, "PERAGO_MAX_WORKSPACE_BYTES"),
        (Limits(max_workspace_objects=5), dict.fromkeys(["raw/a.csv", *"bcdef"], "x"), f"more objects {ALLOWS}"),
    ],
    ids=["result", "bytes", "objects"],
)
def test_what_is_above_a_limit_is_final(limits: Limits, tree: dict[str, str | bytes | None], words: str) -> None:
    with InMemoryServices(limits=limits) as services:
        outcome = services.run(tasks.edit, Params(), tree)
    assert_ended(outcome, TERMINAL, words)


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (("workspace/main",), True),
        (("other/*", "work*/m??n"), True),
        (("workspace/other", "other/main"), False),
        (("WORKSPACE/MAIN",), False),
        (("*/[!m]*",), False),
    ],
)
def test_only_an_allowed_workspace_is_worked_on(patterns: tuple[str, ...], allowed: bool) -> None:
    with InMemoryServices(limits=Limits(allowed_workspaces=patterns)) as services:
        outcome = services.run(tasks.edit, Params(), TREE)
        if allowed:
            assert outcome.status is COMPLETED
            return
        asked = [
            call for call in ("get_commit", "history", "list_branches", "stat_objects") if services.faults.calls(call)
        ]
    assert_ended(outcome, TERMINAL, "PERAGO_ALLOWED_WORKSPACES of this worker does not allow branch 'main'")
    assert asked == []


def test_a_name_with_a_slash_matches_no_pattern() -> None:
    limits = Limits(allowed_workspaces=("*/*",))
    assert limits.allows("a", "b")
    assert not limits.allows("a/../b", "main")
    assert not limits.allows("a", "b/c")


# ----------------------------------------------------------- a part of the tree (`include`, `exclude`)


VIEWED: dict[str, str | bytes | None] = {
    "raw/2024/a.csv": "a",
    "raw/2024/old.bak": "b",
    "raw/2023/a.csv": "c",
    "other/x": "d",
    "../never a file": "e",
}
SPEC = WorkspaceSpec(
    include=["raw/2024/**", "out/**"], exclude=["**/*.bak"], pre=[require_glob("raw/**", min_count=1, max_count=1)]
)


class Written(BaseModel):
    write: dict[str, str] = {}


class Listed(BaseModel):
    seen: list[str]


@task(name="view.rewrite", owner_email="a@example.com", workspace=SPEC)
def rewrite(workspace: Path, params: Written) -> Listed:
    seen = sorted(path.relative_to(workspace).as_posix() for path in workspace.rglob("*") if path.is_file())
    for directory in workspace.iterdir():
        shutil.rmtree(directory)
    for path, text in params.write.items():
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(text)
    return Listed(seen=seen)


def rewritten(services: InMemoryServices, tree: dict[str, str | bytes | None], **written: str) -> Outcome:
    return services.run(rewrite, Written(write={path.replace("__", "/"): text for path, text in written.items()}), tree)


def test_files_outside_of_the_view_are_not_downloaded_judged_or_removed(services: InMemoryServices) -> None:
    outcome = rewritten(services, VIEWED, out__new="n")
    assert outcome.status is TaskStatus.COMPLETED, outcome.reason
    assert outcome.result == {"seen": ["raw/2024/a.csv"]}
    assert services.tree() == {
        "../never a file": b"e",
        "other/x": b"d",
        "out/new": b"n",
        "raw/2023/a.csv": b"c",
        "raw/2024/old.bak": b"b",
    }


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("other__x", "'other/x' (already exists, but the task does not see it)"),
        ("raw__2024__old.bak", "'raw/2024/old.bak' (already exists, but the task does not see it)"),
        ("elsewhere", "'elsewhere' (is not part of what the task sees)"),
    ],
)
def test_writing_outside_publishes_nothing_and_names_the_file(
    services: InMemoryServices, path: str, problem: str
) -> None:
    outcome = rewritten(services, VIEWED, **{path: "n"})
    assert outcome.status is TaskStatus.FAILED
    assert outcome.reason == (
        f"post guardrail: a task can write only files that its include and exclude select: found {problem}"
    )
    assert services.tree()["other/x"] == b"d"


def test_a_view_that_selects_no_file_is_reported(services: InMemoryServices) -> None:
    outcome = rewritten(services, {"other/x": "d", "other/y": "e"})
    assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR, "the pre guardrail judges what the task sees"
    assert "include and exclude leave none of the 2 files of the workspace ref" in outcome.notes


@task(name="view.marked", owner_email="a@example.com", workspace=WorkspaceSpec(include=["data*"]))
def write_data(workspace: Path, params: Written) -> Listed:
    (workspace / "data").write_text("a file")
    return Listed(seen=[])


def test_a_file_does_not_take_the_place_of_an_empty_directory_that_is_not_seen(services: InMemoryServices) -> None:
    """A file and a directory marker of one name: no task that sees both could ever be laid out again."""
    outcome = services.run(write_data, Written(), {"data/": "", "data.csv": "x"})
    assert_ended(outcome, TaskStatus.FAILED, "'data' (is a directory in the part that the task does not see)")


# ----------------------------------------------------------------------------------------------------
# What guardrails see of a commit's listing is what they see of the disk once it is downloaded.


NAMES = st.sampled_from(["a", "b", "A", ".hidden", "a.csv", "é", "e\u0301", "x y"])
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
OBJECTS = st.dictionaries(
    st.one_of(KEYS, KEYS.map(lambda key: f"{key}/")), st.sampled_from([b"", b"1", b"22"]), max_size=12
)


@settings(deadline=None)
@given(objects=OBJECTS, prefix=st.sampled_from(["", "a/", "none/"]))
def test_the_listing_of_a_commit_is_the_scan_of_its_download(objects: dict[str, bytes], prefix: str) -> None:
    tree = {key: b"" if key.endswith("/") else content for key, content in objects.items()}
    tree[FENCE_PATH] = FENCE_TEXT.encode()
    with InMemoryLakeFS(VirtualClock()) as store, tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        workspace.mkdir()
        store.server.create_repository("repo")
        for key, content in tree.items():
            model_objects.put_object(store.server.repository("repo"), "main", key, content)
        commit = store.commit("repo", "main", "m", {}).id
        try:
            placements = plan_layout(store.list_objects("repo", commit, prefix), prefix, workspace)
        except LayoutRefused:
            return  # two keys that one disk cannot hold
        create_directories(workspace, directories_to_create(placements, prefix))
        store.download("repo", commit, workspace, placements)

        listed, found = listing_of(placements, prefix), scan_tree(workspace).listing
        assert (listed.sizes, listed.directories) == (found.sizes, found.directories)
        shutil.rmtree(workspace)
