"""Commands are declared once, and everything that depends on them agrees."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.driver.attempt import _AttemptRun
from perago.driver.delivery import DeliveryQuestions
from perago.driver.publisher import Publisher, Rebase
from tests.attempt.exploring import ANSWERS

OWNERS = (_AttemptRun, DeliveryQuestions, Publisher, Rebase)


@pytest.mark.parametrize(
    "kind", [kind for kind in do.COMMANDS if kind is not do.SendReport], ids=lambda kind: kind.__name__
)
def test_one_method_of_the_driver_carries_out_each_command(kind: type) -> None:
    name = do.COMMANDS[kind].name
    (handler,) = [getattr(owner, name) for owner in OWNERS if hasattr(owner, name)]
    (given, _) = get_type_hints(handler).values()
    assert given is kind


@pytest.mark.parametrize("kind", do.COMMANDS, ids=lambda kind: kind.__name__)
def test_the_exploration_answers_each_command_with_its_events(kind: type) -> None:
    assert {type(event) for event in ANSWERS[kind]} - {on.CommandFailed} == set(do.COMMANDS[kind].answers)
