"""Seeded simulation of whole workflows.

    python -m tests.simulation --seeds 10000       # so many worlds; exit status 1 if one breaks a promise
    python -m tests.simulation --seed 17           # one world, with everything that happens in it
    python -m tests.simulation --forever --hours 8 # the nightly run: until the time is over or a promise is broken

A world that breaks a promise is made smaller, and printed with its seed. The seed alone decides what happens.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time

from .schedules import draw
from .searching import Outcome, made_small, simulate, try_all


def main() -> int:
    """Play what the command line asks for."""
    options = _arguments()
    if options.seed is not None:
        return _one(options.seed)
    until = time.monotonic() + options.hours * 3600 if options.forever else None
    seeds = itertools.count(options.first) if options.forever else range(options.first, options.first + options.seeds)
    began, worlds, attempts, wrong = time.monotonic(), 0, 0, 0
    for seed, made, broken in try_all(
        itertools.takewhile(lambda _: until is None or time.monotonic() < until, seeds), options.jobs
    ):
        worlds, attempts = worlds + 1, attempts + made
        if broken:
            wrong += 1
            print(f"seed {seed}: {broken[0]}", flush=True)
            if wrong == 1 or options.all:
                _print(made_small(simulate(draw(seed))))
            if not options.all:
                break
        elif worlds % 1000 == 0:
            print(f"{worlds} worlds, up to seed {seed}", flush=True)
    seconds = time.monotonic() - began
    print(f"{worlds} worlds with {attempts} attempts in {seconds:.0f} s: {wrong} broke a promise")
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play this one, and print what happens")
    parser.add_argument("--all", action="store_true", help="go on after a broken promise")
    parser.add_argument("--forever", action="store_true", help="without end")
    parser.add_argument("--hours", type=float, default=24.0 * 365, help="with --forever: when to end")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    return parser.parse_args()


def _one(seed: int) -> int:
    outcome = simulate(draw(seed))
    _print(outcome)
    if not outcome.broken:
        return 0
    print("\n==== the same, made smaller")
    _print(made_small(outcome))
    return 1


def _print(outcome: Outcome) -> None:
    print(
        outcome.schedule,
        *outcome.lines,
        *(f"BROKEN: {violation}" for violation in outcome.broken),
        sep="\n",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
