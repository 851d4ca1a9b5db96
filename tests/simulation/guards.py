"""Which guards of the protocol the simulation finds missing, and how soon.

    python -m tests.simulation.guards --seeds 1000

takes each guard of `GUARDS` and each of `FIXES` away, and plays worlds until one breaks a promise. With
`--keep` it writes the seeds to `guard_seeds.json`, whose worlds `test_simulation` plays again.

Where two guards keep one promise, neither is missed alone. `BACKED` names such a guard with the other one: a world
shows what is broken when both are gone, and only then.

`mutations` has the guards of the protocol. `FIXES` are fixes that only whole workflows judge. The operations that
exposed these defects are actions of the simulation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import perago.driver.attempt
import perago.driver.local_workspace
import perago.driver.publisher
from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import history, protocol, publication
from perago.attempt.state import State
from perago.cache import ObjectId, Shelf
from perago.cache.objects import copy_bytes
from perago.driver.delivery import DeliveryQuestions
from perago.driver.publisher import PatientStore, Publisher
from perago.workspace.changes import Overlap, find_overlap
from perago.workspace.scan import Tree, scan_tree

from .mutations import GUARDS
from .schedules import draw
from .searching import simulate

Patch = pytest.MonkeyPatch


def believe_that_nothing_was_staged(patch: Patch) -> None:
    """Complete with the input ref if lakeFS finds nothing to commit."""
    patch.setattr(State, "must_differ", property(lambda _: False))


def ask_without_end(patch: Patch) -> None:
    """Ask about each workflow that a commit names, whatever it is, and ask again if there is no answer."""

    def workflow_ids(state: State, read: on.BranchRead) -> tuple[str, ...]:
        names = dict.fromkeys(commit.metadata.get(publication.WORKFLOW_ID, "") for commit in read.since)
        return tuple(name for name in names if name not in state.workflows)

    def ask_first(state: State) -> tuple[State, do.Command] | None:
        return history.ask_first(state.evolve(inquiry=replace(state.inquiry, asked=())))

    read_once = DeliveryQuestions.read_workflows

    def read_workflows(self: DeliveryQuestions, command: do.ReadWorkflows) -> on.WorkflowsRead:
        answer = read_once(self, command)
        return on.WorkflowsRead({name: row for name, row in answer.rows.items() if name})

    patch.setattr(history, "workflow_ids", workflow_ids)
    patch.setattr(protocol, "ask_first", ask_first)
    patch.setattr(DeliveryQuestions, "read_workflows", read_workflows)


def read_few_workflows(patch: Patch) -> None:
    """Tell at most twenty workflows apart."""
    patch.setattr(history, "WORKFLOWS_READ", 20)


def trust_numbers(patch: Patch) -> None:
    """Take every number in metadata as well-formed."""
    patch.setattr(publication, "number", lambda commit, key: int(commit.metadata.get(key) or 0))


def compare_sizes_only(patch: Patch) -> None:
    """Compare the keys and sizes of the staging commit with the plan, not the checksums."""
    verify, begin = Publisher.verify_staging, PatientStore.begin

    def verified(self: Publisher, command: do.VerifyStaging) -> on.Event:
        checksums = {key: upload.checksum for key, upload in self.planned(command).items() if upload is not None}

        def begin_stat(lakefs: PatientStore, call: Callable[[], Any]) -> Callable[[], Any]:
            answer = begin(lakefs, call)
            return lambda: {
                key: replace(entry, checksum=checksums.get(key, entry.checksum)) for key, entry in answer().items()
            }

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(PatientStore, "begin", begin_stat)
            return verify(self, command)

    patch.setattr(Publisher, "verify_staging", verified)


def deliver_without_a_check(patch: Patch) -> None:
    """Deliver what the cache has, whatever its bytes are."""

    def deliver(self: Shelf, object_id: ObjectId, name: str, source: int, destination: int) -> bool:
        copy_bytes(source, destination, object_id.size)
        return True

    patch.setattr(Shelf, "_deliver", deliver)


def fail_on_a_full_disk(patch: Patch) -> None:
    """Let a full disk cost the attempt a retry."""
    patch.setattr(perago.driver.attempt, "is_of_this_host", lambda *_: False)


def scan_by_path(patch: Patch) -> None:
    """Scan whatever directory has the path of the workspace."""

    def scan(root: Path, held: int | None = None) -> Tree:
        return scan_tree(root)

    patch.setattr(perago.driver.local_workspace, "scan_tree", scan)


def revert_whole_publications(patch: Patch) -> None:
    """Undo a publication together with what it has undone itself."""
    patch.setattr(protocol, "own_changes", lambda stale, read: stale.id)


def read_no_removed_paths(patch: Patch) -> None:
    """Let `reads` pass over what both sides have done the same way."""

    def overlap(*arguments: Any, **options: Any) -> Overlap:
        result = find_overlap(*arguments, **options)
        conflicts = {key: why for key, why in result.conflicts.items() if key not in result.shared}
        return replace(result, conflicts=conflicts)

    patch.setattr(perago.driver.publisher, "find_overlap", overlap)


def refuse_ones_own_branch(patch: Patch) -> None:
    """Take the answer to the second copy of a call for an answer to the first one."""

    def create_branch(self: Publisher, command: do.CreateStagingBranch) -> on.Event:
        store = self._lakefs.store
        self._lakefs.retry(lambda: store.create_branch(command.repository, command.branch, command.source))
        return on.StagingBranchCreated()

    patch.setattr(Publisher, "create_staging_branch", create_branch)


def keep_the_branch_that_is_not_needed(patch: Patch) -> None:
    """Leave a staging branch that was created ahead if nothing changed."""
    patch.setattr(Publisher, "unneeded_branch", lambda _: None)


FIXES: dict[str, Callable[[Patch], None]] = {
    "staged changes that vanish": believe_that_nothing_was_staged,
    "a question is asked once": ask_without_end,
    "every workflow in the range is read": read_few_workflows,
    "malformed metadata": trust_numbers,
    "checksums of the staging commit": compare_sizes_only,
    "checksums of the cache": deliver_without_a_check,
    "a full disk costs no retry": fail_on_a_full_disk,
    "identity of the workspace directory": scan_by_path,
    "own changes of a stale publication": revert_whole_publications,
    "`reads` of a path that both have removed": read_no_removed_paths,
    "a call that is delivered twice": refuse_ones_own_branch,
    "removal of a branch that was created ahead": keep_the_branch_that_is_not_needed,
}
"""By name, what takes a fix away."""


IN_SMALL_SCOPE = frozenset(
    {
        "the input is in effect",
        "undone: of attempts that were started again",
        "undone: only by the only open attempt",
        "evidence: the commit in the output",
        "adopted: from the same input ref",
        "undone: of this family",
        "evidence: equality of start times",
        "evidence: rows read after the commit",
        "a replaced sub-workflow publishes nothing",
        "only a staging commit proves what was undone",
    }
)
"""The guards whose loss none of the first worlds shows, but a case of `test_small_scope`."""
_GUARD_SEEDS = Path(__file__).with_name("guard_seeds.json")
MUTATIONS = GUARDS | FIXES


@dataclass(frozen=True, slots=True)
class Backing:
    """Why a guard is not missed: `by` keeps its promise, too. `promise` has words of the violation without both."""

    by: str
    promise: str
    why: str


BACKED = {
    "adopted: of the own chain": Backing(
        "retried attempts undo nothing of their retries",
        "which is of an attempt that it does not come after",
        "the one living attempt of a step outside of the own chain is the retry of an attempt that Conductor hands out "
        "again, and such an attempt does nothing",
    ),
}


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Take guards away for a while."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            MUTATIONS[name](patch)
        yield


def broken_without(seed: int, *names: str) -> tuple[str, ...]:
    """The promises that the world of a seed breaks without these guards. The driver is not made for a state machine
    without its guards, so an error counts, too."""
    with without(*names):
        try:
            return simulate(draw(seed)).broken
        except Exception as error:
            return (f"{type(error).__name__}: {error}",)


def is_missed(seed: int, name: str) -> tuple[str, ...]:
    """What shows in this world that a guard is gone; for one that is backed, that both are and each alone is not."""
    backing = BACKED.get(name)
    if backing is None:
        return broken_without(seed, name)
    violations = [violation for violation in broken_without(seed, name, backing.by) if backing.promise in violation]
    alone = [*broken_without(seed, name), *broken_without(seed, backing.by)] if violations else []
    return () if any(backing.promise in violation for violation in alone) else tuple(violations)


def first_seed(job: tuple[str, int, tuple[int, ...]]) -> tuple[str, int | None, str]:
    """The name of a guard, and the first seed, and the words, that show it missing. `given`: its name, how many
    seeds, and which ones are tried first."""
    name, seeds, first = job
    for seed in (*first, *range(seeds)):
        if violations := is_missed(seed, name):
            return name, seed, violations[0]
    return name, None, ""


def guard_seeds() -> dict[str, int]:
    """The seeds that were kept, by guard."""
    seeds: dict[str, int] = json.loads(_GUARD_SEEDS.read_text())
    return seeds


def main() -> int:
    """Print a line for each guard; the exit status is 1 if one is not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.guards")
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds for each guard")
    parser.add_argument("--only", default="", help="guards with these words in their names")
    parser.add_argument(
        "--keep", action="store_true", help="keep the seeds for the tests; those that are kept are tried first"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    names = [name for name in MUTATIONS if options.only in name]
    known_seeds = guard_seeds() if options.keep else {}
    seeds = dict[str, int | None]()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for name, seed, violation in pool.imap(
            first_seed, [(name, options.seeds, (known_seeds[name],) if name in known_seeds else ()) for name in names]
        ):
            seeds[name] = seed
            by = f"backed by {BACKED[name].by!r}, both gone: " if name in BACKED else ""
            print(f"{name:<60} {'not found' if seed is None else f'seed {seed}':<12} {by}{violation[:120]}", flush=True)
    missing = [name for name, seed in seeds.items() if seed is None]
    print(f"{len(names) - len(missing)} of {len(names)} guards are found within {options.seeds} seeds")
    if options.keep and not missing:
        known_seeds |= {name: seed for name, seed in seeds.items() if seed is not None}
        _GUARD_SEEDS.write_text(
            json.dumps({name: known_seeds[name] for name in MUTATIONS if name in known_seeds}, indent=2) + "\n"
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
