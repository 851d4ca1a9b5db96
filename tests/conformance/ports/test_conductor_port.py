"""The scenarios of the port to Conductor: on the model, and by the adapter on the embedded and on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .. import targets
from .conductor_scenarios import ConductorScenarios
from .conductor_services import ConductorService, embedded, on_the_model, over_http


class TestOnTheModel(ConductorScenarios):
    @pytest.fixture
    def service(self) -> Iterator[ConductorService]:
        with on_the_model() as service:
            yield service


class TestOnTheEmbeddedServer(ConductorScenarios):
    @pytest.fixture
    def service(self) -> Iterator[ConductorService]:
        with embedded() as url, over_http(url) as service:
            yield service


@pytest.mark.live
class TestOnARealServer(ConductorScenarios):
    @pytest.fixture
    def service(self) -> Iterator[ConductorService]:
        with over_http(targets.address("conductor").rstrip("/")) as service:
            yield service
