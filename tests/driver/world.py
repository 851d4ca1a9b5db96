"""One workflow of one task on fresh models, everything that was tried for it, and what must hold however it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, ClassVar, cast

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.driver import AttemptRecord, AttemptRuntime, deliver_report, run_attempt
from perago.driver.publisher import TURNS_FILE
from perago.embedded.lakefs import commits as model_commits
from perago.embedded.lakefs import references
from perago.ports import Commit, Delivery, TaskStatus, WorkspaceStore
from perago.settings import PublishFence
from perago.taskdef import build_task_definition
from perago.testing import InMemoryServices

from .editing import SHARING, TASK, WORKFLOW, expected_tree

INPUT = {"raw/a.csv": "1", "raw/b.csv": "2", "readme": "3"}
FOREIGN = {"raw/foreign": "theirs"}
REPOSITORY, BRANCH = "workspace", "main"
OPEN = "may still appear"
_BLAME = "is not what this attempt built"
_LOUD = (OPEN, "took place as commit", _BLAME)


class Killed(BaseException):
    """The end of a process, as far as a test in the same process can have one."""


@dataclass(slots=True)
class Tried:
    """One delivery that was run in a world."""

    delivery: Delivery
    record: AttemptRecord | None = None
    killed: bool = False

    @property
    def words(self) -> str:
        """Why it failed or was lost."""
        if self.record is None:
            return ""
        return str(self.record.report.reason if self.record.report else self.record.lost_reason)

    @property
    def completed(self) -> bool:
        """Whether it has published, or found that there is nothing to publish."""
        report = self.record.report if self.record else None
        return report is not None and report.status is TaskStatus.COMPLETED

    @property
    def may_leave_a_branch(self) -> bool:
        """Whether it was killed, or does not know what becomes of its merge: the branch tells whoever comes next."""
        return self.killed or OPEN in self.words


class World:
    """A started workflow. `begin` runs its first delivery, `settle` all that follow."""

    task: ClassVar[Task] = TASK
    files: ClassVar[Mapping[str, str]] = INPUT

    def __init__(self, services: InMemoryServices, *, fence: str | None = FENCE_TEXT, quiet: str = "never") -> None:
        """`fence`: the text that lies where the publish fence belongs; None: there is nothing."""
        self.services = services
        self.tried: list[Tried] = []
        self.store: object = services.lakefs
        """The way to lakeFS of the deliveries that are run."""
        self.foreign = False
        self.has_altered_fence = fence not in (FENCE_TEXT, None)
        self.ref = services.seed(dict(self.files) if fence is None else {**self.files, FENCE_PATH: fence})
        self.start = services.tree(self.ref)
        conductor = services.conductor
        conductor.register_task_definitions([build_task_definition(self.task)])
        conductor.create_workflow_definition(self.definition())
        params = {"quiet": quiet, "began": int(services.clock.now() * 1000)}
        block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": self.ref}
        self.workflow = conductor.start_workflow("matrix", {"workspace": block, "params": params})

    def definition(self) -> dict[str, Any]:
        """Of the workflow, which is called `matrix`."""
        return WORKFLOW

    # ------------------------------------------------------------------------- what is done

    def take(self) -> Delivery | None:
        """The next delivery that waits."""
        return next(iter(self.services.conductor.poll(self.task.name, "w0001", count=1, wait_seconds=0)), None)

    def run(self, delivery: Delivery | None, *, report: bool = True) -> None:
        """Run and report a delivery, as a worker does; or run it only."""
        if delivery is None:
            return
        services, tried = self.services, Tried(delivery)
        self.tried.append(tried)
        runtime = AttemptRuntime(
            store=cast("WorkspaceStore", self.store),
            delivery_check=services.conductor,
            workspace_root=services.workspace_root,
            clock=services.clock,
            limits=services.limits,
            proofs=services.proofs,
        )
        try:
            tried.record = run_attempt(self.task, delivery, runtime)
            if report and tried.record.report is not None:
                found = tried.record.report
                deliver_report(services.conductor, services.clock, delivery, found, "w0001", services.limits)
        except Killed:
            tried.killed = True

    def settle(self) -> None:
        """Let time-outs and retries happen until the workflow is over."""
        for _ in range(10):
            if self.is_over:
                return
            self.services.clock.advance(700)
            self.services.conductor.sweep()
            self.run(self.take())
        raise AssertionError(f"the workflow does not end: {[tried.words for tried in self.tried]}")

    @property
    def is_over(self) -> bool:
        """Whether the workflow has ended, or nothing in it will: a rerun in a fork takes the JOIN away."""
        rows = self.services.conductor.workflow(self.workflow)["tasks"]
        waits = any(row["status"] in ("SCHEDULED", "IN_PROGRESS") and row["taskType"] == self.task.name for row in rows)
        return self.status != "RUNNING" or not waits

    @property
    def status(self) -> str:
        """Of the workflow."""
        (found,) = self.services.conductor.workflow_summaries()
        return found.status.value

    # ------------------------------------------------------------- what happens in between

    def commit_foreign(self) -> None:
        """Somebody else commits to the branch."""
        self.services.seed(FOREIGN)
        self.foreign = True

    def terminate(self) -> None:
        """Somebody ends the workflow."""
        if self.status == "RUNNING":
            self.services.conductor.terminate_workflow(self.workflow)

    def hand_back(self) -> None:
        """The next delivery is given back unused."""
        delivery = self.take()
        assert delivery is not None
        self.services.conductor.hand_back(delivery)

    def order_rerun(self) -> None:
        """Somebody ends the workflow and orders the same task again."""
        self.terminate()
        if self.status == "TERMINATED":
            self.services.clock.advance(1)  # the start time alone tells a rerun from the run before
            self.services.conductor.rerun_workflow(self.workflow, self.tried[-1].delivery.task_id)

    def order_restart(self) -> None:
        """Somebody ends the workflow and begins it again."""
        self.terminate()
        if self.status == "TERMINATED":
            self.services.clock.advance(1)
            self.services.conductor.restart_workflow(self.workflow)

    def complete(self) -> None:
        """The first delivery publishes and reports. Then the workflow is run again from it."""
        self.run(self.take())
        self.services.clock.advance(1)
        self.services.conductor.rerun_workflow(self.workflow, self.tried[0].delivery.task_id)

    def publish_and_die(self) -> None:
        """The first delivery publishes, and its process ends before the report."""
        self.run(self.take(), report=False)
        self.time_out()

    def time_out(self) -> None:
        """The response timeout passes, and the retry delay."""
        self.services.clock.advance(601)
        self.services.conductor.sweep()
        self.services.clock.advance(2)

    @staticmethod
    def kill() -> None:
        """The process ends."""
        raise Killed

    # ------------------------------------------------------------------------ what must hold

    def staging_branches(self) -> list[str]:
        """All of them, by the server itself."""
        branches = references.list_branches(
            self.services.lakefs.server.repository(REPOSITORY), show_hidden=True
        ).results
        return [branch.name for branch in branches if branch.name != BRANCH]

    def commits(self) -> tuple[Commit, ...]:
        """First-parent commits after the input ref, newest first, by the server itself: no fault meets this."""
        records = model_commits.first_parents(self.services.lakefs.server.repository(REPOSITORY), BRANCH)
        return tuple(takewhile(lambda commit: commit.id != self.ref, (record.commit for record in records)))

    def publications(self) -> tuple[Commit, ...]:
        """Those that attempts made."""
        return tuple(commit for commit in self.commits() if "perago.task_id" in commit.metadata)

    def violations(self) -> Iterator[str]:
        """Every promise that was broken."""
        yield from self._on_the_branch()
        yield from self.ended()
        yield from self._left_behind()
        for tried in self.tried:
            yield from self._said(tried)
        for row in self.rows():
            yield from self._completed(row)
        if self.status in ("COMPLETED", "RUNNING"):
            yield from self.at_the_end()

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """The attempts that Conductor has completed."""
        for row in self.services.conductor.workflow(self.workflow)["tasks"]:
            if row["taskType"] == self.task.name and row["status"] == "COMPLETED":
                yield row

    def at_the_end(self) -> Iterator[str]:
        *_, row = self.rows()
        if not self.foreign and self.commit(BRANCH).id != row["outputData"]["workspace"]["ref"]:
            yield "the branch holds something else than what was reported"

    def _on_the_branch(self) -> Iterator[str]:
        commits, publications = self.commits(), self.publications()
        undone = {gone for commit in publications for gone in commit.metadata["perago.supersedes"].split(",")}
        left = [commit for commit in publications if commit.id not in undone and _moves_data(commit)]
        steps = Counter(commit.metadata["perago.step_key"] for commit in left)
        if any(number > 1 for number in steps.values()):
            yield f"{steps} publications"
        if self.services.limits.publish_fence is not PublishFence.OFF:
            yield from (
                f"{commit.id} is a publication without the fence" for commit in publications if self._bare(commit)
            )
        if any(commit.parents[0] != commit.metadata.get("perago.expected_head") for commit in publications):
            yield "a publication on another head than it was built on"
        if commits and commits[-1].parents[0] != self.ref:
            yield "the branch was rewritten"
        if "raw/foreign" in self._seen_by(commits) and self.services.tree().get("raw/foreign") != b"theirs":
            yield "a foreign file is gone"

    def _bare(self, commit: Commit) -> bool:
        return self.services.lakefs.tree(REPOSITORY, commit.id).get(FENCE_PATH) != FENCE_TEXT.encode()

    def _seen_by(self, commits: tuple[Commit, ...]) -> set[str]:
        return {path for commit in commits for path in self.services.tree(commit.id)}

    def ended(self) -> Iterator[str]:
        """A workflow fails because others have committed, and says so; never for an error, and never for a publication
        that nobody reported."""
        if self.status != "FAILED":
            return
        moved = ["has moved since the input ref", "others have committed there as well"]
        altered = ["has the name of perago's publish fence"] if self.has_altered_fence else ["a good reason"]
        named = moved if self.foreign else altered
        if not any(words in self.tried[-1].words for words in named):
            yield f"the workflow failed without need or word: {self.tried[-1].words}"

    def _left_behind(self) -> Iterator[str]:
        last = self.tried[-1]
        tidied = last.completed and (last.delivery.retried_task_id is not None or last.delivery.poll_count > 1)
        left = any(tried.may_leave_a_branch for tried in self.tried) and not tidied
        notes = [note for tried in self.tried if tried.record for note in tried.record.notes]
        branches = self.staging_branches()
        if (
            branches
            and not left
            and not any("left behind" in note or "could not be looked for" in note for note in notes)
        ):
            yield f"staging branches: {branches}"
        left_files = [path for path in self.services.workspace_root.iterdir() if path.name != TURNS_FILE]
        if left_files and not any(tried.killed for tried in self.tried):
            yield "an attempt directory"

    def _said(self, tried: Tried) -> Iterator[str]:
        if tried.record is None:
            return
        mine = [str(part) for part in tried.delivery.identity]
        own = [commit for commit in self.publications() if [commit.metadata[key] for key in _IDENTITY] == mine]
        report, commit_id = tried.record.report, tried.record.published_commit
        unchanged = commit_id == self.ref and expected_tree(tried.delivery, self.start) == dict(
            sorted(self.start.items())
        )
        if commit_id is not None and not unchanged and [commit.id for commit in own] != [commit_id]:
            yield f"{commit_id} is said to be the publication of {tried.delivery.identity}"
        if commit_id is not None and self.services.tree(commit_id) != self.expected(tried.delivery, commit_id):
            yield "a verified publication is not the input plus the changes"
        if commit_id is not None and own and own[0].parents[0] != own[0].metadata.get("perago.expected_head"):
            yield "a verified publication on another head"
        steps = [step.name for step in tried.record.steps]
        if "ValidateRecordedResult" in steps and "RunFunction" in steps[steps.index("ValidateRecordedResult") :]:
            yield f"a publication was taken over and the function run all the same: {steps}"
        if report is not None and (report.status is TaskStatus.COMPLETED) != (commit_id is not None):
            yield f"{report.status} with publication {commit_id}"
        if own and commit_id is None and not any(words in tried.words for words in _LOUD):
            yield f"a publication is kept quiet: {tried.words}"
        if not own and _BLAME in tried.words:
            yield f"somebody else's publication is taken for a broken one: {tried.words}"
        if report is not None and report.reason is not None and len(report.reason) > 500:
            yield "a reason is too long"

    def _completed(self, row: Mapping[str, Any]) -> Iterator[str]:
        if not self._is_exact(row):
            yield f"Conductor holds a commit that is not input plus changes of task {row['taskId']}"
        commit = self.commit(row["outputData"]["workspace"]["ref"])
        if commit.id != self.ref and commit.metadata["perago.start_time"] != str(row["startTime"]):
            yield f"a report of a delivery that is over was taken for task {row['taskId']}"

    def commit(self, commit_id: str) -> Commit:
        """A commit, by the server itself."""
        return model_commits.get_commit(self.services.lakefs.server.repository(REPOSITORY), commit_id).commit

    def _is_exact(self, row: Mapping[str, Any]) -> bool:
        commit_id = row["outputData"]["workspace"]["ref"]
        tree = self.services.tree(commit_id)
        deliveries = [tried.delivery for tried in self.tried if tried.delivery.task_id == row["taskId"]]
        return any(tree == self.expected(delivery, commit_id) for delivery in deliveries)

    def expected(self, delivery: Delivery, commit_id: str) -> dict[str, bytes]:
        """The tree that a publication must have: the input and the changes of the delivery that made them, which for an
        adoption is an earlier one."""
        metadata = self.commit(commit_id).metadata
        if adopted := metadata.get("perago.adopts"):
            return self.expected(delivery, adopted)
        identity = tuple(metadata.get(key, "") for key in _IDENTITY)
        made = (tried.delivery for tried in self.tried if tuple(map(str, tried.delivery.identity)) == identity)
        return expected_tree(next(made, delivery), self.start)


_IDENTITY = ("perago.task_id", "perago.poll_count", "perago.start_time")


def _moves_data(commit: Commit) -> bool:
    return commit.metadata["perago.phase"] != "fence"


_PARTS = ("raw", "side")


class SharedWorld(World):
    """A workflow of one such step."""

    task: ClassVar[Task] = SHARING
    files: ClassVar[Mapping[str, str]] = {**INPUT, "side/a.csv": "1", "side/b.csv": "2"}

    def definition(self) -> dict[str, Any]:
        return _workflow([_step("raw")])

    def ended(self) -> Iterator[str]:
        """Nothing of what happens here is a reason to fail."""
        if self.status == "FAILED":
            yield f"the workflow failed without need: {self.tried[-1].words}"

    def at_the_end(self) -> Iterator[str]:
        """The branch is what its commits make of it, and Conductor counts what is in effect there."""
        head = self.commit("main").id
        if head != self.ref and self.services.tree() != self.folded(head):
            yield "the branch holds something else than what its commits have made"
        reported = {self._made(self.commit(row["outputData"]["workspace"]["ref"])).id for row in self.rows()}
        undone = self._undone(self.commits())
        living = {commit.id for commit in self.publications() if _moves_data(commit) and commit.id not in undone}
        if reported & undone or not living <= reported:
            yield f"the branch holds something else than what was reported: {living} for {reported}"

    def expected(self, delivery: Delivery, commit_id: str) -> dict[str, bytes]:
        """What all commits up to this one make of the input; for the input itself, what the delivery makes of it."""
        return expected_tree(delivery, self.start) if commit_id == self.ref else self.folded(commit_id)

    def folded(self, commit_id: str) -> dict[str, bytes]:
        """The input and, one after the other, the changes of others and of the publications that are in effect."""
        commits = self.commits()
        upto = commits[[commit.id for commit in commits].index(commit_id) :][::-1]
        undone, tree = self._undone(upto), self.start
        for commit in upto:
            maker = self._maker(commit)
            if maker is None:
                tree = self._with_changes_of(commit, tree)
            elif commit.id not in undone and not commit.metadata["perago.adopts"]:
                tree = expected_tree(maker, tree)
        return dict(sorted(tree.items()))

    def _with_changes_of(self, commit: Commit, tree: Mapping[str, bytes]) -> dict[str, bytes]:
        before, after = self.services.tree(commit.parents[0]), self.services.tree(commit.id)
        kept = {key: content for key, content in tree.items() if key in after or key not in before}
        return kept | {key: content for key, content in after.items() if before.get(key) != content}

    def _maker(self, commit: Commit) -> Delivery | None:
        identity = [commit.metadata.get(f"perago.{key}") for key in ("task_id", "poll_count", "start_time")]
        made = (each.delivery for each in self.tried if list(map(str, each.delivery.identity)) == identity)
        return next(made, None)

    def _made(self, commit: Commit) -> Commit:
        while adopted := commit.metadata.get("perago.adopts"):
            commit = self.commit(adopted)
        return commit

    @staticmethod
    def _undone(commits: tuple[Commit, ...]) -> set[str]:
        return {gone for commit in commits for gone in commit.metadata.get("perago.supersedes", "").split(",") if gone}


class ForkedWorld(SharedWorld):
    """A fork of two such steps, which change a directory each."""

    def definition(self) -> dict[str, Any]:
        fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN"}
        join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": list(_PARTS)}
        return _workflow([{**fork, "forkTasks": [[_step(part)] for part in _PARTS]}, join])


def _workflow(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": "matrix", "version": 1, "schemaVersion": 2, "tasks": tasks}


def _step(part: str) -> dict[str, Any]:
    params = {"quiet": "${workflow.input.params.quiet}", "began": "${workflow.input.params.began}", "part": part}
    inputs = {"workspace": "${workflow.input.workspace}", "params": params}
    return {"name": SHARING.name, "taskReferenceName": part, "type": "SIMPLE", "inputParameters": inputs}
