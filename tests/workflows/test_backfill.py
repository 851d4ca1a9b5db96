"""A back-fill starts the workflow of each line once, whatever happens to its sender and to the answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from perago.failure import Failure
from perago.ports import Unavailable, Unclear
from perago.workflows.backfill import DOUBT, Backfill, Line, SenderLock


class Conductor:
    """Workflows that end when time passes."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.most_open = 0
        self.slept = 0.0
        self.lost: set[int] = set()
        """The numbers of starts whose answer is lost."""
        self.late = ""
        """A start without an answer that takes effect when time passes."""
        self.failing = 0
        """The number of look-ups that get no answer."""

    def correlated(self, name: str, ids: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        if self.failing:
            self.failing -= 1
            raise Unavailable("Conductor", "look up", "no answer")
        return {shared: [row for row in self.rows if row["id"] == shared] for shared in ids}

    def start(self, line: Line) -> str:
        number = len(self.rows)
        if number in self.lost:
            self.lost.discard(number)
            self.late = line.correlation_id
            raise Unclear("Conductor", "start", "lost")
        return self.add(line.correlation_id)

    def add(self, shared: str) -> str:
        self.rows.append({"id": shared, "workflowId": f"w{len(self.rows)}", "status": "RUNNING"})
        self.most_open = max(self.most_open, sum(row["status"] == "RUNNING" for row in self.rows))
        return str(self.rows[-1]["workflowId"])

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        if self.late:
            self.add(self.late)
            self.late = ""
        for row in self.rows:
            row["status"] = "COMPLETED"


def lines(number: int = 10) -> list[Line]:
    return [Line.of("days", index, {"day": index}, None) for index in range(1, number + 1)]


def backfill(conductor: Conductor, at_most: int = 3, sleep: Callable[[float], None] | None = None) -> Backfill:
    return Backfill(conductor, "w", lines(), at_most, conductor.start, sleep or conductor.sleep)


def ignore(error: Unavailable) -> None:
    """Continue."""


def test_each_line_is_started_once_and_few_run_at_the_same_time() -> None:
    conductor = Conductor()
    ended = [run.line.number for run in backfill(conductor).run(ignore) if run is not None]
    assert (ended, conductor.most_open) == ([*range(1, 11)], 3)
    assert [row["id"] for row in conductor.rows] == [line.correlation_id for line in lines()]
    again = backfill(conductor)
    assert [run for run in again.run(ignore) if run is not None] == []
    assert len(conductor.rows) == sum(map(len, again.runs.values())) == 10


def test_a_start_without_an_answer_is_looked_up_when_its_doubt_ends() -> None:
    conductor = Conductor()
    conductor.lost = {0, 4, 9}
    assert len([run for run in backfill(conductor).run(ignore) if run is not None]) == 10
    assert len({row["id"] for row in conductor.rows}) == len(conductor.rows) == 10
    assert conductor.slept >= 3 * DOUBT


def test_a_start_that_never_took_effect_is_repeated() -> None:
    conductor = Conductor()
    conductor.lost = {2}

    def sleep(seconds: float) -> None:
        conductor.late = ""
        conductor.sleep(seconds)

    list(backfill(conductor, sleep=sleep).run(ignore))
    assert sorted(row["id"] for row in conductor.rows) == sorted(line.correlation_id for line in lines())


def test_an_outage_is_reported_and_survived() -> None:
    conductor, outages = Conductor(), list[Unavailable]()
    conductor.failing = 2
    list(backfill(conductor).run(outages.append))
    assert (len(outages), len(conductor.rows)) == (2, 10)


@pytest.mark.parametrize("index", [3, 0], ids=["a line that waits", "a line that runs"])
def test_another_sender_is_refused_when_it_has_started_a_line(index: int) -> None:
    conductor = Conductor()
    shared = lines()[index].correlation_id
    sender = backfill(conductor, sleep=lambda _: None).run(ignore)
    with pytest.raises(Failure, match=f"another sender has started line {index + 1} as workflow w3"):
        list(map(conductor.add, (shared for _ in sender)))


def test_the_id_of_a_line_has_its_number_its_content_and_its_branch() -> None:
    ids = {
        Line.of(*arguments).correlation_id
        for arguments in [
            ("a", 1, {"x": 1}, None),
            ("b", 1, {"x": 1}, None),
            ("a", 2, {"x": 1}, None),
            ("a", 1, {"x": 2}, None),
            ("a", 1, {"x": 1}, "my-data/main"),
        ]
    }
    assert len(ids) == 5
    assert Line.of("a", 1, {"x": 1, "y": 2}, None) == Line.of("a", 1, {"y": 2, "x": 1}, None)


def test_one_sender_runs_on_a_machine_and_waits_for_the_last_start(tmp_path: Path) -> None:
    path = tmp_path / "state" / "lock"
    with SenderLock(path).hold() as doubt:
        assert doubt == 0
        with pytest.raises(Failure, match="another perago send runs this back-fill"), SenderLock(path).hold():
            pass
        SenderLock(path).started()
    with SenderLock(path).hold() as doubt:
        assert 0 < doubt <= DOUBT
    long_ago = time.time() - 2 * DOUBT
    os.utime(path, (long_ago, long_ago))
    with SenderLock(path).hold() as doubt:
        assert doubt == 0
