"""Conductor's REST API on the model: enough for the official SDK, curl and perago's own adapter.

Status codes and bodies are those of `reference/conductor.md` 1, down to the words of refusals. A call that Conductor
has and this does not is answered with 501 and named; one that Conductor does not have either is a 404, as there.
"""

from __future__ import annotations

from perago.embedded.http.conductor.app import conductor_app

__all__ = ["conductor_app"]
