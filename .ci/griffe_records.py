"""Let the reference of the Python API show the parameters of `perago.records.dataclass` (mkdocs.yml, `extensions`)."""

from __future__ import annotations

from typing import Any

import griffe


class Records(griffe.Extension):
    """Names the decorator and its fields as the standard library does. griffe knows only these names."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Let imports from `perago.records` name the standard module."""
        for name in ("dataclass", "field"):
            member = mod.members.get(name)
            if isinstance(member, griffe.Alias) and member.target_path == f"perago.records.{name}":
                member.target_path = f"dataclasses.{name}"
