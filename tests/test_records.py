"""`perago.records.dataclass` does the same as the decorator of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from perago import records

FROZEN = {"frozen": True, "slots": True}
OPTIONS: list[dict[str, bool]] = [
    {},
    {"slots": True},
    {"frozen": True},
    FROZEN,
    {**FROZEN, "eq": False},
    {**FROZEN, "repr": False},
    {**FROZEN, "order": True},
    {**FROZEN, "kw_only": True},
]


def made(decorator: Any, options: dict[str, bool]) -> Any:
    """A class with every kind of field that perago's classes have."""

    class Sample:
        """A sample."""

        name: str
        size: int = 1
        secret: str = dataclasses.field(default="s", repr=False)
        detail: Any = dataclasses.field(default="", compare=False)
        items: list[int] = dataclasses.field(default_factory=list, hash=False)
        seen: set[int] = dataclasses.field(default_factory=set, init=False, compare=False)
        total: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.size + len(self.items))

        def twice(self) -> int:
            return 2 * self.total

    Sample.__qualname__ = "Sample"
    return decorator(**options)(Sample)


def outcome(call: Callable[[], object]) -> object:
    """What a call returns, or the type and the text of its error."""
    try:
        return call()
    except (TypeError, AttributeError) as error:
        return type(error), str(error).rpartition(".")[2]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_does_the_same_as_the_standard_library(options: dict[str, bool]) -> None:
    found = [observed(made(decorator, options)) for decorator in (dataclasses.dataclass, records.dataclass)]
    assert found[0] == found[1]


def observed(kind: Any) -> dict[str, object]:
    """All that its users can see of the class, and of its objects."""
    one, same, other = kind(name="a"), kind(name="a", detail="d"), kind(name="a", items=[3])

    def assigned() -> object:
        one.size = 5
        return one.size

    def deleted() -> object:
        del kind(name="a").name
        return "deleted"

    return {
        "signature": str(inspect.signature(kind)),
        "hints": get_type_hints(kind.__init__),
        "parameters": [getattr(kind.__dataclass_params__, name) for name in ("init", "repr", "eq", "order", "frozen")],
        "fields": [(each.name, each.init, each.repr, each.compare) for each in dataclasses.fields(kind)],
        "match": kind.__match_args__,
        "slots": getattr(kind, "__slots__", None),
        "equal": (one == same, one == other, one == "a", kind(name="a") != kind(name="b")),
        "hash": (kind.__hash__ is None, kind.__hash__ is object.__hash__, kind.__hash__ and hash(one) == hash(same)),
        "order": outcome(lambda: kind(name="a") < kind(name="b")),
        "method": other.twice(),
        "shared": kind(name="b").items is kind(name="b").items,
        "positional": outcome(lambda: kind("a", 2).total),
        "missing": outcome(kind),
        "shown": "<" if kind.__repr__ is object.__repr__ else repr(one),
        "replaced": dataclasses.replace(other, name="z").total,
        "assigned": outcome(assigned),
        "deleted": outcome(deleted),
        "copied": [dataclasses.asdict(copy.copy(other)), dataclasses.asdict(copy.deepcopy(other))],
    }


@records.dataclass(frozen=True, slots=True)
class Sent:
    """A class that pickle finds."""

    name: str
    sizes: tuple[int, ...] = ()


def test_a_frozen_object_with_slots_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Sent("a", (1, 2)))) == Sent("a", (1, 2))


def test_a_subclass_of_a_frozen_class_has_its_own_attributes() -> None:
    class Named(Sent):
        """One with a `__dict__`."""

    named = Named("a")
    named.title = "A"  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        named.name = "b"  # type: ignore[misc]
    assert (named.title, named.name) == ("A", "a")  # type: ignore[attr-defined]


def frozen_child(decorator: Any) -> object:
    @decorator(frozen=True, slots=True)
    class Base:
        name: str = "a"

    @dataclasses.dataclass(frozen=True)
    class Child(Base):
        size: int = 1

    return dataclasses.astuple(copy.copy(Child(size=2)))


def child_that_is_not_frozen(decorator: Any) -> object:
    @decorator(frozen=True)
    class Base:
        name: str = "a"

    @decorator
    class Child(Base):
        size: int = 1

    return Child()


def frozen_child_of_another(decorator: Any) -> object:
    @decorator
    class Base:
        name: str = "a"

    @decorator(frozen=True)
    class Child(Base):
        size: int = 1

    return Child()


def own_equality(decorator: Any) -> object:
    @decorator(frozen=True)
    class Wildcard:
        name: str = "a"

        def __eq__(self, other: object) -> bool:
            return True

    return Wildcard() == "b", hash(Wildcard()) == hash(Wildcard())


@pytest.mark.parametrize("use", [frozen_child, child_that_is_not_frozen, frozen_child_of_another, own_equality])
def test_subclasses_and_own_methods_work_as_in_the_standard_library(use: Callable[[Any], object]) -> None:
    assert outcome(lambda: use(records.dataclass)) == outcome(lambda: use(dataclasses.dataclass))
