"""One case as all its fault tests see it: what the function gets and leaves under the first conditions, found once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago.attempt.fence import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.authoring.context import Current
from perago.driver import AttemptRecord, Raised, Returned
from perago.ports import TaskStatus
from perago.testing.cases import InvalidCase, RunCase, read_tree
from perago.testing.failures import CaseFailed, Cause
from perago.testing.services import InMemoryServices, call_and_note
from pytest_perago.faults.author import AuthorCode
from pytest_perago.faults.conditions import Conditions
from pytest_perago.faults.moments import Moments
from pytest_perago.faults.play import Given, Played, Player
from pytest_perago.frames import formatted_stack
from pytest_perago.memory import Memory
from pytest_perago.seen import Seen
from pytest_perago.watch import TimeLimitExceeded, Watch

NOT_PLAYED = "the case does not complete: its `run` test says why"


class Matrix:
    """See the module. Made once for a case in a session; `watch` is that of the test that runs now."""

    def __init__(self, task: Task, case: RunCase) -> None:
        self.task = task
        self.case = case
        self.watch: Watch
        self.memory = Memory(task.module)
        self.author = AuthorCode(task)
        self.conditions = Conditions()
        self.given: Given
        """What the attempt gave to the function."""
        self.published: Seen | None = None
        """What it published and reported; None if it did not complete."""
        self._player = Player(task, self.author, self.memory, call_and_note)
        try:
            self.tree = read_tree(case.tree)
        except InvalidCase as error:
            raise CaseFailed(Cause.MISTAKE, f"case {case.label!r}: {error}") from None

    @cached_property
    def base(self) -> Played:
        """What the function does in a first, real attempt. Where the author's code does not bear a clock that stands in
        for the real one, it runs on that.

        Raises:
            pytest.skip.Exception: the attempt does not complete.
        """
        played = self._attempt()
        if played is None or played.seen.problem:
            self.conditions = replace(self.conditions, pinned=False)
            played = self._attempt()
        if played is None or not self.published:
            pytest.skip(NOT_PLAYED)
        if not played.threads.ordered:
            self.conditions = replace(self.conditions, ordered=False)
        return played

    def _attempt(self) -> Played | None:
        """One attempt; None if the function is not called."""
        found: list[Played] = []
        troubles: list[Exception] = []

        def call(_: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
            self.given = Given.of(workspace, params, current)
            try:
                found.append(self.call(workspace, params, current, Moments(self.author)))
            except Exception as trouble:  # it is ours, and no failure of the attempt
                troubles.append(trouble)
                raise
            return found[-1].ended

        with InMemoryServices(call=call) as services:
            services.start(self.task, self.case.params, ref=self.seed(services))
            record = services.run_delivery(self.task, services.take(self.task))
            self.published = published(self.task, services, record)
        if troubles:
            raise troubles[0]
        return found[0] if found else None

    @cached_property
    def again(self) -> Played:
        """The second call, under the same conditions."""
        return self.base and self.play()  # the first call decides on the conditions

    def play(self, conditions: Conditions | None = None, *, given: Given | None = None, **more: Any) -> Played:
        """Call the function once more; see `Player.play`."""
        return self._player.play(given or self.given, self.watch, conditions or self.conditions, **more)

    def call(self, workspace: Path | None, params: BaseModel, current: Current, moments: Moments | None) -> Played:
        """Call the function in an attempt of the caller; see `Player.call`."""
        self.memory.restore()
        return self._player.call(workspace, params, current, self.watch, self.conditions, moments)

    @contextmanager
    def tidying(self) -> Iterator[None]:
        """Around a call that is interrupted: what it leaves outside of its attempt is removed, as it would fail
        whatever runs next. What was there before stays."""
        outside = self.base.audit.outside
        before = {path for path in outside if path.exists()}
        try:
            yield
        finally:
            for path in outside:
                if path not in before and path.is_file() and not path.is_symlink():
                    path.unlink()

    def seed(self, services: InMemoryServices) -> str | None:
        """Commit the tree of the case, and the publish fence; returns the input ref, None for a task without a
        workspace."""
        if self.task.workspace is None:
            return None
        prefix = self.task.workspace.key_prefix
        files = {prefix + path: content for path, content in self.tree.items()}
        return services.seed({FENCE_PATH: FENCE_TEXT, **files})

    def failed(self, summary: str, *facts: tuple[str, str]) -> CaseFailed:
        """A failure of the author's function."""
        return CaseFailed(
            Cause.MISTAKE,
            f"case {self.case.label!r}: {summary}",
            facts=[(label, text) for label, text in facts if text],
            tree=self.tree if self.task.workspace else None,
        )

    def run(self, check: Callable[[Matrix], None], watch: Watch) -> None:
        """Run one check within its time limit.

        Raises:
            CaseFailed: the function does not bear what was done, or takes too long.
        """
        self.watch = watch
        try:
            with watch:
                check(self)
        except TimeLimitExceeded:
            stack = [formatted_stack(watch.stuck.stack)] if watch.stuck else ()
            raise CaseFailed(
                Cause.MISTAKE,
                f"case {self.case.label!r} did not end within {watch.seconds:g} s (perago_run_timeout)",
                details=stack,
            ) from None


def published(task: Task, services: InMemoryServices, record: AttemptRecord) -> Seen | None:
    """What is published and reported, without the ids that say which attempt it was; None if it did not complete."""
    if record.report is None or record.report.status is not TaskStatus.COMPLETED:
        return None
    delivery = record.delivery
    ids = delivery.task_id.encode(), delivery.workflow_id.encode()
    files = {} if task.workspace is None else services.tree()
    result = json.loads(_without(json.dumps(record.report.output["result"]).encode(), ids))
    return Seen(result, {key: _without(content, ids) for key, content in files.items()})


def _without(content: bytes, ids: tuple[bytes, ...]) -> bytes:
    for number, each in enumerate(ids):
        content = content.replace(each, b"<id %d>" % number)
    return content
