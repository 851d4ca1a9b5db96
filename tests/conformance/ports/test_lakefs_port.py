"""The scenarios of the port to lakeFS: on the model, and by the adapter on the embedded and on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perago.settings import LakeFSSettings

from .. import targets
from .lakefs_scenarios import LakeFSScenarios, LakeFSScenariosOverHttp
from .lakefs_services import LakeFSService, embedded, on_the_model, settings_of


class TestOnTheModel(LakeFSScenarios):
    @pytest.fixture
    def service(self) -> Iterator[LakeFSService]:
        with on_the_model() as service:
            yield service


class TestOnTheEmbeddedServer(LakeFSScenariosOverHttp):
    @pytest.fixture
    def settings(self) -> Iterator[LakeFSSettings]:
        with embedded() as settings:
            yield settings


@pytest.mark.live
class TestOnARealServer(LakeFSScenariosOverHttp):
    @pytest.fixture
    def settings(self) -> LakeFSSettings:
        return settings_of(targets.address("lakefs"))
