"""Eight publishers race for one branch that has perago's publish fence, round after round.

Each does what an attempt does, with the same store: a hidden staging branch at the head, an upload, a commit, and a
merge of that commit which names the head that it was built on. All merges of a round are sent at once. In one race
every publisher brings a file of its own, so that only the fence can refuse; in the other all change one file as well,
so that lakeFS may find the conflict before it asks the fence. The base is a publisher without a rival, on a branch of
its own, in turns with the races.

Whether each round had one winner is read from the branch, not from the answers alone; the benchmark ends with exit
code 1 if it had not. It runs on the lakeFS of the usual variables, or on an embedded one if none is named.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks import servers
from benchmarks.harness import Row, Target, arguments, percentile, print_table, ratio, seconds
from benchmarks.racing import Publisher, Race, watched
from perago.adapters.lakefs import LakeFSStore
from perago.driver.fencing import install_fence
from perago.ports import MergeRefusal
from perago.settings import LakeFSSettings

PUBLISHERS = 8
ALONE, OWN, ONE = "alone", "own-files", "one-file"
REFUSALS = (MergeRefusal.HEAD_MOVED, MergeRefusal.CONFLICT)
"""What a loser may be told: the fence's word, and lakeFS's own where all change one path."""


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=200).rounds
    with ExitStack() as stack:
        settings, kind = stack.enter_context(servers.lakefs_or_embedded())
        repository = stack.enter_context(servers.repository(settings))
        store = stack.enter_context(closing(LakeFSStore(settings)))
        races = run(settings, repository, store, rounds)
    print_table(
        f"{PUBLISHERS} publishers on one fenced branch of the {kind}, {rounds} rounds",
        list(races),
        [*counts(races), *times(races), verdict(races)],
        depends_on="cores shared with the server, and how long the server waits before it tries a merge again",
    )
    wrong = [problem for race in races.values() for problem in race.wrong]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    sys.exit(1 if wrong else 0)


def run(settings: LakeFSSettings, repository: str, store: LakeFSStore, rounds: int) -> dict[str, Race]:
    """The base and the races in turns; each on a fenced branch of its own."""
    races: dict[str, Race] = {}
    for branch in (ALONE, OWN, ONE):
        store.create_branch(repository, branch, "main")
        fence = install_fence(store, repository, branch)
        if not fence.holds:
            raise SystemExit(f"the fence does not hold on this lakeFS: {fence}")
        races[branch] = Race(store, repository, branch, fence.head, shared=branch == ONE)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        publishers = [stack.enter_context(closing(Publisher(settings, repository, scratch))) for _ in range(PUBLISHERS)]
        seen = stack.enter_context(watched(settings, repository, list(races)))
        for _ in range(rounds):
            for branch, race in races.items():
                race.run(publishers[:1] if branch == ALONE else publishers)
    for branch, race in races.items():
        race.finish(seen[branch])
    return races


def counts(races: dict[str, Race]) -> Iterator[Row]:
    """What the publishers were told."""
    won = {branch: sum(answer.won for answer in race.answers) for branch, race in races.items()}
    rounds = {branch: len(race.rounds) for branch, race in races.items()}
    yield Row("merges that passed", [f"{count:,}" for count in won.values()], Target("one a round", won == rounds))
    told = {branch: Counter(a.kind for a in race.answers if not a.won) for branch, race in races.items()}
    for kind in (*REFUSALS, *sorted({kind for kinds in told.values() for kind in kinds} - set(REFUSALS))):
        yield Row(f"refused: {kind}", [f"{kinds[kind]:,}" for kinds in told.values()])


def times(races: dict[str, Race]) -> Iterator[Row]:
    """How long the answers took, beside those without a rival."""
    base = percentile([answer.wall for answer in races[ALONE].answers], 0.5)
    for what, chosen in (("passed", True), ("refused", False)):
        walls = [[a.wall for a in race.answers if a.won is chosen] for race in races.values()]
        for name, share in (("median", 0.5), ("95 %", 0.95)):
            found = [percentile(values, share) if values else None for values in walls]
            yield Row(f"{what}, {name}", [_or_none(value and seconds(value)) for value in found])
            if share == 0.5:
                yield Row("  / alone", [_or_none(value and ratio(value, base)) for value in found])
    last = [[max(answer.wall for answer in answers) for answers in race.rounds] for race in races.values()]
    slowest = [percentile(values, 0.5) for values in last]
    yield Row("last answer of a round, median", [seconds(value) for value in slowest])
    yield Row("  / alone", [ratio(value, base) for value in slowest])


def verdict(races: dict[str, Race]) -> Row:
    """How often a look at the branch found something other than one winner's work."""
    wrong = [len(race.wrong) for race in races.values()]
    return Row("wrong on the branch", [str(count) for count in wrong], Target("nothing", not any(wrong)))


def _or_none(text: str | float | None) -> str:
    return str(text) if text else "-"


if __name__ == "__main__":
    main()
