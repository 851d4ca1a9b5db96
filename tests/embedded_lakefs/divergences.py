"""The merges in which lakeFS 1.84 loses data (`docs/dev/servers/lakefs.md`, "lakeFS's three-way merge"): what base,
target and source hold, the path concerned, and the right result (None: a conflict)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

Changes = Mapping[str, str | None]

DIVERGENCES = [
    pytest.param({"a": "", "t": "same"}, {"q": "same"}, {"q": "other"}, "q", None, id="target's add overwritten"),
    pytest.param({"a": "", "t": "same"}, {"q": "other"}, {"q": "same"}, "q", None, id="source's add dropped"),
    pytest.param({"a": "1", "z": ""}, {"z": None}, {"m": ""}, "m", {"a": "1", "m": ""}, id="added file lost"),
    pytest.param({"a": "1", "z": ""}, {"m": ""}, {"z": None}, "m", {"a": "1", "m": ""}, id="published file lost"),
    pytest.param(
        {"a": "1", "z": "data"},
        {"a": "2", "z": None},
        {"m": "data"},
        "m",
        {"a": "2", "m": "data"},
        id="renamed file lost",
    ),
]
