"""A task without a workspace."""

from __future__ import annotations

from perago import task

from .acting import Done, Orders, act, controls, named


@task(name=named("free"), owner_email="live@example.com", controls=controls())
def work(params: Orders) -> Done:
    """Obey."""
    return act(params)
