"""In any workflow, every step gets the files of all steps that were done before it: no ref is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from perago.testing import TaskRunner
from perago.workflows import Flow, Workflow, workflow

from .tasks import OWNER, Named, Words, read, split, touch, write


@dataclass(frozen=True)
class Part:
    """A step, or a structure with blocks of parts in it."""

    kind: str
    blocks: tuple[tuple[Part, ...], ...] = ()


STEPS = st.sampled_from([Part("write"), Part("read"), Part("map"), Part("empty map")])


def _structures(part: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    block = st.lists(part, min_size=1, max_size=2).map(tuple)
    return st.one_of(
        st.builds(Part, st.just("fork"), st.lists(block, min_size=2, max_size=2).map(tuple)),
        st.builds(Part, st.sampled_from(["switch", "other switch", "loop", "sub"]), block.map(lambda body: (body,))),
    )


BLOCKS = st.lists(st.recursive(STEPS, _structures, max_leaves=5), min_size=1, max_size=3).map(tuple)


class Author:
    """Writes a workflow from parts, and notes which files each of its steps must find."""

    def __init__(self, prefix: str = "s") -> None:
        self.prefix = prefix
        self.expected: dict[str, frozenset[str]] = {}
        self.after: frozenset[str] = frozenset()
        self._number = 0
        self._in_loop = False

    def write(
        self, flow: Flow, items: Any, parts: Sequence[Part], before: frozenset[str], suffix: str = ""
    ) -> frozenset[str]:
        """Write the parts; return the files that exist after them."""
        for part in parts:
            self._number += 1
            before = self._part(flow, items, part, before, f"{self.prefix}{self._number}", suffix)
        return before

    def _part(
        self, flow: Flow, items: Any, part: Part, before: frozenset[str], name: str, suffix: str
    ) -> frozenset[str]:
        file = f"{name}{suffix}"
        match part.kind:
            case "write":
                self.expected[file] = before
                flow.step(name, write, Named, name=file)
                return before | {file}
            case "read":
                self.expected[file] = before
                flow.step(name, read, Named, name=file)
            case "map":
                flow.map(f"{name}m", items.words, lambda word: flow.step(name, touch, Named, name=word))
                self.expected |= {f"{file}_0": before, f"{file}_1": before}
                return before | {"item0", "item1"}
            case "empty map":
                flow.map(f"{name}m", items.none, lambda word: flow.step(name, touch, Named, name=word))
            case "fork":
                after = before
                branches = iter(part.blocks)

                def branch(letter: str) -> None:
                    nonlocal after
                    own = [*next(branches), Part("read")]  # a branch must not end with a switch
                    after |= self.write(flow, items, own, before, f"{suffix}_{letter}")

                flow.fork(name, ["a", "b"], branch)
                return after
            case "switch" | "other switch":
                known, taken = dict(self.expected), part.kind == "switch"
                with flow.switch(name, items.choice) as switch, switch.case("yes" if taken else "no"):
                    after = self.write(flow, items, part.blocks[0], before, suffix)
                if taken:
                    return after
                self.expected = known
            case "loop" if not self._in_loop:
                self._in_loop = True
                with flow.loop(name, at_most=2):
                    after = self.write(flow, items, part.blocks[0], before, suffix)
                self._in_loop = False
                return after
            case "sub" | "loop":
                author = Author(f"{name}x")
                flow.sub(name, author.workflow(f"sub_{name}", part.blocks[0], before), Items)
                self.expected |= author.expected
                return author.after
        return before

    def workflow(self, name: str, parts: Sequence[Part], before: frozenset[str]) -> Workflow[Items, None]:
        """Write a workflow of its own."""

        @workflow(name=name, version=1, owner_email=OWNER)
        def written(flow: Flow, items: Items) -> None:
            flow.step(f"{self.prefix}0", split, Words, text=items.choice)  # no parameter is unused
            flow.unchecked([items.words, items.none])
            self.after = self.write(flow, items, parts, before)

        written._build()
        return written


class Items(BaseModel):
    words: list[str] = ["item0", "item1"]
    none: list[str] = []
    choice: str = "yes"


@settings(deadline=None, max_examples=25, derandomize=True)
@given(BLOCKS)
@example((Part("write"), Part("loop", ((Part("fork", ((Part("write"),), (Part("sub", ((Part("map"),),)),))),),))))
def test_each_step_finds_the_files_of_all_steps_before_it(parts: tuple[Part, ...]) -> None:
    author = Author()
    flow = author.workflow("outer", parts, frozenset())

    with TaskRunner() as run:
        ran = run.workflow(flow, tree={})

    assert ran.status == "COMPLETED", ran.reason
    files_of_steps: dict[str, list[set[str]]] = {}
    for outcome in ran.outcomes:
        reference = re.sub(r"__\d+$", "", outcome.delivery.reference_name)
        if reference in author.expected:
            files_of_steps.setdefault(reference, []).append(set(outcome.result["files"]))
    assert files_of_steps.keys() == author.expected.keys()
    lost = {name: author.expected[name] - files for name in files_of_steps for files in files_of_steps[name]}
    assert not any(lost.values()), lost
    assert author.after <= set(ran.tree)
