"""lakeFS's REST API on the model, for the official SDK, the wrapper, `lakectl` and curl."""

from __future__ import annotations

from perago.embedded.http.lakefs.app import lakefs_app

__all__ = ["lakefs_app"]
