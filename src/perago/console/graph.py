"""The steps of a workflow definition as a graph, which `perago workflow show` prints as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

from perago.console import links
from perago.console.source import Json, Source
from perago.console.text import RowView, line, link
from perago.workflows.picture import Node, nodes_of

_MOST_PARTS = 400


def graph_of(source: Source, definition: Json) -> RowView:
    """Return the steps of a definition with their inner parts: up to `_MOST_PARTS` of both together."""
    versions_of = cache(source.conductor.workflow_versions)
    known = {str(task["name"]) for task in source.conductor.task_definitions()}
    left = iter(range(_MOST_PARTS))

    def address(node: Node) -> str | None:
        if node.task_type in known:
            return links.task_type(node.task_type)
        name, version = node.workflow
        versions = versions_of(name) if name else ()
        wanted = versions[-1] if versions and version is None else version
        return links.workflow_type(name, wanted) if wanted in versions else None

    steps = tuple(_steps(nodes_of(definition.get("tasks")), address, left))
    return RowView(steps=steps, is_cut=next(left, None) is None)


def _steps(nodes: Sequence[Node], address: Callable[[Node], str | None], left: Iterator[int]) -> Iterator[RowView]:
    for node, _ in zip(nodes, left, strict=False):
        parts = tuple(
            RowView(label=line(label), steps=tuple(_steps(part, address, left)))
            for (label, part), _ in zip(node.parts, left, strict=False)
        )
        yield RowView(reference=line(node.reference), text=link(node.text, address(node)), parts=parts)
