"""The commits that `workspace.ref` gives: one, a list of them, or those in the output of a JOIN
(docs/design/contract.md 8, fork and join)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

from perago.taskdef.problems import join_pointer

_COMMIT_ID = re.compile(r"[0-9a-f]{64}")
_SHOWN = 80
_BLOCKS = ({"repository", "branch", "ref_type", "ref"}, {"repository", "branch", "refType", "ref"})


class _Claim(NamedTuple):
    """Something that should be a commit id."""

    pointer: str
    value: Any
    repository: Any = None
    """Where it is said to be, if that is said."""
    is_output: bool = False
    """It comes from what a task put out, so it may be a part of a result, which is never quoted."""


def commits_of(ref: Any, repository: Any, problems: list[str], pointer: str = "/workspace/ref") -> tuple[str, ...]:
    """The commits that `ref` gives, each once, in their order. What is wrong with it goes to `problems`.

    Null entries count for nothing: an optional task of a fork may have failed, and has no output then.
    """
    found: dict[str, None] = {}
    known = len(problems)
    for claim in _claims(ref, pointer):
        if not (isinstance(claim.value, str) and _COMMIT_ID.fullmatch(claim.value)):
            found_instead = type(claim.value).__name__ if claim.is_output else shown(claim.value)
            problems.append(
                f"{claim.pointer}: must be a full commit id (64 hexadecimal digits, lower case), not {found_instead}; "
                "`perago input` prints the one of a branch"
            )
        elif claim.repository not in (None, repository):
            problems.append(
                f"{claim.pointer}: is said to be of another repository than {shown(repository)}; commits of two "
                "repositories cannot be joined, so give those of one as a list"
            )
        else:
            found[claim.value] = None
    if not found and len(problems) == known:
        problems.append(
            f"{pointer}: gives no commit, because it is empty, or no complete workspace block (repository, branch, "
            "ref_type, ref) is in it; give a commit id, a list of them, or the output of a JOIN"
        )
    return tuple(found)


def shown(value: Any) -> str:
    """A value as a problem may quote it; of a list or a map only the kind."""
    text = type(value).__name__ if isinstance(value, list | Mapping) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _claims(ref: Any, pointer: str) -> Iterator[_Claim]:
    if isinstance(ref, Mapping):
        yield from _claims_of_outputs(ref, pointer)
    elif isinstance(ref, list):
        for index, item in enumerate(ref):
            place = join_pointer(pointer, index)
            if isinstance(item, list):
                yield _Claim(place, item)
            elif item is not None:
                yield from _claims(item, place)
    else:
        yield _Claim(pointer, ref)


def _is_complete(block: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether this is a workspace block as a task of perago puts it out."""
    if not isinstance(block, Mapping) or block.keys() not in _BLOCKS:
        return False
    named = all(isinstance(block[key], str) and block[key] for key in ("repository", "branch"))
    return named and block.get("ref_type", block.get("refType")) == "commit"


def _claims_of_outputs(value: Any, pointer: str) -> Iterator[_Claim]:
    """Every `workspace.ref` below: joins, loops and sub-workflows nest the outputs of their tasks. Only complete blocks
    count, as tasks of perago put them out: any other step may put out a `workspace` of its own. The result next to a
    workspace is its author's, whatever it holds."""
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, Mapping) else ()
    block = value.get("workspace") if isinstance(value, Mapping) else None
    has_ref = _is_complete(block) and block["ref"] is not None
    for key, item in items:
        place = join_pointer(pointer, key)
        if has_ref and key == "workspace":
            for claim in _claims(item["ref"], join_pointer(place, "ref")):
                yield claim._replace(repository=claim.repository or item.get("repository"), is_output=True)
        elif not (has_ref and key == "result"):
            yield from _claims_of_outputs(item, place)
