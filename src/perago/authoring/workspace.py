"""`WorkspaceSpec`: which part of the repository a task sees, and which rules hold there (docs/design/contract.md 2)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import field_validator, model_validator

from perago.authoring.declaration import Declaration
from perago.authoring.guardrails import Guardrail
from perago.authoring.paths import canonical_pattern, canonical_prefix


class WorkspaceSpec(Declaration):
    """The versioned tree that a task reads and changes."""

    prefix: str = ""
    """Canonical: `""` for the whole repository (declared as `/`), otherwise without leading or trailing slash."""
    pre: tuple[Guardrail, ...] = ()
    """Rules that must hold before the function is called."""
    post: tuple[Guardrail, ...] = ()
    """Rules that must hold after it, before anything is published."""
    read_only: bool = False
    """Publish nothing, and treat any change as a failure."""
    on_moved_head: Literal["fail", "rebase"] = "fail"
    """What to do when others have advanced the branch since the input ref (docs/design/contract.md 8): fail for good,
    or put the task's own changes on the new head, if they do not conflict with what is there."""
    include: tuple[str, ...] = ()
    """Globs of the files that the task sees; none: all. Others are neither downloaded nor removed, and cannot be
    written."""
    exclude: tuple[str, ...] = ()
    """Globs of files that the task does not see, although they are included."""
    reads: tuple[str, ...] = ()
    """Globs of files whose change by others is a conflict, too: what the task's own changes depend on. For
    `on_moved_head="rebase"`."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            prefix: str | os.PathLike[str] = "/",
            pre: Iterable[Guardrail] = (),
            post: Iterable[Guardrail] = (),
            read_only: bool = False,
            on_moved_head: Literal["fail", "rebase"] = "fail",
            include: Iterable[str] = (),
            exclude: Iterable[str] = (),
            reads: Iterable[str] = (),
        ) -> None: ...

    @property
    def key_prefix(self) -> str:
        """What every object key of the workspace begins with: `""` or like `audio/render/`."""
        return f"{self.prefix}/" if self.prefix else ""

    @field_validator("prefix", mode="before")
    @classmethod
    def _canonical_prefix(cls, prefix: object) -> str:
        return canonical_prefix(prefix)

    @field_validator("include", "exclude", "reads", mode="plain")
    @classmethod
    def _patterns(cls, patterns: object) -> tuple[str, ...]:
        if isinstance(patterns, str) or not isinstance(patterns, Iterable):
            wrap = f"; wrap it: [{patterns!r}]" if isinstance(patterns, str) else ""
            raise ValueError(f"must be a list of globs, not {type(patterns).__name__}{wrap}")  # noqa: TRY004
        return tuple(canonical_pattern(pattern) for pattern in patterns)

    @model_validator(mode="after")
    def _reads_need_a_rebase(self) -> Self:
        if self.reads and self.on_moved_head != "rebase":
            raise ValueError("reads: is for on_moved_head='rebase'; a moved head fails the attempt anyway without it")
        return self

    @field_validator("pre", "post", mode="plain")
    @classmethod
    def _guardrails(cls, rules: object) -> tuple[Guardrail, ...]:
        checked: list[Guardrail] = []
        if isinstance(rules, str) or not isinstance(rules, Iterable):
            wrap = f"; wrap it: [{rules}]" if isinstance(rules, Guardrail) else ""
            raise ValueError(  # noqa: TRY004 - pydantic only takes ValueError
                f"must be a list of guardrails, not {type(rules).__name__}{wrap}"
            )
        for index, rule in enumerate(rules):
            if not isinstance(rule, Guardrail):
                raise ValueError(  # noqa: TRY004 - pydantic only takes ValueError
                    f"item {index} is a {type(rule).__name__}, not a guardrail such as require_file('a.csv')"
                )
            if any(str(other) == str(rule) and other != rule for other in checked):
                raise ValueError(f"item {index} has the name of another guardrail, {rule}; give one of them name=...")
            checked.append(rule)
        return tuple(checked)
