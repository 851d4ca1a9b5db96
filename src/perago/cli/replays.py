"""Running the task of today on the input of an attempt of the past, and what comes of it. Nothing is published."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.cli.files import write_tree
from perago.cli.local_run import run_attempt, services_of
from perago.worker import events

if TYPE_CHECKING:
    from perago.cli.attempt_view import AttemptView
    from perago.cli.past_attempts import Found
    from perago.driver import AttemptRecord
    from perago.replay.past import Past
    from perago.settings import Settings
    from perago.testing.remains import Remains
    from perago.worker.events import Listener


@dataclass(frozen=True, slots=True)
class Ran:
    """An attempt of today, and how long it took in seconds."""

    remains: Remains
    row: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Input:
    """What the attempt of today gets. `files` are by their paths in the workspace."""

    params: Mapping[str, Any]
    files: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class How:
    """Where it runs. `here`: in this process; `post_mortem`: with a debugger where it raises."""

    settings: Settings
    here: bool = False
    post_mortem: bool = False
    number: int = 1
    """Tells workers apart that run at the same time."""


class Heard:
    """A listener that keeps the record of an attempt, and passes on what it hears."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener
        self.record: AttemptRecord | None = None
        self.seconds = 0.0
        """How long the attempt took, without the start of its worker."""

    def __call__(self, event: events.Event) -> None:
        """Keep and pass on."""
        if isinstance(event, events.AttemptRecorded):
            self.record = events.joined(self.record, event.record)
        elif isinstance(event, events.AttemptEnded):
            self.seconds = event.seconds
        if self._listener is not None:
            self._listener(event)


def run_again(
    found: Found, given: Input, how: How, directory: Path, view: AttemptView | None = None, output: Path | None = None
) -> Ran:
    """Run one attempt on services in memory.

    Args:
        found: the task.
        given: its params and input files.
        how: where it runs.
        directory: where the files go that it changes; it exists, and is empty.
        view: shows the attempt.
        output: a new directory for the whole published tree.

    Raises:
        CommandError: the worker could not be started, or `output` not be written.
        OSError: the disk refused.
    """
    from perago.local.services import BRANCH, REPOSITORY
    from perago.replay.past import remains_of
    from perago.workspace.changes import Changes

    heard = Heard(view)
    with services_of(how.settings, heard, here=how.here, post_mortem=how.post_mortem) as services:
        ref = None
        if found.task.workspace is not None:
            files = {found.prefix + path: file for path, file in given.files.items()}
            ref = services.lakefs.seed(REPOSITORY, BRANCH, files, message="the input of a past attempt").id
        with contextlib.nullcontext() if view is None or how.here else view:
            row = run_attempt(
                services, found.module, found.task, how.settings, given.params, ref, heard, number=how.number
            )
        changes = heard.record.changes if heard.record is not None else Changes()
        remains = remains_of(services.lakefs, row, changes, found.prefix, directory)
        if output is not None:
            block = row.get("outputData", {}).get("workspace")
            write_tree(services.lakefs, block["ref"] if block else None, found.prefix, output)
    return Ran(remains, row, heard.seconds)


def differs_from_itself(found: Found, given: Input, how: How, first: Remains, directory: Path) -> tuple[str, ...]:
    """What differs between the first attempt of today and one more; empty for a function that is deterministic.

    Raises:
        CommandError: the worker could not be started.
        OSError: the disk refused.
    """
    from perago.testing.remains import differences

    second = run_again(found, given, how, directory)
    return differences(first, second.remains, given.files).summary


def fetched(found: Found, past: Past, store: Any, directory: Path, settings: Settings) -> Input:
    """The input of the attempt, its files below a directory that exists and is empty.

    Raises:
        NotReplayable: it does not fit the disk, or is gone.
        ServiceError: lakeFS did not answer.
        OSError: the disk refused.
    """
    from perago.replay.past import fetch_input

    return Input(found.attempt.params, fetch_input(store, past, directory, settings.max_workspace_bytes))
