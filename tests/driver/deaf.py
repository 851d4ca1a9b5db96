"""A server that runs no hooks."""

from __future__ import annotations


class Deaf:
    """What a server does that has its hooks switched off: it runs none."""

    name, hook = "switched off", "off"

    def refuse(self, event: object) -> str | None:
        return None
