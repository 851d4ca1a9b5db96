"""Which guards of the protocol the simulation finds missing, and how soon.

    python -m tests.simulation.guards --seeds 1000

takes each guard of `tests.driver.mutations` away and plays worlds until one breaks a promise.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os

import pytest

from tests.driver.mutations import ALL

from .plots import draw
from .trying import play


def found_by(given: tuple[int, int]) -> tuple[str, int | None, str]:
    """The name of a guard, and the first seed, and the words, that show it missing. `given`: its number, and how many
    seeds."""
    number, seeds = given
    guard = ALL[number]
    with pytest.MonkeyPatch.context() as patch:
        guard.mutate(patch)
        for seed in range(seeds):
            try:
                broken = play(draw(seed)).broken
            except Exception as error:  # the driver is not made for a state machine without its guards
                broken = (f"{type(error).__name__}: {error}",)
            if broken:
                return guard.name, seed, broken[0]
    return guard.name, None, ""


def main() -> None:
    """Print a line for each guard."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.guards")
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds for each guard")
    given = parser.parse_args()
    missing = 0
    with multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1) as pool:
        for name, seed, words in pool.imap(found_by, [(number, given.seeds) for number in range(len(ALL))]):
            missing += seed is None
            print(f"{name:<60} {'not found' if seed is None else f'seed {seed}':<12} {words[:120]}", flush=True)
    print(f"{len(ALL) - missing} of {len(ALL)} guards are found within {given.seeds} seeds")


if __name__ == "__main__":
    main()
