"""The embedded servers and the real ones give the same answers in conversations that nobody wrote.

The conversations are drawn from fixed seeds, so that a change of the code, not luck, turns the test red. To draw
others: `PERAGO_DIFFERENTIAL=random`; to draw more: `PERAGO_DIFFERENTIAL_RUNS=1000`. A divergence tells what came before
it; to have hypothesis look for a shorter story, which takes minutes: `PERAGO_DIFFERENTIAL_SHRINK=1`.

A real Conductor works in the background, and now and then two of its threads meet. So a conversation that diverged is
repeated, and what does not diverge again is told but does not fail the test, unless it happens too often to be luck.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from ..targets import Target, embedded_server, real
from .conductor_machine import ConductorMachine
from .lakefs_machine import LakeFSMachine
from .pair import COMPARED, DIVERGED, Diverged

RANDOM = os.environ.get("PERAGO_DIFFERENTIAL") == "random"
RUNS = int(os.environ.get("PERAGO_DIFFERENTIAL_RUNS", "250"))
PART = 10
"""How many conversations are drawn from one seed. A divergence ends its part only."""
LUCK = 3
"""How many divergences of a run may be luck."""
SHRINK = bool(os.environ.get("PERAGO_DIFFERENTIAL_SHRINK"))
PHASES = (Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,)
STEPS = 50

pytestmark = pytest.mark.live


@contextmanager
def both(server: str) -> Iterator[tuple[Target, Target]]:
    there = real(server)
    with embedded_server(server, real_time=True) as here:
        yield here, there


def run(machine: type[RuleBasedStateMachine], capsys: pytest.CaptureFixture[str]) -> None:
    """Draw conversations part by part, and tell how many operations were compared, also where all is well."""
    COMPARED.clear()
    luck: list[str] = []
    for number in range(max(1, RUNS // PART)):
        DIVERGED.clear()
        diverged = False
        try:
            run_state_machine_as_test(_seeded(machine, number), settings=drawn())
        except Flaky as error:
            luck.append(DIVERGED[0] if DIVERGED else str(error))
        except Diverged:
            if SHRINK:
                raise
            diverged = True
        if diverged:
            pytest.fail(DIVERGED[-1], pytrace=False)  # what hypothesis has to add is very long
    with capsys.disabled():
        print(f"\n{sum(COMPARED.values()):,} operations compared:", *_lines(COMPARED), sep="\n  ")
        print(*(f"\ndiverged once, and not again:\n{story}" for story in luck))
    assert len(luck) <= LUCK, "\n\n".join(luck)


def _seeded(machine: type[RuleBasedStateMachine], number: int) -> type[RuleBasedStateMachine]:
    """A class of its own, for a seed stays with the class."""
    part = type(machine.__name__, (machine,), {})
    return part if RANDOM else seed(number)(part)


def _lines(compared: Counter[str]) -> Iterator[str]:
    for operation, count in compared.most_common():
        yield f"{count:>6,}  {operation}"


def drawn() -> settings:
    return settings(
        max_examples=PART,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )


@pytest.mark.parametrize(("server", "machine"), [("lakefs", LakeFSMachine), ("conductor", ConductorMachine)])
def test_both_servers_give_the_same_answers(
    server: str, machine: type[RuleBasedStateMachine], capsys: pytest.CaptureFixture[str]
) -> None:
    with both(server) as targets:
        run(type("Machine", (machine,), {"targets": staticmethod(lambda: targets)}), capsys)
