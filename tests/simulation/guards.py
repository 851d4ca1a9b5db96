"""Which guards of the protocol the simulation finds missing, and how soon.

    python -m tests.simulation.guards --seeds 1000

takes each guard of `GUARDS` and each of `FIXES` away, and plays worlds until one breaks a promise. With
`--keep` it writes the seeds to `found.json`, whose worlds `test_guards` plays again.

Where two guards keep one promise, neither is missed alone. `BACKED` names such a guard with the other one: a world
shows what is broken when both are gone, and only then.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .fixes import FIXES
from .mutations import GUARDS
from .plots import draw
from .trying import play

_FOUND = Path(__file__).with_name("found.json")
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
            return play(draw(seed)).broken
        except Exception as error:
            return (f"{type(error).__name__}: {error}",)


def is_missed(seed: int, name: str) -> tuple[str, ...]:
    """What shows in this world that a guard is gone; for one that is backed, that both are and each alone is not."""
    backing = BACKED.get(name)
    if backing is None:
        return broken_without(seed, name)
    words = [each for each in broken_without(seed, name, backing.by) if backing.promise in each]
    alone = [*broken_without(seed, name), *broken_without(seed, backing.by)] if words else []
    return () if any(backing.promise in each for each in alone) else tuple(words)


def found_by(given: tuple[str, int, tuple[int, ...]]) -> tuple[str, int | None, str]:
    """The name of a guard, and the first seed, and the words, that show it missing. `given`: its name, how many
    seeds, and which ones are tried first."""
    name, seeds, first = given
    for seed in (*first, *range(seeds)):
        if words := is_missed(seed, name):
            return name, seed, words[0]
    return name, None, ""


def found() -> dict[str, int]:
    """The seeds that were kept, by guard."""
    kept: dict[str, int] = json.loads(_FOUND.read_text())
    return kept


def main() -> int:
    """Print a line for each guard; the exit status is 1 if one is not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.guards")
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds for each guard")
    parser.add_argument("--only", default="", help="guards with these words in their names")
    parser.add_argument(
        "--keep", action="store_true", help="keep the seeds for the tests; those that are kept are tried first"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    names = [name for name in MUTATIONS if given.only in name]
    kept = found() if given.keep else {}
    seeds = dict[str, int | None]()
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for name, seed, words in pool.imap(
            found_by, [(name, given.seeds, (kept[name],) if name in kept else ()) for name in names]
        ):
            seeds[name] = seed
            by = f"backed by {BACKED[name].by!r}, both gone: " if name in BACKED else ""
            print(f"{name:<60} {'not found' if seed is None else f'seed {seed}':<12} {by}{words[:120]}", flush=True)
    missing = [name for name, seed in seeds.items() if seed is None]
    print(f"{len(names) - len(missing)} of {len(names)} guards are found within {given.seeds} seeds")
    if given.keep and not missing:
        kept |= {name: seed for name, seed in seeds.items() if seed is not None}
        _FOUND.write_text(json.dumps({name: kept[name] for name in MUTATIONS if name in kept}, indent=2) + "\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
