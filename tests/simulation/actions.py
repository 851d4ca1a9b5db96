"""What can happen at a call: to the attempt that makes it, to the branch, to the workflow."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.embedded.lakefs import LakeFSError, commits, objects, references
from perago.ports import Refused, ServiceError, Unavailable, Unclear
from perago.workspace.directory import sweep
from perago.workspace.sweep import CACHE

from ..cache.shelves import entries, flip_a_bit
from .attempts import Attempt, Killed
from .editing import DEPLOYED
from .schedules import Event

if TYPE_CHECKING:
    from .world import World

Send = Callable[[], str] | None
_REPOSITORY, _BRANCH = "workspace", "main"
ALTERATION = "# and something else"
_OUTSIDE = (("o/theirs", "theirs"), ("a", "theirs"), ("d/x", ""), ("o/theirs", None), ("n1", "1"), ("c", None))


class Actors:
    """The hands of everybody else in a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._conductor = world.services.conductor
        self._server = world.services.lakefs.server

    # ------------------------------------------------------------------------ to the attempt

    def park(self, attempt: Attempt, event: Event, _: Send) -> None:
        """Others are faster."""
        self._world.park(attempt, event.number)

    def pause(self, attempt: Attempt, event: Event, _: Send) -> None:
        """The process stops until after its response timeout."""
        self._world.pass_time(700)
        self._world.pass_time(2)
        self._world.park(attempt, event.number)

    def kill(self, *_: Any) -> None:
        """Its process ends."""
        raise Killed

    def lost(self, attempt: Attempt, event: Event, _: Send) -> None:
        """No usable answer comes."""
        raise Unclear("service", event.operation, "injected: no answer")

    def unavailable(self, attempt: Attempt, event: Event, _: Send) -> None:
        """The service fails."""
        raise Unavailable("service", event.operation, "injected: out of order")

    def refused(self, attempt: Attempt, event: Event, _: Send) -> None:
        """The service says no, whatever it has done."""
        raise Refused("service", event.operation, "injected: refused")

    def held(self, attempt: Attempt, event: Event, send: Send) -> None:
        """The merge arrives later."""
        if send is not None:
            self._world.hold(attempt, send, event.number)

    def doubled(self, attempt: Attempt, event: Event, send: Send) -> None:
        """A proxy delivers the call twice, and the attempt hears the second answer."""
        if send is not None:
            send()

    def hang_up(self, attempt: Attempt, event: Event, _: Send) -> None:
        """The attempt goes to another worker. Its own worker is informed immediately."""
        self._give_away(attempt)
        attempt.interrupt()

    def redeliver(self, attempt: Attempt, event: Event, _: Send) -> None:
        """The attempt goes to another worker."""
        self._give_away(attempt)
        self._world.park(attempt, event.number)

    def fail(self, *_: Any) -> None:
        """The function fails."""
        raise RuntimeError("injected: not today")

    def _give_away(self, attempt: Attempt) -> None:
        if self._world.is_current(attempt):
            self._conductor.hand_back(attempt.delivery)

    # ------------------------------------------------------------------------- to the branch

    def outside(self, attempt: Attempt | None, event: Event | None, _: Send = None, *, number: int = 0) -> None:
        """A person commits to the branch."""
        path, text = _OUTSIDE[(event.number if event else number) % len(_OUTSIDE)]
        if text is None:
            objects.delete_objects(self._server.repository(_REPOSITORY), _BRANCH, [path])
        else:
            objects.put_object(self._server.repository(_REPOSITORY), _BRANCH, path, text.encode())
        commit = commits.commit(self._server.repository(_REPOSITORY), _BRANCH, f"outside {path}", allow_empty=True)
        self._world.outside.add(commit.commit.id)

    def empty(self, *_: Any) -> None:
        """A person makes an empty commit."""
        commit = commits.commit(self._server.repository(_REPOSITORY), _BRANCH, "outside, empty", allow_empty=True)
        self._world.outside.add(commit.commit.id)

    def revert(self, *_: Any, number: int = 0) -> None:
        """A person reverts the newest publication, if that can be done."""
        history = self._world.history()
        newest = next((record.commit for record in history[::-1] if len(record.commit.parents) == 2), None)
        if newest is not None:
            with suppress(LakeFSError):
                commit = commits.revert(self._server.repository(_REPOSITORY), _BRANCH, newest.id, parent_number=1)
                self._world.outside.add(commit.commit.id)
                self._world.reverted[commit.commit.id] = newest.id

    def alter(self, *_: Any) -> None:
        """A person edits the publish fence."""
        self._fence(FENCE_TEXT + ALTERATION)

    def unfence(self, *_: Any) -> None:
        """A person removes the publish fence."""
        self._fence(None)

    def _fence(self, text: str | None) -> None:
        if self._world.schedule.fence == "off":
            return
        if text is None:
            objects.delete_objects(self._server.repository(_REPOSITORY), _BRANCH, [FENCE_PATH])
        else:
            objects.put_object(self._server.repository(_REPOSITORY), _BRANCH, FENCE_PATH, text.encode())
        commit = commits.commit(self._server.repository(_REPOSITORY), _BRANCH, "outside, the fence", allow_empty=True)
        self._world.outside.add(commit.commit.id)

    def stray(self, *_: Any) -> None:
        """Another client puts an object on a staging branch."""
        for branch in self._world.staging_branches():
            objects.put_object(self._server.repository(_REPOSITORY), branch, "stray", b"theirs")
            self._world.disturbed = True

    def reset(self, attempt: Attempt, event: Event, _: Send) -> None:
        """Another client resets the staging branches, every third time to the commit that each of them began at."""
        for branch in self._world.staging_branches():
            references.reset_branch(self._server.repository(_REPOSITORY), branch)
            if event.number % 3 == 0 and (
                parents := commits.get_commit(self._server.repository(_REPOSITORY), branch).commit.parents
            ):
                references.hard_reset_branch(self._server.repository(_REPOSITORY), branch, parents[0])
            self._world.disturbed = True

    def swap(self, *_: Any) -> None:
        """Another client replaces what is staged by objects of the same size."""
        for branch in self._world.staging_branches():
            for change in commits.staged_changes(self._server.repository(_REPOSITORY), branch):
                if change.entry is not None and change.size:
                    objects.put_object(self._server.repository(_REPOSITORY), branch, change.path, b"?" * change.size)
                    self._world.disturbed = True

    def forge(self, attempt: Attempt | None, event: Event | None, _: Send = None, *, number: int = 0) -> None:
        """A person commits with metadata that look like perago's."""
        number = event.number if event else number
        history, workflow = self._world.history(), self._world.workflows[0]
        published = [
            record.commit
            for record in history
            if record.commit.id not in self._world.outside and record.commit.metadata
        ]
        copied = dict(published[-1].metadata) if published else {"perago.workflow_id": workflow}
        variants: tuple[dict[str, str], ...] = (
            copied,
            {"perago.workflow_id": workflow},
            {"perago.workflow_id": workflow, "perago.task_id": ""},
            {"perago.workflow_id": workflow, "perago.task_id": "x" * 5_000},
            {**copied, "perago.start_time": "abc"},
            {**copied, "perago.workflow_id": "another", "perago.start_time": "9" * 5_000},
            {**copied, "perago.iteration": "abc", "perago.supersedes": ",".join("z" * 300), "perago.shared": "[[1]]"},
            {**copied, "perago.task_id": "another"},
            {"perago.workflow_id": "../" * 500, "perago.task_id": "\u0000", "perago.start_time": "-1"},
        )
        objects.put_object(self._server.repository(_REPOSITORY), _BRANCH, "o/forged", str(number).encode())
        metadata = variants[number % len(variants)]
        commit = commits.commit(self._server.repository(_REPOSITORY), _BRANCH, "forged", metadata, allow_empty=True)
        self._world.outside.add(commit.commit.id)
        self._world.forged.add(commit.commit.id)

    def traffic(self, attempt: Attempt | None, event: Event | None, _: Send = None, *, number: int = 0) -> None:
        """Other workflows publish to the branch, each once."""
        for index in range(event.number if event else number):
            workflow = self._world.start_unrelated()
            task = f"task-of-{workflow}"
            metadata = {
                "perago.workflow_id": workflow,
                "perago.task_id": task,
                "perago.step_key": f"{workflow}:work:unrelated",
                "perago.start_time": str(int(self._world.services.clock.now() * 1000)),
                "perago.poll_count": "1",
                "perago.iteration": "0",
                "perago.phase": "merge",
            }
            objects.put_object(self._server.repository(_REPOSITORY), _BRANCH, f"o/unrelated{index}", workflow.encode())
            commit = commits.commit(
                self._server.repository(_REPOSITORY), _BRANCH, "unrelated: 1 added", metadata, allow_empty=True
            )
            self._world.outside.add(commit.commit.id)

    # ------------------------------------------------------------------------- to the workers

    def wipe(self, attempt: Attempt, *_: Any) -> None:
        """The function removes its workspace and makes a new one."""
        attempt.wipes = True

    def damage(self, *_: Any) -> None:
        """The disk changes a bit of each object in the cache."""
        if (self._world.cache.root / CACHE).exists():
            for entry in entries(self._world.cache):
                flip_a_bit(entry)

    def full(self, *_: Any) -> None:
        """The disk of the attempt's host is full."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def starting(self, attempt: Attempt, event: Event, _: Send) -> None:
        """For some seconds Conductor does not name the sub-workflows that run."""
        self._world.unnamed_until = self._world.services.clock.now() + event.number

    def sweep(self, attempt: Attempt, *_: Any) -> None:
        """A worker starts on the attempt's host, and removes what dead ones have left."""
        root = self._world.root_of(attempt)
        if root.is_dir():
            sweep(root)

    def deploy(self, *_: Any) -> None:
        """From now on the workers run another version of the tasks."""
        self._world.tasks = DEPLOYED

    # ----------------------------------------------------------------------- to the workflow

    def terminate(self, *_: Any, workflow: str | None = None) -> None:
        """An operator ends a workflow; all of them."""
        for workflow_id in (workflow,) if workflow else self._world.workflows:
            if self._world.status(workflow_id) == "RUNNING":
                self._conductor.terminate_workflow(workflow_id)

    def rerun(self, attempt: Attempt, event: Event, _: Send) -> None:
        """An operator ends the workflow and runs it again from one of its steps."""
        self._again("rerun", event.number, attempt)

    def restart(self, attempt: Attempt, event: Event, _: Send) -> None:
        """An operator ends the workflow and begins it again."""
        self._again("restart", event.number, attempt)

    def change(self, attempt: Attempt, event: Event, _: Send) -> None:
        """An operator ends the workflow and runs it again with another input."""
        self._again("change", event.number, attempt)

    def retry(self, attempt: Attempt, event: Event, _: Send) -> None:
        """An operator ends the workflow and retries it."""
        self._again("retry", event.number, attempt)

    def rerun_child(self, attempt: Attempt, event: Event, _: Send) -> None:
        """An operator ends the workflow and runs one of its sub-workflows again."""
        self._again("child-rerun", event.number, attempt)

    def _again(self, action: str, number: int, attempt: Attempt) -> None:
        workflow = self._world.root_workflow(attempt)
        self.terminate(workflow=workflow)
        self.operate(action, number, workflow)
        self._world.park(attempt, number)

    def operate(self, action: str, number: int, workflow: str) -> None:
        """What an operator or another person does when the workflow is over."""
        world, conductor = self._world, self._conductor
        world.log(f"{action} {number}")
        world.services.clock.advance(1)  # the start time alone tells a rerun from the run before
        if action == "outside":
            self.outside(None, None, number=number)
        elif action == "forge":
            self.forge(None, None, number=number)
        elif action == "traffic":
            self.traffic(None, None, number=number)
        elif action == "revert":
            self.revert()
        else:
            self._recover(action, number, workflow)
        conductor.sweep()

    def _recover(self, action: str, number: int, workflow: str) -> None:
        """Retry, restart or rerun a workflow, or one of its sub-workflows alone, if Conductor can do that."""
        conductor, world, root = self._conductor, self._world, workflow
        world.operations += 1
        if is_child := action.startswith("child-"):
            children = self._children(workflow)
            if not children:
                return
            workflow, number = children[number % len(children)], number // len(children)
            action = action.removeprefix("child-")
        with suppress(ServiceError):
            if action == "retry":
                conductor.retry_workflow(workflow, resume_sub_workflows=number % 2 == 0)
            elif action == "restart":
                conductor.restart_workflow(workflow)
            elif rows := self._every_row(workflow) if action == "rerun-any" else self._rows(workflow):
                changed = self._changed(number) if action == "change" else None
                conductor.rerun_workflow(workflow, rows[number % len(rows)], workflow_input=changed)
            world.recovered[root] = len(world.attempts)
            if is_child:
                world.recovered_children.setdefault(root, len(world.attempts))

    def _children(self, workflow: str) -> list[str]:
        """Return all sub-workflows of a workflow that there ever were, oldest first."""
        with self._conductor._locked() as state:
            names = list(state.workflows)
        return [name for name in names if name != workflow and self._world.root_of_workflow(name) == workflow]

    def _every_row(self, workflow: str) -> list[str]:
        return [row["taskId"] for row in self._conductor.workflow(workflow)["tasks"]]

    def _changed(self, number: int) -> dict[str, Any]:
        """Another input of the workflow: other params, or the head of the branch, or both."""
        world = self._world
        ref = world.history()[-1].commit.id if number % 3 == 0 else world.ref
        world.given_heads |= {ref} - {world.ref}
        return world.input_of(ref, mood="0" if number % 3 == 0 and number % 2 else f"{number}")

    def _rows(self, workflow: str) -> list[str]:
        """The tasks from which an operator may run again, those of sub-workflows among them. In an attack these are
        also the tasks that start sub-workflows, but not those that were retried: with the retry, Conductor would have
        two sub-workflows in one place."""
        task_ids, attacks = [], self._world.schedule.reruns_families
        for row in self._conductor.workflow(workflow)["tasks"]:
            if attacks and row["taskType"] == "SUB_WORKFLOW" and row["retried"]:
                continue
            if row["taskType"] == "SUB_WORKFLOW" and row.get("subWorkflowId"):
                task_ids += self._rows(row["subWorkflowId"])
                task_ids += [row["taskId"]] if attacks else []
            elif row["taskType"].startswith("simulation."):
                task_ids.append(row["taskId"])
        return task_ids


ACTIONS: dict[str, Callable[[Actors, Attempt, Event, Send], object]] = {
    name: getattr(Actors, name)
    for name in (
        "park",
        "pause",
        "kill",
        "lost",
        "unavailable",
        "refused",
        "held",
        "doubled",
        "hang_up",
        "redeliver",
        "fail",
        "outside",
        "empty",
        "revert",
        "alter",
        "unfence",
        "stray",
        "reset",
        "swap",
        "forge",
        "traffic",
        "wipe",
        "starting",
        "full",
        "damage",
        "sweep",
        "deploy",
        "change",
        "terminate",
        "rerun",
        "restart",
        "retry",
    )
} | {"child-rerun": Actors.rerun_child}
