"""No public name gives a type that authors cannot import."""

from __future__ import annotations

from pathlib import Path

import pytest

import perago.testing
from perago.testing import TaskRunner
from perago.testing.services import InMemoryServices

from ..testing.tasks_for_runner import copy
from .leaks import leaks

LEAKY = """
from __future__ import annotations
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal
from perago.cache.objects import Ledger
from perago.driver import AttemptRecord
from perago.embedded.clock import VirtualClock as Base
from perago.retry import BackOff
if TYPE_CHECKING:
    from perago.cache.objects import Shelf

__all__ = ["Public", "alias", "function"]

alias = tuple[AttemptRecord, Literal["text"]]

class Hidden: ...

def function(one: list[Shelf], _two: BackOff) -> Public: ...

class Public(Base):
    field: Hidden | None
    _field: BackOff

    def __init__(self, given: Ledger, _hidden: BackOff) -> None:
        self.given = given
        self.made: dict[str, Ledger] = {}
        self._made: BackOff = _hidden

    @property
    def name(self) -> Iterable[Hidden]: ...

    def _method(self) -> BackOff: ...
"""


NOT_FOR_TESTS = {"perago.ports.Trace": ["perago.testing.Delivery.__init__(trace)", "perago.testing.Delivery.trace"]}
"""Types of fields that tests have no use for: only exporters read the span of a delivery."""


@pytest.mark.any_python
def test_each_type_that_a_public_name_gives_can_be_imported() -> None:
    assert leaks() == NOT_FOR_TESTS, "export and document the type, or hide its place behind an underscore"


@pytest.mark.any_python
def test_the_walk_finds_types_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perago_leaky.py").write_text(LEAKY)
    monkeypatch.syspath_prepend(tmp_path)
    assert leaks("perago_leaky") == {
        "perago.cache.objects.Ledger": [
            "perago_leaky.Public.__init__(given)",
            "perago_leaky.Public.given",
            "perago_leaky.Public.made",
        ],
        "perago.cache.objects.Shelf": ["perago_leaky.function(one)"],
        "perago.driver.runtime.AttemptRecord": ["perago_leaky.alias"],
        "perago.embedded.clock.Timer": ["perago_leaky.Public.call_at"],
        "perago.embedded.clock.VirtualClock": ["perago_leaky.Public (base)"],
        "perago_leaky.Hidden": ["perago_leaky.Public.field", "perago_leaky.Public.name"],
    }


def test_what_was_public_before_works_with_a_warning() -> None:
    with TaskRunner() as run:
        outcome = run(copy, tree={"raw/a.csv": "x\n1\n"})
    with pytest.warns(DeprecationWarning, match="use attributes of the outcome, such as input_ref"):
        assert outcome.record.input_ref == outcome.input_ref
    with pytest.warns(DeprecationWarning, match=r"perago\.testing\.InMemoryServices is deprecated; use TaskRunner"):
        assert perago.testing.InMemoryServices is InMemoryServices
