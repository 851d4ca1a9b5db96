"""Several modules: one child after the other, and the last one gone when the command ends, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from perago.cli.probe.holding import signals_held
from perago.cli.probe.process import ChildProcess
from perago.cli.probe.report import Code, ModuleProblem, Probed
from perago.cli.signals import sigterm_unwinds


def probe_modules(modules: Sequence[str], seconds: float) -> list[Probed]:
    """Import every module in a child process of its own, each for at most `seconds`."""
    with probing(modules, seconds) as results:
        return results()


@contextlib.contextmanager
def probing(modules: Sequence[str], seconds: float) -> Iterator[Callable[[], list[Probed]]]:
    """Start with the first right away; the caller may do something else before it asks for the results."""
    with contextlib.ExitStack() as stack, sigterm_unwinds():
        first = _enter(stack, modules[0], seconds)

        def results() -> list[Probed]:
            probed = [first.result()]
            for module in modules[1:]:
                with contextlib.ExitStack() as one:
                    probed.append(_enter(one, module, seconds).result())
            return _told_apart(probed)

        yield results


def _enter(stack: contextlib.ExitStack, module: str, seconds: float) -> ChildProcess:
    """Start a child that `stack` ends. A signal waits until both is done: between them, nobody would end the child."""
    with signals_held():
        return stack.enter_context(ChildProcess(module, seconds))


def _told_apart(probed: Sequence[Probed]) -> list[Probed]:
    """A task name belongs to one module; whoever declares it again has a problem."""
    owners: dict[str, str] = {}
    result = []
    for one in probed:
        owner = owners.setdefault(one.task.name, one.module) if one.task else one.module
        result.append(one if owner == one.module else refused_as_duplicate(one, owner))
    return result


def refused_as_duplicate(probed: Probed, owner: str) -> Probed:
    """A module whose task name `owner` has taken already."""
    name = probed.task.name if probed.task else ""
    message = f"module {probed.module} declares the task {name!r}, which {owner} declares as well"
    problem = ModuleProblem(Code.DUPLICATE, message, fix="give one of the two another name")
    return replace(probed, task=None, problem=problem)
