"""Runs scenarios on a real server and keeps what it answers.

    python -m tests.conformance.record lakefs http://KEY:SECRET@127.0.0.1:8000 [GROUP | GROUP.NAME ...]
    python -m tests.conformance.record conductor http://127.0.0.1:8080/api [GROUP | GROUP.NAME ...]

Each runs twice; one that does not show the same both times is not kept, and named.
"""

from __future__ import annotations

import argparse
import sys

from .comparing import difference
from .recordings import save
from .scenario import Scenario, scenarios
from .targets import Target, real_at

VERSIONS = {"lakefs": "lakeFS 1.84.0", "conductor": "Conductor 3.32.3"}


def main(arguments: list[str]) -> int:
    """Record; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.record", description=__doc__)
    parser.add_argument("server", choices=sorted(VERSIONS))
    parser.add_argument("url")
    parser.add_argument("chosen", nargs="*", metavar="GROUP[.NAME]")
    given = parser.parse_args(arguments)
    chosen = [s for s in scenarios(given.server) if not given.chosen or {s.group, str(s)} & set(given.chosen)]
    target = real_at(given.server, given.url)
    problems = [problem for scenario in chosen if (problem := _record(target, scenario))]
    print(f"{len(chosen) - len(problems)} recorded", *problems, sep="\n")
    return 1 if problems or not chosen else 0


def _record(target: Target, scenario: Scenario) -> str | None:
    try:
        first, second = target.run(scenario), target.run(scenario)
    except AssertionError as error:
        return f"NOT recorded, {scenario} did not come to its end: {error}"
    if changed := difference(first, second):
        return f"NOT recorded, {scenario} shows something else each time: {changed}"
    save(scenario, VERSIONS[target.server], first)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
