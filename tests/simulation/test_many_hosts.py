"""Many hosts at the same time, each a real supervisor: nothing is lost, nothing done twice, and each host gets work."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from benchmarks.many_hosts import problems
from benchmarks.simulated.simulation import Figures, mixture, simulate
from benchmarks.simulated.work import plan

HOSTS, SLOTS = 5, 2


def play(work: dict[str, int], *, over: float, seed: int = 1) -> Figures:
    starts = plan(random.Random(seed), work, over=over, longest=5)
    return simulate(HOSTS, starts, slots=SLOTS, seed=seed)


@pytest.fixture(scope="module")
def raced() -> Figures:
    """Steps that all advance one branch, started at the same time."""
    return play({"shared": 40}, over=0)


def test_a_mixture_is_done_once_by_all_hosts() -> None:
    fleet = play(dict(mixture(100)), over=60)
    assert not list(problems(fleet))
    assert fleet.tasks == 100
    assert min(fleet.by_host().values()) >= 10
    assert max(map(max, fleet.waits.values())) < 30


def test_racing_steps_on_one_branch_are_all_published(raced: Figures) -> None:
    assert not list(problems(raced))
    assert len(raced.publications["data0", "main"]) == 40
    lost = [record.lost_races for _, record in raced.records]
    assert sum(lost) > 0
    assert max(lost) < 20
    assert len(raced.rows) == 40


def test_an_idle_host_asks_less_than_once_a_second(raced: Figures) -> None:
    assert 0 < sum(raced.idle.values()) / HOSTS < 60


@pytest.mark.parametrize("broken", ["lost", "twice", "undone"])
def test_forbidden_states_are_detected(raced: Figures, broken: str) -> None:
    ids = raced.publications["data0", "main"]
    published = {"lost": ids[1:], "twice": [*ids, ids[0]]}.get(broken, ids)
    failed = ["a workflow RUNNING"] if broken == "undone" else []
    publications = {**raced.publications, ("data0", "main"): published}
    assert list(problems(replace(raced, publications=publications, failed=failed)))
