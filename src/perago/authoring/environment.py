"""Which variables of the environment are withheld from a task function, and which of them it may ask for.

Variables of Conductor and lakeFS and the headers of OpenTelemetry hold credentials. A function does not need them,
because perago does the transfers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from perago.authoring.errors import InvalidDeclaration
from perago.secret_names import WITHHELD, is_withheld

_PATTERN = re.compile(r"[A-Za-z0-9_*?\[\]!-]+")


def canonical_patterns(patterns: object) -> tuple[str, ...]:
    """The `environment=` of `@task` as a tuple of glob patterns over names of variables.

    Raises:
        InvalidDeclaration: it is not a list of patterns, or one of them matches nothing that is withheld.
    """
    fix = 'write environment=["LAKECTL_*"], or leave it out'
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise InvalidDeclaration(f"environment must be a list of patterns, not {type(patterns).__name__}", fix)
    found = tuple(patterns)
    for pattern in found:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise InvalidDeclaration(f"environment: {pattern!r} is not a pattern for names of variables", fix)
        literal, *_ = re.split(r"[*?\[]", pattern, maxsplit=1)
        prefixes = (withheld.partition("*")[0] for withheld in WITHHELD)
        if not any(prefix.startswith(literal) or literal.startswith(prefix) for prefix in prefixes):
            raise InvalidDeclaration(
                f"environment: {pattern!r} matches no withheld variable: only {', '.join(WITHHELD)} are withheld; "
                "the function gets all other variables anyway",
                fix,
            )
    return found


def withheld(environment: Iterable[str], allowed: Iterable[str] = ()) -> list[str]:
    """The names in `environment` that a function must not see; `allowed` are the patterns that its task asks for."""
    patterns = tuple(allowed)
    return [
        name
        for name in environment
        if is_withheld(name) and not any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


def asked_for(environment: Mapping[str, str], allowed: Iterable[str]) -> dict[str, str]:
    """The variables that are withheld from others and that a task gets because it asks for them."""
    kept = set(withheld(environment)) - set(withheld(environment, tuple(allowed)))
    return {name: environment[name] for name in sorted(kept)}
