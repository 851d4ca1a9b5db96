"""The scenarios of the port to Conductor: on the model, and by the adapter on the embedded and on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .. import targets
from .conductor_scenarios import ConductorScenarios, ConductorScenariosOverHttp
from .conductor_services import ConductorService, embedded, on_the_model


class TestOnTheModel(ConductorScenarios):
    @pytest.fixture
    def service(self) -> Iterator[ConductorService]:
        with on_the_model() as service:
            yield service


class TestOnTheEmbeddedServer(ConductorScenariosOverHttp):
    @pytest.fixture
    def conductor_url(self) -> Iterator[str]:
        with embedded() as url:
            yield url


@pytest.mark.live
class TestOnARealServer(ConductorScenariosOverHttp):
    @pytest.fixture
    def conductor_url(self) -> str:
        return targets.address("conductor").rstrip("/")
