"""Every scenario shows on the model what a real Conductor showed, row by row; wording is not compared."""

from __future__ import annotations

import os

import pytest

from .normal import without_wording
from .recording import recorded, tell
from .scenarios import SCENARIOS, Scenario
from .servers import ModelServer, RealClock, RealServer


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_model_shows_what_was_recorded_from_a_real_server(name: str) -> None:
    assert without_wording(tell(SCENARIOS[name], ModelServer())) == without_wording(recorded(name))


@pytest.mark.live
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_real_server_still_shows_what_was_recorded(name: str) -> None:
    url = os.environ.get("CONDUCTOR_SERVER_URL")
    if not url:
        pytest.skip("CONDUCTOR_SERVER_URL does not name a Conductor to compare with")
    scenario: Scenario = SCENARIOS[name]
    assert tell(scenario, RealServer(url, RealClock())) == recorded(name)
