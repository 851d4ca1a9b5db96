"""Every guard of the protocol is needed: without it, the matrix turns red."""

from __future__ import annotations

import pytest

from perago.testing import InMemoryServices

from .guards import Removable, is_needed
from .matrix import play
from .mutating import lose_a_file_in_merges
from .mutations import ALL


@pytest.mark.parametrize("guard", ALL, ids=lambda guard: guard.name.replace(" ", "-"))
def test_without_this_guard_a_promise_is_broken_and_with_it_none(guard: Removable) -> None:
    assert is_needed(guard) == (False, True)


def test_a_server_that_loses_a_file_in_a_merge_is_noticed(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_a_file_in_merges(monkeypatch)
    world = play(services, ())

    assert "its tree differs from the staging commit" in world.tried[0].words
    assert world.status == "FAILED"
