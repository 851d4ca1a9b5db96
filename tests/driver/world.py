"""One workflow of one task on fresh models, everything that was tried for it, and what must hold however it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, ClassVar, cast

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.driver import AttemptRuntime, deliver_report, run_attempt
from perago.driver.rebase import TURNS_FILE
from perago.embedded.lakefs import commits as model_commits
from perago.embedded.lakefs import objects, references
from perago.ports import Commit, Delivery, DeliveryCheck, TaskStatus, WorkspaceStore
from perago.settings import PublishFence
from perago.taskdef import build_task_definition
from perago.testing import InMemoryServices

from .editing import TASK, WORKFLOW, expected_tree
from .tried import OPEN, Killed, Recorder, Tried

INPUT = {"raw/a.csv": "1", "raw/b.csv": "2", "readme": "3"}
FOREIGN = {"raw/foreign": "theirs"}
REPOSITORY, BRANCH = "workspace", "main"
_BLAME = "is not what this attempt built"
_LOUD = (OPEN, "took place as commit", _BLAME)


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
        block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": self.given_ref()}
        self.workflow = conductor.start_workflow("matrix", {"workspace": block, "params": params})

    def definition(self) -> dict[str, Any]:
        """Of the workflow, which is called `matrix`."""
        return WORKFLOW

    def given_ref(self) -> Any:
        """`workspace.ref` as the workflow gets it."""
        return self.ref

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
        store = cast("WorkspaceStore", Recorder(self.store, tried.journal))
        queue = Recorder(services.conductor, tried.journal)
        root, clock = services.workspace_root, services.clock
        try:
            fence = cast("DeliveryCheck", queue)
            tried.record = run_attempt(
                self.task,
                delivery,
                AttemptRuntime(
                    store=store,
                    delivery_check=fence,
                    workspace_root=root,
                    clock=clock,
                    limits=services.limits,
                    proofs=services.proofs,
                ),
            )
            if report and tried.record.report is not None:
                found = tried.record.report
                tried.delivered = deliver_report(cast("Any", queue), clock, delivery, found, "w0001", services.limits)
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

    def commit_nothing(self) -> None:
        """Somebody else makes an empty commit."""
        self.services.seed({})
        self.foreign = True

    def terminate(self) -> None:
        """Somebody ends the workflow."""
        if self.status == "RUNNING":
            self.services.conductor.terminate_workflow(self.workflow)

    def redeliver(self) -> None:
        """The task goes to another worker, which is quick."""
        self.services.conductor.hand_back(self.tried[-1].delivery)
        self.run(self.take())

    def redeliver_and_hold(self) -> None:
        """The task goes to another worker, which never comes back."""
        self.services.conductor.hand_back(self.tried[-1].delivery)
        self.take()

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

    def rerun(self) -> None:
        """The same, and it is run."""
        self.order_rerun()
        self.run(self.take())

    def rerun_and_hold(self) -> None:
        """The process stands still for long. Meanwhile the task is run again, by a worker that is at work for ever."""
        self.services.clock.advance(700)
        self.terminate()
        if self.status == "TERMINATED":
            self.services.conductor.rerun_workflow(self.workflow, self.tried[-1].delivery.task_id)
            self.take()

    def order_restart(self) -> None:
        """Somebody ends the workflow and begins it again."""
        self.terminate()
        if self.status == "TERMINATED":
            self.services.clock.advance(1)
            self.services.conductor.restart_workflow(self.workflow)

    def restart(self) -> None:
        """The same, and it is run."""
        self.order_restart()
        self.run(self.take())

    def time_out(self) -> None:
        """The response time-out passes, and the retry is quick."""
        self.services.clock.advance(601)
        self.services.conductor.sweep()
        self.services.clock.advance(2)
        self.run(self.take())

    def stray(self) -> None:
        """Somebody puts an object on a staging branch."""
        for branch in self.staging_branches():
            objects.put_object(self.services.lakefs.server.repository(REPOSITORY), branch, "raw/stray", b"theirs")

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
            yield from self._asked(tried)
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

    def _asked(self, tried: Tried) -> Iterator[str]:
        journal = tried.journal
        for index, name in enumerate(journal):
            before, later = journal[:index], journal[index + 1 :]
            if name == "no" and not {"delete_branch"}.issuperset(later):
                yield f"after the delivery check said no: {later}"
            if name == "create_branch":
                before = _before_the_first_try(before)
            if name in ("create_branch", "report") and before[-1:] != ["yes"]:
                yield f"{name} without the delivery check: {before}"
            if name == "merge" and not _stands_before_merge(before):
                yield f"a merge without delivery check and look: {before}"
            if name == "delete_branch" and not {"yes", "create_branch"}.intersection(before):
                yield f"a branch of others is removed without the delivery check: {before}"
        if journal.count("merge") > 3 + max(0, journal.count("create_branch") - 1):  # one more for each race lost
            yield f"{journal.count('merge')} merges"

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


def _before_the_first_try(before: list[str]) -> list[str]:
    """Without earlier tries to create the same branch, and looks whether they did."""
    while before and before[-1] in ("create_branch", "get_commit"):
        before = before[:-1]
    return before


def _stands_before_merge(before: list[str]) -> bool:
    """Whether the delivery check said yes, the branch was read, perhaps more than once, and nothing else came after."""
    while before and before[-1] == "history":
        before = before[:-1]
        if before[-1:] == ["yes"]:
            return True
    return False
