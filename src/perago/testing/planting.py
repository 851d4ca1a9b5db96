"""A tree that grows, and stays one that can be built on the disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from perago.authoring.guardrails import Guardrail
from perago.testing.building import Symlink, Tree, sizes_of
from perago.testing.neighbours import Likeness, amounts, contents, instances, is_path, lookalikes, plain
from perago.testing.oracle import concerns, judge
from perago.workspace.keys import Folding


class TreePlan:
    """What does not fit to what is already there is passed over."""

    def __init__(self, folding: Folding) -> None:
        self.tree: dict[str, str | Symlink | None] = {}
        self._folding = folding
        self._directories: set[str] = set()
        self._folded: dict[str, str] = {}

    def add(self, path: str, content: str | Symlink | None = "") -> bool:
        """Plant something, unless something else is in its way; whether it stands there now."""
        above = _above(path)
        blocked = path in self.tree or any(self.tree.get(directory, None) is not None for directory in above)
        if blocked or not is_path(path) or (content is not None and path in self._directories):
            return False
        if self._folding and any(self._twin(name) for name in (path, *above)):
            return False
        self.tree[path] = content
        self._directories.update(above)
        if content is None:
            self._directories.add(path)
        if self._folding:
            self._folded.update({self._folding.fold(name): name for name in (path, *above)})
        return True

    def remove(self, path: str) -> None:
        """Take a file away; its directories stay, empty if need be."""
        del self.tree[path]
        above = path.rpartition("/")[0]
        if above:
            self.tree.setdefault(above, None)

    def bring_to(self, rule: Guardrail, number: int) -> None:
        """Let the rule count so many files, as far as others leave room for them."""
        counted = sorted(path for path in sizes_of(self.tree) if concerns(rule, path))
        for path in counted[number:]:
            self.remove(path)
        missing = number - len(counted)
        for index in range(2 * number):
            path = plain(rule, index)
            if missing > 0 and concerns(rule, path) and self.add(path):
                missing -= 1

    def add_if(self, rules: Collection[Guardrail], path: str, content: str | Symlink | None = "") -> None:
        """Plant something only if no rule changes its mind about the tree."""
        about = [rule for rule in rules if concerns(rule, path)] if content is not None else []
        before = [judge(rule, sizes_of(self.tree)).satisfied for rule in about]
        if self.add(path, content) and before != [judge(rule, sizes_of(self.tree)).satisfied for rule in about]:
            self.remove(path)

    def _twin(self, name: str) -> bool:
        return self._folded.get(self._folding.fold(name), name) != name


def corner_trees(rules: Sequence[Guardrail], folding: Folding) -> list[Tree]:
    """The trees that no fuzzing should leave to chance: everything that only looks like the rules in one tree, all odd
    files that they mean in another, and plain trees at, just below and just above the limits of each rule."""
    crowd, meant = TreePlan(folding), TreePlan(folding)
    for likeness in Likeness:
        for rule in rules:
            for path, content in lookalikes(rule, likeness):
                crowd.add(path, content)
    for rule in rules:
        for path in instances(rule):
            meant.add(path)
    held = [(rule, content) for rule in rules for content in contents(rule)]
    at_limits = []
    for rule in rules:
        for number in amounts(rule):
            plan = TreePlan(folding)
            plan.bring_to(rule, number)
            at_limits.append(plan.tree)
    return [crowd.tree, meant.tree, *at_limits, *(_holding(rule, content, folding) for rule, content in held)]


def _holding(rule: Guardrail, content: str, folding: Folding) -> Tree:
    """Files that the rule means, all with this content."""
    plan = TreePlan(folding)
    for path in instances(rule):
        plan.add(path, content)
    return plan.tree


def _above(path: str) -> list[str]:
    names = path.split("/")
    return ["/".join(names[:depth]) for depth in range(1, len(names))]
